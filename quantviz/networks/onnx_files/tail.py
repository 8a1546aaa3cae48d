"""What lies behind a target, in torch: the file's own operations, each rounding on its own grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quantviz.networks.onnx_files.cutting import Cut
from quantviz.networks.onnx_files.graph import Graph
from quantviz.networks.onnx_files.grids import MOVING, Grid, grid_of
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, QUANTIZE, Array, Node
from quantviz.networks.onnx_files.operators import OPERATORS
from quantviz.networks.onnx_files.quantization import WEIGHTED
from quantviz.networks.onnx_files.rounding import Dequantizer, Quantizer
from quantviz.networks.onnx_files.targets import plain
from quantviz.specs import QuantvizError

_Function = Callable[..., Any]


class NotConvertibleError(QuantvizError):
    """What lies behind the target has no form in torch."""


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """One operation, ready to run."""

    function: _Function
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    op: str

    def run(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return what it gives, by name, from values by name."""
        given = self.function(*(known[name] for name in self.inputs))
        several = given if isinstance(given, (tuple, list)) else (given,)
        return dict(zip(self.outputs, several, strict=False))


class Tail(nn.Module):
    """The logits from a target's activation, differentiable with respect to it.

    Args:
        graph: of the file.
        cut: where it is parted.
        clipped: tensors of the file whose quantizer stands for a Clip, too.
        fixed: what of ``cut.beside`` is the same for every picture, by name.

    Raises:
        NotConvertibleError: an operator has no form in torch; the sentence names it.
    """

    def __init__(self, graph: Graph, cut: Cut, clipped: set[str], fixed: Mapping[str, Array]) -> None:
        super().__init__()
        self._cut = cut
        self._beside = [tap.tensor for tap in cut.beside if tap.tensor not in fixed]
        self._values: dict[str, Any] = {"": None}
        for name, value in fixed.items():
            self._values[name] = _tensor(value)
        wanted = {name for node in cut.nodes for name in node.inputs if name in graph.constants}
        for name in wanted:
            self._values[name] = _tensor(graph.constants[name])
        self._steps: list[_Step] = []
        self._copies: dict[str, str] = {}
        self._positive = {cut.start} if _starts_at_zero(graph, cut) else set()
        for node in cut.nodes:
            self._add(_step(graph, node, cut, clipped))
        self._logits = self._copies.get(cut.logits, cut.logits)
        read = {name for step in self._steps for name in step.inputs} | {""}
        self._values = {name: value for name, value in self._values.items() if name in read}
        self._rowwise = self._classwise()
        self._pool: _Step | None = None
        self.eval()

    def forward(self, values: Sequence[Tensor], rows: Tensor | None = None, pooled: Tensor | None = None) -> Tensor:
        """Return the logits (N, classes), or of some classes (N, rows).

        Args:
            values: the target's activation (N, C, h, w), and what else the part reads.
            rows: of which classes; None for all.
            pooled: what ``pool`` gives, where that is known; the activation is not read then.
        """
        known = dict(self._values)
        if rows is not None:
            known |= {name: known[name].index_select(axis, rows) for name, axis in self._rowwise.items()}
        known[self._cut.start] = values[0]
        known.update(zip(self._beside, values[1:], strict=True))
        for step in self._steps:
            if pooled is not None and step is self._pool:
                known[step.outputs[0]] = pooled
            else:
                known.update(step.run(known))
        logits: Tensor = known[self._logits]
        logits = logits.flatten(1) if logits.ndim > 2 else logits
        return logits if rows is None or self._rowwise else logits.index_select(1, rows)

    def prepare(self, values: Sequence[Tensor], *, grid: bool = True) -> None:
        """Find out, on what is read of one picture, what need not be computed for the gradient of one class.

        Where the classes are apart in the last layer, one class's weights are enough; where all that reads the target
        is its mean over all places, the gradient is that of the mean.

        Args:
            values: as in a call.
            grid: whether the first is (1, C, h, w).
        """
        with torch.no_grad():
            whole = self(values)
            chosen = torch.tensor(sorted({0, int(whole[0].argmax()), whole.shape[1] - 1}))
            try:
                alike = torch.allclose(self(values, chosen), whole.index_select(1, chosen), rtol=1e-4, atol=1e-5)
            except (RuntimeError, IndexError):
                alike = False
            if not alike:
                self._rowwise = {}
            readers = [step for step in self._steps if self._cut.start in step.inputs]
            if grid and len(readers) == 1 and set(readers[0].inputs) <= {self._cut.start, *self._values}:
                pooled, mean = readers[0].run({**self._values, self._cut.start: values[0]}), values[0].mean((2, 3))
                given = pooled[readers[0].outputs[0]]
                if given.numel() == mean.numel() and torch.allclose(given.reshape(mean.shape), mean, atol=1e-6):
                    self._pool = readers[0]

    def pool(self, activation: Tensor) -> Tensor | None:
        """Return the mean of each channel, as the file's pooling gives it; None where more than that is read."""
        if self._pool is None:
            return None
        pooled: Tensor = self._pool.run({**self._values, self._cut.start: activation})[self._pool.outputs[0]]
        return pooled

    def _add(self, step: _Step) -> None:
        """Keep a step; or what it gives, where that is the same at every call."""
        step = replace(step, inputs=tuple(self._copies.get(name, name) for name in step.inputs))
        if step.function is _same or step.op in ("Identity", "Dropout"):
            self._copies[step.outputs[0]] = step.inputs[0]
        elif all(name in self._values for name in step.inputs):
            with torch.no_grad():
                self._values.update(step.run(self._values))
        else:
            self._steps.append(self._positively(step))

    def _positively(self, step: _Step) -> _Step:
        """Return a step, a quantizer with the knowledge that what it reads is never below zero."""
        known = self._positive.issuperset(name for name in step.inputs if name not in self._values)
        if isinstance(step.function, Dequantizer):
            known = step.function.grid.at_zero
        if known and (step.op in _POSITIVE or isinstance(step.function, Dequantizer)):
            self._positive.update(step.outputs)
        if known and isinstance(step.function, Quantizer):
            return replace(step, function=replace(step.function, positive=True))
        return step

    def _classwise(self) -> dict[str, int]:
        """Return the constants that have a part for each class, with the axis of the classes.

        None where what follows the last operation with weights is not done to each class alone.
        """
        places = [at for at, step in enumerate(self._steps) if step.op in WEIGHTED]
        if not places:
            return {}
        head, after = self._steps[places[-1]], self._steps[places[-1] + 1 :]
        weight = self._values.get(head.inputs[1])
        if weight is None or not all(step.op in _BY_CLASS for step in after):
            return {}
        axis = _class_axis(head, weight)
        classwise = {head.inputs[1]: axis}
        for name in (*head.inputs[2:], *(name for step in after for name in step.inputs)):
            value = self._values.get(name)
            if isinstance(value, Tensor) and value.numel() == weight.shape[axis] > 1:
                classwise[name] = list(value.shape).index(weight.shape[axis])
        return classwise


