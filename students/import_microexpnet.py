"""python -m students.import_microexpnet FILE.npz OUT.safetensors: the authors' TensorFlow weights as a file for student.weights."""

import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from distill.system.cli import command_line, parser
from distill.system.weights import save_weights
from students.microexpnet import POOLINGS, TENSORFLOW_NAMES, MicroExpNet, load_tensorflow_weights

PUBLISHED = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
CANONICAL = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
ORDERS = {"canonical": CANONICAL, "published": PUBLISHED}
INPUT = {"mean": 0.0, "std": 1 / 255}  # raw 0..255


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Return the eight arrays of a network from an npz file: wc1, bc1, wc2, bc2, wfc, bfc, wo, bo; those that are there.

    Raises:
        ValueError: no such file, or none that NumPy reads without running code.
    """
    names = [f"{kind}{layer}" for layer in TENSORFLOW_NAMES.values() for kind in "wb"]
    try:
        with np.load(path) as file:
            return {name: file[name] for name in names if name in file}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file. Give the .npz of the authors' TensorFlow arrays.") from None
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no .npz file of plain arrays, or damaged ({type(error).__name__}).") from error


def convert(
    arrays: Mapping[str, np.ndarray], classes: Sequence[str] = CANONICAL, pooling: str = "both"
) -> tuple[MicroExpNet, dict]:
    """Make a network that answers the given classes from published arrays.

    Column k of the output layer becomes the published column of classes[k]; classes that are left out lose theirs.

    Args:
        arrays: as load_tensorflow_weights takes them; the width is read from their shapes.
        classes: names out of PUBLISHED, in the order of the answer.
        pooling: of the network that they were trained in; the authors' released ones have both.

    Returns:
        The network, and the config that makes it again.

    Raises:
        ValueError: an unknown class, or arrays that are missing or do not fit.
    """
    if unknown := [name for name in classes if name not in PUBLISHED]:
        raise ValueError(f"classes: {unknown[0]} is no class of these weights; they know {', '.join(PUBLISHED)}.")
    for name, axes in (("wfc", 2), ("wo", 2), ("bo", 1)):
        if name not in arrays or np.ndim(arrays[name]) != axes:
            raise ValueError(f"MicroExpNet weights: no array {name!r} of {axes} axes; there are {sorted(arrays)}.")
    if arrays["wo"].shape[1] != 8 or arrays["bo"].shape != (8,):
        raise ValueError(
            f"MicroExpNet weights: {arrays['wo'].shape[1]} outputs; the published class order is known for 8 alone."
        )
    columns = [PUBLISHED.index(name) for name in classes]
    options = {"width": arrays["wfc"].shape[1], "pooling": pooling, "dropout": 0.0, "init": "xavier"}
    network = {"size": 84, **options, **INPUT}
    net = MicroExpNet(num_classes=len(classes), **network)
    load_tensorflow_weights(net, {**arrays, "wo": arrays["wo"][:, columns], "bo": arrays["bo"][columns]})
    return net, {"_target_": f"{MicroExpNet.__module__}.{MicroExpNet.__name__}", **network}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the npz file, write the safetensors file and say what to type next.

    Raises:
        ValueError: another ending than .safetensors, or arrays that make no network.
    """
    options = parser("python -m students.import_microexpnet", __doc__)
    options.add_argument("file", type=Path, help="FILE.npz with wc1 bc1 wc2 bc2 wfc bfc wo bo in TensorFlow's layout")
    options.add_argument("out", type=Path, help="OUT.safetensors")
    options.add_argument("--order", choices=ORDERS, default="canonical", help="of the classes (default: %(default)s)")
    options.add_argument(
        "--without", nargs="+", choices=PUBLISHED, default=[], metavar="CLASS", help="leave classes out, e.g. contempt"
    )
    options.add_argument("--pooling", choices=POOLINGS, default="both", help="of the network (default: %(default)s)")
    args = options.parse_args(arguments)
    if args.out.suffix != ".safetensors":
        raise ValueError(f"{args.out}: the weights are written as safetensors. Give a name that ends in .safetensors.")
    classes = [name for name in ORDERS[args.order] if name not in args.without]
    net, network = convert(read_arrays(args.file), classes, args.pooling)
    save_weights(
        args.out, net, {"classes": classes, "network": network, "data": args.file.stem, "protocol": "published"}
    )
    note = "the authors'" if args.order == "published" else "the project's; --order published keeps the authors'"
    print(f"{args.out}: answers {', '.join(classes)}, in this order ({note}).")
    keys = " ".join(f"student.{key}={network[key]}" for key in ("width", "pooling", "mean", "std"))
    print("It wants pictures of 84 pixels in the range 0..255:")
    print(f"  python -m distill.run student=microexpnet student.weights={args.out} {keys}")


if __name__ == "__main__":
    command_line()(main)(sys.argv[1:])
