"""A diagnosis, or bits that a search found, as other tools read them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from quantviz.layerwise.bits_file import bits_bytes
from quantviz.layerwise.diagnosis.specs import Diagnosis, TensorFigures
from quantviz.layerwise.specs import SearchResult
from quantviz.specs import LayerBits, QuantSpec, UsageError, utf8

_HARMLESS: Final = frozenset({"left_in_float", "int16_overflow"})
_COLD_TO_HOT: Final = [
    {"stop": 0.0, "bgColor": "#fde725"},
    {"stop": 0.5, "bgColor": "#21918c"},
    {"stop": 1.0, "bgColor": "#440154"},
]
_FULL = 8
_BETWEEN = r"\W+(?:\w+\W)?"


def harmed_layers(result: Diagnosis | SearchResult, least_bits: int = _FULL) -> list[str]:
    """Return the layers to leave in float: those of a tensor with a cause, or of fewer bits than these.

    Args:
        result: a diagnosis; or a search's result, of which the layers that it gave this many weight bits or more are
            the ones that it found to need them.
        least_bits: of a search's layers.
    """
    if isinstance(result, SearchResult):
        if result.found is None:
            return []
        return [
            entry.name for entry in result.found.bits if entry.weight_bits is None or entry.weight_bits >= least_bits
        ]
    causes = [cause for cause in result.causes if cause.cause not in _HARMLESS]
    layers = {entry.name: entry.site.layer for entry in result.tensors}
    return list(dict.fromkeys(layers.get(cause.tensor, cause.tensor) for cause in causes))


def nodes_to_exclude(result: Diagnosis | SearchResult) -> bytes:
    """Return a JSON list for ``quantize_static(..., nodes_to_exclude=...)`` of ONNX Runtime.

    Of files the names are the operators'; of our simulation the layers', and beside each what torch's exporters make of
    it, ``/features/features.3/squeeze/Conv``. Names that a file does not have do nothing.
    """
    if not isinstance(result, SearchResult) and result.kind == "files":
        return _json(_harmed_nodes(result))
    return _json([name for layer in harmed_layers(result) for name in (layer, *_onnx_names(layer))])


def _harmed_nodes(result: Diagnosis) -> list[str]:
    """Return the operators of a file that read a tensor with a cause."""
    known = {entry.name: entry.site for entry in result.tensors}
    names: list[str] = []
    for cause in result.causes:
        if cause.cause not in _HARMLESS:
            site = known.get(cause.tensor)
            names += site.nodes if site is not None and site.nodes else [_node_of(cause.tensor)]
    return list(dict.fromkeys(names))


def _onnx_names(layer: str) -> list[str]:
    """Return the nodes that torch's exporters make of a layer: numbered children carry their parent's name."""
    path: list[str] = []
    for part in layer.split("."):
        path.append(f"{path[-1]}.{part}" if part.isdigit() and path else part)
    return [f"/{'/'.join(path)}/{op}" for op in ("Conv", "Gemm", "MatMul")]


def _node_of(output: str) -> str:
    return re.sub(r"_output_\d+(_quantized)?$", "", output)


def ignored_scope(result: Diagnosis | SearchResult) -> bytes:
    """Return the arguments of ``nncf.IgnoredScope(**json)``: patterns, since NNCF names nodes by their path.

    Of one layer it writes ``features/3/squeeze/conv2d/0``, ``Sequential[features]/Fire[3]/Conv2d[squeeze]/conv2d_0`` or
    ONNX's own name, by version and backend; a pattern fits all three.
    """
    if isinstance(result, SearchResult) or result.kind == "simulation":
        names = harmed_layers(result)
    else:
        names = _harmed_nodes(result)
    joined = [_BETWEEN.join(map(re.escape, re.split(r"[./]+", name.strip("/")))) for name in names]
    patterns = [rf"(?:.*\W)?{name}(?:\W.*)?" for name in joined]
    return _json({"patterns": patterns, "validate": False})


def aimet_encodings(result: Diagnosis | SearchResult) -> bytes:
    """Return encodings of AIMET's format 1.0.0 that override the harmed tensors' grids.

    A harmed activation gets an affine grid of 8 bits (or of its own, where more) that the float values' extremes set.
    Real value = scale * (integer + offset), integers from 0.

    Raises:
        UsageError: the result is a search's, which holds no ranges.
    """
    if isinstance(result, SearchResult):
        raise UsageError("A search knows no ranges; write AIMET encodings from `quantviz diagnose`.")
    harmed = {cause.tensor for cause in result.causes if cause.cause not in _HARMLESS}
    entries = [entry for entry in result.tensors if entry.name in harmed and entry.site.bits is not None]
    return _json(
        {
            "version": "1.0.0",
            "activation_encodings": [_encoding(entry) for entry in entries if entry.site.role == "activation"],
            "param_encodings": [_encoding(entry) for entry in entries if entry.site.role == "weight"],
        }
    )


def _encoding(entry: TensorFigures) -> dict[str, Any]:
    bits = max(entry.site.bits or _FULL, _FULL)
    low, high = min(entry.low, 0.0), max(entry.high, 0.0)
    channels = entry.by_channel
    common = {"name": entry.name, "dtype": "INT", "bw": bits}
    if entry.site.role == "weight":
        reach = [max(abs(float(a)), abs(float(b))) for a, b in zip(channels.low, channels.high, strict=True)]
        limit = 2 ** (bits - 1) - 1
        scale = [value / limit if value else 1.0 for value in reach]
        return {
            **common,
            "enc_type": "PER_CHANNEL",
            "is_sym": True,
            "scale": scale,
            "offset": [-(limit + 1)] * len(scale),
        }
    step = (high - low) / (2**bits - 1) or 1.0
    return {**common, "enc_type": "PER_TENSOR", "is_sym": False, "scale": [step], "offset": [round(low / step)]}


def node_data(result: Diagnosis | SearchResult, number: str = "sqnr_isolated") -> bytes:
    """Return node data for ai-edge-model-explorer, which colours a graph's nodes by our numbers.

    A set of one number for the graph that is open, as its ``GraphNodeData``. Nodes are named by a tensor that they
    give: of files an operator stands for the worse of what it gives and of its weight, of our simulation a layer for
    the worse of its input and its weight, under the names that torch's exporter gives its output.

    Args:
        result: of a search, the weight bits.
        number: of ``NUMBERS``.

    Raises:
        UsageError: the drift is asked for and was not measured.
    """
    if isinstance(result, SearchResult):
        bits = () if result.found is None else result.found.bits
        worst = {output: entry.weight_bits or 32 for entry in bits for output in _outputs(entry.name)}
        return _json(_overlay("weight bits", {name: float(value) for name, value in worst.items()}))
    of_entry, title, greater_is_worse = NUMBERS[number]
    values: dict[str, float] = {}
    for entry in result.tensors:
        value, site = of_entry(entry), entry.site
        if value is None or site.role == "bias":
            continue
        files = result.kind == "files"
        own = site.role == "activation" and files
        for name in [entry.name] if own else [site.layer] if files else _outputs(site.layer):
            known = values.get(name, value)
            values[name] = max(known, value) if greater_is_worse else min(known, value)
    if not values and number == "drift_over_floor":
        raise UsageError("No drift was measured; give --drift 10, for the 10 worst tensors.")
    return _json(_overlay(title, values))


def _over_floor(entry: TensorFigures) -> float | None:
    return None if entry.drift is None else entry.drift.over_floor


NUMBERS: Final[Mapping[str, tuple[Callable[[TensorFigures], float | None], str, bool]]] = {
    "sqnr_isolated": (lambda entry: entry.sqnr_isolated, "SQNR, isolated, dB", False),
    "sqnr": (lambda entry: entry.sqnr, "SQNR, accumulated, dB", False),
    "drift_over_floor": (_over_floor, "drift over the noise floor", True),
}
"""Number of a tensor -> how it is found, its title, and whether greater is worse."""


def _outputs(layer: str) -> list[str]:
    """Return the tensors by which a graph knows a layer: its own name, and what torch's exporter calls its output."""
    return [layer, *(f"{name}_output_0" for name in _onnx_names(layer))]


