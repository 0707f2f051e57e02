"""Make distill/predict/blazeface/blazeface.onnx out of MediaPipe's .tflite file: python docs/blazeface_onnx.py SOURCE [TARGET]

SOURCE is face_detection_short_range.tflite, Apache-2.0, of the npm package @mediapipe/face_detection: npm pack
@mediapipe/face_detection@0.4.1657300184, then tar xzf of it. Weights stay float16, bit by bit; the same file comes out each time.
The graph: image [B, 128, 128, 3] uint8, RGB -> boxes [B, 896, 16], logits [B, 896].
"""

import hashlib
import struct
import sys
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

SHA256 = "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633"
TARGET = Path(__file__).parents[1] / "distill" / "predict" / "blazeface" / "blazeface.onnx"
ADD, CONCATENATION, CONV, DEPTHWISE, DEQUANTIZE, MAX_POOL, RELU, RESHAPE, PAD = 0, 2, 3, 4, 6, 17, 19, 22, 34


class Table:
    """A table of a FlatBuffers file; its fields by their number in the schema of TensorFlow Lite."""

    def __init__(self, data: bytes, at: int):
        self.data, self.at = data, at

    def _u32(self, at: int) -> int:
        return struct.unpack_from("<I", self.data, at)[0]

    def _field(self, number: int) -> int:
        known = self.at - struct.unpack_from("<i", self.data, self.at)[0]
        size, place = struct.unpack_from("<H", self.data, known)[0], 4 + 2 * number
        offset = struct.unpack_from("<H", self.data, known + place)[0] if place < size else 0
        return self.at + offset if offset else 0

    def number(self, number: int, kind: str) -> int:
        at = self._field(number)
        return struct.unpack_from(f"<{kind}", self.data, at)[0] if at else 0

    def table(self, number: int) -> "Table":
        at = self._field(number)
        return Table(self.data, at + self._u32(at))

    def tables(self, number: int) -> list["Table"]:
        at = self._field(number)
        at += self._u32(at)
        places = [at + 4 + 4 * k for k in range(self._u32(at))]
        return [Table(self.data, place + self._u32(place)) for place in places]

    def array(self, number: int, kind: type) -> np.ndarray:
        at = self._field(number)
        if not at:
            return np.zeros(0, kind)
        at += self._u32(at)
        return np.frombuffer(self.data, kind, self._u32(at), at + 4)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return how many zeros stand before and after, as TensorFlow's padding SAME has them."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def convert(source: bytes) -> ModelProto:
    """Return the network as an ONNX model.

    Raises:
        ValueError: it is another file.
    """
    if hashlib.sha256(source).hexdigest() != SHA256:
        raise ValueError("this is not the face_detection_short_range.tflite that this script knows")
    root = Table(source, struct.unpack_from("<I", source)[0])
    codes = [code.number(0, "b") for code in root.tables(1)]
    (network,), buffers = root.tables(2), root.tables(4)
    tensors = network.tables(0)
    shapes = [tensor.array(0, np.int32).tolist() for tensor in tensors]
    halves = {}  # tensor -> its float16 weights
    nodes = [
        helper.make_node("Cast", ["image"], ["bytes"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["bytes", "half"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["signed"]),
        helper.make_node("Transpose", ["signed"], ["t0"], perm=[0, 3, 1, 2]),
    ]
    weights = [numpy_helper.from_array(np.float32(value), name) for name, value in (("half", 127.5), ("one", 1))]

    def weight(index: int, order: tuple[int, ...] | None = None) -> str:
        name = f"w{index}"
        array = halves[index].transpose(order) if order else halves[index]
        weights.append(numpy_helper.from_array(np.ascontiguousarray(array), f"{name}.half"))
        nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
        return name

    for operator in network.tables(3):
        code, given = codes[operator.number(0, "I")], operator.array(1, np.int32).tolist()
        (out,) = operator.array(2, np.int32).tolist()
        names, shape = [f"t{index}" for index in given], shapes[given[0]]
        if code == DEQUANTIZE:
            content = buffers[tensors[given[0]].number(2, "I")].array(0, np.uint8)
            halves[out] = content.view(np.float16).reshape(shape)
            continue
        if code in (CONV, DEPTHWISE, MAX_POOL):
            options = operator.table(4)
            strides = [options.number(2, "i"), options.number(1, "i")]
            window = [options.number(4, "i"), options.number(3, "i")] if code == MAX_POOL else shapes[given[1]][1:3]
            pads = [_same(*sides) for sides in zip(shape[1:3], window, strides, strict=True)]
            if options.number(0, "b"):  # VALID
                pads = [(0, 0), (0, 0)]
            around = [side[end] for end in (0, 1) for side in pads]
            words = {"strides": strides, "kernel_shape": window, "pads": around}
        if code == MAX_POOL:
            node = helper.make_node("MaxPool", names, [f"t{out}"], **words)
        elif code in (CONV, DEPTHWISE):
            order, group = ((0, 3, 1, 2), 1) if code == CONV else ((3, 0, 1, 2), shape[3])
            names = [names[0], weight(given[1], order), weight(given[2])]
            node = helper.make_node("Conv", names, [f"t{out}"], group=group, **words)
        elif code == PAD:  # of channels alone
            more = shapes[out][3] - shape[3]
            weights.append(numpy_helper.from_array(np.array([0, 0, 0, 0, 0, more, 0, 0]), f"more{out}"))
            node = helper.make_node("Pad", [names[0], f"more{out}"], [f"t{out}"])
        elif code in (ADD, RELU):
            node = helper.make_node({ADD: "Add", RELU: "Relu"}[code], names, [f"t{out}"])
        elif code == RESHAPE:
            nodes.append(helper.make_node("Transpose", names[:1], [f"n{out}"], perm=[0, 2, 3, 1]))
            sides = [-1, *(side for side in shapes[out][1:] if side > 1)]
            weights.append(numpy_helper.from_array(np.array(sides), f"sides{out}"))
            node = helper.make_node("Reshape", [f"n{out}", f"sides{out}"], [f"t{out}"])
        elif code == CONCATENATION:
            node = helper.make_node("Concat", names, ["logits" if shapes[out][2] == 1 else "boxes"], axis=1)
        else:
            raise ValueError(f"operator {code} is not known")
        nodes.append(node)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", 128, 128, 3])
    answers = [("boxes", ["B", 896, 16]), ("logits", ["B", 896])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in answers]
    graph = helper.make_graph(nodes, "BlazeFace short range", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(
        model, {"source": f"face_detection_short_range.tflite, sha256 {SHA256}", "license": "Apache-2.0"}
    )
    checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else TARGET
    target.write_bytes(convert(Path(sys.argv[1]).read_bytes()).SerializeToString(deterministic=True))
    print(f"{target}: {target.stat().st_size:,} bytes, sha256 {hashlib.sha256(target.read_bytes()).hexdigest()}")
