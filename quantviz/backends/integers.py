"""An exported network on integers: QuantizeLinear and DequantizeLinear nodes (QDQ), run by integer kernels.

What a simulated network declares is taken over as it is: each layer's integer weights and scales, its bias, and the
grid of its input. What the simulation leaves in float32 has to be on a grid here too, since integer kernels read and
write nothing else: the outputs of convolutions, additions, products, poolings and concatenations are affine
per-tensor, uint8, on min-max ranges of the calibration inputs. Where a declared grid can stand before a concatenation
or a maximum as well as behind it, it does: rounding commutes with either, so that nothing deviates from the simulation.

Behind the target, where the exported network goes on to the logits, only layers with weights are on integers, as in the
simulation: its poolings there are in float32, and so is what a linear layer gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quantviz.backends.depthwise import convolution, depthwise, whole_mean
from quantviz.backends.export import IMAGE, LOGITS, Session
from quantviz.backends.grids import LEVELS, ActivationGrid, IntegerLayer, covering
from quantviz.backends.split import NotSplittableError

_INTEGER_OPS: Final = frozenset(
    {"Conv", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "Sigmoid"}
)
_COMMUTING: Final = frozenset({"Concat", "MaxPool"})
_FUSED: Final = frozenset({"Relu", "Clip"})  # done by the integer grid's ends
_PREFIX, _SUFFIX = "network.", ".weight"
_SLACK = 1e-3  # of a step
_OWN_OPERATIONS: Final = "com.microsoft"  # the domain of what ONNX does not have and ONNX Runtime does


def on_integers(
    model: bytes,
    layers: Mapping[str, IntegerLayer],
    batches: Iterable[npt.NDArray[np.float32]],
    target: ActivationGrid | None = None,
) -> bytes:
    """Return an exported network on integers.

    Args:
        model: from ``exported``.
        layers: every convolution up to the target, and what has weights behind it, by dotted name.
        batches: calibration inputs (N, 3, H, W) for the ranges that ``layers`` do not declare.
        target: the grid of the layer that reads the target's activation as it is, or None where there is none.

    Returns:
        An ONNX model with the same input and outputs, float32.

    Raises:
        NotSplittableError: a layer is of a kind that has no integer form here, or a range is not finite.
    """
    graph = _Graph(model, layers, target)
    grids = graph.declared()
    missing = [name for name in graph.integer_tensors() if name not in grids]
    grids |= _measured(graph, missing, batches)
    return graph.written(grids)


class _Graph:
    """An ONNX graph, read by tensor names."""

    def __init__(self, model: bytes, layers: Mapping[str, IntegerLayer], target: ActivationGrid | None) -> None:
        import onnx

        self.proto = onnx.load_from_string(model)
        self.graph = self.proto.graph
        self.layers = layers
        self.target = target
        self.constants = {entry.name for entry in self.graph.initializer}
        self.outputs = {entry.name for entry in self.graph.output}
        self.floats, self.shapes = self._floats()
        self.readers: dict[str, list[Any]] = {}
        self.later = self._later()
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
            if node.output[0] in self.later:
                continue
            if node.op_type in ("Gemm", "MatMul") or (node.op_type == "Conv" and self._layer_name(node) not in layers):
                raise NotSplittableError(f"Node {node.name!r} ({node.op_type}) before the target has no integer form.")

    def _later(self) -> set[str]:
        """Return the tensors behind the target, where the network goes on to the logits."""
        if LOGITS not in self.outputs:
            return set()
        reached = {self.graph.output[0].name}
        for node in self.graph.node:
            if reached & set(node.input):
                reached |= set(node.output)
        return reached - {self.graph.output[0].name}

    def _floats(self) -> tuple[set[str], dict[str, list[int]]]:
        """Return the tensors of real values (others are shapes and indices), and shapes; 0 for a size that is open."""
        import onnx

        inferred = onnx.shape_inference.infer_shapes(self.proto).graph
        known = (*inferred.value_info, *inferred.input, *inferred.output)
        types = {entry.name: entry.type.tensor_type for entry in known}
        floats = {name for name, of in types.items() if of.elem_type == onnx.TensorProto.FLOAT}
        return floats, {name: [size.dim_value for size in of.shape.dim] for name, of in types.items()}

    @staticmethod
    def _layer_name(node: Any) -> str:
        return str(node.input[1]).removeprefix(_PREFIX).removesuffix(_SUFFIX)

    def layer_of(self, node: Any) -> IntegerLayer | None:
        """Return what the simulated network has for a node, or None where it has no weights."""
        weighted = node.op_type == "Conv" or (node.output[0] in self.later and _is_linear(node))
        return self.layers.get(self._layer_name(node)) if weighted else None

    def integer_tensors(self) -> list[str]:
        """Return the tensors that are on a grid, in the order in which they come about."""
        tensors: dict[str, None] = {}
        for node in self.graph.node:
            if node.output[0] in self.later:
                if self.layer_of(node) is None:
                    continue
            elif node.op_type not in _INTEGER_OPS or node.output[0] not in self.floats:
                continue
            sources = node.input[:1] if node.op_type in ("Conv", "Gemm", "ReduceMean") else node.input
            tensors |= dict.fromkeys(name for name in sources if name not in self.constants)
            if node.op_type != "Gemm":
                tensors[self._fused(node.output[0])] = None
        return list(tensors)

    def _fused(self, name: str) -> str:
        """Return the tensor behind an activation function that alone reads this one, or this one."""
        readers = self.readers.get(name, [])
        alone = len(readers) == 1 and readers[0].op_type in _FUSED and name not in self.outputs
        return str(readers[0].output[0]) if alone else name

    def declared(self) -> dict[str, ActivationGrid]:
        """Return the grids that the simulation declares, by tensor, and those that follow from them exactly."""
        grids: dict[str, ActivationGrid] = {}
        for node in self.graph.node:
            if (layer := self.layer_of(node)) is not None:
                grids.setdefault(node.input[0], layer.source)
        if self.target is not None:
            grids.setdefault(self.graph.output[0].name, self.target)
        before = [node for node in self.graph.node if node.output[0] not in self.later]
        for node in reversed(before):
            if node.op_type in _COMMUTING and (grid := grids.get(node.output[0])) is not None:
                for name in node.input:
                    grids.setdefault(name, grid)
        for node in before:
            if node.op_type == "MaxPool" and (grid := grids.get(node.input[0])) is not None:
                grids.setdefault(node.output[0], grid)
        return grids

    def joined(self, names: Iterable[str]) -> list[set[str]]:
        """Return the tensors, of those named, that belong on one grid, so that they are copied and not rounded again.

        They are what concatenations read and give; but for maxima, which stay on the grid that they are taken on.
        """
        known = set(names).difference(*(node.output for node in self.graph.node if node.op_type == "MaxPool"))
        groups: list[set[str]] = []
        for node in self.graph.node:
            group = known.intersection([*node.input, *node.output]) if node.op_type == "Concat" else set()
            if group:
                group = group.union(*(other for other in groups if other & group))
                groups = [other for other in groups if not other & group] + [group]
        return groups

    def with_outputs(self, names: Iterable[str]) -> bytes:
        """Return the float model with further tensors as its only outputs."""
        import onnx

        copied = onnx.ModelProto()
        copied.CopyFrom(self.proto)
        del copied.graph.output[:]
        for name in names:
            copied.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        data: bytes = copied.SerializeToString()
        return data

    def written(self, grids: Mapping[str, ActivationGrid]) -> bytes:
        """Return the model with every tensor of ``grids`` on its grid, and every convolution's weight."""
        import onnx
        from onnx import helper

        writer = _Writer()
        wanted = [name for name in self.integer_tensors() if name in grids]
        behind = {name: name if name in self.outputs else f"{name}.real" for name in wanted}
        for name in wanted:
            if name == IMAGE:
                writer.grid(name, name, behind[name], grids[name])
        for node in self.graph.node:
            target = node.output[0]
            source = f"{target}.float" if target in behind else target
            if target in behind and self._within(node, grids[target]):
                source = behind.get(node.input[0], node.input[0])  # the grid's ends do what the node does
            elif (layer := self._depthwise(node, grids)) is not None:
                inputs = [behind[node.input[0]], *writer.weight(layer, node.output[0])]
                writer.nodes.append(convolution(node, layer, inputs, source))
            elif self._is_pooling(node, grids):
                writer.nodes.append(helper.make_node("GlobalAveragePool", [behind[node.input[0]]], [source]))
            else:
                copied = onnx.NodeProto()
                copied.CopyFrom(node)
                copied.input[:] = [behind.get(name, name) for name in node.input]
                copied.output[0] = source
                own = self.layer_of(node)
                if own is not None and node.op_type == "Gemm":
                    writer.linear(own, self._layer_name(node), node.input[0], source)
                else:
                    if own is not None:
                        copied.input[1:] = writer.weight(own, self._layer_name(node))
                    writer.nodes.append(copied)
            if target in behind:
                writer.grid(target, source, behind[target], grids[target])
        return self._saved(writer)

    def _depthwise(self, node: Any, grids: Mapping[str, ActivationGrid]) -> IntegerLayer | None:
        """Return a node as a convolution of each channel by itself, where it stands between grids and is one."""
        source = grids.get(node.input[0]) if node.input else None
        shape = self.shapes.get(node.input[0], []) if node.input else []
        if source is None or len(shape) < 2 or not shape[1] or self._fused(node.output[0]) not in grids:
            return None
        return depthwise(node, source, self._constant, shape[1])

    def _is_pooling(self, node: Any, grids: Mapping[str, ActivationGrid]) -> bool:
        """Tell whether a node stands between grids and is a global pooling by another name."""
        if not {*node.input[:1], node.output[0]} <= grids.keys():
            return False
        return whole_mean(node, self._constant, len(self.shapes.get(node.input[0], [])))

    def _constant(self, name: str) -> npt.NDArray[Any]:
        from onnx import numpy_helper

        return numpy_helper.to_array(next(entry for entry in self.graph.initializer if entry.name == name))

    def _within(self, node: Any, grid: ActivationGrid) -> bool:
        """Tell whether a node is a ReLU or a clip that does no more than the ends of the grid behind it."""
        if node.op_type not in _FUSED or len(self.readers[node.input[0]]) > 1:
            return False
        low, high = (self._limit(node, place) for place in (1, 2)) if node.op_type == "Clip" else (0.0, np.inf)
        least, most = (grid.scale * (end - grid.zero_point) for end in (0, LEVELS))
        slack = _SLACK * grid.scale
        return least >= low - slack and most <= high + slack

    def _limit(self, node: Any, place: int) -> float:
        name = node.input[place] if place < len(node.input) else ""
        return float(self._constant(name)) if name in self.constants else (-np.inf, np.inf)[place - 1]

    def _saved(self, writer: _Writer) -> bytes:
        used = {name for node in writer.nodes for name in node.input}
        rest = [entry for entry in self.graph.initializer if entry.name in used]
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        self.graph.node.extend(writer.nodes)
        self.graph.initializer.extend([*rest, *writer.constants])
        if any(node.domain == _OWN_OPERATIONS for node in writer.nodes):
            self.proto.opset_import.add(domain=_OWN_OPERATIONS, version=1)
        data: bytes = self.proto.SerializeToString()
        return data


