"""Record the values of Quantus's MPRT that ``layerwise/randomise`` is held to; Quantus 0.6.0 made those in the test.

    python tests/tools/record_mprt.py PATH_OF_QUANTUS

Quantus asks for other versions of torch's companions than ours, so that it is not installed beside them; its folder is
put on the path.
"""

import json
import sys
from importlib import import_module

import numpy as np
import torch

from quantviz import images, networks
from quantviz.layerwise.drift import answer
from quantviz.networks.build import build
from quantviz.quantize import assemble, calibrate, float_base
from quantviz.specs import CamSpec, QuantSpec

PICTURES, SEED, LAYERS = ("chelsea", "coffee"), 42, ("classifier.1", "features.12.squeeze", "features.0")


def main() -> None:
    """Print the correlations of both networks as JSON."""
    sys.path.append(sys.argv[1])
    quantus = import_module("quantus.metrics.randomisation.mprt")
    spec = networks.spec("squeezenet1_1")
    network, ref = build(spec, networks.resolve(spec, "untrained"))
    cam, quant = CamSpec("gradcam++", spec.layer), QuantSpec()
    inputs = [
        images.normalize(images.crop(images.bundled(name).rgb, ref.preprocessing), ref.preprocessing)
        for name in PICTURES
    ]
    example = torch.from_numpy(inputs[0])

    def maps(model, x, y):
        found = [
            answer(model, torch.from_numpy(image[None]), cam, int(index)) for image, index in zip(x, y, strict=True)
        ]
        return np.stack([one.heatmap[None] for one in found])

    def of_float(model, inputs, targets, **_):
        return maps(model, inputs, targets)

    def of_quantized(model, inputs, targets, **_):
        base = float_base(model, quant, example, spec.layer)
        return maps(assemble(base, quant, calibrate(base, lambda: iter([example]), quant.ranges)), inputs, targets)

    batch = np.concatenate(inputs)
    classes = np.array([answer(network, torch.from_numpy(image), cam, None).class_index for image in inputs])
    told = {}
    for name, explain in (("float", of_float), ("quantized", of_quantized)):
        metric = quantus.MPRT(disable_warnings=True, layer_order="top_down", seed=SEED)
        found = metric(network.eval(), batch, classes, explain_func=explain, batch_size=2)
        told[name] = {layer: found[layer] for layer in LAYERS}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
