"""A .tflite file in the making: its tensors and operations by ONNX's names, each map with its channels first or last."""

import numpy as np

from distill.export.int8_graph import users_of

SIGNATURE = "serving_default"  # the one of a file
VERSIONS = {"BROADCAST_TO": 2}  # of operations that have no first one
MAP = 4  # dimensions of a map, [B, C, H, W] in ONNX
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # transpositions that bring channels last, and back


class Writer:
    """The tensors and operations of a file.

    Args:
        model: ONNX, every size fixed.
    """

    def __init__(self, model):
        import onnx
        from ai_edge_litert import schema_py_generated as schema
        from onnx import numpy_helper

        self.schema, self.graph = schema, onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        values = (*self.graph.value_info, *self.graph.input, *self.graph.output)
        self.shapes = {v.name: tuple(size.dim_value for size in v.type.tensor_type.shape.dim) for v in values}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.users = users_of(self.graph)
        self.sub, self.codes, self.buffers = schema.SubGraphT(), {}, [schema.BufferT()]
        self.sub.tensors, self.sub.operators, self.sub.name = [], [], "main"
        self.places: dict[tuple[str, bool], int] = {}  # (name, channels last) -> tensor

    def named(self, name: str, place: int):
        entry = self.schema.TensorMapT()
        entry.name, entry.tensorIndex = name, place
        return entry

    def tensor(self, name: str, shape, kind: str = "FLOAT32", data: np.ndarray | None = None) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), getattr(self.schema.TensorType, kind)
        tensor.buffer, tensor.hasRank = 0, True
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        self.sub.tensors.append(tensor)
        return len(self.sub.tensors) - 1

    def constant(self, value, kind: str = "FLOAT32") -> int:
        value = np.asarray(value, np.float32 if kind == "FLOAT32" else np.int32)
        return self.tensor(f"constant.{len(self.sub.tensors)}", value.shape, kind, value)

    def whole_numbers(self, values) -> int:
        return self.constant(values, "INT32")

    def options(self, kind: str, **values):
        made = getattr(self.schema, f"{kind}T")()
        for name, value in values.items():
            setattr(made, name, value)
        return kind, made

    def add(self, kind: str, inputs: list[int], names: dict[str, tuple], options=None, last: bool = False) -> list[int]:
        """Add an operation that answers tensors of these names and ONNX's shapes, its maps with channels last or first."""
        operator, number = self.schema.OperatorT(), getattr(self.schema.BuiltinOperator, kind)
        if kind not in self.codes:
            code = self.schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), VERSIONS.get(kind, 1)
            self.codes[kind] = code
        operator.opcodeIndex, operator.inputs = list(self.codes).index(kind), inputs
        if options is not None:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options[0])
            operator.builtinOptions = options[1]
        operator.outputs = []
        for name, shape in names.items():
            last_of_it = last and len(shape) == MAP
            place = self.tensor(name, [shape[axis] for axis in LAST] if last_of_it else shape)
            self.places[name, last_of_it] = place
            operator.outputs.append(place)
        self.sub.operators.append(operator)
        return operator.outputs

    def at(self, name: str, last: bool = False) -> int:
        """Return the tensor of a name, its channels where they are wanted."""
        if (name, last) in self.places:
            return self.places[name, last]
        if name in self.constants:
            value = self.constants[name]
            if last and value.size > 1:
                value = value.reshape((1,) * (MAP - value.ndim) + value.shape).transpose(LAST)
            self.places[name, last] = self.constant(value)
        else:
            shape, order = self.shapes[name], LAST if last else FIRST
            given, turned = self.places[name, not last], f"{name}/{'last' if last else 'first'}"
            now = [shape[axis] for axis in order] if last else shape
            (self.places[name, last],) = self.add("TRANSPOSE", [given, self.whole_numbers(order)], {turned: tuple(now)})
        return self.places[name, last]

    def has_channels_last(self, *names: str) -> bool:
        """Say whether an operation of these, which asks for no order, takes them with channels last."""
        moving = [name for name in names if name not in self.constants]
        maps = all(len(self.shapes[name]) == MAP for name in moving)
        return maps and any((name, False) not in self.places for name in moving)

    def one(self, name: str) -> dict[str, tuple]:
        return {name: self.shapes[name]}

    def between(self, name: str, like: str) -> str:
        """Return the name of a number that an operation of several steps keeps, as large as another."""
        self.shapes[name] = self.shapes[like]
        return name

    def number(self, value: float) -> str:
        name = f"number.{value}"
        self.constants[name] = np.array(value, np.float32)
        return name


def pack(model) -> bytes:
    """Return the bytes of a model that the schema's objects hold."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
