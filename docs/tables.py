"""The tables of README.md and docs/ that are made from result files, speeds and cards; docs/generate.py writes them."""

import json
import re
from functools import partial
from pathlib import Path

from curves import patience
from student_tables import (
    KEYS,
    PAIRS,
    RARE,
    ROWS,
    THEN,
    calibration,
    class_recalls,
    corrupted,
    losses,
    milder_views,
    pairs,
    poolings,
    protocols,
    read,
    seeds,
    spread,
    students,
    table,
    without_twins,
)

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NBSP = "\u00a0"  # keeps a number and its unit on one line
TAUGHT = {True: ", distilled", False: ", labels alone"}  # a student of README.md


def timed_files() -> dict[str, dict]:
    """Return what python -m distill.bench measured of the shipped students, name -> passes, from all files in docs/speeds."""
    files = [json.loads(path.read_text()).get("rows", []) for path in sorted((DOCS / "speeds").glob("*.json"))]
    return {row["name"]: row["passes"] for rows in files for row in rows}


def shipped() -> str:
    """Return the files of the students that come with the package, from their cards and from docs/speeds."""
    timed = timed_files()
    table = ["| file | bytes | same answer as PyTorch | valid top-1 | one picture | faces/s | 32 at a time, faces/s |"]
    table += ["|---|---:|---:|---:|---:|---:|---:|"]
    for card in sorted((ROOT / "distill" / "shipped").glob("*/README.md")):
        for line in re.findall(r"^\| `model.*", card.read_text(), re.MULTILINE):
            file, _, size, same, top1, *_ = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
            path = f"distill/shipped/{card.parent.name}/{file}".replace("/model.safetensors", ": eager PyTorch")
            one, many = (timed.get(path, {}).get(batch) for batch in ("1", "32"))
            speeds = [f"{one['milliseconds']:.3g} ms" if one else "-"]
            speeds += [f"{passes['images_per_second']:,.0f}" if passes else "-" for passes in (one, many)]
            cells = [f"{card.parent.name}, {file}", size, same, top1.split(" (")[0], *speeds]
            table.append(f"| {' | '.join(cells)} |")
    return "\n".join(table)


def cern() -> str:
    """Return the published CERN in PyTorch beside exported ones, from docs/speeds/cern.json."""
    rows = json.loads((DOCS / "speeds" / "cern.json").read_text())["rows"]
    table = [
        "| student | one picture | times as fast | 32 at a time, faces/s | times as fast |",
        "|---|---:|---:|---:|---:|",
    ]
    first, first_many = (rows[0]["passes"][size] for size in ("1", "32"))
    for row in rows:
        one, many = (row["passes"][size] for size in ("1", "32"))
        faster = first["milliseconds"] / one["milliseconds"]
        faster_many = many["images_per_second"] / first_many["images_per_second"]
        speeds = f"{one['milliseconds']:.3g} ms | {faster:.1f} | {many['images_per_second']:,.0f} | {faster_many:.1f}"
        table.append(f"| {row['name']} | {speeds} |")
    return "\n".join(table)


def networks() -> str:
    """Return how fast networks are in PyTorch, from docs/speeds/networks.json."""
    timed = json.loads((DOCS / "speeds" / "networks.json").read_text())["networks"]
    table = ["| network | one face | images/s, batches of 64 |", "|---|---:|---:|"]
    table += [f"| `{words}` | {t['latency_ms']:.3g} ms | {t['images_per_second']:,.0f} |" for words, t in timed.items()]
    return "\n".join(table)


def sweep_cost() -> str:
    """Return what a teacher adds to a sweep, from docs/sweep_cost.json."""
    timed = json.loads((DOCS / "sweep_cost.json").read_text())
    options, seconds, count = timed["options"], timed["seconds"], timed["students"]
    table = [
        f"| {count} students, {options['epochs']} epochs, {options['faces']:,} faces of {options['size']} px | time | processor time |"
    ]
    table += ["|---|---:|---:|"]
    names = {"alone": "labels alone", "stored": "stored logits", "live": "live teacher"}
    table += [f"| {name} | {seconds[side][0]:,.0f} s | {seconds[side][1]:,.0f} s |" for side, name in names.items()]
    ratios = {"stored / alone": "stored_over_alone", "live / stored": "live_over_stored"}
    table += [f"| {name} | {timed[key][0]:.3g} | {timed[key][1]:.3g} |" for name, key in ratios.items()]
    return "\n".join(table)