# Behind the head: what is done to each class alone.
_BY_CLASS = frozenset(
    f"{QUANTIZE} {DEQUANTIZE} Add Sub Mul Div Relu Clip Identity Cast Flatten Squeeze Reshape GlobalAveragePool "
    "ReduceMean AveragePool Dropout LeakyRelu Sigmoid".split()
)


# Gives nothing below zero where nothing below zero is read.
_POSITIVE = MOVING | {"GlobalAveragePool", "AveragePool", "ReduceMean", "GlobalMaxPool", "ReduceMax", "Relu", "Concat"}


def _starts_at_zero(graph: Graph, cut: Cut) -> bool:
    """Tell whether a target is never below zero."""
    if cut.target.grid is not None:
        return cut.target.grid.at_zero
    node = graph.producers.get(cut.start)
    return node is not None and node.op in ("Relu", "Sigmoid", "HardSigmoid")


def _class_axis(head: _Step, weight: Tensor) -> int:
    """Return the axis of a head's weight along which the classes lie."""
    if head.op == "Gemm":
        return 0 if getattr(head.function, "transposed", False) else 1
    return weight.ndim - 1 if head.op.startswith("MatMul") else 0


def _step(graph: Graph, node: Node, cut: Cut, clipped: set[str]) -> _Step:
    inputs, outputs = node.inputs, node.outputs
    if node.op == QUANTIZE:
        grid = _grid(graph, node)
        name = plain(outputs[0] if "~" in inputs[0] else inputs[0])
        return _Step(Quantizer(grid, clipped=name in clipped), inputs[:1], outputs, node.op)
    if node.op == DEQUANTIZE:
        return _Step(_dequantizer(graph, node, cut), inputs[:1], outputs, node.op)
    function = OPERATORS.get(node.op)
    if function is None:
        raise NotConvertibleError(
            f"Operator {node.origin or node.op} behind the target has no form in torch here, so that gradients cannot "
            "pass; use eigencam, scorecam or ablationcam, or a layer behind it."
        )
    if "" in inputs and not any(inputs[inputs.index("") :]):
        inputs = inputs[: inputs.index("")]
    attributes = {**node.attributes, "opset": graph.opset, "outputs": len(outputs)}
    return _Step(_Bound(function, attributes), inputs, outputs, node.op)


class _Bound:
    """An operator with its attributes."""

    def __init__(self, function: _Function, attributes: dict[str, Any]) -> None:
        self._function = function
        self._attributes = attributes
        self.transposed = bool(attributes.get("transB", 0))

    def __call__(self, *inputs: Any) -> Any:
        return self._function(self._attributes, *inputs)


def _grid(graph: Graph, node: Node) -> Grid:
    grid = grid_of(graph, node)
    if grid is None:
        raise NotConvertibleError(
            f"{node.origin or node.op} of {plain(node.inputs[0])!r} has no constant grid of integers, so that "
            "gradients cannot pass; use eigencam, scorecam or ablationcam, or a layer behind it."
        )
    return grid


def _dequantizer(graph: Graph, node: Node, cut: Cut) -> _Function:
    """Return what dequantizes a tensor; of the target's own integers, the activation, which was dequantized already."""
    value = graph.constant(node.inputs[0])
    if value is not None and value.dtype == np.int32 and graph.constant(node.inputs[1]) is not None:
        scale = np.asarray(graph.constants[node.inputs[1]], np.float32)
        axis = None if scale.size == 1 else int(node.attributes.get("axis", 1))
        return Dequantizer(Grid(scale, np.zeros(scale.shape, np.int64), "int32", axis))
    grid, own = _grid(graph, node), cut.target.grid
    if node.inputs[0] != cut.start or own is None:
        return Dequantizer(grid)
    if grid.same_as(own):
        return _same
    return lambda values: Dequantizer(grid)(Quantizer(own)(values))


def _same(values: Tensor) -> Tensor:
    return values


def _tensor(value: Array) -> Tensor:
    """Return a constant; integers of grids as float32, places and sizes as they are."""
    if value.dtype in (np.int64, np.bool_):
        return torch.from_numpy(value.copy())
    return torch.from_numpy(np.ascontiguousarray(value.astype(np.float32)))
