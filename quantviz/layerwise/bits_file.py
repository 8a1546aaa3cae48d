"""Bits of single layers as a readable JSON file.

A file looks like this; ``found``, which a search wrote, is for people and decides nothing::

    {
      "format": "quantviz bits 1",
      "model": "efficientnet_lite0",
      "scheme": "standard",
      "ranges": "minmax",
      "default": "W8A8",
      "layers": {"conv_stem": "W8A8", "classifier": "W3A8"},
      "found": {...}
    }

A layer's bits are ``"W4A8"``; ``"W4"``, its input left in float; ``"float"``; a number, the weight's bits with the
default's for the input; or ``{"weight_bits": 4, "act_bits": 8}``, where null stands for float.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from quantviz import networks
from quantviz.layerwise.sensitivity import near
from quantviz.layerwise.specs import Candidate, SearchResult
from quantviz.specs import (
    RANGE_METHODS,
    LayerBits,
    QuantSpec,
    QuantvizError,
    RangeMethod,
    UsageError,
    WeightsRef,
    limits,
    read_json,
    scheme_name,
    spec_of,
    with_layers,
)

FORMAT = "quantviz bits 1"
MOST_BYTES = limits.BITS_BYTES
"""Size above which a file is refused."""

_KEYS = ("format", "model", "scheme", "ranges", "default", "layers")
_SHORT = re.compile(r"(?=[WA])(?:W(\d{1,2}))?(?:A(\d{1,2}))?", re.ASCII)


def bits_bytes(quant: QuantSpec | SearchResult, model: str = "", weights: WeightsRef | None = None) -> bytes:
    """Return the bits file of a quantization, or of what a search found.

    Args:
        quant: a quantization under the calibrated protocol; or a search's result, whose own model, weights, budgets and
            figures are written too.
        model: name of the architecture; a search's result knows its own.
        weights: which weights the bits were found for, or None.

    Raises:
        QuantvizError: the search found nothing.
    """
    notes: dict[str, Any] = {}
    if isinstance(quant, SearchResult):
        if quant.found is None:
            raise QuantvizError("The search found no bits within its budgets; allow more drift or more flips.")
        model, weights, notes = quant.model, quant.weights, _search_notes(quant, quant.found)
        layers, quant = quant.found.bits, with_layers(quant.quant, quant.found.bits)
    else:
        layers = quant.layer_bits
    if weights is not None:
        notes = {"weights": {"name": weights.name, "sha256": weights.sha256}, **notes}
    entry: dict[str, Any] = {
        "format": FORMAT,
        "model": model,
        "scheme": scheme_name(quant),
        "ranges": quant.ranges,
        "default": _written(quant.weight_bits, quant.act_bits),
        "layers": {bits.name: _written(bits.weight_bits, bits.act_bits) for bits in layers},
    }
    if notes:
        entry["found"] = notes
    return (json.dumps(entry, indent=2, allow_nan=False) + "\n").encode()


def read_bits(data: bytes, name: str, model: str) -> QuantSpec:
    """Read a bits file for a model.

    Args:
        data: the file's bytes.
        name: the file's name, for messages.
        model: name of the architecture that is going to be quantized.

    Raises:
        UsageError: the file is too large, no JSON, not of this format or another model's, or names a layer or value
            that does not exist.
    """
    entry = _parsed(data, name)
    if entry["model"] != networks.spec(model).name:  # a card's path stands for the network's name
        raise UsageError(f"Bits file {name!r} is for the model {entry['model']!r}, not {model!r}; choose that model.")
    if not isinstance(entry["scheme"], str):
        raise UsageError(f"Bits file {name!r} has the scheme {entry['scheme']!r}; give its words as a text.")
    if entry["ranges"] not in RANGE_METHODS:
        choice = ", ".join(RANGE_METHODS)
        raise UsageError(f"Bits file {name!r} has the ranges {entry['ranges']!r}; use one of {choice}.")
    if not isinstance(entry["layers"], dict):
        raise UsageError(f"Bits file {name!r} has layers that are no object of names with their bits; write one.")
    _check_layers(list(entry["layers"]), name, model)
    weight_bits, act_bits = _read(entry["default"], None, f"Bits file {name!r}, default")
    if weight_bits is None and act_bits is None:
        raise UsageError(f"Bits file {name!r} leaves everything in float by default; give the default 2 to 16 bits.")
    layers = []
    for layer, value in entry["layers"].items():
        where = f"Bits file {name!r}, layer {layer!r}"
        try:
            layers.append(LayerBits(layer, *_read(value, act_bits, where)))
        except UsageError as error:
            raise UsageError(f"{where}: {error}" if where not in str(error) else str(error)) from None
    ranges = cast(RangeMethod, entry["ranges"])
    try:
        return spec_of(entry["scheme"], weight_bits, act_bits, ranges=ranges, layer_bits=tuple(layers))
    except UsageError as error:
        raise UsageError(f"Bits file {name!r}: {error}") from None


def quant_of_file(path: Path, model: str, weights: str | None) -> tuple[QuantSpec, str]:
    """Return the quantization of a bits file, and a note where its bits were found for other weights.

    Args:
        path: of the file.
        model: name of the architecture that is going to be quantized.
        weights: as in ``CompareRequest``.

    Raises:
        UsageError: the file cannot be read, or as ``read_bits``.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"Bits file {str(path)!r} cannot be read ({error.strerror}); check its path.") from None
    quant = read_bits(data, path.name, model)
    ref, found_for = networks.resolve(networks.spec(model), weights).ref, weights_of(data, path.name)
    # Untrained weights have no digest before they are drawn, but a name.
    if found_for is None or (ref.sha256 or ref.name) in found_for:
        return quant, ""
    return quant, f"the bits of {path.name!r} were found for other weights ({found_for[0]})."


