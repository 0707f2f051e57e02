"""Networks that others published, as ONNX files to be timed beside ours: python benchmarks/published_graphs.py FOLDER

Writes FOLDER/cern.onnx, CERN at full width and 128 px, and FOLDER/fer_model.onnx, the graph of github.com/vicksam/fer-model at 48 px:
float32, preparation of the picture included, weights from the start, on which speed does not depend. Then

python -m distill.bench distill/shipped/ferlite_s/model.int8.onnx FOLDER/cern.onnx FOLDER/fer_model.onnx --threads 1
"""

import argparse
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from distill.evaluation.cost import profile
from distill.export import onnx_graph
from distill.types import InputSpec, Outputs
from students.cern import Cern

CLASSES = 8


class FerModel(nn.Module):
    """Four groups of separable 3x3 convolutions, each with BatchNorm and LeakyReLU, 2x2 max-pooling after a group; 1x1 head, average.

    Shape:
        images: [B, 1, 48, 48] -> logits [B, 8].

    Reference: get_performance_model of github.com/vicksam/fer-model; convolutions without the bias that BatchNorm takes back.
    """

    GROUPS = ((48, 48, 48), (96, 96, 96), (192, 192), (384,))

    def __init__(self) -> None:
        super().__init__()
        self.input = InputSpec(48)
        widths, ends = [1, *sum(self.GROUPS, ())], [sum(map(len, self.GROUPS[: k + 1])) for k in range(4)]
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(pairwise(widths), 1):
            layers += [nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)]
            layers += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
            layers += [nn.MaxPool2d(2)] * (number in ends) + [nn.LeakyReLU(0.02)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], CLASSES, 1))

    def forward(self, images: Tensor) -> Outputs:
        logits = self.layers(images).mean(dim=(2, 3))
        return Outputs(logits, logits[:, None], {})


def networks() -> dict[str, nn.Module]:
    """Return the networks by the names of their files."""
    return {"cern": Cern(CLASSES, 128, 1.0, "max_avg", 0.0, 1.0, "full", 1.0, False), "fer_model": FerModel()}


def main(words: list[str] | None = None) -> None:
    """Read the command line, write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args(words).folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for name, network in networks().items():
        costs = {key: str(value) for key, value in profile(network.eval(), network.input).items()}
        graph = onnx_graph.deployable(onnx_graph.bare_onnx(network), onnx_graph.prepare_onnx(network), network, CLASSES)
        onnx_graph.save_onnx(graph, folder / f"{name}.onnx", costs)
        print(
            f"{folder / name}.onnx: {int(costs['num_parameters']):,} parameters, {int(costs['macs']) / 1e6:,.1f} M MACs"
        )


if __name__ == "__main__":
    main()
