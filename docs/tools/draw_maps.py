"""Draw docs/assets/maps.png, README's picture: where a float and two quantized networks look in one photograph.

The photograph is scikit-image's ``coffee``: courtesy of Pikolo Espresso Bar, CC0 by its photographer, Rachel Michetti.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from quantviz import images, networks

ASSETS = Path(__file__).resolve().parents[1] / "assets"
PICTURE, MODEL = "coffee", "efficientnet_lite0"
VARIANTS = ((8, 8), (4, 8))
WIDTH_INCHES, DPI = 9.6, 100


def compared(weight_bits: int, act_bits: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the result of ``quantviz compare`` and its maps, float32 (H, W) in [0, 1], by name."""
    with TemporaryDirectory() as folder:
        result, maps = Path(folder, "result.json"), Path(folder, "maps.npz")
        options = ["--model", MODEL, "--weight-bits", str(weight_bits), "--act-bits", str(act_bits)]
        outputs = ["--json", str(result), "--maps", str(maps)]
        subprocess.run([sys.executable, "-m", "quantviz", "compare", PICTURE, *options, *outputs], check=True)
        with np.load(maps, allow_pickle=False) as arrays:
            return json.loads(result.read_text()), {name: arrays[name] for name in arrays.files}


def figure() -> Figure:
    """Return the picture beside the maps of the float network and of each variant, with the class that each names."""
    results = [compared(*bits) for bits in VARIANTS]
    preprocessing = networks.spec(MODEL).weights[0].preprocessing
    crop = images.crop(images.bundled(PICTURE).rgb, preprocessing)
    first, maps = results[0]
    panels = [("the photograph", "", None), ("float", _top(first, "float"), maps["float"])]
    for result, maps in results:
        cc = result["scores"]["quantized_v_float"]["cc"]
        name = f"{result['quantization']['label']}: CC {cc:.3f}"
        panels.append((name, _top(result, "quantized"), maps["quantized"]))
    drawn = Figure(figsize=(WIDTH_INCHES, WIDTH_INCHES / len(panels) + 0.55), dpi=DPI, facecolor="white")
    axes = drawn.subplots(1, len(panels))
    grey = np.repeat(np.round(crop.mean(axis=2, keepdims=True)).astype(np.uint8), 3, axis=2)
    for axis, (title, words, heatmap) in zip(axes, panels, strict=True):
        axis.imshow(crop if heatmap is None else grey)
        if heatmap is not None:
            axis.imshow(heatmap, cmap="viridis", alpha=0.65, vmin=0, vmax=1)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel(words, fontsize=10)
        axis.set(xticks=[], yticks=[])
    drawn.subplots_adjust(left=0.005, right=0.995, bottom=0.11, top=0.9, wspace=0.03)
    return drawn


def _top(result: dict[str, Any], network: str) -> str:
    prediction = result["predictions"][network][0]
    return f"“{prediction['label']}”, {prediction['probability']:.0%}"


def main() -> None:
    """Write the picture; the same results give the same bytes."""
    ASSETS.mkdir(exist_ok=True)
    figure().savefig(ASSETS / "maps.png", metadata={"Software": None})


if __name__ == "__main__":
    main()
