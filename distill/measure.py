"""A finished run on other faces, without training: python -m distill.measure RUN data=fedro data.root=DIR data.test=1

RUN is a run folder. Further words, as for python -m distill.run:
  data=NAME data.KEY=...    the data set; its test split is enough. Without data=NAME, the run's own
                            Size and channels of the faces are those of the run's own, unless data.size or data.channels is typed
  data.test_subset=...      lists of its test faces to measure beside it
  eval.KEY=...              tta, robustness, severities; those not given are the run's own
  train.device, train.threads, train.precision, paths.store, plugins
The numbers go to RUN/measured/NAME.json, the predictions to NAME.csv; result.json stays as it is.
"""

import json
import os
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from torch import Tensor, nn

from distill import build
from distill.config import schema as config
from distill.config.hints import with_suggestions
from distill.config.overrides import quoted
from distill.data.common import twins
from distill.data.common.test_subsets import requested_subsets
from distill.evaluation import inference
from distill.evaluation.metrics import evaluate_predictions
from distill.evaluation.printed import measured
from distill.evaluation.tables import per_class
from distill.pipeline import completed, finish, validation
from distill.runs import provenance
from distill.runs.config import RunConfig
from distill.runs.folder import RunFolder
from distill.system.cli import command_line
from distill.system.console import WITHOUT_TWINS, loud_warnings
from distill.system.errors import ConfigError
from distill.system.files import digest, sha256, write_json
from distill.system.hardware import environment, pick_device, pick_precision, set_threads
from distill.system.weights import load_weights, read_weights
from distill.types import Dataset, Outputs, Split

TAKEN = ("data", "plugins", "train.device", "train.threads", "train.precision", "paths.store")


class Shared(nn.Module):
    """A network that answers only some of its classes.

    Args:
        network: images -> Outputs, with an input: InputSpec.
        columns: which of its K logits, in the order wanted.
    """

    def __init__(self, network: nn.Module, columns: list[int]):
        super().__init__()
        self.network, self.columns, self.input = network, columns, network.input

    def forward(self, images: Tensor) -> Outputs:
        answer = self.network(images)
        return Outputs(answer.logits[:, self.columns], answer.heads[..., self.columns], {})


