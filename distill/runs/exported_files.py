"""What a student's timed files take, and which of them to take."""

from pathlib import Path


def takes(given: tuple[str, list[int | None]], picture: str) -> str:
    """Say what a file takes: pictures, of one size where that is not the one that was asked for, or rendered faces.

    Args:
        given: dtype and shape of its input, None where a size is free.
        picture: HEIGHTxWIDTH that was asked for.
    """
    dtype, shape = given
    if dtype != "uint8":
        return "rendered faces"
    size = "x".join(map(str, shape[1:3]))
    return "pictures" if None in shape[1:3] or size == picture else f"pictures of {size}"


def recommend_file(rows: list[dict]) -> str | None:
    """Say which file of one student answers a single picture fastest, of those that passed the gate; None where none did.

    Files whose quartiles meet the fastest one's are as fast: the smallest of them is taken. One that was timed on pictures of
    another size, the only one that it takes, is named apart.

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
    fixed_size = {Path(row["name"]).name: row["takes"] for row in rows if row["takes"].startswith("pictures of ")}
    size = next(iter(fixed_size.values()), "").rpartition(" ")[2]
    unlike = (
        f"\nnot compared: {', '.join(fixed_size)}, on pictures of {size}. Type --picture {size} to compare all"
        if fixed_size
        else ""
    )
    return (
        f"take {taken['name']}: {why}, of the {len(able)} that passed the gate and take pictures; "
        f"{taken['passes']['1']['milliseconds']:.3g} ms a picture on {least} thread{'s' if least > 1 else ''}, "
        f"{taken['file_bytes']:,} bytes{known}{unlike}"
    )
