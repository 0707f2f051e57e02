"""An ONNX graph of fixed sizes as LiteRT's .tflite: the same operations, pictures as [B, H, W, C] wherever they stay maps."""

from collections.abc import Callable

import numpy as np

from distill.export.int8_graph import attributes
from distill.export.litert_writer import LAST, MAP, SIGNATURE, Writer, pack

UNARY = {"Relu": "RELU", "Sigmoid": "LOGISTIC", "HardSwish": "HARD_SWISH", "Tanh": "TANH", "Exp": "EXP", "Sqrt": "SQRT"}
UNARY |= {"Elu": "ELU", "Abs": "ABS", "Neg": "NEG", "Gelu": "GELU"}
BINARY = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV", "Max": "MAXIMUM", "Min": "MINIMUM", "Pow": "POW"}
OPTIONS = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions", "GELU": "GeluOptions"}
OPTIONS |= {"MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions", "POW": "PowOptions"}
MEANS = {"ReduceMean": "MEAN", "ReduceSum": "SUM", "ReduceMax": "REDUCE_MAX", "GlobalAveragePool": "MEAN"}
FUSED = ("Conv", "Gemm", "Add", "MaxPool")  # a Relu or Relu6 that follows alone becomes a part of it
SAME_NUMBERS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")


def as_tflite(model) -> bytes:
    """Return a .tflite file that computes as an ONNX model.

    Args:
        model: opset 18 or later, every size fixed, one input; float32 but for an input of uint8.

    Raises:
        ValueError: it has operations that are not written here.
    """
    return _Graph(model).write()


