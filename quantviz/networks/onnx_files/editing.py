"""A quantized file changed in memory: rounding taken out of tensors, or done on other grids; names stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from quantviz.networks.onnx_files.files import OnnxFile
from quantviz.networks.onnx_files.graph import graph_of
from quantviz.networks.onnx_files.grids import source_of
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, Array, Node
from quantviz.networks.onnx_files.opened import Opened, opened_of
from quantviz.networks.onnx_files.pairs import FilePair
from quantviz.networks.onnx_files.taps import StoredTensor, TappedTensor, stored, tapped
from quantviz.specs import UsageError

_INTERNAL: Final = {"Softmax": ("since",)}
"""Attributes of ours that no file has, by operator."""


class PairEditor:
    """Makes changed copies of a pair's quantized file.

    A file of integer operators (QLinearConv) is written with QuantizeLinear and DequantizeLinear first; ONNX Runtime
    fuses these into the same kernels. Every tensor keeps its name, so that what is known of the file holds for copies.

    Args:
        pair: the files; the quantized one has constant grids.

    Raises:
        CheckpointError: ONNX Runtime cannot run the file in this form.
        UsageError: the file computes grids for each input.

    Attributes:
        pair: the files as they were given.
        base: the quantized file in the form that is changed.
        activations: activations on a grid, by the names that ``tapped`` gives.
        stored: weights and biases on a grid, by name.
    """

    def __init__(self, pair: FilePair) -> None:
        self.pair, self.base = pair, _as_qdq(pair.quantized)
        self.activations = {entry.name: entry for entry in tapped(pair)}
        self.stored = {entry.name: replace(entry, output=_name(entry.output)) for entry in stored(pair)}

    @property
    def names(self) -> tuple[str, ...]:
        """Tensors whose rounding can be taken out, activations first."""
        return (*self.activations, *(name for name, entry in self.stored.items() if entry.reference is not None))

    def draft(self) -> Draft:
        """Return a copy to change."""
        return Draft(self)

    def without(self, names: Collection[str]) -> Opened:
        """Return the quantized file with these tensors in float.

        Args:
            names: of ``names``; others are left as they are.
        """
        draft = self.draft()
        for name in names:
            draft.take_out(name)
        return draft.opened()

    def cut_at(self, target: str, names: Collection[str]) -> str:
        """Return where a target is read in what ``without`` gives: behind its activation where that was fused.

        Args:
            target: of the quantized file.
            names: the tensors that were taken out.
        """
        for name in names:
            entry = self.activations.get(name)
            if entry is not None and target in (entry.name, entry.rounded) and self.limits(entry) is not None:
                return entry.rounded
        return target

    def limits(self, entry: TappedTensor) -> tuple[float, float] | None:
        """Return what the rounding of a tensor cuts off that is not rounding: the activation that was fused into it."""
        if entry.reference is not None:
            return entry.limits
        # Nothing in the float file stands for it: a grid that begins at 0 is what a fused ReLU leaves.
        return (0.0, np.inf) if entry.grid is not None and entry.grid.at_zero else None

    def dequantizers(self, entry: TappedTensor) -> Iterator[Node]:
        """Yield what dequantizes an activation's integers, behind operators that move them as well."""
        graph = self.base.graph
        for node in graph.nodes:
            if node.op == DEQUANTIZE and node.inputs[0] not in graph.constants:
                source = source_of(graph, node.inputs[0])
                if source is not None and source.outputs[0] == entry.rounded:
                    yield node


