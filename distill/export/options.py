"""What an export may be asked for: export.KEY=VALUE."""

from dataclasses import dataclass, fields
from difflib import get_close_matches

from distill.system.typed import as_yaml

INT8 = ("static", "qat", "off")


@dataclass(frozen=True)
class Options:
    """The choices of an export.

    Args:
        preprocess: true: the files take a picture, uint8 [B, H, W, 3]; false: the bare network, float [B, C, S, S].
        calibrate: true: logits are divided by the temperature that was fitted on validation; false: logits as trained.
        int8: static: rounded after training, calibrated on validation pictures; qat: fine-tuned with rounding first; off.
        calibration: number of validation pictures whose ranges set the int8 scales.
        qat_epochs: epochs of that fine-tuning, before the file is measured.
        qat_rounds: how often they are repeated at most while the file is refused.
        qat_lr: its learning rate.
        openvino: true also writes OpenVINO's files.
        executorch: true also writes ExecuTorch's, for one picture of the size of the data's.
    """

    preprocess: bool = True
    calibrate: bool = True
    int8: str = "static"
    calibration: int = 256
    qat_epochs: int = 2
    qat_rounds: int = 3
    qat_lr: float = 1e-4
    openvino: bool = False
    executorch: bool = False

    def __post_init__(self):
        if self.int8 not in INT8:
            raise ValueError(f"export.int8: {self.int8!r} was asked for. Choose {', '.join(INT8[:-1])} or {INT8[-1]}.")
        for name, least in (("calibration", 1), ("qat_epochs", 1), ("qat_rounds", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"export.{name}: {getattr(self, name)} was asked for; give {least} or more.")
        if not 0 < self.qat_lr < 1:
            raise ValueError(f"export.qat_lr: {self.qat_lr} was asked for; give a number in (0, 1), such as 1e-4.")


def read_options(words: list[str]) -> Options:
    """Return the options that export.KEY=VALUE words ask for.

    Raises:
        ValueError: a key that does not exist, or a value of another type.
    """
    known, given = {field.name: field.type for field in fields(Options)}, {}
    for word in words:
        key, _, text = word.removeprefix("export.").partition("=")
        if key not in known:
            close = get_close_matches(key, known, n=1, cutoff=0.5)
            meant = f"Did you mean export.{close[0]}? " if close else ""
            raise ValueError(f"export.{key}: no such key. {meant}There are {', '.join(known)}.")
        given[key] = _value(key, text, known[key])
    return Options(**given)


def _value(key: str, text: str, kind: type) -> object:
    value = as_yaml(f"export.{key}", text)
    if key == "int8" and value is False:  # yaml 1.1 reads off as false
        return "off"
    try:
        value = kind(text) if kind in (int, float) else value
    except ValueError:
        value = None
    if type(value) is not kind:
        wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}[kind]
        raise ValueError(f"export.{key}: {text!r} was asked for; give {wanted}.")
    return value
