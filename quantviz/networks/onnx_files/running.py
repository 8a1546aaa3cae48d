"""An ONNX file on ONNX Runtime as its users run it, with further tensors as outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantviz.networks.onnx_files.files import OnnxFile
from quantviz.networks.onnx_files.grids import Grid
from quantviz.networks.onnx_files.nodes import Array
from quantviz.specs import CheckpointError, reason_of, too_new

_NO_FOLDER = os.devnull  # no file can lie under it


@dataclass(frozen=True, slots=True, eq=False)
class Tap:
    """A tensor of a file that is read while it runs.

    Attributes:
        tensor: its name in the file.
        grid: of its integers, where these are read, or on which it is rounded; None where it is read as it is.
        spliced: whether the integers are dequantized, read and quantized again on their way to the one DequantizeLinear
            that reads them, which changes no value. A second reader beside it would: ONNX Runtime fuses an integer
            kernel only where QuantizeLinear has one reader (1.32), and else computes in float32.
    """

    tensor: str
    grid: Grid | None = None
    spliced: bool = False

    @property
    def output(self) -> str:
        """Name of the output that is read."""
        return f"{self.tensor}~read" if self.spliced else self.tensor

    def real(self, values: Array) -> Array:
        """Return what was read as real values, float32; index types stay as they are."""
        if self.grid is not None and not self.spliced:
            return self.grid.real(self.grid.integers(values) if values.dtype.kind == "f" else values)
        return values if values.dtype in (np.int64, np.bool_) else values.astype(np.float32, copy=False)


class Runner:
    """A session at ONNX Runtime's default optimization level on the CPU; any number of threads may call it.

    Args:
        file: what runs.
        taps: which tensors it gives, in this order.
        threads: how many it computes in; their number decides the last bits.

    Raises:
        CheckpointError: ONNX Runtime cannot run the file, or knows no such tensor.
    """

    def __init__(self, file: OnnxFile, taps: Sequence[Tap], threads: int = 1) -> None:
        self.taps = tuple(taps)
        # The file's own outputs stay outputs, whether or not they are read: without them it were another network.
        self._session = session(with_taps(file.model, taps), file, threads)
        self._wanted = [tap.output for tap in taps]
        self._input = self._session.get_inputs()[0]

    def reading(self, taps: Sequence[Tap]) -> Runner:
        """Return the same session, of whose outputs fewer are read."""
        runner = copy(self)
        runner.taps = tuple(taps)
        runner._wanted = [tap.output for tap in taps]
        return runner

    def __call__(self, values: Array) -> list[Array]:
        """Return the taps' real values for an input as the file takes it."""
        try:
            given = self._session.run(self._wanted, {self._input.name: values})
        except Exception as error:  # its errors have no common class
            raise CheckpointError(
                f"ONNX Runtime fails on an input of shape {values.shape}: {reason_of(error)}."
            ) from None
        return [tap.real(np.asarray(value)) for tap, value in zip(self.taps, given, strict=True)]


def session(model: Any, file: OnnxFile, threads: int = 1, *, optimized: bool = True) -> Any:
    """Return an ONNX Runtime session of a model.

    Args:
        model: an ``onnx.ModelProto``.
        file: what it was made from, for messages.
        threads: how many it computes in; their number decides the last bits.
        optimized: at the default optimization level; else with none.

    Raises:
        CheckpointError: ONNX Runtime cannot run it.
    """
    import onnxruntime  # here, so that who does not use it does not wait for it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # its own lines on standard error would repeat ours
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    try:
        # Without its fallback, which would print on standard output and try the same again.
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, ["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # its errors have no common class
        older = "find an implementation" in str(error)
        advice = f"with an older opset than {file.opset}" if older else "again"
        advice = "for an older ONNX version, a lower opset and IR version" if too_new(error) else advice
        raise CheckpointError(
            f"{file.name} cannot be run by ONNX Runtime ({reason_of(error)}); export the network {advice}."
        ) from None


def with_outputs(model: Any, names: Sequence[str]) -> Any:
    """Return a model that gives further tensors as outputs; itself where there are none."""
    import onnx

    if not names:
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return changed


def with_taps(model: Any, taps: Sequence[Tap]) -> Any:
    """Return a model whose outputs are its own and what taps read; itself where there is nothing to add."""
    own = {entry.name for entry in model.graph.output}
    changed = with_outputs(model, list(dict.fromkeys(tap.output for tap in taps if tap.output not in own)))
    for tap in taps:
        if tap.spliced:
            _splice(changed.graph, tap)
    return changed


def _splice(graph: Any, tap: Tap) -> None:
    """Let the reader of integers read them dequantized and quantized again; between, they are an output."""
    from onnx import helper, numpy_helper

    real, least, again = (f"{tap.tensor}~{name}" for name in ("real", "least", "again"))
    places = {name: at for at, node in enumerate(graph.node) for name in node.output}
    (reader,) = [node for node in graph.node if tap.tensor in node.input]
    quantizer, dequantizer = type(reader)(), type(reader)()
    quantizer.CopyFrom(graph.node[places[tap.tensor]])
    dequantizer.CopyFrom(reader)
    for node, source, output in ((dequantizer, tap.tensor, real), (quantizer, tap.output, again)):
        node.input[0], node.output[0] = source, output
        node.name = output
    reader.input[0] = again
    # The greater of a number and the least one is the number itself. Nothing that optimizers leave out.
    graph.initializer.append(numpy_helper.from_array(np.array(np.finfo(np.float32).min), least))
    middle = helper.make_node("Max", [real, least], [tap.output], tap.output)
    for node in (quantizer, middle, dequantizer):
        graph.node.insert(places[tap.tensor] + 1, node)


def shapes(file: OnnxFile, values: Array) -> dict[str, tuple[int, ...]]:
    """Return the shape that every tensor of a file has for an input, by running it.

    By running, not by inference: a quantizer may have rounded the arithmetic on shapes that an exporter left.

    Args:
        file: the file.
        values: an input as the file takes it.

    Raises:
        CheckpointError: ONNX Runtime cannot run the file, or fails on the input.
    """
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(file.model)
    nodes = [node for node in file.model.graph.node if "Sequence" not in node.op_type]  # whose outputs have no shape
    names = [name for node in nodes for name in node.output if name]
    own = {entry.name for entry in file.model.graph.output}
    measured = {f"{name}~shape": name for name in names}
    for output, name in measured.items():  # shapes, and not the values, which could be gigabytes
        changed.graph.node.append(onnx.helper.make_node("Shape", [name], [output]))
    changed.graph.output.extend(onnx.ValueInfoProto(name=output) for output in measured)
    opened = session(changed, file, 1, optimized=False)
    kept = [entry.name for entry in opened.get_outputs() if entry.name not in own]
    try:
        given = opened.run(kept, {opened.get_inputs()[0].name: values})
    except Exception as error:  # as above
        raise CheckpointError(f"{file.name} fails on an input of shape {values.shape}: {reason_of(error)}.") from None
    found = {measured[name]: tuple(int(side) for side in shape) for name, shape in zip(kept, given, strict=True)}
    return {opened.get_inputs()[0].name: values.shape, **found}


def values_of(file: OnnxFile, names: Sequence[str], values: Array) -> Mapping[str, Array]:
    """Return tensors of a file for an input, as they are, by running it without optimization."""
    opened = session(with_outputs(file.model, names), file, 1, optimized=False)
    return dict(zip(names, opened.run(list(names), {opened.get_inputs()[0].name: values}), strict=True))