class Draft:
    """A copy of a quantized file that is changed step by step.

    Args:
        editor: of the pair.

    Attributes:
        nodes: tensor -> the node that gives it as of now; nobody changes it, see ``set_node``.
    """

    def __init__(self, editor: PairEditor) -> None:
        self.editor = editor
        self._nodes = list(editor.base.file.model.graph.node)
        self.nodes: dict[str, Any] = {output: node for node in self._nodes for output in node.output}
        self._swapped: dict[str, list[Any]] = {}
        self._before: dict[str, list[Any]] = {}
        self._constants: dict[str, Array] = {}

    def opened(self) -> Opened:
        """Return the changed file; what is known of shapes and targets is the unchanged one's."""
        import onnx

        base = self.editor.base
        model = onnx.ModelProto()
        model.CopyFrom(base.file.model)
        made: list[Any] = []
        for node in self._nodes:
            first = node.output[0]
            made += self._before.get(first, [])
            made += self._swapped.get(first, [node])
        copies = [_copied(node) for node in made]
        del model.graph.node[:]
        model.graph.node.extend(copies)
        model.graph.initializer.extend(_tensor(values, name) for name, values in self._constants.items())
        _add_domain(model)
        _prune(model)
        file = replace(base.file, model=model)
        return replace(base, file=file, graph=graph_of(model, file.opset))

    def take_out(self, name: str) -> None:
        """Leave a tensor in float: an activation is passed on as it is, a weight or a bias is the float file's."""
        activation, own = self.editor.activations.get(name), self.editor.stored.get(name)
        if activation is not None:
            self._pass_on(activation)
        elif own is not None and own.reference is not None:
            self.set_float(own)

    def _pass_on(self, entry: TappedTensor) -> None:
        self.set_node(entry.rounded, self._activated(self.nodes[entry.rounded].input[0], entry.rounded, entry))
        for node in self.editor.dequantizers(entry):
            self.set_node(node.outputs[0], made_node("Identity", [node.inputs[0]], node.outputs[0]))

    def _activated(self, source: str, output: str, entry: TappedTensor) -> Any:
        """Return the node that passes a tensor on as the activation that was fused into its rounding did."""
        limits = self.editor.limits(entry)
        if limits is None:
            return made_node("Identity", [source], output)
        if limits == (0.0, np.inf):
            return made_node("Relu", [source], output)
        ends = [self.constant("limit", np.float32(end)) if np.isfinite(end) else "" for end in limits]
        return made_node("Clip", [source, *ends], output)

    def set_float(self, entry: StoredTensor) -> None:
        """Let the operator that reads a weight or a bias read the float file's values."""
        assert entry.reference is not None
        self._swapped[entry.output] = []
        self.nodes.pop(entry.output, None)
        self._constants[entry.output] = entry.reference

    def unrounded(self, entry: TappedTensor) -> str:
        """Return the name of an activation's values before rounding."""
        source = str(self.nodes[entry.rounded].input[0])
        if self.editor.limits(entry) is None:
            return source
        name = f"{entry.rounded}_unrounded"
        if name not in self.nodes:
            self.nodes[name] = self._activated(source, name, entry)
            # Right behind the quantizer, so that it stands before all readers.
            self._before.setdefault(self.nodes[entry.rounded].output[0], []).append(self.nodes[name])
        return name

    def constant(self, stem: str, values: Any) -> str:
        """Store a constant under a name of its own, and return that."""
        known, count = self.editor.base.graph.constants, len(self._constants)
        while (name := f"remedy_{stem}_{count}") in known or name in self._constants:
            count += 1
        self._constants[name] = np.asarray(values)
        return name

    def constant_as(self, name: str, values: Array) -> None:
        """Store a constant under a name that no tensor has."""
        self._constants[name] = values

    def value(self, name: str) -> Array | None:
        """Return a constant of the file, or one that was stored since; None where a name is none."""
        own = self._constants.get(name)
        return self.editor.base.graph.constants.get(name) if own is None else own

    def set_node(self, output: str, made: Any) -> None:
        """Put another node in place of the one that gives a tensor."""
        self._swapped[output] = [made]
        self.nodes[output] = made


def made_node(op: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> Any:
    """Return an ``onnx.NodeProto`` of one output, named after it."""
    from onnx import helper

    return helper.make_node(op, list(inputs), [output], f"{output}_{op}", domain=domain, **attributes)


def _tensor(values: Array, name: str) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.ascontiguousarray(values).reshape(np.shape(values)), name)


def _add_domain(model: Any) -> None:
    """Let a model use ONNX Runtime's own operators where a node of it does."""
    from onnx import helper

    used = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    known = {entry.domain for entry in model.opset_import}
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in sorted(used - known))


def _prune(model: Any) -> None:
    """Leave out what nothing reads any more, and the types that a change made wrong."""
    graph = model.graph
    del graph.value_info[:]
    needed = {entry.name for entry in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            needed.update(_within(node))
            kept.append(node)
    nodes = [_copied(node) for node in reversed(kept)]
    del graph.node[:]
    graph.node.extend(nodes)
    constants = [_copied(entry) for entry in graph.initializer if entry.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _within(node: Any) -> Iterator[str]:
    """Yield what the graphs within a node (branches and loops) read."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from inner.input
                yield from _within(inner)


def _copied(message: Any) -> Any:
    made = type(message)()
    made.CopyFrom(message)
    return made


def _as_qdq(opened: Opened) -> Opened:
    """Return a file of integer operators written with QuantizeLinear and DequantizeLinear; others as they are."""
    graph = opened.graph
    if not any(node.origin for node in graph.nodes):
        return opened
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(opened.file.model)
    own = {node.output[0]: node for node in opened.file.model.graph.node if node.output}
    made = [_copied(node) for node in opened.file.model.graph.node if node.op_type == "Constant"]
    made += [_written(node) if node.origin else _copied(own[node.outputs[0]]) for node in graph.nodes]
    stored_already = {entry.name for entry in model.graph.initializer} | {node.output[0] for node in made}
    read = {name for node in made for name in node.input}
    for name in sorted(read & set(graph.constants)):
        if _name(name) not in stored_already:
            model.graph.initializer.append(_tensor(graph.constants[name], _name(name)))
    for node in made:
        for at, name in enumerate(node.input):
            node.input[at] = _name(name)
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(made)
    file = OnnxFile(opened.file.name, opened.file.sha256, opened.file.opset, model)
    return opened_of(file, opened.size)


def _written(node: Node) -> Any:
    from onnx import helper

    if node.op in ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger") or node.attributes.get("block_size"):
        raise UsageError(
            f"Operator {node.origin} computes its grid for each input, so that single tensors cannot be taken out; "
            "give a file with constant grids (static quantization)."
        )
    attributes = {name: value for name, value in node.attributes.items() if name not in _INTERNAL.get(node.op, ())}
    return helper.make_node(node.op, node.inputs, [_name(name) for name in node.outputs], node.outputs[0], **attributes)


def _name(name: str) -> str:
    """Return a tensor's name in the file that is written: names of the graph's own have a ``~``."""
    return name.replace("~", "__")
