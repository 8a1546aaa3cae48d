"""Results of single layers and of protocol switches as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from quantviz.comparison.output import weights_data
from quantviz.layerwise.intervals import RESAMPLES, SEED
from quantviz.layerwise.specs import Attribution, CommonShares, SearchResult, Sensitivity
from quantviz.specs import DEVIATIONS, scheme_name


def report_attribution(attribution: Attribution) -> dict[str, Any]:
    """Return an attribution as JSON-able data."""
    quant = asdict(attribution.quant)
    del quant["protocol"]
    return {
        "model": attribution.model,
        "weights": weights_data(attribution.weights),
        "quantization": {"label": attribution.quant.label, **quant},
        "cam": asdict(attribution.cam),
        "images": [{"sha256": digest, "name": name} for digest, name in attribution.images],
        "calibrated": attribution.calibrated,
        "paper": attribution.paper,
        "share": dict(attribution.share),
        "share_intervals": {name: list(ends) for name, ends in attribution.intervals.items()},
        "mean_intervals": {subset: list(ends) for subset, ends in attribution.mean_intervals.items()},
        "intervals_by": {"method": "percentile bootstrap over pictures, 95 %", "resamples": RESAMPLES, "seed": SEED},
        "common": None if attribution.common is None else _common(attribution.common),
        "alone": dict(attribution.alone),
        "switches": dict(DEVIATIONS),
        "subsets": dict(attribution.subsets),
        "unscored": {switches: list(names) for switches, names in attribution.unscored.items()},
    }


def _common(common: CommonShares) -> dict[str, Any]:
    data = asdict(common)
    data["share_intervals"] = {name: list(ends) for name, ends in data.pop("intervals").items()}
    return data


def report_layers(result: Sensitivity | SearchResult) -> dict[str, Any]:
    """Return a sensitivity or a search's result as JSON-able data, by the names that ``report`` uses."""
    data = asdict(result)
    data["weights"] = weights_data(result.weights)
    quant = data.pop("quant")
    data["quantization"] = {"label": result.quant.label, "scheme_words": scheme_name(result.quant), **quant}
    for name in ("images", "searched", "held_out"):
        if name in data:
            data[name] = [{"sha256": digest, "name": picture} for digest, picture in data[name]]
    if isinstance(result, Sensitivity):
        data["noise_floor"] = {"floor": result.floor.floor, **data.pop("floor")}
    return data
