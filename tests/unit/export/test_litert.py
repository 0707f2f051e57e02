"""Graphs written as .tflite files answer what they answered in ONNX, and what is not written is named."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("ai_edge_litert")

from distill.export import litert
from distill.export.litert_graph import as_tflite
from distill.export.runtimes import open_file

DRAW = np.random.default_rng(0)
IMAGES = DRAW.standard_normal((1, 6, 9, 11), dtype=np.float32)


def constant(*shape):
    return DRAW.standard_normal(shape, dtype=np.float32)


def net_of(nodes, constants):
    """A graph of nodes (kind, inputs, outputs, attributes) on images [1, 6, 9, 11] that answers logits, probabilities."""
    made = [helper.make_node(kind, given.split(), said.split(), said, **words) for kind, given, said, words in nodes]
    made.append(helper.make_node("Sigmoid", ["logits"], ["probabilities"]))
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, IMAGES.shape)
    said = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("logits", "probabilities")]
    values = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    graph = helper.make_graph(made, "net", [given], said, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answers(model, tmp_path):
    litert.save(model, tmp_path / "net.tflite", {"a": "fact"})
    opened = open_file(tmp_path / "net.tflite", 1)
    assert opened.facts == {"a": "fact"} and opened.shape == (None, *IMAGES.shape[1:]) and opened.dtype == "float32"
    return opened.answer


def conv(weight, **words):
    return [("Conv", "images w", "c", words), ("Relu", "c", "logits", {})], {"w": weight}


def through_maps(*nodes, **constants):
    """Nodes from a to b, between two convolutions, where maps have their channels last."""
    first, last = constant(6, 6, 1, 1), constant(4, 6, 1, 1)
    return [("Conv", "images first", "a", {}), *nodes, ("Conv", "b last", "logits", {})], {
        **{"first": first, "last": last},
        **constants,
    }


WHOLE = np.iinfo(np.int64)
NETS = {
    "conv": conv(constant(4, 6, 3, 3)),
    "conv as SAME": conv(constant(4, 6, 3, 3), pads=[1, 1, 1, 1]),
    "conv with steps": conv(constant(4, 6, 3, 5), pads=[1, 2, 1, 2], strides=[2, 1]),
    "conv padded on one side": conv(constant(4, 6, 3, 3), pads=[0, 2, 1, 0]),
    "conv dilated": conv(constant(4, 6, 3, 3), dilations=[2, 2]),
    "conv by channels": conv(constant(12, 1, 3, 3), group=6, pads=[1, 1, 1, 1]),
    "conv in groups": conv(constant(4, 3, 3, 3), group=2),
    "pool": through_maps(("MaxPool", "a", "b", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})),
    "pool rounded up": through_maps(("MaxPool", "a", "b", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1})),
    "average": through_maps(("AveragePool", "a", "b", {"kernel_shape": [3, 2], "strides": [3, 2]})),
    "halves": through_maps(
        ("Split", "a", "x y", {"axis": 1, "num_outputs": 2}),
        ("Max", "x y", "m", {}),
        ("Concat", "m y", "b", {"axis": 1}),
    ),
    "mirror": through_maps(
        ("Slice", "a start stop axis step", "b", {}),
        **{"start": [-1], "stop": [WHOLE.min + 1], "axis": [3], "step": [-1]},
    ),
    "cut": through_maps(
        ("Slice", "a start stop axis", "b", {}), **{"start": [1, 2], "stop": [8, WHOLE.max], "axis": [2, 3]}
    ),
    "gate": through_maps(
        ("ReduceMean", "a axes", "m", {"keepdims": 1}),
        ("HardSigmoid", "m", "g", {"alpha": 1 / 6, "beta": 0.5}),
        ("Mul", "a g", "s", {}),
        ("HardSwish", "s", "h", {}),
        ("Add", "h offset", "b", {}),
        **{"axes": [2, 3], "offset": constant(6, 1, 1)},
    ),
    "normalized": through_maps(
        ("BatchNormalization", "a scale bias mean variance", "n", {"epsilon": 0.1}),
        ("PRelu", "n slope", "b", {}),
        **{name: np.abs(constant(6)) for name in ("scale", "bias", "mean", "variance")},
        slope=constant(6, 1, 1),
    ),
    "normalized head": (
        [
            ("Flatten", "images", "f", {}),
            ("BatchNormalization", "f scale bias mean variance", "n", {}),
            ("PRelu", "n slope", "logits", {}),
        ],
        {"slope": constant(1), **{name: np.abs(constant(594)) for name in ("scale", "bias", "mean", "variance")}},
    ),
    "relu6": through_maps(
        ("Add", "a a", "s", {}), ("Clip", "s least most", "b", {}), least=np.float32(0), most=np.float32(6)
    ),
    "clip": through_maps(("Clip", "a least most", "b", {}), least=np.float32(-0.5), most=np.float32(0.7)),
    "head": (
        [
            ("Flatten", "images", "f", {}),
            ("Gemm", "f w bias", "g", {"transB": 1}),
            ("ReduceL2", "g axes", "n", {"keepdims": 1}),
            ("Expand", "n shape", "e", {}),
            ("Div", "g e", "d", {}),
            ("Softmax", "d", "logits", {"axis": 1}),
        ],
        {"w": constant(5, 594), "bias": constant(5), "axes": [1], "shape": [1, 5]},
    ),
    "row": (
        [
            ("ReduceMean", "images axes", "m", {"keepdims": 0}),
            ("Conv", "m w", "c", {"pads": [1, 1]}),
            ("Transpose", "c", "t", {"perm": [0, 2, 1]}),
            ("Gather", "t second", "u", {"axis": 1}),
            ("MatMul", "u v", "logits", {}),
        ],
        {"axes": [3], "w": constant(4, 6, 3), "second": np.int64(1), "v": constant(4, 7)},
    ),
    "products": (
        [
            ("MatMul", "images v", "x", {}),
            ("MatMul", "u x", "y", {}),
            ("Sub", "y y", "z", {}),
            ("Add", "z y", "logits", {}),
        ],
        {"v": constant(11, 11), "u": constant(9, 9)},
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_litert_answers_as_onnx(name, tmp_path):
    net = net_of(*NETS[name])
    wanted = onnxruntime.InferenceSession(net.SerializeToString()).run(None, {"images": IMAGES})
    for own, theirs in zip(answers(as_tflite(net), tmp_path)(IMAGES), wanted, strict=True):
        assert own.shape == theirs.shape and np.abs(theirs).max() > 0
        np.testing.assert_allclose(own, theirs, atol=2e-5)


def test_litert_answers_a_batch_picture_by_picture(tmp_path):
    net = net_of(*NETS["head"])
    engine = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(model_content=as_tflite(net))
    (signature,) = engine.get_signature_list().values()
    assert signature == {"inputs": ["images"], "outputs": ["logits", "probabilities"]}
    several = np.concatenate([IMAGES, -IMAGES, 2 * IMAGES])
    answer = answers(as_tflite(net), tmp_path)
    alone = [answer(several[k : k + 1])[0] for k in range(3)]
    assert np.array_equal(answer(several)[0], np.concatenate(alone)) and np.abs(alone[0] - alone[1]).max() > 0


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_litert_graph_damaged_is_refused_where_no_parity_json_tells_of_it(tmp_path, share):
    litert.save(as_tflite(net_of(*NETS["conv"])), file := tmp_path / "net.tflite", {})
    content = bytearray(file.read_bytes())
    content[int(share * content.index(b"PK\x03\x04"))] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.tflite: damaged.* does not have the SHA-256"):
        open_file(file, 1)


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (("Erf", "images", "logits", {}), "no LiteRT form of Erf is written here"),
        (("Softmax", "images", "logits", {"axis": 1}), "no LiteRT form of Softmax with {'axis': 1} is written here"),
    ],
)
def test_litert_names_what_is_not_written(node, sentence):
    with pytest.raises(ValueError, match=sentence):
        as_tflite(net_of([node], {}))


def test_litert_int8_rounds_the_network_and_keeps_its_answers(tmp_path, capfd):
    pytest.importorskip("ai_edge_quantizer")
    nodes = [
        ("MaxPool", "images", "p", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("Conv", "p w", "a", {"pads": [1, 1, 1, 1]}),
        ("Clip", "a least most", "r", {}),
        ("Conv", "r v", "c", {}),
        ("Div", "c t", "logits", {}),
    ]
    constants = {"w": constant(64, 6, 3, 3), "v": constant(8, 64, 3, 3), "t": np.float32(2)}
    constants |= {"least": np.float32(0), "most": np.float32(6)}
    model = as_tflite(net_of(nodes, constants))
    pictures = [constant(*IMAGES.shape) for _ in range(8)]
    rounded = litert.int8(model, pictures)
    assert "it/s" not in capfd.readouterr().err, "no progress bar of the quantizer"
    assert len(rounded) < len(model) / 2
    wanted, found = answers(model, tmp_path)(pictures[0])[0], answers(rounded, tmp_path)(pictures[0])[0]
    assert 0 < (found - wanted).std() < 0.1 * wanted.std()
