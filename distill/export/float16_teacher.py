"""A finished teacher as a folder of float16 weights, config and card: what teacher=ferplus finds in this package."""

from pathlib import Path

import torch
from torch import nn

from distill.config.schema import BESIDE_NETWORK, label
from distill.evaluation import inference
from distill.evaluation.cost import num_parameters
from distill.evaluation.metrics import agreement, mean_class_accuracy, top1_accuracy
from distill.evaluation.tables import per_class
from distill.export.source_run import SourceRun, faces, license_of, read_run, recorded
from distill.export.weights_and_config import in_float16
from distill.pipeline.completed import without_initial_weights
from distill.system.files import sha256, write_json, write_text
from distill.system.hardware import pick_device
from distill.system.weights import save_weights
from distill.types import Dataset

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
MOST = 7_000_000  # bytes of the weights: such a folder comes with the package


def write(folder: Path, target: Path, words: list[str]) -> dict:
    """Write the weights of a finished run in float16, with the answers that they give in float32 in their header, config and card.

    Args:
        folder: the run folder, such as a teacher in the store.
        target: where to; files of these names are replaced.
        words: KEY=VALUE where the data or the store have moved, see distill.export.source_run.

    Returns:
        What config.json holds: network, classes, sha256 of the weights, and split -> numbers of the rounded weights.

    Raises:
        ValueError: no finished run, its data are gone, or the file is larger than 7 MB.
    """
    run = read_run(folder, words)
    data, node = faces(run), run.cfg.student
    quantized, used = in_float16(run.student)
    size = sum(tensor.numel() * tensor.element_size() for tensor in quantized.state_dict().values())
    if size > MOST:
        raise ValueError(f"{folder}: takes {size:,} bytes in float16; a teacher that is shipped has at most {MOST:,}.")
    network = {key: value for key, value in node.items() if key not in BESIDE_NETWORK} | without_initial_weights(node)
    header = {"classes": list(run.classes), "network": network, inference.PROBE: inference.probe(used)}
    target.mkdir(parents=True, exist_ok=True)
    save_weights(target / WEIGHTS, quantized, header)
    numbers = {split: _numbers(run, used, data, split) for split in ("valid", "test")}
    facts = {"network": network, "classes": list(run.classes), "sha256": sha256(target / WEIGHTS), **numbers}
    write_json(target / CONFIG, facts)
    write_text(target / CARD, _card(run, data, facts))
    return facts


def _numbers(run: SourceRun, network: nn.Module, data: Dataset, name: str) -> dict:
    """Return what the rounded weights reach on a split, in float32, faces as packed."""
    split = data.splits[name]
    device = pick_device(run.cfg.train.device)
    network = network.to(device).to(memory_format=torch.channels_last)
    logits = inference.student_logits(network, split)
    rows = per_class(logits.numpy(), split.label, run.classes)
    return {
        "faces": len(split),
        "top1_accuracy": top1_accuracy(logits, split.label),
        "mean_class_accuracy": mean_class_accuracy(logits, split.label),
        "agreement_with_the_run": agreement(logits, recorded(run, data, name)),
        "recall": {row.name: row.recall and row.recall.value for row in rows},
    }


def _card(run: SourceRun, data: Dataset, facts: dict) -> str:
    """Return the card, in Markdown."""
    spec, result = run.student.input, run.result
    percent = "{:.2f}%".format
    rows = "".join(
        f"| {name} | {numbers['faces']:,} | {percent(100 * numbers['top1_accuracy'])} | {percent(100 * numbers['mean_class_accuracy'])} | "
        f"{percent(100 * numbers['agreement_with_the_run'])} |\n"
        for name, numbers in (("validation", facts["valid"]), ("test", facts["test"]))
    )
    recall = "".join(
        f"| {name} | {'-' if value is None else percent(100 * value)} |\n"
        for name, value in facts["test"]["recall"].items()
    )
    return f"""# {label(run.cfg.student)}, a teacher fine-tuned on {data.name}

{num_parameters(run.student):,} parameters, answers {", ".join(run.classes)}. It sees faces of {spec.size} x {spec.size} pixels, \
{spec.channels} channels (gray is repeated), (pixels / 255 - {spec.mean}) / {spec.std}. The weights are float16 and are used in float32; \
the header of `{WEIGHTS}` holds answers about four fixed pictures, and a run that asks this teacher compares them first.

**An expression on a face is not an emotion. Not for decisions about people.**

| faces of {data.name} | number | top-1 | mean-class | same answer as the run's own weights |
| :-- | --: | --: | --: | --: |
{rows}
Measured in float32 with the weights as they lie here, faces as packed: {data.protocol}.

| class | of its test faces found |
| :-- | --: |
{recall}
- Training: {result.epochs} epochs, of which number {(result.best_epoch or 0) + 1} was the best by {result.monitor}; seed {result.seed}; \
it started from {result.start}
- Run: `{result.name}`
- License of the data: {license_of(data)}
- License of the start: whatever its weights carry; of the code: MIT

```
{facts["sha256"]}  {WEIGHTS}
```
"""
