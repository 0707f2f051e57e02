"""A student's weights and config as two files: read again by one function, and by timm where the student is timm's."""

import copy
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from distill.build import ALLOWED
from distill.config.schema import BESIDE_NETWORK
from distill.evaluation.inference import PROBE, probe, refuse_changed_network
from distill.export.runtimes import refuse_changed
from distill.export.source_run import SourceRun
from distill.models.timm_net import TimmNet
from distill.pipeline.completed import rebuild, without_initial_weights
from distill.runs.published import CONFIG, OURS, published_config
from distill.system.cli import format_error
from distill.system.files import sha256, write_json
from distill.system.weights import load_weights, read_weights, save_weights
from distill.types import Outputs

WEIGHTS = "student.safetensors"
PUBLISHED = "model.safetensors"  # what model hubs call the weights


def save(
    folder: Path,
    student: nn.Module,
    node: dict,
    classes: tuple[str, ...],
    plugins: list[str],
    facts: dict,
    temperature: float = 1.0,
    half: bool = False,
) -> None:
    """Write student.safetensors and config.json; timm.create_model("local-dir:FOLDER", pretrained=True) reads them, too.

    Weights are as trained: load() divides the logits by the temperature, timm does not.

    Args:
        folder: where to.
        student: the network as trained, not one of load(); only its tensors are written.
        node: its config.
        classes: the class names.
        plugins: packages besides this project's that it needed, for who reads it.
        facts: name -> text, what a reader should know; see facts().
        temperature: what load() divides the logits by.
        half: weights are rounded to float16; load() answers with them in float32.
    """
    node = {key: value for key, value in node.items() if key not in BESIDE_NETWORK} | without_initial_weights(node)
    ours = {"network": node, "classes": list(classes), "plugins": list(plugins), "facts": facts}
    ours["temperature"] = temperature
    stored, used = in_float16(student) if half else (student, student)
    net = timm_part(stored)
    metadata = {"network": node, "classes": list(classes), PROBE: probe(used)}
    save_weights(folder / WEIGHTS, stored if net is None else net, metadata)
    ours["sha256"] = sha256(folder / WEIGHTS)
    written = {}
    if net is not None:  # the config that timm would write, with the student's own input and class names
        from timm.models import _hub

        spec = student.input
        seen = {"input_size": (spec.channels, spec.size, spec.size), "interpolation": "bilinear", "crop_pct": 1.0}
        for name in ("mean", "std"):
            seen[name] = tuple(torch.tensor(getattr(spec, name)).expand(spec.channels).tolist())
        _hub.save_config_for_hf(net, folder / CONFIG, model_config={"label_names": list(classes)}, data_config=seen)
        written = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    write_json(folder / CONFIG, written | {OURS: ours})


def save_run(run: SourceRun, path: Path, facts: dict, half: bool = False) -> None:
    """Write the two files of a finished run, path being that of the weights; see save()."""
    given = (run.student, run.cfg.student, run.classes, run.cfg.plugins, facts, run.temperature)
    save(path.parent, *given, half=half)


def in_float16(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return a network with weights rounded to float16, and the same in float32 and eval mode: what its reader makes of it."""
    rounded = copy.deepcopy(network).half()
    return rounded, copy.deepcopy(rounded).float().eval()


def timm_part(student: nn.Module) -> nn.Module | None:
    """Return the timm network that a student is nothing but, or None."""
    alone = isinstance(student, TimmNet) and [name for name, _ in student.named_children()] == ["net"]
    return student.net if alone else None


def load(folder: Path, plugins: Sequence[str] = ()) -> nn.Module:
    """Return the student that save() or python -m distill.publish wrote, in eval mode, with .input and .classes.

    Its logits are divided by the temperature of the config, as those of the other exported files are.

    Args:
        folder: with config.json and the weights.
        plugins: packages besides this project's whose code may run; a folder cannot allow itself one.

    Raises:
        ValueError: no such files, they do not belong together, or the network is from a package that is not allowed.
    """
    file, published = folder / CONFIG, folder / PUBLISHED
    weights = published if published.is_file() else folder / WEIGHTS
    for part in (file, weights):
        refuse_changed(part)
    ours = published_config(folder)
    if "temperature" not in ours:
        raise ValueError(f"{file}: has no temperature. Type python -m distill.export RUN, and give RUN/export.")
    node, classes, temperature = ours["network"], tuple(ours["classes"]), float(ours["temperature"])
    target = node["_target_"]
    package = target.partition(".")[0]
    if f"{package}." not in ALLOWED and package not in plugins:
        raise ValueError(
            f"{file}: its network, {target}, is from the package {package}, whose code is not run unasked. If you trust it, "
            f"type load(FOLDER, plugins=[{package!r}]), or --plugins {package} on the command line."
        )
    if weights.is_file() and ours.get("sha256") != sha256(weights):
        raise ValueError(
            f"{weights}: damaged or changed: its SHA-256 is not the one in {CONFIG}. Bring the folder back, or export again."
        )
    try:
        student = rebuild(node, classes, plugins, read_weights(weights)[0])
        if not isinstance(student, nn.Module):
            raise TypeError(f"{target} makes {type(student).__name__}, no network")
    except ValueError:
        raise
    except Exception as error:  # of hydra, or of the network's own code
        raise ValueError(
            f"{file}: no network can be made of it ({format_error(error, inside=True)}). Export the run again."
        ) from None
    net = timm_part(student)
    refuse_changed_network(student, load_weights(student if net is None else net, weights, str(folder)), weights)
    student.classes = classes
    student.register_forward_hook(partial(_calibrated, temperature))
    return student.eval()


def _calibrated(temperature: float, student: nn.Module, given: tuple, answer: Outputs) -> Outputs:
    """Divide the logits by the temperature: a hook, so that the student stays a network of its own class and weights."""
    return answer._replace(logits=answer.logits / temperature)
