"""The part of an ONNX file behind its target, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quantviz.networks.onnx_files.cutting import Cut
from quantviz.networks.onnx_files.files import OnnxFile
from quantviz.networks.onnx_files.nodes import Array
from quantviz.networks.onnx_files.running import Tap, session, with_outputs

_NUMPY = {"float": "float32", "double": "float64"}


class TailRunner:
    """That part of a file which lies behind its target, on ONNX Runtime: for networks whose tail torch cannot run.

    Args:
        file: the file.
        cut: where it is parted.
        logits: how the logits are read.
        fixed: what of ``cut.beside`` is the same for every picture, by name.
        threads: as in ``Runner``.

    Raises:
        CheckpointError: ONNX Runtime cannot run the part.
    """

    def __init__(self, file: OnnxFile, cut: Cut, logits: Tap, fixed: Mapping[str, Array], threads: int = 1) -> None:
        self._fixed, self._grid, self._logits = fixed, cut.target.grid, logits
        self._names = [cut.start, *(tap.tensor for tap in cut.beside)]
        whole = session(with_outputs(file.model, self._names), file, threads, optimized=False)
        types = {entry.name: entry.type.removeprefix("tensor(").rstrip(")") for entry in whole.get_outputs()}
        self._types = {name: _NUMPY.get(types[name], types[name]) for name in self._names}
        self._session = session(_part(file.model, self._types, logits.tensor), file, threads)

    def __call__(self, values: Sequence[Tensor]) -> Tensor:
        """Return the logits (N, classes) of what ``OnnxNetwork.before`` gives."""
        arrays = iter([value.detach().numpy() for value in values])
        given = {}
        for name in self._names:
            value = self._fixed[name] if name in self._fixed else next(arrays)
            if name == self._names[0] and self._grid is not None:
                value = self._grid.integers(value)
            given[name] = np.ascontiguousarray(value, dtype=self._types[name])
        return torch.from_numpy(self._logits.real(self._session.run(None, given)[0])).flatten(1)


def _part(model: Any, types: Mapping[str, str], end: str) -> Any:
    """Return the part of a model that makes a tensor from others, whose types are given, as a model of its own."""
    import onnx

    names = list(types)

    producers = {output: node for node in model.graph.node for output in node.output}
    needed: set[str] = set()
    waiting = [end]
    while waiting:
        name = waiting.pop()
        if name not in needed and name not in names:
            needed.add(name)
            waiting += producers[name].input if name in producers else []
    part = onnx.ModelProto()
    part.CopyFrom(model)
    nodes = [node for node in model.graph.node if not needed.isdisjoint(node.output)]
    del part.graph.node[:], part.graph.input[:], part.graph.output[:]
    part.graph.node.extend(nodes)
    for name, kind in types.items():
        element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        part.graph.input.append(onnx.helper.make_tensor_value_info(name, element, None))
    part.graph.output.append(onnx.ValueInfoProto(name=end))
    kept = [entry for entry in part.graph.initializer if any(entry.name in node.input for node in nodes)]
    del part.graph.initializer[:], part.graph.value_info[:]
    part.graph.initializer.extend(kept)
    return part
