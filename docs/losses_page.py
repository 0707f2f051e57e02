"""The page of all losses, docs/losses.md, from their yamls and docstrings: python docs/losses_page.py [--write]."""

import argparse
import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE, COST, CONF = ROOT / "docs" / "losses.md", ROOT / "docs" / "losses_cost.json", ROOT / "conf" / "loss"
FORMULA = re.compile(r"\bloss(?:\[b\])? = (.+?)(?=[.;](?: |$)|,? \w+: |, \S+ = |$)")  # to its end, or what follows it
KINDS = {"On labels": (0,), "On logits": (1, 2), "On feature maps": (3,)}
SECTIONS = ("Args:", "Shape:", "Raises:", "Attributes:", "Reference:")
INTRODUCTION = """# Losses

All losses by what they compare, each with its formula, options, cost and paper. The default is `loss=[ce,dist]`; [Losses on
FER+](losses-ferplus.md) ranks most of them at a short budget.

- **Mixture**: a run minimizes a weighted sum. `loss=[ce,dkd,hint]` chooses the terms, `loss.dkd.weight=0.9` weights one,
  `loss.dkd.temperature=4` sets an option.
- **Ramps**: a weight, and any number that takes fractions, may change over epochs: `loss.kd.weight='{from: 0, to: 0.9, end: 5}'`.
  `start` and `shape` (linear, cosine or exponential) may be added. Typed over a ramp that a yaml has, it is merged into it, as
  hydra merges.
- **Phases** have losses of their own: `loss=[ce,kd,hint] 'phases=[{epochs:8,loss:[hint]},{epochs:24,loss:[ce,kd]}]'
  train.epochs=32`.
- **Rare classes**: `loss.ce.logit_adjustment=1` trains as if all classes were equally common. `loss.kd.teacher_adjustment=1`, or
  that of `dist`, corrects the teacher's logits likewise; leave it out where the teacher itself was trained with
  `teacher.loss.ce.logit_adjustment`. Both trade accuracy over all faces for mean-class accuracy.
- **Layers** are chosen by name: `loss.hint.student=stage2 loss.hint.teacher=layer3`. A name is stageN (the last map of each
  resolution, fine to coarse), embedding (what the classifier sees), or a module's name or its end; a wrong name lists what there
  is. MicroExpNet's stages (conv1, conv2) are its convolutions' maps before ReLU and pooling.
- **Feature maps** are stored once with `teacher.cache=features`; with `teacher.cache=false` the teacher runs at every step.

Notation: z logits, s student, t teacher, F a feature map, b a face of the batch, k a class, c a channel, h, w a position. A formula
gives one value per face, [B]; the values are averaged over the batch, then weighted. Its other letters and forms stand in the
loss's own section, with each deviation from the paper. This page is made by `python docs/losses_page.py --write`.
"""


class Entry(NamedTuple):
    """One loss.

    Args:
        name: its key, as in loss=[NAME].
        usage: the head of its yaml.
        options: (key, default, comment) of its yaml.
        kind: its class.
    """

    name: str
    usage: str
    options: list[tuple[str, str, str]]
    kind: type

    @property
    def paragraphs(self) -> list[str]:
        return inspect.getdoc(self.kind).split("\n\n")

    @property
    def reference(self) -> str:
        paragraphs = [part for part in self.paragraphs if part.startswith("Reference:")]
        return " ".join(paragraphs[0].removeprefix("Reference:").split()) if paragraphs else ""

    @property
    def needs(self) -> str:
        """What a run must have for it."""
        if "teacher=peer" in self.usage:
            return "a peer"
        wanted = (
            "feature maps" if self.kind.needs_features else "teacher logits" if self.kind.needs_teacher else "labels"
        )
        return ", ".join(
            [wanted, *(["memory"] if self.kind.needs_memory else []), *filter(None, [self.kind.also_needs])]
        )

    @property
    def formula(self) -> str:
        """What it is the value of, in one line; the letters and other forms are in its section."""
        return FORMULA.search(" ".join(self.paragraphs[1].split()))[1]

    @property
    def weight(self) -> str:
        return next(default for key, default, _ in self.options if key == "weight")