def measure(folder: Path, words: list[str]) -> tuple[dict, Path]:
    """Evaluate the best weights of a finished run on a test split, and on what is asked for beside it.

    Classes meet by name: the logits of those that both know are compared, test faces of others are left out.

    Args:
        folder: the run folder.
        words: key=value, see this module's text.

    Returns:
        What RUN/measured/NAME.json holds, and its path.

    Raises:
        ConfigError: no finished run, a key or value that cannot be used, or less than two classes in common.
    """
    weights = completed.weights(folder)
    run = RunConfig.read(RunFolder(folder).config)
    cfg = _config(asdict(run), words)
    try:
        seen_data = build.dataset(run.data, cfg.paths.store, run.plugins)
    except (ValueError, OSError):
        seen_data = None  # no longer there
    packed = {key: run.data[key] for key in ("size", "channels") if type(run.data.get(key)) is int}
    if seen_data is not None:
        channels, size = next(iter(seen_data.splits.values())).pixels.shape[1:3]
        packed = {"size": size, "channels": channels}
    typed = {word.lstrip("+").partition("=")[0] for word in words}
    cfg.data |= {key: value for key, value in packed.items() if key in cfg.data and f"data.{key}" not in typed}
    provenance.warn_if_code_changed(RunFolder(folder))
    set_threads(cfg.train.threads)
    device = pick_device(cfg.train.device)
    precision = pick_precision(cfg.train.precision, device)
    known = tuple(read_weights(weights)[1]["classes"])
    full = build.dataset(cfg.data, cfg.paths.store, cfg.plugins, needed=("test",))
    if not full.splits["test"].is_labeled:
        raise ConfigError(
            "data.labels",
            "none says nothing that answers could be compared with. Type data.labels=folders, or data=NAME.",
        )
    data, dropped = _in_common(full, known)
    student = completed.rebuild(cfg.student, known, cfg.plugins, read_weights(weights)[0])
    inference.refuse_changed_network(student, load_weights(student, weights, str(folder)), weights)
    student = Shared(student, [known.index(name) for name in data.classes])
    student = student.to(device).to(memory_format=torch.channels_last)
    settings = {"data": config.identity(cfg)["data"], "subsets": requested_subsets(cfg.data), "eval": vars(cfg.eval)}
    path = RunFolder(folder).measured / f"{data.name}-{digest([settings, str(precision)])[:8]}.json"
    split, table = data.splits["test"], path.with_name(f"{path.stem}-robustness.csv")
    logits = inference.student_logits(student, split, cfg.eval.tta, precision)
    inference.write_predictions(path.with_suffix(".csv"), split, data.classes, logits, None)
    seen, near_duplicate = _seen(folder, seen_data, data)
    new, clean = (
        (np.array([], np.int64) if mask is None or not mask.any() else np.flatnonzero(~mask))
        for mask in (seen, near_duplicate)
    )
    without_twins = {WITHOUT_TWINS: _numbers(logits, split, data, clean)} if len(clean) else {}
    rows = per_class(logits.numpy(), split.label, data.classes)
    result = {
        "command": shlex.join(["python", "-m", "distill.measure", str(folder), *words]),
        "run": folder.resolve().name,
        "weights": sha256(weights),
        "data": finish.data_facts(full),
        "classes": {
            "compared": data.classes,
            "only_run": [name for name in known if name not in data.classes],
            "only_data": [name for name in full.classes if name not in data.classes],
        },
        "dropped": dropped,
        "seen_in_training": None if seen is None else int(seen.sum()),
        "near_duplicates": None if near_duplicate is None else int(near_duplicate.sum()),
        "eval": vars(cfg.eval),
        "test_subset": requested_subsets(cfg.data),
        "test": _numbers(logits, split, data, np.arange(len(split))),
        "recall": {row.name: row.recall and row.recall.value for row in rows},
        "unseen": _numbers(logits, split, data, new) if len(new) else {},
        "extra_test_splits": finish.extra_test_splits(cfg.eval, data, student, precision) | without_twins,
        "robustness": finish.robustness(cfg.eval, data, student, precision, table),
        "precision": str(precision).removeprefix("torch."),
        "environment": environment(),
    }
    write_json(path, result)
    return result, path


def _numbers(logits: Tensor, split: Split, data: Dataset, rows: np.ndarray) -> dict:
    return {"rows": len(rows), **evaluate_predictions(logits[rows], split.label[rows], data.classes)}


def _config(node: dict, words: list[str]) -> RunConfig:
    """Return a run's own config, here as plain dicts, with the given words on top of it."""
    elsewhere = any(word.startswith("data=") for word in words)
    for word in words:
        key = word.lstrip("+").partition("=")[0]
        if "=" not in word or not (key in TAKEN or key.startswith(("data.", "eval."))):
            raise ValueError(
                f"{word}: cannot be asked of a finished run. Type KEY=VALUE with data, data.KEY, eval.KEY, {', '.join(TAKEN[1:])}."
            )
        if key == "eval.cka":
            raise ConfigError(
                "eval.cka", "compares with the teacher, which only the run's own command has. Add it there."
            )
        if not elsewhere and key.startswith("data.") and key[5:] not in node["data"]:
            raise ConfigError(
                key,
                f"no such key of the run's own data, which has {', '.join(node['data'])}. For other data add data=NAME.",
            )
    if elsewhere:
        del node["data"]
    with initialize_config_module("conf", version_base="1.3"):
        ConfigStore.instance().store("measured_run", {"defaults": ["schema", "_self_", {"data": None}], **node})
        cfg = config.absolute(config.typed(compose("measured_run", overrides=[quoted(word) for word in words])))
    config.check(replace(cfg, teacher={"_target_": None}, phases=None))
    validation.check_evaluation(cfg.eval)
    if cfg.data.get("fold") == "all":
        raise ConfigError(
            "data.fold", "all has no test split of its own. Give a fold's number, or data.fold=null data.test=1."
        )
    return cfg


