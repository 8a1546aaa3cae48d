"""ONNX files as data: what ``quantviz inspect`` tells of them."""

from __future__ import annotations

from typing import Any

from quantviz.networks.onnx_files.grids import Grid
from quantviz.networks.onnx_files.opened import Opened
from quantviz.networks.onnx_files.pairs import FilePair
from quantviz.networks.onnx_files.quantization import QuantizedTensor
from quantviz.networks.onnx_files.targets import RULE, Target, candidates


def describe(opened: Opened) -> dict[str, Any]:
    """Return what is known of a file as JSON-able data."""
    quantization = opened.quantization
    return {
        "file": opened.file.name,
        "sha256": opened.file.sha256,
        "opset": opened.file.opset,
        "input": {
            "name": opened.form.name,
            "layout": opened.form.layout,
            "dtype": opened.form.dtype,
            "batch": opened.form.batch,
            "side": opened.form.sides[0] if len(set(opened.form.sides)) == 1 else None,
            "height": opened.form.sides[0],
            "width": opened.form.sides[1],
        },
        "logits": {
            "tensor": opened.logits.tensor,
            "classes": opened.logits.classes,
            "output_is_softmax": opened.logits.softmax,
        },
        "operators": quantization.operators,
        "format": quantization.format,
        "bits": quantization.label,
        "quantized": [_tensor(entry) for entry in quantization.tensors],
        "float": [{"operator": op, "tensor": tensor} for op, tensor in quantization.in_float],
        "layers": {
            "default": opened.targets[-1].tensor if opened.targets else None,
            "rule": RULE,
            "candidates": [_layer(target) for target in candidates(list(opened.targets))],
            "all": [target.tensor for target in opened.targets],
        },
    }


def describe_pair(pair: FilePair) -> dict[str, Any]:
    """Return how two files go together as JSON-able data."""
    differing = {entry.match.float_tensor for entry in pair.differences}
    return {
        "matches": [
            {
                "float": match.float_tensor,
                "quantized": match.quantized_tensor,
                "how": match.how,
                "same_shape": match.float_tensor not in differing,
            }
            for match in pair.matches
        ],
        "differences": [
            {
                "float": entry.match.float_tensor,
                "quantized": entry.match.quantized_tensor,
                "float_shape": list(entry.float_shape),
                "quantized_shape": list(entry.quantized_shape),
            }
            for entry in pair.differences
        ],
        "findings": list(pair.findings),
    }


def _tensor(entry: QuantizedTensor) -> dict[str, Any]:
    return {
        "tensor": entry.tensor,
        "role": entry.role,
        "bits": entry.bits,
        "stored": entry.stored or None,
        "dynamic": entry.dynamic,
        "grid": None if entry.grid is None else _grid(entry.grid),
    }


def _grid(grid: Grid) -> dict[str, Any]:
    return {
        "dtype": grid.dtype,
        "granularity": grid.granularity,
        "axis": grid.axis,
        "block": grid.block or None,
        "symmetric": grid.symmetric,
        "scale": [float(value) for value in grid.scale.flat],
        "zero_point": [int(value) for value in grid.zero_point.flat],
    }


def _layer(target: Target) -> dict[str, Any]:
    return {"tensor": target.tensor, "operator": target.op, "shape": list(target.shape)}
