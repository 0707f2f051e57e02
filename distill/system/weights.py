"""Checkpoints from which a run goes on, and tensor-only weight files; written atomically."""

import errno
import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from distill.system.files import atomic

METADATA = "fer_distill"  # key of a weight file's header
DIRECTORY = 0x10  # attribute of a part of a zip file
CONTENT = "content_sha256"  # key of the metadata in it
WITHOUT_CLASSIFIER = "weights without a classifier"  # what a network starts from


def save_state(path: Path, state: dict) -> None:
    """Write a training checkpoint (tensors, numbers, strings, lists and dicts only) atomically.

    Raises:
        OSError: the disk took but a part of it.
    """
    with atomic(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:
            if "inline_container" not in str(error):  # where PyTorch writes; it does not say why it could not
                raise
            raise OSError(errno.EIO, "could not be written whole; is the disk full?", str(path)) from error


def load_state(path: Path) -> dict:
    """Read a training checkpoint whose parts have the CRC-32 that they were written with; nothing in it is executed.

    Raises:
        ValueError: the file is damaged or is no checkpoint.
    """
    try:
        return _load_pytorch(path)
    except Exception as error:
        why = str(error) if isinstance(error, zipfile.BadZipFile) else type(error).__name__
        raise ValueError(f"{path}: not a readable checkpoint ({why}). Delete it to start this run again.") from error


def _load_pytorch(path: Path) -> object:
    """Read a file of torch.save, after its CRC-32s, which torch.load does not look at."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if part := file.testzip():
                raise zipfile.BadZipFile(f"the CRC-32 of its part {part} is wrong")
            if any(
                part.external_attr & DIRECTORY for part in file.infolist()
            ):  # torch.load would read none of its bytes
                raise zipfile.BadZipFile("one of its parts is marked as a folder")
    return torch.load(path, map_location="cpu", weights_only=True)


def save_weights(path: Path, module: nn.Module, metadata: dict[str, object]) -> None:
    """Write a module's state as safetensors atomically: equal ones are equal byte by byte.

    Args:
        path: the file.
        module: the network.
        metadata: goes into the header; read_weights compares the SHA-256 of tensors and metadata, which is put beside it.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    metadata = metadata | {CONTENT: _content_sha256(tensors, metadata)}
    with atomic(path) as temporary:
        # one key: safetensors writes several in an order of chance; bytes: its own file could be read by nobody else
        temporary.write_bytes(save(tensors, {METADATA: json.dumps(metadata)}))


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights: safetensors, or a PyTorch file of tensors alone.

    Returns:
        The tensors by name, and the metadata (empty where the file has none).

    Raises:
        ValueError: no such file, not a weight file, or a pickle that holds more than tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"{path}: no such weight file. Give the path of a .safetensors file.")
    if path.suffix == ".safetensors":
        try:
            return _read_safetensors(path)
        except SafetensorError as error:
            raise ValueError(
                f"{path}: not a safetensors file, or damaged ({error}). Download or export it again."
            ) from error
    try:
        state = _load_pytorch(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: damaged ({error}). Download it, or save the state_dict, again.") from error
    except Exception as error:
        raise ValueError(
            f"{path}: expected a name that ends in .safetensors, or a PyTorch file of tensors alone; as one it holds more than "
            "tensors, or is damaged, and it is not opened. Rename a safetensors file, or save the state_dict as one."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: no state_dict in it. Save the state_dict as .safetensors.")
    return state, {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a safetensors file, and compare the SHA-256 in its header where it has one: one that save_weights wrote does."""
    with safe_open(path, framework="pt") as file:
        metadata = {key: _from_json(value) for key, value in (file.metadata() or {}).items()}
        more = metadata.pop(METADATA, {})
        if not isinstance(more, dict):
            raise SafetensorError(f"its header's {METADATA} is no dictionary")
        metadata |= more
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    written = metadata.pop(CONTENT, None)
    if written and written != _content_sha256(tensors, metadata):
        raise SafetensorError("its content does not have the SHA-256 in its header")
    if isinstance(classes := metadata.get("classes"), str):  # other tools write one comma-separated string
        metadata["classes"] = [name.strip() for name in classes.split(",")]
    return tensors, metadata


def _content_sha256(tensors: Mapping[str, Tensor], metadata: Mapping[str, object]) -> str:
    """Return the SHA-256 of metadata and of every tensor's name, type, shape and bytes."""
    checksum = hashlib.sha256(json.dumps(metadata).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        checksum.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        checksum.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return checksum.hexdigest()


def intact(path: Path, instead: str) -> Path:
    """Return a weight file that a run wrote, after making sure that it is there and holds what was written.

    Args:
        path: the file, .safetensors.
        instead: what to do where it is not, in a message.

    Raises:
        ValueError: it is gone or damaged.
    """
    if not path.is_file():
        raise ValueError(f"{path}: is gone. {instead}")
    try:
        _verify(path, path.stat().st_mtime_ns, path.stat().st_size)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: is damaged ({error}). {instead}") from error
    return path


@cache
def _verify(path: Path, modified: int, size: int) -> None:
    """Read a file that was modified then, once in a process: a run asks for its teacher's weights ten times."""
    _read_safetensors(path)


def _from_json(value: str) -> object:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def load_weights(module: nn.Module, path: str | Path, who: str) -> dict[str, object]:
    """Load a weight file into a module, strictly.

    Args:
        module: the network.
        path: its weight file.
        who: the config key that asked, for error messages.

    Returns:
        The file's metadata.

    Raises:
        ValueError: names or shapes that do not belong to this network.
    """
    tensors, metadata = read_weights(path)
    _load(module, _named_as(module.state_dict(), tensors), path, who, set())
    return metadata


def start_from(
    module: nn.Module, path: str | Path, who: str, classes: Sequence[str], heads: str | tuple[str, ...]
) -> str:
    """Load a weight file into a module to start from, of its classifier the rows of these classes.

    Where the file does not know one of them, or names none and has another number, the classifier starts anew. The rows of some
    classes answer about them alone: softmax over them is that of all, renormalized.

    Args:
        module: the network.
        path: its weight file.
        who: the config key that asked, for messages.
        classes: that the network is to know.
        heads: prefixes of its classifier's tensors, [K, ...].

    Returns:
        weights, or weights without a classifier.

    Raises:
        ValueError: a file of another network.
    """
    tensors, metadata = read_weights(path)
    expected, names = module.state_dict(), list(metadata.get("classes") or ())
    tensors = _named_as(expected, tensors)
    if names and names != list(classes):
        rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}
        tensors = rest | rows_of(tensors, heads, names, classes)
    anew = {
        name
        for name in expected
        if name.startswith(heads) and (name not in tensors or tensors[name].shape != expected[name].shape)
    }
    _load(module, {name: tensor for name, tensor in tensors.items() if name not in anew}, path, who, anew)
    return WITHOUT_CLASSIFIER if anew else "weights"


def rows_of(
    tensors: Mapping[str, Tensor], heads: str | tuple[str, ...], names: Sequence[str], classes: Sequence[str]
) -> dict[str, Tensor]:
    """Return the rows of some classes of a classifier, by their names; nothing where it lacks a class.

    Args:
        tensors: of a weight file.
        heads: prefixes of its classifier's tensors, [K, ...].
        names: the K class names.
        classes: those wanted, in their order.
    """
    classifier = {name: tensor for name, tensor in tensors.items() if name.startswith(heads)}
    if not set(classes) <= set(names) or any(tensor.shape[:1] != (len(names),) for tensor in classifier.values()):
        return {}
    rows = [list(names).index(name) for name in classes]
    return {name: tensor[rows] for name, tensor in classifier.items()}


def _named_as(expected: Mapping[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by the names that a network has: timm's own, or with net. in front where it is one of this toolkit."""
    within, there = (all(name.startswith("net.") for name in names) for names in (expected, tensors))
    if there and not any(name.startswith("net.") for name in expected):
        return {name.removeprefix("net."): tensor for name, tensor in tensors.items()}
    if within and not any(name.startswith("net.") for name in tensors):
        return {f"net.{name}": tensor for name, tensor in tensors.items()}
    return tensors


def _load(module: nn.Module, tensors: dict[str, Tensor], path: str | Path, who: str, excused: set[str]) -> None:
    """Load tensors into a module, which may lack those that are excused; names and shapes must be this network's."""
    wanted = module.state_dict()
    misfit = {name for name in wanted.keys() & tensors.keys() if wanted[name].shape != tensors[name].shape}
    lacking = wanted.keys() - tensors.keys() - excused
    unknown = tensors.keys() - wanted.keys()
    if lacking or unknown or misfit:
        what = [
            f"{name} is {list(tensors[name].shape)} there and {list(wanted[name].shape)} here"
            for name in sorted(misfit)[:2]
        ]
        what += [f"it lacks {len(lacking)} tensors, e.g. {min(lacking)}"] if lacking else []
        what += [f"it has {len(unknown)} unknown ones, e.g. {min(unknown)}"] if unknown else []
        raise ValueError(f"{who}: {path} is of another network: {'; '.join(what)}.")
    module.load_state_dict(tensors, strict=False)
