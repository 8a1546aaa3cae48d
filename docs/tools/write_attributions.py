"""Write quantviz/studies/attribution-MODEL.json: the gap between the two protocols, shared among the paper's switches.

    python docs/tools/write_attributions.py photos/ --limit 100 --weights mobilenet_v2=mobilenet_v2.safetensors

Each file holds numbers, names and digests, never a picture. What is measured is kept in the cache: a run that
was ended goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from quantviz.comparison import CompareRequest, Workbench
from quantviz.layerwise.attribution import attribution
from quantviz.layerwise.output import report_attribution
from quantviz.layerwise.pictures import dataset
from quantviz.specs import Phase, Progress, QuantSpec
from quantviz.store import TensorStore, default_directory
from quantviz.study.shipped import SHIPPED

MODELS = ("squeezenet1_1", "mobilenet_v2", "efficientnet_lite0")
BITS = 8  # those of the paper that move the maps


def main() -> None:
    """Measure every network, and write its file as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of pictures, in folders of classes or not")
    parser.add_argument("--limit", type=int, default=100, help="pictures, evenly spaced over the folder")
    parser.add_argument("--weights", action="append", default=[], metavar="MODEL=FILE")
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="MODEL")
    parser.add_argument("--into", type=Path, default=SHIPPED, help="folder of the files")
    options = parser.parse_args()
    given = dict(entry.split("=", 1) for entry in options.weights)
    samples = dataset(options.folder, options.limit)
    with TensorStore(default_directory() / "tensors") as store:
        bench = Workbench(store)
        for model in options.models:
            quant = QuantSpec(weight_bits=BITS, act_bits=BITS)
            request = CompareRequest(model, weights=given.get(model), quant=quant, saliency=None)
            found = report_attribution(attribution(bench, request, samples, told(model)))
            text = json.dumps(found, indent=1, allow_nan=False)
            (options.into / f"attribution-{model}.json").write_text(text + "\n", encoding="utf-8")


def told(model: str) -> Progress:
    """Return a progress that writes whole percents of a network to standard error."""
    last = -1

    def show(message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
        nonlocal last
        if phase == Phase.EXPLAINING and fraction is not None and int(100 * fraction) > last:
            last = int(100 * fraction)
            print(f"{model}: {last} %", file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    main()
