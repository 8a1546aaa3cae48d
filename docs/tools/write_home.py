"""Write quantviz/ui/home.json, which the first page of the dashboard shows: from real networks and the shipped study.

The photographs are those that come with installed packages; of them the file holds maps and numbers only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quantviz import images, networks
from quantviz.comparison import CompareRequest, Workbench
from quantviz.layerwise.noise import noise_floor
from quantviz.specs import CALIBRATED, PAPER, CamResult, QuantSpec
from quantviz.store import TensorStore, default_directory
from quantviz.study.published import published_triangles
from quantviz.study.shipped import shipped_studies
from quantviz.study.summary import summary

PAGE = Path(__file__).resolve().parents[2] / "quantviz" / "ui" / "home.json"
MODEL = "efficientnet_lite0"  # its weights come with the package, so that anyone can make the file
PHOTO = "flower"
BITS = (16, 8, 7, 6, 5, 4, 3, 2)
STUDY = "imagenet-200"


def main() -> None:
    """Write the file."""
    content = {"hero": hero(), "findings": findings()}
    PAGE.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def hero() -> dict[str, Any]:
    """Return the photograph's maps and predictions in float and at every bit-width."""
    bench = Workbench(TensorStore(default_directory() / "tensors"))
    sample = images.bundled(PHOTO)
    frames = []
    for bits in BITS:
        request = CompareRequest(MODEL, quant=QuantSpec(weight_bits=bits, act_bits=bits), saliency=None)
        comparison = bench.compare(request, sample)
        frames.append(
            {
                "name": comparison.quant.label,
                "cc": comparison.scores["quantized_v_float"].cc,
                **result(comparison.quantized),
            }
        )
    floor = noise_floor(bench, CompareRequest(MODEL, saliency=None), [sample], calibration=False)
    return {
        "model": MODEL,
        "weights": comparison.weights.sha256,
        "photo": PHOTO,
        "photo_sha256": sample.id,
        "method": comparison.cam.method,
        "layer": comparison.cam.layer,
        "floor": floor.floor,
        "float": result(comparison.reference),
        "frames": frames,
    }


def result(one: CamResult) -> dict[str, Any]:
    """Return a network's native map, rounded to what a colour can show, and its top-1."""
    top = one.predictions[0]
    native = None if one.native.degenerate else [[round(float(value), 4) for value in row] for row in one.native.values]
    return {
        "native": native,
        "problem": one.native.degenerate,
        "class": top.index,
        "label": top.label,
        "probability": round(top.probability, 4),
    }


def findings() -> dict[str, Any]:
    """Return the numbers of the three findings, from the shipped study and the published table."""
    cells = summary(shipped_studies()[STUDY]).cells
    drift: dict[str, dict[str, dict[str, float | None]]] = {CALIBRATED: {}, PAPER: {}}
    for cell in cells:
        if cell.protocol in drift:
            mean = cell.scores["quantized_v_float"]["cc"].mean
            drift[cell.protocol].setdefault(cell.model, {})[cell.setting] = None if mean is None else round(mean, 4)
    checks = published_triangles()
    return {
        "study": STUDY,
        "pictures": cells[0].images,
        "families": {name: networks.spec(name).family for name in drift[CALIBRATED]},
        "cc": drift,
        "triangles": [{"model": one.model, "setting": one.setting, "holds": one.holds} for one in checks],
    }


if __name__ == "__main__":
    main()
