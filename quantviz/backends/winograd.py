"""An exported float network on ncnn, which computes 3 x 3 convolutions by Winograd's method.

Winograd's method takes down to a fourth of a convolution's multiplications (Lavin and Gray 2016, arXiv 1509.09308),
which neither torch nor ONNX Runtime does on x86. Its rounding is another: measured on the networks here, activations
differ from torch's by about 1e-6 of their range.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quantviz.backends.export import IMAGE, Session, parted
from quantviz.backends.split import Front, NotSplittableError

# The numbers of parameters, kinds and modes are ncnn's: docs/developer-guide/operators.md of its repository.
_ACTIVATIONS: Final = {"Relu": "9=1", "Clip": "9=3"}
_MAXIMUM, _AVERAGE = 0, 1
_FULL, _VALID = 0, 1  # whether a pooling's last window may stand out
_LARGEST: Final = float(np.finfo(np.float32).max)
_BINARY: Final = {"Add": 0, "Mul": 2}


class NcnnSession:
    """A float network on ncnn; any number of threads may call it.

    Args:
        model: bytes of an ONNX model, from ``exported``.
        threads: how many it computes in; their number decides the last bits of its outputs.

    Raises:
        NotSplittableError: a layer is of a kind that is not translated.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        import ncnn  # here, so that who does not use it does not wait for it

        text, weights, self._outputs = translated(model)
        self._net: Any = ncnn.Net()
        self._mat: Any = ncnn.Mat
        options = self._net.opt
        options.num_threads = threads
        options.openmp_blocktime = 0  # threads that spin while they wait would take the cores from torch's
        options.use_vulkan_compute = False
        for kind in ("bf16_storage", "bf16_packed", "fp16_storage", "fp16_packed", "fp16_arithmetic"):
            setattr(options, f"use_{kind}", False)
        # From memory ncnn would refer to the weights and not copy them.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights"
            path.write_bytes(weights)
            if self._net.load_param_mem(text) != 0 or self._net.load_model(str(path)) != 0:
                raise NotSplittableError("ncnn cannot read the translated network.")

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Return the outputs for inputs (N, 3, H, W) float32, float32; one input after the other."""
        outputs = [self._one(np.ascontiguousarray(single)) for single in image.numpy()]
        return [torch.from_numpy(np.stack(values)) for values in zip(*outputs, strict=True)]

    def _one(self, image: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        run = self._net.create_extractor()
        run.input(IMAGE, self._mat(image))
        outputs = []
        for name in self._outputs:
            failed, values = run.extract(name)
            if failed:
                raise NotSplittableError(f"ncnn does not give {name!r}.")
            outputs.append(np.array(values))
        return outputs


def by_ncnn(model: bytes, *, logits: bool, threads: int = 1) -> Front:
    """Return what computes an exported float network on ncnn; from its target on by ONNX Runtime, if it goes on.

    Args:
        model: from ``exported``.
        logits: whether it goes on to the logits.
        threads: how many each library computes in.

    Raises:
        NotSplittableError: a layer is of a kind that is not translated.
    """
    if not logits:
        return NcnnSession(model, threads)
    front, rest = parted(model)
    before, behind = NcnnSession(front, threads), Session(rest, threads)

    def run(image: Tensor) -> list[Tensor]:
        values = before(image)
        return [*values, *behind(*values)]

    return run


def translated(model: bytes) -> tuple[str, bytes, list[str]]:
    """Return an exported network as ncnn's text and weights, and the names of its outputs.

    Args:
        model: from ``exported``.

    Raises:
        NotSplittableError: a layer is of a kind that is not translated.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(model).graph
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    outputs = [entry.name for entry in graph.output]
    return _Translation(list(graph.node), constants, outputs).written()


