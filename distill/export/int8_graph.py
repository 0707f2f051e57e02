"""What makes a network of convolutions and maxima stay in 8 bits: the same ONNX graph, its parts ordered otherwise."""

from collections import Counter
from copy import deepcopy

import numpy as np

MAPS = 4  # dimensions of a map: [B, C, H, W]
LARGE = 2**12  # weights from which on a matrix product pays for quantizing its input
PRODUCTS = ("Gemm", "MatMul")


def nodes_to_exclude(net) -> list[str]:
    """Return the names of the nodes that quantization would make no faster, only worse.

    These are all that work on a few numbers per picture (attention, normalization, small heads), and the two halves of a
    maximum, which round_before_maximum() handles.

    Args:
        net: ONNX graph with shapes.
    """
    weights = {tensor.name: int(np.prod(tensor.dims)) for tensor in net.graph.initializer}
    shapes, users = _shapes(net), users_of(net.graph)

    def pays(node) -> bool:
        if node.op_type in PRODUCTS:
            return any(weights.get(name, 0) >= LARGE for name in node.input)
        sizes = [shapes.get(name, []) for name in (*node.input, *node.output) if name not in weights]
        return any(len(size) == MAPS and size[2:] != [1, 1] for size in sizes)

    def feeds_maximum(node) -> bool:
        after = (other for name in node.output for other in users.get(name, []))
        return node.op_type == "Split" and all(other.op_type == "Max" for other in after)

    return [node.name for node in net.graph.node if not pays(node) or feeds_maximum(node)]


def _shapes(net) -> dict[str, list[int]]:
    import onnx

    graph = onnx.shape_inference.infer_shapes(net).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in values}


def users_of(graph) -> dict[str, list]:
    """Return name -> the nodes of an ONNX graph that read it."""
    users: dict[str, list] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return users


