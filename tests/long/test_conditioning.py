"""How far mean CC at a bit-width is decided at all: weights moved by a millionth, and other calibration pictures.

Needs the folder that QUANTVIZ_REAL_DATA names (default ``../shared/data``, seen from the project's root).
"""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from locked_support import opened
from torch import nn

from quantviz import cam, images, networks, quantize, scores
from quantviz.comparison import CompareRequest, Workbench
from quantviz.specs import CamSpec, QuantSpec, no_progress
from quantviz.store import TensorStore

ROOT = Path(__file__).parent.parent.parent
DATA = Path(os.environ.get("QUANTVIZ_REAL_DATA") or ROOT / ".." / "shared" / "data")
PICTURES = DATA / "imagenet-sample" / "val"
MODELS = ("mobilenet_v2", "squeezenet1_1", "efficientnet_lite0")
TWINS = 4
PUBLISHED = {"efficientnet_lite0": 0.634, "squeezenet1_1": 0.435, "mobilenet_v2": 0.291}
"""Mean CC at W4A4 that an independent implementation measured on 40 ImageNet pictures, which it does not name."""

pytestmark = pytest.mark.skipif(
    not PICTURES.is_dir(), reason=f"no real data at {DATA}; set QUANTVIZ_REAL_DATA to a folder that has it"
)


@pytest.fixture(scope="module", params=MODELS)
def setting(request, tmp_path_factory):
    """Return a model's name, float network, layer, all pictures, the bundled calibration pictures, and float maps."""
    name = request.param
    spec = networks.spec(name)
    weights = None if spec.weights[0].bundled else str(DATA / "weights" / f"{name}.safetensors")
    with TensorStore(tmp_path_factory.mktemp("store")) as store:
        bench = Workbench(store)
        subject = bench.subject(CompareRequest(model=name, weights=weights))
        model = opened(bench.networks.load(subject.spec, subject.located, no_progress).network)
        bundled = torch.cat([batch.clone() for batch in bench.networks.batches(subject, no_progress, "")()])
    preprocessing = subject.ref.preprocessing
    crops = (images.crop(images.load(file).rgb, preprocessing) for file in images.folder(PICTURES))
    inputs = torch.cat([torch.from_numpy(images.normalize(crop, preprocessing)) for crop in crops])
    reference = [cam.explain(model, image[None], CamSpec("gradcam++", spec.layer)) for image in inputs[::5]]
    return name, model, spec.layer, inputs, bundled, reference


def mean_cc(network, setting):
    """Return the mean CC of maps of every fifth picture with the float network's."""
    _, _, layer, inputs, _, reference = setting
    found = []
    for image, wanted in zip(inputs[::5], reference, strict=True):
        heatmap = cam.explain(network, image[None], CamSpec("gradcam++", layer), wanted.class_index).heatmap
        found.append(scores.compare(heatmap.values, wanted.heatmap.values).cc)
    return float(np.mean([value for value in found if value is not None]))


def quantized(model, setting, bits, calibration):
    quant = QuantSpec(bits, bits)
    base = quantize.float_base(model, quant, calibration[:1], setting[2])
    return quantize.assemble(base, quant, quantize.calibrate(base, list(calibration.split(8)), quant.ranges))


def twin(model, seed):
    """Return the network with every weight changed by about a millionth of it."""
    copied, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    for module in copied.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.mul_(1 + 1e-6 * torch.randn(module.weight.shape, generator=generator))
    return copied


def test_a_millionth_of_the_weights_decides_nothing_at_8_bits_and_much_at_4(setting, record_property):
    name, model, _, _, bundled, _ = setting
    twins = [model, *(twin(model, seed) for seed in range(TWINS))]
    assert min(mean_cc(network, setting) for network in twins[1:]) > 1 - 1e-6
    spread = {}
    for bits in (4, 8):
        means = [mean_cc(quantized(network, setting, bits, bundled), setting) for network in twins]
        spread[bits] = min(means), max(means)
    print(f"\n{name}, mean CC of {TWINS + 1} twins, 40 pictures: {spread}")
    record_property("twins", spread)
    width = {bits: most - least for bits, (least, most) in spread.items()}
    assert width[8] < 0.002
    assert width[4] > 5 * width[8]
    if name == "mobilenet_v2":  # its weights lie on coarse grids, half-way between the values of coarser ones
        assert width[4] > 0.05


def test_the_published_means_at_4_bits_lie_among_those_of_other_calibration_pictures(setting, record_property):
    name, model, _, inputs, bundled, _ = setting
    sets = {"bundled": bundled, "first": inputs[:32], "last": inputs[-32:]}
    sets |= {f"{start}, every fifth": inputs[start::5][:32] for start in range(1, 5)}
    means = {title: mean_cc(quantized(model, setting, 4, pictures), setting) for title, pictures in sets.items()}
    print(f"\n{name} at W4A4, 40 pictures: {means}; elsewhere {PUBLISHED[name]}")
    record_property("sets", means)
    assert min(means.values()) - 0.02 <= PUBLISHED[name] <= max(means.values()) + 0.02