class _Graph(Writer):
    """What each operation of ONNX is in LiteRT; a rule raises ValueError or KeyError where its words are not known."""

    def write(self) -> bytes:
        missing = {node.op_type for node in self.graph.node} - set(self.rules())
        if missing:
            raise ValueError(f"no LiteRT form of {', '.join(sorted(missing))} is written here")
        (given,) = self.graph.input
        kind = "UINT8" if given.type.tensor_type.elem_type == 2 else "FLOAT32"
        self.places[given.name, False] = self.tensor(given.name, self.shapes[given.name], kind)
        done: set[str] = set()
        for node in self.graph.node:
            if node.output[0] not in done:
                answer, relu = self.relu_after(node)
                done.add(answer)
                try:
                    self.rules()[node.op_type](node, answer, relu)
                except (KeyError, ValueError) as error:
                    message = f"no LiteRT form of {node.op_type} with {attributes(node)} is written here"
                    raise ValueError(message) from error
        answers = [(value.name, self.at(value.name)) for value in self.graph.output]
        self.sub.inputs, self.sub.outputs = [self.places[given.name, False]], [place for _, place in answers]
        model, signature = self.schema.ModelT(), self.schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs = [self.named(given.name, self.sub.inputs[0])]
        signature.outputs = [self.named(name, place) for name, place in answers]
        model.version, model.description = 3, "fer-distill"
        model.operatorCodes, model.subgraphs, model.buffers = list(self.codes.values()), [self.sub], self.buffers
        model.signatureDefs = [signature]
        return pack(model)

    def rules(self) -> dict[str, Callable]:
        """Return operation -> what writes it: (node, name of its answer, number of the Relu that is a part of it)."""
        rules = {"Conv": self.conv, "MaxPool": self.pool, "AveragePool": self.pool, "Gemm": self.gemm}
        rules |= {"MatMul": self.matmul, "HardSigmoid": self.hard_sigmoid, "Clip": self.clip, "ReduceL2": self.norm}
        rules |= {"Softmax": self.softmax, "Transpose": self.transpose, "Gather": self.gather, "Split": self.split}
        rules |= {"PRelu": self.prelu, "BatchNormalization": self.normalize}
        rules |= {"Concat": self.concat, "Slice": self.slice, "Cast": self.cast, "Expand": self.expand}
        for names, rule in ((UNARY, self.unary), (BINARY, self.binary), (MEANS, self.reduce)):
            rules |= dict.fromkeys(names, rule)
        return rules | dict.fromkeys(SAME_NUMBERS, self.reshape)

    def relu_after(self, node) -> tuple[str, int]:
        """Return the answer of the Relu (1) or Relu6 (3) that alone reads an operation that can hold it; else its own (0)."""
        after = self.users.get(node.output[0], [])
        if node.op_type in FUSED and len(after) == 1:
            bounds = [self.constants[name].flatten().tolist() for name in after[0].input[1:] if name in self.constants]
            if after[0].op_type == "Relu" or (after[0].op_type == "Clip" and bounds == [[0], [6]]):
                return after[0].output[0], 3 if bounds else 1
        return node.output[0], 0

    def conv(self, node, answer: str, relu: int) -> None:
        attrs, weight = attributes(node), self.constants[node.input[1]]
        if weight.ndim == 3:
            self.row(node, attrs, answer, relu)
            return
        out, per_group, *kernel = weight.shape
        bias = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros(out, np.float32)
        given, padding = self.padded(node, attrs, kernel)
        (down, across), (high, wide) = attrs.get("strides", [1, 1]), attrs.get("dilations", [1, 1])
        words = {"padding": padding, "strideH": down, "strideW": across, "fusedActivationFunction": relu}
        words |= {"dilationHFactor": high, "dilationWFactor": wide}
        channels = self.shapes[node.input[0]][1]
        if per_group == 1 and attrs.get("group", 1) == channels > 1:
            kind, weight = "DEPTHWISE_CONV_2D", weight.transpose(1, 2, 3, 0)
            options = self.options("DepthwiseConv2DOptions", depthMultiplier=out // channels, **words)
        else:
            kind, weight, options = "CONV_2D", weight.transpose(0, 2, 3, 1), self.options("Conv2DOptions", **words)
        self.add(kind, [given, self.constant(weight), self.constant(bias)], self.one(answer), options, last=True)

    def row(self, node, attrs: dict, answer: str, relu: int) -> None:
        """Write a convolution along one axis as one of maps that are a pixel high."""
        from onnx import helper

        given, flat, weight = node.input[0], f"{answer}/flat", f"{node.input[1]}/flat"
        for name, like in ((f"{flat}/given", given), (flat, node.output[0])):
            batch, channels, size = self.shapes[like]
            self.shapes[name] = (batch, channels, 1, size)
        self.constants[weight] = self.constants[node.input[1]][:, :, None]
        before, after = attrs.get("pads", [0, 0])
        words = {name: [1, *attrs[name]] for name in ("strides", "dilations") if name in attrs}
        words |= {"pads": [0, before, 0, after], "group": attrs.get("group", 1)}
        self.as_shape(given, f"{flat}/given")
        self.conv(helper.make_node("Conv", [f"{flat}/given", weight, *node.input[2:]], [flat], **words), flat, relu)
        self.as_shape(flat, answer)

    def padded(self, node, attrs: dict, kernel: list[int], value: float | None = None) -> tuple[int, int]:
        """Return the input with its border, and LiteRT's word for the rest: 0 is SAME, 1 is VALID."""
        if attrs.get("auto_pad", b"NOTSET") != b"NOTSET" or len(kernel) != 2:
            raise ValueError
        before, after = np.array(attrs.get("pads", [0] * 4)).reshape(2, 2).tolist()
        sizes, answers = (self.shapes[name][2:] for name in (node.input[0], node.output[0]))
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, attrs.get("dilations", [1, 1]), strict=True)]
        steps = attrs.get("strides", [1, 1])
        needed = [(o - 1) * s + r - n for n, o, s, r in zip(sizes, answers, steps, reach, strict=True)]
        after = [max(a, n - b) for a, b, n in zip(after, before, needed, strict=True)]  # sizes may be rounded up
        rest = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(sizes, steps, reach, strict=True)]
        if before == [n // 2 for n in rest] and after == [n - n // 2 for n in rest]:
            return self.at(node.input[0], last=True), 0
        given = self.at(node.input[0], last=True)
        if not any((*before, *after)):
            return given, 1
        widths = [[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]]
        shape = [n + sum(w) for n, w in zip(self.sub.tensors[given].shape, widths, strict=True)]
        inputs = [given, self.whole_numbers(widths)] + ([] if value is None else [self.constant(value)])
        return self.add("PAD" if value is None else "PADV2", inputs, {f"{node.output[0]}/padded": tuple(shape)})[0], 1

    def pool(self, node, answer: str, relu: int) -> None:
        attrs, largest = attributes(node), node.op_type == "MaxPool"
        if not largest and (any(attrs.get("pads", [])) or attrs.get("ceil_mode")):
            raise ValueError
        maker = next((n.op_type for n in self.graph.node if node.input[0] in n.output), "")
        given, padding = self.padded(node, attrs, attrs["kernel_shape"], -3e38 if largest and maker != "Relu" else None)
        (down, across), (high, wide) = attrs.get("strides", [1, 1]), attrs["kernel_shape"]
        words = {"padding": padding, "strideH": down, "strideW": across, "filterHeight": high, "filterWidth": wide}
        options = self.options("Pool2DOptions", fusedActivationFunction=relu, **words)
        self.add("MAX_POOL_2D" if largest else "AVERAGE_POOL_2D", [given], self.one(answer), options, last=True)

    def gemm(self, node, answer: str, relu: int) -> None:
        attrs = attributes(node)
        weight = self.constants[node.input[1]] if attrs.get("transB") else self.constants[node.input[1]].T
        bias = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        if attrs.get("transA") or attrs.get("alpha", 1) != 1 or attrs.get("beta", 1) != 1:
            raise ValueError
        self.product(node.input[0], weight, np.broadcast_to(bias, len(weight)), answer, relu)

    def product(self, given: str, weight: np.ndarray, bias: np.ndarray, answer: str, relu: int = 0) -> None:
        options = self.options("FullyConnectedOptions", keepNumDims=True, fusedActivationFunction=relu)
        inputs = [self.at(given), self.constant(weight), self.constant(bias)]
        self.add("FULLY_CONNECTED", inputs, self.one(answer), options)

    def matmul(self, node, answer: str, relu: int) -> None:
        left, right = (self.constants.get(name) for name in node.input)
        for matrix, other in ((left, node.input[1]), (right, node.input[0])):
            if matrix is not None and matrix.ndim == 2 and np.array_equal(matrix, np.eye(len(matrix))):
                self.places[answer, False] = self.at(other)  # a picture of the network's own size is not drawn anew
                return
        if right is not None and right.ndim == 2:
            self.product(node.input[0], right.T, np.zeros(right.shape[1], np.float32), answer)
        else:
            inputs = [self.at(name) for name in node.input]
            self.add("BATCH_MATMUL", inputs, self.one(answer), self.options("BatchMatMulOptions"))

    def unary(self, node, answer: str, relu: int) -> None:
        last, kind = self.has_channels_last(node.input[0]), UNARY[node.op_type]
        options = self.options(OPTIONS[kind]) if kind in OPTIONS else None
        self.add(kind, [self.at(node.input[0], last)], self.one(answer), options, last)

    def binary(self, node, answer: str, relu: int) -> None:
        left, right = node.input
        self.combine(BINARY[node.op_type], left, right, answer, relu)

    def combine(self, kind: str, left: str, right: str, answer: str, relu: int = 0) -> None:
        last = self.has_channels_last(left, right)
        options = self.options(OPTIONS[kind], **({"fusedActivationFunction": relu} if relu else {}))
        self.add(kind, [self.at(left, last), self.at(right, last)], self.one(answer), options, last)

    def hard_sigmoid(self, node, answer: str, relu: int) -> None:
        attrs = attributes(node)
        slope, height = attrs.get("alpha", 0.2), attrs.get("beta", 0.5)
        scaled, raised, cut = (self.between(f"{answer}/{step}", answer) for step in ("scaled", "raised", "cut"))
        self.combine("MUL", node.input[0], self.number(slope), scaled)
        self.combine("ADD", scaled, self.number(height), raised)
        self.combine("MAXIMUM", raised, self.number(0.0), cut)
        self.combine("MINIMUM", cut, self.number(1.0), answer)

    def clip(self, node, answer: str, relu: int) -> None:
        least, most = (node.input[k] if len(node.input) > k and node.input[k] else None for k in (1, 2))
        if least is None or most is None:
            self.combine("MAXIMUM" if most is None else "MINIMUM", node.input[0], least or most, answer)
            return
        self.combine("MAXIMUM", node.input[0], least, self.between(f"{answer}/least", answer))
        self.combine("MINIMUM", f"{answer}/least", most, answer)

    def prelu(self, node, answer: str, relu: int) -> None:
        last = len(self.shapes[answer]) == MAP
        self.add("PRELU", [self.at(name, last) for name in node.input], self.one(answer), last=last)

    def normalize(self, node, answer: str, relu: int) -> None:
        scale, bias, mean, variance = (self.constants[name] for name in node.input[1:])
        factor = scale / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
        names, scaled = (f"{answer}/factor", f"{answer}/offset"), self.between(f"{answer}/scaled", answer)
        for name, value in zip(names, (factor, bias - factor * mean), strict=True):
            self.constants[name] = value.reshape(-1, *[1] * (len(self.shapes[answer]) - 2))
        self.combine("MUL", node.input[0], names[0], scaled)
        self.combine("ADD", scaled, names[1], answer)

    def reduce(self, node, answer: str, relu: int) -> None:
        self.reduced(MEANS[node.op_type], node, node.input[0], answer)

    def reduced(self, kind: str, node, given: str, answer: str) -> None:
        attrs, rank = attributes(node), len(self.shapes[given])
        axes = self.constants[node.input[1]] if len(node.input) > 1 else attrs.get("axes", range(2, rank))
        axes, keep = sorted(int(axis) % rank for axis in axes), bool(attrs.get("keepdims", 1))
        last = self.has_channels_last(given) and (keep or axes == [2, 3])
        numbers = self.whole_numbers([LAST.index(axis) if last else axis for axis in axes])
        self.add(
            kind, [self.at(given, last), numbers], self.one(answer), self.options("ReducerOptions", keepDims=keep), last
        )

    def norm(self, node, answer: str, relu: int) -> None:
        squared = self.between(f"{answer}/squared", node.input[0])
        self.combine("MUL", node.input[0], node.input[0], squared)
        self.reduced("SUM", node, squared, total := self.between(f"{answer}/total", answer))
        self.add("SQRT", [self.at(total)], self.one(answer))

    def softmax(self, node, answer: str, relu: int) -> None:
        if attributes(node).get("axis", -1) not in (-1, len(self.shapes[answer]) - 1):
            raise ValueError
        self.add("SOFTMAX", [self.at(node.input[0])], self.one(answer), self.options("SoftmaxOptions", beta=1.0))

    def reshape(self, node, answer: str, relu: int) -> None:
        self.as_shape(node.input[0], answer)

    def as_shape(self, given: str, answer: str) -> None:
        shape = self.shapes[answer]
        options = self.options("ReshapeOptions", newShape=list(shape))
        self.add("RESHAPE", [self.at(given), self.whole_numbers(shape)], self.one(answer), options)

    def transpose(self, node, answer: str, relu: int) -> None:
        order = self.whole_numbers(attributes(node)["perm"])
        self.add("TRANSPOSE", [self.at(node.input[0]), order], self.one(answer), self.options("TransposeOptions"))

    def gather(self, node, answer: str, relu: int) -> None:
        index = self.whole_numbers(self.constants[node.input[1]])
        axis = attributes(node).get("axis", 0) % len(self.shapes[node.input[0]])
        self.add("GATHER", [self.at(node.input[0]), index], self.one(answer), self.options("GatherOptions", axis=axis))

    def axis(self, node, *names: str) -> tuple[bool, int]:
        """Return whether an operation along one axis takes its maps with channels last, and that axis there."""
        axis, last = attributes(node).get("axis", 0) % len(self.shapes[names[0]]), self.has_channels_last(*names)
        return last, LAST.index(axis) if last else axis

    def split(self, node, answer: str, relu: int) -> None:
        last, axis = self.axis(node, node.input[0])
        names = {name: self.shapes[name] for name in node.output}
        if len(set(names.values())) > 1:
            raise ValueError
        inputs = [self.whole_numbers(axis), self.at(node.input[0], last)]
        self.add("SPLIT", inputs, names, self.options("SplitOptions", numSplits=len(names)), last)

    def concat(self, node, answer: str, relu: int) -> None:
        last, axis = self.axis(node, *node.input)
        inputs, options = [self.at(name, last) for name in node.input], self.options("ConcatenationOptions", axis=axis)
        self.add("CONCATENATION", inputs, self.one(answer), options, last)

    def slice(self, node, answer: str, relu: int) -> None:
        shape = self.shapes[node.input[0]]
        starts, stops, axes, *steps = (self.constants[name].tolist() for name in node.input[1:])
        cuts = [slice(None)] * len(shape)
        for axis, start, stop, step in zip(axes, starts, stops, steps[0] if steps else [1] * len(axes), strict=True):
            cuts[axis] = slice(start, stop, step)
        last = self.has_channels_last(node.input[0])
        ranges = [range(n)[cut] for n, cut in zip(shape, cuts, strict=True)]
        ranges = [ranges[axis] for axis in LAST] if last else ranges
        ends = sum(1 << k for k, r in enumerate(ranges) if r.stop < 0)  # backwards to the first one
        bounds = [[getattr(r, name) for r in ranges] for name in ("start", "stop", "step")]
        options = self.options("StridedSliceOptions", endMask=ends)
        inputs = [self.at(node.input[0], last), *(self.whole_numbers(bound) for bound in bounds)]
        self.add("STRIDED_SLICE", inputs, self.one(answer), options, last)

    def expand(self, node, answer: str, relu: int) -> None:
        shape = self.whole_numbers(self.shapes[answer])
        self.add("BROADCAST_TO", [self.at(node.input[0]), shape], self.one(answer))

    def cast(self, node, answer: str, relu: int) -> None:
        kinds = self.schema.TensorType
        options = self.options("CastOptions", inDataType=kinds.UINT8, outDataType=kinds.FLOAT32)
        self.add("CAST", [self.at(node.input[0])], self.one(answer), options)
