"""A completed run: its weights and its network; as a teacher, teacher=run, it is named by the SHA-256 of its weights."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import nn

from distill import build
from distill.config.schema import RECIPE, label, with_sha256
from distill.losses.base.reused_classifier import attach_from_state
from distill.runs.folder import RunFolder
from distill.runs.published import published_config, published_weights, shipped
from distill.runs.reading import not_finished, read
from distill.runs.result import RunResult
from distill.system.errors import ConfigError
from distill.system.files import sha256
from distill.system.weights import intact, read_weights
from distill.types import Dataset


def resolve_weight_files(student: dict, teacher: dict, data: dict) -> dict[str, dict]:
    """Return student, teacher and data of a run, weight files and teachers that are finished runs named by the weights' SHA-256.

    Faces without labels, of which no class is named, get those that the teacher knows.

    Args:
        student: its keys.
        teacher: its keys.
        data: the data set's keys.

    Raises:
        ConfigError: no such weight file, a folder without a finished run, or with other weights than the config names.
    """
    for key, node in {"student": student, "teacher": teacher, **build.named_members(teacher)}.items():
        if isinstance(file := node.get("weights"), str) and not Path(file).expanduser().is_file():
            raise ConfigError(f"{key}.weights", f"{file}: no such weight file. Give the path of a .safetensors file.")
    if data.get("labels") == "none" and data.get("classes") is None:
        first = build.members(teacher)[0]
        file = weights(Path(first["run"]).expanduser(), names=shipped()) if "run" in first else Path(first["weights"])
        if not (classes := read_weights(file)[1].get("classes")):
            raise ConfigError(
                "data.classes", f"{file} does not say what its network answers. Type data.classes=[...], in its order."
            )
        data = data | {"classes": list(classes)}
    teacher = _resolve_weight_file(teacher)
    if "members" in teacher:
        members = {name: _resolve_weight_file(member) for name, member in teacher["members"].items()}
        teacher = teacher | {"members": members}
    return {"student": with_sha256(student), "teacher": with_sha256(teacher), "data": data}


def _resolve_weight_file(node: dict) -> dict:
    if "run" not in node:
        return node
    folder = Path(node["run"]).expanduser().absolute()
    checksum = sha256(weights(folder, names=shipped()))
    if node.get("sha256") not in (None, checksum):
        raise ConfigError(
            "teacher.sha256",
            f"got {node['sha256']}, but the weights in {folder} are {checksum}. "
            "Give the folder of that run, or teacher.sha256=null to take these.",
        )
    kept = {key: value for key, value in node.items() if key not in RECIPE}  # a data set's augmentation for teachers
    return kept | {"run": str(folder), "sha256": checksum, "name": node.get("name") or label(header(folder))}


def weights(folder: Path, instead: str = "", names: Iterable[str] = ()) -> Path:
    """Return the weight file of a finished run, or of a published network.

    Args:
        folder: the run folder, or that of an export, of a publication or of a network that comes with this package.
        instead: what else may be given where the folder holds several runs.
        names: of networks of this package that may be given as well.

    Raises:
        ValueError: the folder holds none, or a damaged one.
    """
    if published := published_weights(folder):
        if published_config(folder).get("sha256") != sha256(published):
            raise ValueError(
                f"{published}: damaged or changed: its SHA-256 is not the one in config.json. Bring the folder back."
            )
        return published
    folders = [path.parent for depth in ("*", "*/*") for path in folder.glob(f"{depth}/config.yaml")]
    inner = sorted(path for path in folders if not path.name.startswith("width-"))  # those are parts of one run
    if RunFolder(folder).is_complete() and (not inner or RunFolder(folder).weights.parent.is_dir()):
        return best_weights(folder)
    if inner:
        raise ValueError(f"{folder}: holds several runs. Give one of them, such as {inner[-1]}{instead}.")
    if RunFolder(folder).config.is_file():
        raise ValueError(not_finished(folder, read(folder).error))
    what = "no finished run is there" if folder.is_dir() else "no such folder"
    or_named = f", or one of {', '.join(names)}" if names else ""
    raise ValueError(f"{folder}: {what}. Give the run folder that a run's table ends with{or_named}.")


def best_weights(folder: Path) -> Path:
    """Return the weight file that the run of a folder has written.

    Raises:
        ValueError: it is gone or damaged.
    """
    again = f"Delete the folder {folder} and start its command again."
    return intact(RunFolder(folder).weights, again)


def header(folder: Path) -> dict:
    """Return the config of a finished run's network, as the header of its weights keeps it.

    Raises:
        ConfigError: no finished run, or its weights do not say it.
    """
    network = read_weights(weights(folder))[1].get("network")
    if not isinstance(network, dict):
        raise ConfigError("teacher.run", f"{folder}: its weights do not say of what network they are. Train it again.")
    return network


def network(
    run: str,
    num_classes: int,
    classes: Sequence[str],
    name: str | None = None,
    sha256: str | None = None,
    plugins: Sequence[str] = (),
) -> nn.Module:
    """Make the network of a finished run, whose weights come next.

    Args:
        run: its run folder.
        num_classes: K.
        classes: the class names.
        name: for people.
        sha256: of its weights; resolve_weight_files() has compared it.
        plugins: packages besides this project's that its target may be from.

    Shape:
        images -> logits [B, K], as the network that was trained.

    Raises:
        ValueError: no finished run, or its network is from a package that is not allowed.
    """
    folder = Path(run)
    return rebuild(header(folder), tuple(classes), plugins, read_weights(weights(folder))[0])


def rebuild(node: dict, classes: tuple[str, ...], plugins: Sequence[str], tensors: dict) -> nn.Module:
    """Make the network of a config without a start, and with the reused head (loss.simkd) where the weights have one."""
    made = build.network(node | without_initial_weights(node), list(plugins), Dataset("", classes, "", {}))
    attach_from_state(made, tensors)
    return made


def without_initial_weights(node: dict) -> dict:
    """Return a network's keys for initial weights, set to none."""
    return {key: value for key, value in (("weights", None), ("pretrained", False)) if key in node}


def data_fingerprint(folder: Path) -> str | None:
    """Return the fingerprint of the data that a finished run, or a published network, saw."""
    if published_weights(folder):
        return published_config(folder)["facts"].get("data_fingerprint")
    return RunResult.read(RunFolder(folder).result).data.get("fingerprint")