def _is_linear(node: Any) -> bool:
    """Tell whether a node is a Gemm as a linear layer is exported: input @ weight.T + bias."""
    from onnx import helper

    options = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    usual = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    return node.op_type == "Gemm" and {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | options == usual


class _Writer:
    """Nodes and constants of the new graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def grid(self, name: str, source: str, target: str, grid: ActivationGrid) -> None:
        """Quantize the tensor ``source`` to a grid; ``target`` names the result."""
        from onnx import helper

        scale = self.constant(f"{name}.scale", np.array(grid.scale, np.float32))
        zero_point = self.constant(f"{name}.zero_point", np.array(grid.zero_point, np.uint8))
        self.nodes += [
            helper.make_node("QuantizeLinear", [source, scale, zero_point], [f"{name}.integers"]),
            helper.make_node("DequantizeLinear", [f"{name}.integers", scale, zero_point], [target]),
        ]

    def weight(self, layer: IntegerLayer, name: str) -> list[str]:
        """Add a layer's weight and bias on integers; return the names of their real values."""
        from onnx import helper

        parts = {"weight": (layer.integers, layer.scale)}
        if layer.bias is not None:
            steps = layer.scale * np.float32(layer.source.scale)
            limits = np.iinfo(np.int32)
            integers = np.clip(np.rint(layer.bias.astype(np.float64) / steps), limits.min, limits.max)
            parts["bias"] = (integers.astype(np.int32), steps)
        for part, (integers, scale) in parts.items():
            place = f"{name}.{part}"
            inputs = [self.constant(f"{place}.integers", integers), self.constant(f"{place}.scale", scale)]
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{place}.real"], axis=0))
        return [f"{name}.{part}.real" for part in parts]

    def linear(self, layer: IntegerLayer, name: str, source: str, target: str) -> None:
        """Add a linear layer that reads integers and gives float32.

        Args:
            layer: integers (outputs, inputs).
            name: of the layer.
            source: its input, a tensor that was put on a grid.
            target: its output.
        """
        from onnx import helper

        weight = self.constant(f"{name}.weight.integers", layer.integers.T)
        scale = self.constant(f"{name}.weight.scale", layer.scale)
        bias = [] if layer.bias is None else [self.constant(f"{name}.bias", layer.bias)]
        # ONNX Runtime's own operation: of QuantizeLinear and DequantizeLinear around a product with a scale for each
        # output it makes no integer kernel, and would give the weight its real values at every pass.
        inputs = [f"{source}.integers", weight, f"{source}.scale", scale, f"{source}.zero_point", "", *bias]
        node = helper.make_node("MatMulIntegerToFloat", inputs, [target], domain=_OWN_OPERATIONS)
        self.nodes.append(node)


def _measured(graph: _Graph, names: list[str], batches: Iterable[npt.NDArray[np.float32]]) -> dict[str, ActivationGrid]:
    """Return min-max grids of tensors over the calibration inputs."""
    if not names:
        return {}
    session = Session(graph.with_outputs(names))
    low, high = np.zeros(len(names)), np.zeros(len(names))
    for batch in batches:
        arrays = session.arrays(batch)
        low = np.minimum(low, [float(values.min()) for values in arrays])
        high = np.maximum(high, [float(values.max()) for values in arrays])
    if not np.isfinite([low, high]).all():
        raise NotSplittableError(
            f"The calibrated range [{min(low)}, {max(high)}] is not finite; check the weights and images."
        )
    place = {name: at for at, name in enumerate(names)}
    for group in graph.joined(place):
        together = [place[name] for name in group]
        low[together], high[together] = low[together].min(), high[together].max()
    return {name: covering(float(low[at]), float(high[at])) for name, at in place.items()}
