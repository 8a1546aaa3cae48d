"""Results of single layers and of protocol switches as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from quantviz.comparison.output import weights_data
from quantviz.layerwise.specs import Attribution, SearchResult, Sensitivity
from quantviz.specs import DEVIATIONS, scheme_name


def report_attribution(found: Attribution) -> dict[str, Any]:
    """Return an attribution as JSON-able data."""
    quant = asdict(found.quant)
    del quant["protocol"]
    return {
        "model": found.model,
        "weights": weights_data(found.weights),
        "quantization": {"label": found.quant.label, **quant},
        "cam": asdict(found.cam),
        "images": [{"sha256": digest, "name": name} for digest, name in found.images],
        "calibrated": found.calibrated,
        "paper": found.paper,
        "share": dict(found.share),
        "alone": dict(found.alone),
        "switches": dict(DEVIATIONS),
        "subsets": dict(found.subsets),
        "unscored": {switches: list(names) for switches, names in found.unscored.items()},
    }


def report_layers(found: Sensitivity | SearchResult) -> dict[str, Any]:
    """Return a sensitivity or a search's result as JSON-able data, by the names that ``report`` uses."""
    data = asdict(found)
    data["weights"] = weights_data(found.weights)
    quant = data.pop("quant")
    data["quantization"] = {"label": found.quant.label, "scheme_words": scheme_name(found.quant), **quant}
    for name in ("images", "searched", "held_out"):
        if name in data:
            data[name] = [{"sha256": digest, "name": picture} for digest, picture in data[name]]
    if isinstance(found, Sensitivity):
        data["noise_floor"] = {"floor": found.floor.floor, **data.pop("floor")}
    return data
