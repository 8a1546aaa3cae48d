"""Write quantviz/studies/example-*.json: what the page Diagnose shows until one has measured something oneself.

Of EfficientNet-Lite0 at W4A8 on the photographs that come with installed packages; the files hold numbers only. Some
minutes; what is measured is kept in the cache.

    python docs/tools/write_examples.py
"""

from __future__ import annotations

from dataclasses import replace

from quantviz import images
from quantviz.comparison import CompareRequest, Workbench
from quantviz.layerwise.diagnosis.drift import with_drift
from quantviz.layerwise.diagnosis.run import diagnose
from quantviz.layerwise.search import search
from quantviz.layerwise.sensitivity import sensitivity
from quantviz.specs import QuantSpec
from quantviz.store import TensorStore, default_directory
from quantviz.study.examples import example_bytes
from quantviz.study.shipped import SHIPPED

MODEL = "efficientnet_lite0"
QUANT = QuantSpec(weight_bits=4, act_bits=8)
DRIFTS = 10  # of the worst tensors
MAX_DRIFT = 0.02
WIDTHS = (2, 3, 4, 5, 6, 8)


def main() -> None:
    """Measure, and write each file as soon as it is done."""
    samples = [images.bundled(name) for name in images.BUNDLED]
    request = CompareRequest(MODEL, quant=QUANT, saliency=None)
    with TensorStore(default_directory() / "tensors") as store:
        bench = Workbench(store)
        found = diagnose(bench, request, samples)
        found = with_drift(bench, request, found, samples, most=DRIFTS)
        (SHIPPED / "example-diagnosis.json").write_bytes(example_bytes(found))
        layers = sensitivity(bench, request, samples)
        (SHIPPED / "example-sensitivity.json").write_bytes(example_bytes(layers))
        wanted = replace(request, quant=replace(QUANT, layer_bits=()))
        bits = search(bench, wanted, samples, max_drift=MAX_DRIFT, max_flips=None, widths=WIDTHS)
        (SHIPPED / "example-search.json").write_bytes(example_bytes(bits))


if __name__ == "__main__":
    main()