def _in_common(data: Dataset, known: tuple[str, ...]) -> tuple[Dataset, dict[str, int]]:
    """Return the data set in the classes that the network knows too, and the number of test faces left out by class."""
    shared = tuple(name for name in known if name in data.classes)
    if len(shared) < 2:
        raise ConfigError(
            "data",
            f"{data.name} has the classes {', '.join(data.classes)}, the run {', '.join(known)}; less than two are "
            "the same. Choose a data set of the run's classes.",
        )
    test = data.splits["test"]
    counts = np.bincount(test.label, minlength=len(data.classes)).tolist()
    dropped = {name: n for name, n in zip(data.classes, counts, strict=True) if n and name not in shared}
    if sum(dropped.values()) == len(test):
        raise ConfigError("data", f"no test face of {data.name} shows one of {', '.join(shared)}, which the run knows.")
    extra_test_splits = {name: _mapped(split, data.classes, shared) for name, split in data.extra_test_splits.items()}
    extra_test_splits = {name: split for name, split in extra_test_splits.items() if len(split)}
    return replace(
        data, classes=shared, splits={"test": _mapped(test, data.classes, shared)}, extra_test_splits=extra_test_splits
    ), dropped


def _seen(folder: Path, seen_data: Dataset | None, data: Dataset) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Say of each test face [M] whether the run learned from it or chose by it, pixel for pixel, and whether by its photograph.

    Without the data as the run saw them nothing can be compared: None, as are the pixels of faces of another size.
    """
    if seen_data is None or build.fingerprint(seen_data) != completed.data_fingerprint(folder):
        return None, None
    learned, test = [seen_data.splits["train"], seen_data.splits["valid"]], data.splits["test"]
    if test.photo is None or learned[0].photo is None:  # synthetic faces
        rows = [split.rows for split in learned if split.sha256 == test.sha256]
        return np.isin(test.rows, np.concatenate([[], *rows])), None
    same_size = learned[0].pixels.shape[1:] == test.pixels.shape[1:]
    same_pack = seen_data.notes["packed"] == data.notes["packed"]
    extra = [] if seen_data.extra is None else [seen_data.extra]
    near = (twins.same_photo if same_pack else twins.near_duplicate)(test, learned)
    near = near | twins.near_duplicate(test, extra) if extra else near
    return twins.copied(test, learned + extra) if same_size else None, near


def _mapped(split: Split, classes: tuple[str, ...], shared: tuple[str, ...]) -> Split:
    """Return the rows of the shared classes, with labels and targets in their order."""
    new = np.array([shared.index(name) if name in shared else -1 for name in classes])
    kept = np.flatnonzero(new[split.label] >= 0)
    target = split.target[kept][:, [classes.index(name) for name in shared]]
    ids = tuple(split.ids[k] for k in kept)
    return replace(split, rows=split.rows[kept], target=target, label=new[split.label[kept]], ids=ids)


@command_line()
def main(arguments: list[str]) -> None:
    """Measure and print the table; user errors are printed as one line, exit code 1.

    Raises:
        ValueError: no run folder comes first.
    """
    if not arguments or not arguments[0] or "=" in arguments[0] or arguments[0].startswith("-"):
        raise ValueError("which run? Its folder comes first. python -m distill.measure --help says what may follow.")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else hydra speaks before the message
    loud_warnings()
    words = arguments[1:]
    with with_suggestions(words):
        result, file = measure(Path(arguments[0]).expanduser(), words)
    measured(json.loads(json.dumps(result)), file)


if __name__ == "__main__":
    main(sys.argv[1:])
