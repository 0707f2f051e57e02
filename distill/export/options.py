"""What an export may be asked for: export.KEY=VALUE."""

from dataclasses import dataclass, fields
from difflib import get_close_matches

from distill.system.errors import ConfigError, expect
from distill.system.typed import as_yaml, described, fits


@dataclass(frozen=True)
class Options:
    """The choices of an export."""

    # true: the files take a picture, uint8 [B, H, W, 3]; false: the bare network, float [B, C, S, S]
    preprocess: bool = True
    # true: logits are divided by the temperature that was fitted on validation; false: logits as trained
    calibrate: bool = True
    int8: bool = True  # true also writes an ONNX file that is rounded to 8 bits, calibrated on validation pictures
    calibration: int = 256  # number of validation pictures whose ranges set the int8 scales
    openvino: bool = False  # true also writes OpenVINO's files
    executorch: bool = False  # true also writes ExecuTorch's, for one picture of the size of the data's
    litert: bool = False  # true also writes LiteRT's .tflite, float32 and with int8 int8, for such pictures

    def __post_init__(self):
        expect(self.calibration >= 1, "export.calibration", "1 or more", self.calibration)


def read_options(words: list[str]) -> Options:
    """Return the options that export.KEY=VALUE words ask for.

    Raises:
        ConfigError: a key that does not exist, or a value of another type.
    """
    known, given = {field.name: field.type for field in fields(Options)}, {}
    for word in words:
        key, _, text = word.removeprefix("export.").partition("=")
        if key not in known:
            close = get_close_matches(key, known, n=1, cutoff=0.5)
            meant = f"Did you mean export.{close[0]}? " if close else ""
            raise ConfigError(f"export.{key}", f"no such key. {meant}There are {', '.join(known)}.")
        value = as_yaml(f"export.{key}", text)
        expect(fits(value, known[key]), f"export.{key}", described(known[key]), repr(text))
        given[key] = value
    return Options(**given)
