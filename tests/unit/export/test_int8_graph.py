"""Graphs that are ordered otherwise before they are rounded answer what they answered, also where a part may not be moved."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from distill.export import int8_graph as rounding
from distill.export.int8_static import quantize

IMAGES = 3 * np.random.default_rng(0).standard_normal((2, 6, 9, 9), dtype=np.float32) - 2


def net_of(*nodes, outputs=("logits",), **constants):
    """A graph of nodes (kind, inputs, outputs, attributes) on images [2, 6, 9, 9]."""
    made = [helper.make_node(kind, given.split(), said.split(), said, **words) for kind, given, said, words in nodes]
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, IMAGES.shape)
    said = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    values = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    graph = helper.make_graph(made, "net", [given], said, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def kinds(net):
    return [node.op_type for node in net.graph.node]


def run(net):
    return onnxruntime.InferenceSession(net.SerializeToString()).run(None, {"images": IMAGES})


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ({"kernel_shape": [3, 3], "strides": [3, 3]}, "Conv"),
        ({"kernel_shape": [2, 2], "strides": [2, 2]}, "Conv"),
        ({"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, "AveragePool"),
        ({"kernel_shape": [2, 2], "strides": [2, 2], "dilations": [3, 3]}, "AveragePool"),
        ({"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1]}, "AveragePool"),
        ({"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, "AveragePool"),
    ],
)
def test_int8_graph_average_becomes_a_convolution_where_answers_stay(words, kind):
    net = net_of(("AveragePool", "images", "logits", words))
    made = rounding.averages_as_convolutions(net)
    assert kinds(made) == [kind]
    np.testing.assert_allclose(run(made)[0], run(net)[0], atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_int8_graph_relu_moves_before_pooling_unless_shared(shared):
    size = {"kernel_shape": [3, 3], "strides": [3, 3]}
    nodes = [
        ("MaxPool", "images", "p", size),
        ("Relu", "p", "r", {}),
        ("Add", "r p" if shared else "r r", "logits", {}),
    ]
    net = net_of(*nodes)
    made = rounding.zeros_before_pooling(net)
    assert kinds(made) == (["MaxPool", "Relu", "Add"] if shared else ["Relu", "MaxPool", "Add"])
    assert np.array_equal(run(made)[0], run(net)[0]) and (run(net)[0] < 0).any() == shared


@pytest.mark.parametrize("read", ["", "a", "m", "d"])
def test_int8_graph_rounds_halves_before_their_maximum(read):
    """Beside the maximum nothing, one half, the maximum itself, or what was rounded before is read."""
    nodes = [
        ("QuantizeLinear", "images s z", "e", {}),
        ("DequantizeLinear", "e s z", "d", {}),
        ("Split", "d", "a b", {"axis": 1, "num_outputs": 2}),
        ("Max", "a b", "m", {}),
        ("QuantizeLinear", "m s z", "q", {}),
        ("DequantizeLinear", "q s z", "logits", {}),
        *([("Neg", read, "more", {})] if read else []),
    ]
    outputs = ("logits", "more") if read else ("logits",)
    net = net_of(*nodes, outputs=outputs, s=np.float32(0.02), z=np.uint8(90))
    made = rounding.round_before_maximum(net)
    assert (kinds(made).index("Split") < kinds(made).index("Max")) and len(run(made)) == len(outputs)
    assert kinds(made).count("QuantizeLinear") == (1 if not read else 2)
    assert all(np.array_equal(a, b) for a, b in zip(run(made), run(net), strict=True))


def test_int8_static_products_fit_in_the_16_bits_of_processors_without_vnni():
    """Such x86 processors add two products of uint8 by int8 in 16 bits, and cut off what is more."""
    weight = np.random.default_rng(1).standard_normal((8, 6, 3, 3), dtype=np.float32)
    net = net_of(("Conv", "images w", "logits", {"kernel_shape": [3, 3]}), w=weight)
    made = quantize(net, torch.from_numpy(IMAGES))
    (rounded,) = (numpy_helper.to_array(t) for t in made.graph.initializer if tuple(t.dims) == weight.shape)
    assert rounded.dtype == np.int8
    largest = np.abs(rounded.astype(int)).max()
    assert 2 * 255 * largest <= np.iinfo(np.int16).max and largest > 60, "of 7 bits all are used"