def weights_of(data: bytes, name: str) -> tuple[str, str] | None:
    """Return name and sha256 of the weights that a file's bits were found for; None where it does not say.

    Raises:
        UsageError: as ``read_bits``.
    """
    notes = _parsed(data, name).get("found")
    weights = notes.get("weights") if isinstance(notes, dict) else None
    if not isinstance(weights, dict):
        return None
    identity = weights.get("name"), weights.get("sha256")
    return (identity[0], identity[1]) if isinstance(identity[0], str) and isinstance(identity[1], str) else None


def _parsed(data: bytes, name: str) -> dict[str, Any]:
    """Return the file's JSON object, with every key that is needed and none that is unknown."""
    try:
        entry = read_json(data, most=MOST_BYTES)
    except ValueError as error:
        raise UsageError(f"Bits file {name!r} {error}; name a file that `quantviz search` wrote.") from None
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise UsageError(f'Bits file {name!r} has no "format": {FORMAT!r}; name a file that `quantviz search` wrote.')
    for key in _KEYS:
        if key not in entry:
            raise UsageError(f"Bits file {name!r} lacks {key!r}; add it.")
    for key in entry:
        if key not in (*_KEYS, "found"):
            raise UsageError(f"Bits file {name!r} has the unknown key {key!r}{near(key, _KEYS)}.")
    return entry


def _check_layers(layers: list[str], name: str, model: str) -> None:
    from quantviz import networks
    from quantviz.networks.build import weight_layers

    known = weight_layers(networks.spec(model))
    for layer in layers:
        if layer not in known:
            raise UsageError(
                f"Bits file {name!r} names the layer {layer!r}, which {model} does not have or which holds no "
                f"weight to round{near(layer, known)}."
            )


def _read(value: Any, act_bits: int | None, where: str) -> tuple[int | None, int | None]:
    if type(value) is int:
        return value, act_bits
    if value == "float":
        return None, None
    if isinstance(value, str) and (match := _SHORT.fullmatch(value)):
        weight, act = (None if number is None else int(number) for number in match.groups())
        return weight, act
    if isinstance(value, dict) and set(value) == {"weight_bits", "act_bits"}:
        return value["weight_bits"], value["act_bits"]
    raise UsageError(
        f'{where} has the bits {json.dumps(value)[:80]}; write "W4A8", "W4", "float", a number of weight bits, or an '
        "object of weight_bits and act_bits."
    )


def _written(weight_bits: int | None, act_bits: int | None) -> Any:
    if weight_bits is None:
        return "float" if act_bits is None else {"weight_bits": None, "act_bits": act_bits}
    return f"W{weight_bits}" + (f"A{act_bits}" if act_bits else "")


def _search_notes(result: SearchResult, candidate: Candidate) -> dict[str, Any]:
    """Return what a search's bits were found with, for the reader."""

    def figures(side: str) -> dict[str, Any] | None:
        drift = getattr(candidate, side)
        if drift is None:
            return None
        return {
            "images": len(getattr(result, "searched" if side == "searched" else "held_out")),
            "drift": drift.cam,
            "flips": drift.flips,
            "accuracy": drift.accuracy,
        }

    return {
        "max_drift": result.max_drift,
        "max_flips": result.max_flips,
        "cam": asdict(result.cam),
        "calibration": asdict(result.calibration),
        "bytes": candidate.cost.bytes,
        "searched": figures("searched"),
        "held_out": figures("held_out"),
    }
