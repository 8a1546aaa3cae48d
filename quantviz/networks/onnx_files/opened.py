"""An ONNX file, read and described once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from quantviz.networks.onnx_files import files
from quantviz.networks.onnx_files.graph import Graph, graph_of
from quantviz.networks.onnx_files.inputs import DEFAULT_SIDE, InputForm, Logits, input_of, logits_of
from quantviz.networks.onnx_files.quantization import Quantization, operators_of, quantization_of
from quantviz.networks.onnx_files.running import shapes
from quantviz.networks.onnx_files.targets import Shapes, Target, default, targets
from quantviz.specs import UsageError

_OPENED = 4


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """An ONNX file with what is known of it.

    Attributes:
        file: as it was read.
        graph: its operations, integer operators written as QDQ.
        form: how it takes a picture.
        size: (height, width) of the picture in pixels.
        shapes: of every tensor, for one picture.
        logits: where its class scores are.
        targets: tensors that a map can be taken at, in the order of the file.
        quantization: what lies on which grid.
    """

    file: files.OnnxFile
    graph: Graph
    form: InputForm
    size: tuple[int, int]
    shapes: Shapes
    logits: Logits
    targets: tuple[Target, ...]
    quantization: Quantization

    def target(self, name: str | None = None) -> Target:
        """Return a target by name, or the default one.

        Raises:
            UsageError: the file has no such target.
        """
        if name is None:
            return default(list(self.targets), self.file.name)
        for target in self.targets:
            if target.tensor == name:
                return target
        known = ", ".join(target.tensor for target in self.targets[-3:])
        if name in self.shapes:
            raise UsageError(
                f"Tensor {name!r} of {self.file.name} has no grid of places, shape {self.shapes[name]}; use another, "
                f"{known} say."
            )
        raise UsageError(
            f"{self.file.name} has no tensor {name!r}; `quantviz inspect` lists its tensors, {known} among them."
        )


def open_file(path: Path, *, external: bool = True, size: tuple[int, int] | None = None) -> Opened:
    """Return an ONNX file with what is known of it; kept in memory until the file changes.

    Args:
        path: the file.
        external: as in ``files.read``.
        size: (height, width) of the picture in pixels, where the file leaves it open.

    Raises:
        CheckpointError: the file cannot be used.
    """
    return _opened(path.absolute(), files.identity(path), external, size or (DEFAULT_SIDE, DEFAULT_SIDE))


@lru_cache(maxsize=_OPENED)
def _opened(path: Path, _identity: tuple[str, int, int], external: bool, wanted: tuple[int, int]) -> Opened:
    return opened_of(files.read(path, external=external), wanted)


def opened_of(file: files.OnnxFile, wanted: tuple[int, int]) -> Opened:
    """Return a file that was read, or made in memory, with what is known of it.

    Args:
        file: the file.
        wanted: (height, width) of the picture in pixels, where the file leaves it open.

    Raises:
        CheckpointError: ONNX Runtime cannot run it, or no class scores are found.
    """
    graph = graph_of(file.model, file.opset)
    form = input_of(file)
    size = form.filled(wanted)
    known = shapes(file, form.given(np.zeros((1, 3, *size), np.float32)))
    logits = logits_of(graph, known, file.name)
    choices = targets(graph, known, logits.tensor, form.layout)
    quantization = quantization_of(graph, operators_of(file.model))
    return Opened(file, graph, form, size, known, logits, tuple(choices), quantization)