class _Translation:
    """Layers of ncnn in the place of a graph's nodes. What is read more than once is split, as ncnn has it."""

    def __init__(self, nodes: list[Any], constants: dict[str, npt.NDArray[Any]], outputs: list[str]) -> None:
        self._nodes = nodes
        self._constants = constants
        self._outputs = outputs
        reading = [name for node in nodes for name in node.input if name and name not in constants]
        self._readers = Counter([*reading, *outputs])
        self._given: Counter[str] = Counter()
        self._lines: list[str] = []
        self._weights: list[bytes] = []
        self._blobs = 0

    def written(self) -> tuple[str, bytes, list[str]]:
        """Return the text, the weights and the names of the outputs."""
        self._line("Input", [], IMAGE)
        skipped = set()
        for place, node in enumerate(self._nodes):
            if place in skipped:
                continue
            if node.op_type == "Conv" and (behind := self._activation_of(node)) is not None:
                skipped.add(behind)
                self._convolution(node, self._nodes[behind])
            else:
                self._node(node)
        outputs = [self._blob(name) for name in self._outputs]
        text = "\n".join(["7767517", f"{len(self._lines)} {self._blobs}", *self._lines, ""])
        return text, b"".join(self._weights), outputs

    def _node(self, node: Any) -> None:
        options, source, target = _options(node), list(node.input), node.output[0]
        match node.op_type:
            case "Conv":
                self._convolution(node, None)
            case "Relu":
                self._line("ReLU", source, target)
            case "Clip":
                low, high = self._limits(node)
                self._line("Clip", source[:1], target, f"0={low:.9g}", f"1={high:.9g}")
            case "Sigmoid":
                self._line("Sigmoid", source, target)
            case "Add" | "Mul" if not self._constants.keys() & set(source):
                self._line("BinaryOp", source, target, f"0={_BINARY[node.op_type]}")
            case "Concat" if options["axis"] == 1:
                self._line("Concat", source, target, "0=0")
            case "MaxPool" | "AveragePool":
                self._pooling(node, options)
            case "BatchNormalization" if len(node.output) == 1:
                self._batch_norm(node, options)
            case _:
                raise _untranslated(node)

    def _activation_of(self, node: Any) -> int | None:
        """Return the place of the activation function that alone reads a convolution, or None."""
        name = node.output[0]
        if self._readers[name] != 1:
            return None
        readers = (place for place, other in enumerate(self._nodes) if name in other.input)
        return next((place for place in readers if self._nodes[place].op_type in _ACTIVATIONS), None)

    def _limits(self, node: Any) -> tuple[float, float]:
        names = [*node.input[1:], "", ""][:2]
        usual = -_LARGEST, _LARGEST
        low, high = (float(self._constants[name]) if name else end for name, end in zip(names, usual, strict=True))
        return low, high

    def _convolution(self, node: Any, behind: Any | None) -> None:
        options = _options(node)
        weight = self._constants[node.input[1]]
        bias = self._constants[node.input[2]] if len(node.input) > 2 and node.input[2] else None
        if weight.ndim != 4 or options.get("auto_pad", b"NOTSET") != b"NOTSET":
            raise _untranslated(node)
        group = options.get("group", 1)
        (height, width), (down, right) = weight.shape[2:], options.get("strides", [1, 1])
        spread_down, spread_right = options.get("dilations", [1, 1])
        top, left, bottom, last = options.get("pads", [0, 0, 0, 0])
        more = [f"0={len(weight)}", f"1={width}", f"11={height}", f"2={spread_right}", f"12={spread_down}"]
        more += [f"3={right}", f"13={down}", f"4={left}", f"15={last}", f"14={top}", f"16={bottom}"]
        more += [f"5={int(bias is not None)}", f"6={weight.size}"]
        more += [f"7={group}"] if group > 1 else []
        if behind is not None:
            more.append(_ACTIVATIONS[behind.op_type])
            if behind.op_type == "Clip":
                low, high = self._limits(behind)
                more.append(f"-23310=2,{low:.9g},{high:.9g}")
        kind = "ConvolutionDepthWise" if group > 1 else "Convolution"
        self._line(kind, [node.input[0]], (behind or node).output[0], *more)
        self._weights.append(bytes(4))  # what follows is float32
        self._values(weight)
        if bias is not None:
            self._values(bias)

    def _pooling(self, node: Any, options: dict[str, Any]) -> None:
        spread = any(step != 1 for step in options.get("dilations", [1, 1]))
        if spread or options.get("auto_pad", b"NOTSET") != b"NOTSET":
            raise _untranslated(node)
        kind = _MAXIMUM if node.op_type == "MaxPool" else _AVERAGE
        (height, width), (down, right) = options["kernel_shape"], options.get("strides", [1, 1])
        top, left, bottom, last = options.get("pads", [0, 0, 0, 0])
        mode = _FULL if options.get("ceil_mode") else _VALID
        more = [f"0={kind}", f"1={width}", f"11={height}", f"2={right}", f"12={down}", f"3={left}", f"14={last}"]
        more += [f"13={top}", f"15={bottom}", f"5={mode}", f"6={options.get('count_include_pad', 0)}"]
        self._line("Pooling", [node.input[0]], node.output[0], *more)

    def _batch_norm(self, node: Any, options: dict[str, Any]) -> None:
        gain, shift, mean, variance = (self._constants[name] for name in node.input[1:5])
        self._line("BatchNorm", [node.input[0]], node.output[0], f"0={len(gain)}", f"1={options['epsilon']:.9g}")
        for values in (gain, mean, variance, shift):
            self._values(values)

    def _values(self, values: npt.NDArray[Any]) -> None:
        self._weights.append(np.ascontiguousarray(values, dtype="<f4").tobytes())

    def _blob(self, name: str) -> str:
        """Return the name under which the next reader of a tensor has it."""
        if self._readers[name] < 2:
            return name
        self._given[name] += 1
        return f"{name}:{self._given[name]}"

    def _line(self, kind: str, sources: list[str], target: str, *options: str) -> None:
        inputs = [self._blob(name) for name in sources]
        self._append(kind, inputs, [target], options)
        if (count := self._readers[target]) > 1:
            self._append("Split", [target], [f"{target}:{number}" for number in range(1, count + 1)], ())

    def _append(self, kind: str, inputs: list[str], outputs: list[str], options: tuple[str, ...]) -> None:
        words = [kind, f"layer{len(self._lines)}", str(len(inputs)), str(len(outputs)), *inputs, *outputs, *options]
        self._lines.append(" ".join(words))
        self._blobs += len(outputs)


def _options(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _untranslated(node: Any) -> NotSplittableError:
    return NotSplittableError(f"ncnn cannot run this network: node {node.name!r} ({node.op_type}) has no translation.")