def peers() -> str:
    """Return our training step beside those of torchdistill and timm, from docs/peers.json."""
    timed = json.loads((DOCS / "peers.json").read_text())
    versions, options = timed["machine"]["packages"], timed["options"]
    names = {"alone": "fer-distill, labels alone", "stored": "fer-distill, stored logits"}
    names["live"] = "fer-distill, live teacher"
    names |= {peer: f"{peer} {versions[peer]}, live teacher" for peer in ("torchdistill", "timm") if peer in versions}
    sweep = f"{options['sweep']} students, {options['epochs']} epochs, {options['sweep_faces']:,} faces"
    table = [
        f"| student | step | time | faces/s | / labels alone | / stored logits | {sweep} |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for student, timing in timed["students"].items():
        for who, row in timing["contestants"].items():
            speed = f"{1e3 * row['step']:.3g} ms | {options['batch_size'] / row['step']:,.0f}"
            ratios = f"{row['over_alone']:.3g} | {row['over_stored']:.3g}"
            table.append(
                f"| {student}, {timing['size']} px | {names[who]} | {speed} | {ratios} | {row['sweep'] / 3600:.1f} h |"
            )
    return "\n".join(table)


def elastic() -> str:
    """Return the widths of one elastic training beside trainings of one width each, from elastic.json of results and speeds."""
    trained, timed = (json.loads((DOCS / kind / "elastic.json").read_text()) for kind in ("results", "speeds"))
    times = {graph["num_parameters"]: graph["microseconds"] for graph in timed["graphs"]}
    names = {"elastic": "elastic", "alone": "alone", "alone_shorter": "alone"}
    columns = [(split, way) for split in ("valid", "test") for way in names]
    heads = ["width", "parameters", "MACs", "float32", "int8"]
    heads += [f"{split}: {names[way]}, {trained[way]['epochs']} epochs" for split, way in columns]
    of_width = {way: {row["width"]: row for row in trained[way]["widths"]} for way in names}
    lines = []
    for width, row in of_width["elastic"].items():
        cells = [f"{width:g}", f"{row['num_parameters']:,}", f"{row['macs'] / 1e6:.2f} M"]
        cells += [f"{times[row['num_parameters']][kind]:.0f} µs" for kind in ("float32_one", "int8_one")]
        for split, way in columns:
            reached = [of_width[way][width][f"{split}/{key}"] for key in KEYS] if width in of_width[way] else []
            cells.append(" /<br>".join(f"{100 * share:.2f}" for share in reached) or "-")
        lines.append(cells)
    return table(heads, lines)


def inside_wider() -> str:
    """Return what a small width reaches alone, and trained inside wider ones, from docs/results/elastic.json."""
    trained = json.loads((DOCS / "results" / "elastic.json").read_text())
    width = trained["inside"]["widths"][0]["width"]
    ways = {
        "alone": f"`student.width={width:g}`",
        "inside": f"`student.width=[{width:g},1]`",
        "elastic": "`student.width=elastic`",
    }
    lines = []
    for way, name in ways.items():
        row = next(row for row in trained[way]["widths"] if row["width"] == width)
        seconds = trained[way].get("seconds") or row["seconds"]
        reached = [[f"{100 * row[f'{split}/{key}']:.2f}" for key in KEYS] for split in ("valid", "test")]
        lines.append([name, str(trained[way]["epochs"]), f"{seconds / 60:.1f} min", *map(" / ".join, reached)])
    return table(["trained as", "epochs", "time", "valid", "test"], lines)


def graph_front() -> str:
    """Return what small graphs cost and what was reached with them, from docs/results/graph-front.json."""
    table = [
        "| graph | parameters | MACs | int8 file | float32, one face | int8, one face | int8, of 32 | validation top-1 |"
    ]
    table += ["|---|---:|---:|---:|---:|---:|---:|---|"]
    for row in json.loads((DOCS / "results" / "graph-front.json").read_text())["graphs"]:
        us, best = row["microseconds"], row.get("results", [None])[0]
        how = best and ("distilled" if best["teacher"] else "labels alone")
        reached = f"{100 * best['valid_top1_accuracy']:.2f} ({best['epochs']} epochs, {how})" if best else "not trained"
        times = " | ".join(f"{us[key]:,.0f} µs" for key in ("float32_one", "int8_one", "int8_batch"))
        table.append(
            f"| {row['graph']} | {row['num_parameters']:,} | {row['macs'] / 1e6:.2f} M | {row['int8_bytes'] / 1e3:.0f} kB | "
            f"{times} | {reached} |"
        )
    return "\n".join(table)


def graph_shapes() -> str:
    """Return graphs of one budget, from docs/results/graph-shapes.json."""
    heads = ["width", "stem", "channels · blocks", "head", "parameters", "MACs"]
    heads += ["int8, one face", "top-1 / mean-class", "NLL"]
    rows = []
    for row in json.loads((DOCS / "results" / "graph-shapes.json").read_text()):
        top1, mean_class, nll = (row[f"valid/{key}"] for key in ("top1_accuracy", "mean_class_accuracy", "nll"))
        cells = [row["width"] or "-", str(row["stem"]), row["stages"], str(row["head"]), f"{row['num_parameters']:,}"]
        cells += [f"{row['macs'] / 1e6:.2f} M", f"{row['int8_one_us']} µs"]
        rows.append([*cells, f"{100 * top1:.2f} / {100 * mean_class:.2f}", f"{nll:.3f}"])
    return table(heads, rows)


def front_rows() -> list[dict]:
    """Return what docs/results/readme.json asks for, as numbers; a row whose result does not exist yet is left out."""
    results, shown = DOCS / "results", []
    published = json.loads((results / "published.json").read_text())
    for row in json.loads((results / "readme.json").read_text()):
        if "published" in row:
            other = dict(published[row["published"]])
            for key in ("top1_accuracy", "mean_class_accuracy"):
                other[key] = [other[key]] if other[key] else []
            shown.append({"name": row["name"], "faces_per_second": faces_per_second(other.get("timed", "")), **other})
        elif (results / row["result"]).exists():
            names = seeds(row["result"].removesuffix(".json"))
            students = [read(name)["student"] for name in names]
            file = {"bytes": (ROOT / row["file"]).stat().st_size} if "file" in row else shipped_file(row["shipped"])
            shown.append(
                {
                    "name": row["name"] + ("" if "shipped" not in row else TAUGHT[bool(read(names[0])["teacher"])]),
                    "top1_accuracy": [student["metrics"]["test/top1_accuracy"] for student in students],
                    "mean_class_accuracy": [student["metrics"]["test/mean_class_accuracy"] for student in students],
                    "without_twins": [without_twins(name)["top1_accuracy"] for name in names],
                    "seeds": len(names) if "shipped" in row else None,
                    "num_parameters": students[0]["num_parameters"],
                    **file,
                }
            )
    return shown


def shipped_file(name: str) -> dict:
    """Return bytes and faces/s of a shipped student's int8 file, one picture at a time."""
    path = f"distill/shipped/{name}/model.int8.onnx"
    return {"bytes": (ROOT / path).stat().st_size, "faces_per_second": faces_per_second(path)}


def faces_per_second(name: str) -> float | None:
    """Return how many pictures a timed file answers in a second, one at a time, where it was timed."""
    passes = timed_files().get(name)
    return passes and passes["1"]["images_per_second"]


def count(number: float) -> str:
    """Return a number of parameters with three digits."""
    return f"{number / 1e3:.3g}{NBSP}k" if number < 1e6 else f"{number / 1e6:.3g}{NBSP}M"


def size(number: float) -> str:
    """Return a number of bytes with three digits."""
    return f"{number / 1e3:.3g}{NBSP}kB" if number < 1e6 else f"{number / 1e6:.3g}{NBSP}MB"


def front() -> str:
    """Return the results that README.md shows."""
    heads = ["network", "top\u20111", "mean\u2011class", "without twins", "seeds", "parameters", "file", "faces/s"]
    rows = []
    for row in front_rows():
        shares = [row[key] for key in ("top1_accuracy", "mean_class_accuracy", "without_twins")]
        numbers = [row.get(key) for key in ("seeds", "num_parameters", "bytes", "faces_per_second")]
        writers = (str, count, size, "{:,.0f}".format)
        cells = [spread(share, digits=1) if share else "-" for share in shares]
        cells += [write(number) if number is not None else "-" for write, number in zip(writers, numbers, strict=True)]
        rows.append([row["name"], *cells])
    return table(heads, rows)


def headline() -> str:
    """Return how good the students are that come with the package, in a sentence, from the rows of README.md's table."""
    teacher, *rows = front_rows()
    medium, large = (next(row for row in rows if f"FerLite {width}" in row["name"]) for width in "ML")
    share, best, bound = (f"{spread(row['top1_accuracy'], digits=1)}%" for row in (medium, large, teacher))
    return (
        f"**How good?** FerLite M, which comes with the package, classifies {share} of the test faces of FER+ correctly (eight "
        f"expressions); its file of {size(medium['bytes'])} classifies {medium['faces_per_second']:,.0f} faces/s on one CPU thread. "
        f"FerLite L reaches {best}; the teacher, with {count(teacher['num_parameters'])} parameters, {bound}. [Results](#results)."
    )


TABLES = {
    **{name: partial(students, name) for name in ROWS},
    "calibration": partial(calibration, shipped=True),
    "calibration_others": partial(calibration, shipped=False),
    "pairs": partial(pairs, PAIRS),
    "pairs_rare": partial(pairs, RARE, THEN),
    "pairs_mild": partial(
        pairs, {"MicroExpNet XXS in milder views": (*ROWS["mild"].values(),)[:2]}, teacher="FerLite M"
    ),
    "pairs_cern": partial(pairs, {"CERN at half width, 48 px": (*ROWS["cern_48"].values(),)[:2]}, teacher="FerLite L"),
    "milder_views": milder_views,
    "classes": lambda: class_recalls(elsewhere=False),
    "classes_elsewhere": lambda: class_recalls(elsewhere=True),
    "protocols": partial(protocols, shipped=True),
    "protocols_others": partial(protocols, shipped=False),
    "corrupted": corrupted,
    "patience": patience,
    "losses_ferlite": partial(losses, "ferplus-losses-ferlite.csv"),
    "losses_microexpnet": partial(losses, "ferplus-losses.csv"),
    "losses_cern": partial(losses, "ferplus-losses-cern.csv"),
    "poolings": poolings,
    "elastic": elastic,
    "inside_wider": inside_wider,
    "graph_front": graph_front,
    "graph_shapes": graph_shapes,
    "sweep_cost": sweep_cost,
    "peers": peers,
    "shipped": shipped,
    "cern": cern,
    "networks": networks,
    "front": front,
    "headline": headline,
}