def _with_nodes(net, nodes):
    """Return a copy of a graph that has these nodes."""
    made = deepcopy(net)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def attributes(node) -> dict:
    """Return the attributes of an ONNX node as Python values."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def averages_as_convolutions(net):
    """Return a copy whose averages over k x k pixels are convolutions with 1 / k^2, which have a fast form in 8 bits.

    Averages of other kinds (padded, dilated, of sizes rounded up) stay as they are.
    """
    from onnx import helper, numpy_helper

    shapes, nodes, weights = _shapes(net), [], []
    for node in net.graph.node:
        attrs, shape = attributes(node), shapes.get(node.input[0] if node.input else "", [])
        kernel, strides = attrs.get("kernel_shape", []), attrs.get("strides", [])
        plain = (
            not any(attrs.get("pads", [])) and not attrs.get("ceil_mode") and set(attrs.get("dilations", [1])) == {1}
        )
        known = len(shape) == MAPS and shape[1] > 0 and attrs.get("auto_pad", b"NOTSET") == b"NOTSET"
        if node.op_type == "AveragePool" and plain and known and kernel == strides:
            weight = np.full((shape[1], 1, *kernel), 1 / np.prod(kernel), np.float32)
            name = f"{node.output[0]}.weight"
            weights.append(numpy_helper.from_array(weight, name))
            words = {"kernel_shape": kernel, "strides": strides, "group": shape[1]}
            node = helper.make_node("Conv", [node.input[0], name], list(node.output), name=node.name, **words)
        nodes.append(node)
    made = _with_nodes(net, nodes)
    made.graph.initializer.extend(weights)
    return made


def zeros_before_pooling(net):
    """Return a copy with MaxPool -> Relu as Relu -> MaxPool, which is the same: a layer's output is then quantized from 0 on.

    Rounding an answer that a Relu follows at once spends no numbers on what the Relu makes zero.
    """
    made = deepcopy(net)
    makers, users = {name: node for node in made.graph.node for name in node.output}, users_of(made.graph)
    positions, moved = {node.name: index for index, node in enumerate(made.graph.node)}, set()
    for relu in (node for node in net.graph.node if node.op_type == "Relu"):
        pool = makers.get(relu.input[0])
        if pool is None or pool.op_type != "MaxPool" or len(users[pool.output[0]]) > 1 or len(pool.output) > 1:
            continue
        first, last = positions[pool.name], positions[relu.name]
        before, after = made.graph.node[first], made.graph.node[last]
        given, answer, between = pool.input[0], relu.output[0], pool.output[0]
        kept = deepcopy(before)
        before.CopyFrom(after)
        after.CopyFrom(kept)
        before.input[0], before.output[0], after.input[0], after.output[0] = given, between, between, answer
        moved.add(between)
    known = [value for value in net.graph.value_info if value.name not in moved]  # the shape there is another one now
    del made.graph.value_info[:]
    made.graph.value_info.extend(known)
    return made


def round_before_maximum(net):
    """Return a copy in which the maximum of a convolution's two halves is taken of integers.

    q(max(a, b)) = max(q(a), q(b)), as quantization is monotonic. So the convolution's output is quantized
    once, as the maximum was, and nothing between them is a float:
    Conv -> [Q -> DQ ->] Split -> Max -> Q' becomes Conv -> Q' -> Split -> Max.

    Args:
        net: QDQ graph.
    """
    from onnx import helper

    makers, users = {name: node for node in net.graph.node for name in node.output}, users_of(net.graph)
    moved, gone = {}, set()
    for last in (node for node in net.graph.node if node.op_type == "QuantizeLinear"):
        maximum = makers.get(last.input[0])
        split = makers.get(maximum.input[0]) if maximum is not None and maximum.op_type == "Max" else None
        if split is None or split.op_type != "Split" or not _alone(split, maximum, users):
            continue
        given, name = _before_quantization(split.input[0], makers), last.output[0]
        gone |= {last.output[0], *split.output, *_passed(split.input[0], makers, users)}
        halves = [f"{name}.half{k}" for k in range(len(split.output))]
        moved[maximum.output[0]] = [
            helper.make_node(
                "QuantizeLinear", [given, *last.input[1:]], [f"{name}.both"], name=last.name, **attributes(last)
            ),
            helper.make_node("Split", [f"{name}.both", *split.input[1:]], halves, name=split.name, **attributes(split)),
            helper.make_node("Max", halves, [name], name=maximum.name),
        ]
    kept = [moved.get(node.output[0], [node]) for node in net.graph.node if node.output[0] not in gone]
    return _with_nodes(net, [node for nodes in kept for node in nodes])


def round_as_before_pooling(net):
    """Return a copy in which a maximum over pixels keeps the quantization of its input, so that it too is taken of integers.

    Its numbers are numbers of its input, so they lose nothing by it: Q -> DQ -> MaxPool -> Q' becomes Q -> DQ -> MaxPool -> Q.
    Constants that no node reads any more are gone.

    Args:
        net: QDQ graph.
    """
    made = deepcopy(net)
    makers, users = {name: node for node in made.graph.node for name in node.output}, users_of(made.graph)
    for pool in (node for node in made.graph.node if node.op_type == "MaxPool"):
        before, after = makers.get(pool.input[0]), users.get(pool.output[0], [])
        if before is None or before.op_type != "DequantizeLinear" or [n.op_type for n in after] != ["QuantizeLinear"]:
            continue
        for node in (after[0], *users[after[0].output[0]]):
            node.input[1:] = before.input[1:]
    read = {name for node in made.graph.node for name in node.input}
    kept = [tensor for tensor in made.graph.initializer if tensor.name in read]
    del made.graph.initializer[:]
    made.graph.initializer.extend(kept)
    return made


def _alone(split, maximum, users: dict[str, list]) -> bool:
    """Say whether the halves go nowhere but into the maximum, and the maximum nowhere but into one QuantizeLinear."""
    counts = Counter(len(users.get(name, [])) for name in (*split.output, *maximum.output))
    return list(maximum.input) == list(split.output) and set(counts) == {1}


def _before_quantization(name: str, makers: dict) -> str:
    """Return the number that a DequantizeLinear gives back, before it was rounded; else the name itself."""
    if name in makers and makers[name].op_type == "DequantizeLinear":
        quantized = makers.get(makers[name].input[0])
        return quantized.input[0] if quantized is not None and quantized.op_type == "QuantizeLinear" else name
    return name


def _passed(name: str, makers: dict, users: dict[str, list]) -> list[str]:
    """Return the outputs of QuantizeLinear and DequantizeLinear that lead to a split, where nobody else reads them."""
    if _before_quantization(name, makers) == name or len(users[name]) > 1:
        return []
    quantized = makers[name].input[0]
    return [name] + ([quantized] if len(users[quantized]) == 1 else [])