def _overlay(title: str, values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "name": title,
        "results": {name: {"value": float(value)} for name, value in values.items()},
        "gradient": _COLD_TO_HOT,
    }


EXPORTS: Final[Mapping[str, Callable[[Diagnosis | SearchResult], bytes]]] = {
    "onnxruntime": nodes_to_exclude,
    "nncf": ignored_scope,
    "aimet": aimet_encodings,
    "model-explorer": node_data,
    "model-explorer-accumulated": partial(node_data, number="sqnr"),
    "model-explorer-drift": partial(node_data, number="drift_over_floor"),
}
"""Tool -> what makes its file."""


def mended_bits(diagnosis: Diagnosis, quant: QuantSpec, model: str) -> bytes:
    """Return a bits file that leaves the harmed layers in float.

    Args:
        diagnosis: of our simulation.
        quant: that was diagnosed.
        model: name of the architecture.

    Raises:
        UsageError: the diagnosis is of files.
    """
    if diagnosis.kind != "simulation":
        raise UsageError("A bits file is of a network that quantviz rounds; for ONNX files export for onnxruntime.")
    harmed = {*harmed_layers(diagnosis)}
    others = tuple(bits for bits in quant.layer_bits if bits.name not in harmed)
    in_float = tuple(LayerBits(name, None, None) for name in sorted(harmed))
    return bits_bytes(replace(quant, layer_bits=(*others, *in_float)), model)


def export(result: Diagnosis | SearchResult, tool: str) -> bytes:
    """Return a result as a tool reads it.

    Raises:
        UsageError: the tool is unknown, or what it needs is not in the result.
    """
    if tool not in EXPORTS:
        raise UsageError(f"Tool {tool!r} is unknown; use one of {', '.join(EXPORTS)}.")
    return EXPORTS[tool](result)


def _json(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    return utf8(json.dumps(value, indent=2, allow_nan=False) + "\n")