def read(path: Path) -> Entry:
    """Read one yaml: a head of comments, the target, and a line for each option with its comment."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and "@package" not in line]
    head = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    matches = [re.fullmatch(r"(\w+):\s*(.*?)(?:\s+#\s*(.*))?", line) for line in lines if not line.startswith("#")]
    options = {match[1]: (match[2], match[3] or "") for match in matches}
    module, _, name = options.pop("_target_")[0].rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    return Entry(path.stem, head, [(key, *value) for key, value in options.items()], kind)


def kind_of(entry: Entry) -> int:
    """Return 0 for a loss on labels, 1 on logits, 2 on a peer's, 3 on feature maps."""
    return {"labels": 0, "teacher logits": 1, "a peer": 2}.get(entry.needs, 3)


def entries() -> list[Entry]:
    """Return every loss of conf/loss: on labels, then logits, then feature maps, by name in each."""
    return sorted(map(read, CONF.glob("*.yaml")), key=lambda entry: (kind_of(entry), entry.name))


def paper(reference: str) -> str:
    """Return the arXiv number of a reference's first paper as a link, else where it appeared."""
    reference = reference.partition(";")[0]
    if match := re.search(r"arXiv (\d{4}\.\d{5}|\d{4}\.\d{4})", reference):
        return f"[{match[1]}](https://arxiv.org/abs/{match[1]})"
    match = re.search(r"\b(?:CVPR|ICCV|ECCV|AAAI|NeurIPS|ICML|ICLR) \d{4}", reference)
    return match[0] if match else ""


def row(entry: Entry, cost: dict[str, float]) -> str:
    """Return a loss's row of the table."""
    ms = [f"{cost[entry.name]:.1f}" if entry.name in cost else ""] if cost else []
    cells = (
        f"[{entry.name}](#{entry.name})",
        cell(entry.paragraphs[0]),
        f"`{cell(entry.formula)}`",
        entry.needs,
        entry.weight,
        *ms,
        paper(entry.reference),
    )
    return f"| {' | '.join(cells)} |"


def cell(text: str) -> str:
    """Return text that a table's cell can hold."""
    return " ".join(text.split()).replace("|", "\\|")


def section(entry: Entry) -> str:
    """Return a loss's own part of the page: what it is, its formula, options and paper."""
    first, *rest = entry.paragraphs
    formula, *notes = [part for part in rest if not part.startswith(SECTIONS)]
    options = [f"| `{key}` | `{default}` | {cell(comment)} |" for key, default, comment in entry.options]
    parts = [
        f"## {entry.name}",
        " ".join(first.split()),
        f"```\n{formula}\n```",
        *(" ".join(note.split()) for note in notes),
        "\n".join(["| option | default | what it is |", "|---|---|---|", *options]),
        f"{entry.usage}",
        f"Paper: {entry.reference}" if entry.reference else "",
    ]
    return "\n\n".join(part for part in parts if part)


def page() -> str:
    """Return the whole page."""
    measured = json.loads(COST.read_text(encoding="utf-8")) if COST.exists() else {"how": "", "milliseconds": {}}
    listed, ms = entries(), ["ms"] if measured["milliseconds"] else []
    names = ("loss", "what it is", "formula", "needs", "weight", *ms, "paper")
    rules = ["---:" if name in ("weight", "ms") else "---" for name in names]
    head = f"| {' | '.join(names)} |\n|{'|'.join(rules)}|"
    tables = [
        "\n".join(
            [
                f"### {title}\n",
                head,
                *(row(entry, measured["milliseconds"]) for entry in listed if kind_of(entry) in kinds),
            ]
        )
        for title, kinds in KINDS.items()
    ]
    how = f"ms: {measured['how']}" if measured["how"] else ""
    return "\n\n".join(part for part in (INTRODUCTION.strip(), how, *tables, *map(section, listed)) if part) + "\n"


def main(words: list[str]) -> None:
    """Print the page, or write it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="write docs/losses.md instead of printing it")
    if options.parse_args(words).write:
        PAGE.write_text(page(), encoding="utf-8")
        print(PAGE)
    else:
        print(page(), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
