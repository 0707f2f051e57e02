"""Atomic files: what a run needs to go on, and weights that nothing but tensors can hide in."""

import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

METADATA = "fer_distill"  # key of a weight file's header


@contextmanager
def atomic(path: Path):
    """Yield a temporary path in the same folder; on success it is synced and takes the name, on failure it is removed.

    One writer at a time: what a killed one left behind is overwritten by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=True) + "\n", encoding="utf-8")


def save_state(path: Path, state: dict) -> None:
    """Write a training checkpoint (tensors, numbers, strings, lists and dicts only) atomically."""
    with atomic(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> dict:
    """Read a training checkpoint; nothing in it is executed.

    Raises:
        ValueError: the file is damaged or is no checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path}: not a readable checkpoint ({type(error).__name__}). Delete it to start this run again."
        ) from error


def save_weights(path: Path, module: nn.Module, metadata: dict[str, object]) -> None:
    """Write a module's state as safetensors atomically, with metadata in the header: equal ones are equal byte by byte."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with atomic(path) as temporary:
        # one key: safetensors writes several in an order of chance; bytes: its own file could be read by nobody else
        temporary.write_bytes(save(tensors, {METADATA: json.dumps(metadata)}))


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, object]]:
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
        return _read_safetensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path}: holds more than tensors, or is damaged; it is not opened. Save the state_dict as .safetensors."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: no state_dict in it. Save the state_dict as .safetensors.")
    return state, {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = {key: _from_json(value) for key, value in (file.metadata() or {}).items()}
            more = metadata.pop(METADATA, None)
            metadata |= more if isinstance(more, dict) else {}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path}: not a safetensors file, or damaged ({error}). Download or export it again."
        ) from error


def whole(path: Path, instead: str) -> Path:
    """Return a weight file that a run wrote, after making sure that it is there and was not cut short.

    Args:
        path: the file, .safetensors.
        instead: what to do where it is not, in a sentence.

    Raises:
        ValueError: it is gone or damaged.
    """
    try:
        with safe_open(path, framework="pt"):
            return path
    except FileNotFoundError:
        raise ValueError(f"{path}: is gone. {instead}") from None
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: is damaged ({error}). {instead}") from error


def _from_json(value: str) -> object:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def load_weights(module: nn.Module, path: str | Path, who: str, missing: tuple[str, ...] = ()) -> dict[str, object]:
    """Load a weight file into a module, strictly but for the named prefixes that the file may lack.

    Args:
        module: the network.
        path: its weight file.
        who: the config key that asked, for error messages.
        missing: prefixes of tensors that may be absent from the file or differ in shape (a classifier head); they keep their start.

    Returns:
        The file's metadata.

    Raises:
        ValueError: names or shapes that do not belong to this network.
    """
    tensors, metadata = read_weights(path)
    own = module.state_dict()
    if all(name.startswith("net.") for name in tensors) and not any(name.startswith("net.") for name in own):
        tensors = {
            name.removeprefix("net."): tensor for name, tensor in tensors.items()
        }  # this toolkit's own timm weights
    excused = {name for name in own if name.startswith(missing)} if missing else set()
    misfit = {name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape}
    tensors = {name: tensor for name, tensor in tensors.items() if name not in excused & misfit}
    lacking = own.keys() - tensors.keys() - excused
    unknown = tensors.keys() - own.keys()
    if lacking or unknown or misfit - excused:
        raise ValueError(
            f"{who}: {path} is of another network: {_difference(own, tensors, lacking, unknown, misfit - excused)}."
        )
    module.load_state_dict(tensors, strict=False)
    return metadata


def _difference(own, tensors, lacking, unknown, misfit) -> str:
    parts = [
        f"{name} is {list(tensors[name].shape)} there and {list(own[name].shape)} here" for name in sorted(misfit)[:2]
    ]
    parts += [f"it lacks {len(lacking)} tensors, e.g. {min(lacking)}"] if lacking else []
    parts += [f"it has {len(unknown)} unknown ones, e.g. {min(unknown)}"] if unknown else []
    return "; ".join(parts)


def sha256(path: str | Path) -> str:
    """Return the hex SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: object) -> str:
    """Return the hex SHA-256 of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
