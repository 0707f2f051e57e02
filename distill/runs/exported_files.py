"""Which of a student's timed files to take."""

from pathlib import Path


def recommend_file(rows: list[dict]) -> str | None:
    """Say which file of one student answers a single picture fastest, of those that passed the gate; None where none did.

    Files whose quartiles meet the fastest one's are as fast: the smallest of them is taken.

    Args:
        rows: of python -m distill.bench, of one folder.
    """
    least = min(row["threads"] for row in rows)
    able = [row for row in rows if row["passed"] and row["takes"] == "pictures" and row["threads"] == least]
    if not able:
        return None
    able.sort(key=lambda row: row["passes"]["1"]["milliseconds"])
    first = able[0]["passes"]["1"]["quartiles"][1]
    as_fast = [row for row in able if row["passes"]["1"]["quartiles"][0] <= first]
    taken = min(as_fast, key=lambda row: row["file_bytes"])
    others = [Path(row["name"]).name for row in as_fast if row is not taken]
    why = f"as fast as {', '.join(others)}, and smaller" if others else "the fastest"
    accuracy = taken["valid_top1_accuracy"]
    known = "" if accuracy is None else f", valid top-1 {float(accuracy):.2%}"
    return (
        f"take {taken['name']}: {why}, of the {len(able)} that passed the gate and take pictures; "
        f"{taken['passes']['1']['milliseconds']:.3g} ms a picture on {least} thread{'s' if least > 1 else ''}, "
        f"{taken['file_bytes']:,} bytes{known}"
    )
