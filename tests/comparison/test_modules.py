"""Modules in memory: compared and explained on one picture, and left as they were."""

import copy
import warnings

import numpy as np
import pytest
import torch
from comparison_support import SAMPLE, bits
from torch import nn

from quantviz import networks
from quantviz.comparison import PairRequest, comparison_data
from quantviz.comparison.modules import ModuleChoice, compare_modules, explain_module
from quantviz.specs import ImageError, UsageError

SQUEEZENET = networks.spec("squeezenet1_1").weights[0].preprocessing
CHOICE = ModuleChoice(preprocessing=SQUEEZENET)


@pytest.fixture
def squeezenet(float_model):
    """Return a copy of SqueezeNet in train mode with parameters that are trained, as a user has it."""
    return copy.deepcopy(float_model("squeezenet1_1")).train().requires_grad_(True)


@pytest.fixture
def rounded(squeezenet):
    """Return a copy whose weights are rounded to a grid of 15 levels."""
    copied = copy.deepcopy(squeezenet)
    with torch.no_grad():
        for module in copied.modules():
            if isinstance(module, nn.Conv2d):
                scale = module.weight.abs().amax() / 7
                module.weight.copy_((module.weight / scale).round() * scale)
    return copied


class Rounding(nn.Module):
    """Rounds without a gradient of its own."""

    def forward(self, values):
        return (values * 8).round() / 8


def state(module):
    values = {name: value.clone() for name, value in (*module.named_parameters(), *module.named_buffers())}
    modes = [inner.training for inner in module.modules()]
    hooks = [(len(inner._forward_hooks), len(inner._forward_pre_hooks)) for inner in module.modules()]
    flags = [(value.requires_grad, value.grad) for value in module.parameters()]
    return values, (modes, hooks, flags)


def is_unchanged(module, before):
    values, rest = state(module)
    return rest == before[1] and all(torch.equal(value, before[0][name]) for name, value in values.items())


def test_two_modules_are_compared_and_left_as_they_were(squeezenet, rounded):
    before = state(squeezenet), state(rounded)
    found = compare_modules(squeezenet, rounded, SAMPLE, CHOICE, PairRequest())
    assert (found.model, found.quant.label, found.cam.layer) == ("SqueezeNet", "quantized", "features.12")
    assert found.scores["quantized_v_float"].cc < 0.9999
    assert found.weights.sha256 != found.quant.details["sha256"]
    assert not found.degenerate
    assert found.notes == ()
    assert is_unchanged(squeezenet, before[0])
    assert is_unchanged(rounded, before[1])
    assert comparison_data(found)["quantization"]["source"] == "memory"


def test_a_module_with_itself_agrees_and_an_input_made_already_gives_the_same(squeezenet, photograph):
    found = compare_modules(squeezenet, squeezenet, SAMPLE, CHOICE, PairRequest())
    assert found.scores["quantized_v_float"].cc == pytest.approx(1)
    tensor = photograph("squeezenet1_1")
    again = compare_modules(squeezenet, squeezenet, tensor, CHOICE, PairRequest())
    assert bits(again).pop("float") == bits(found).pop("float")
    assert np.abs(again.crop.astype(int) - found.crop).max() <= 1
    assert "given as a tensor" in again.sample.notes[0]
    wide = compare_modules(squeezenet, squeezenet, tensor[:, :, 32:], CHOICE, PairRequest("eigencam"))
    assert wide.crop.shape == (192, 224, 3) == (*wide.reference.heatmap.values.shape, 3)


def test_explaining_one_module_gives_the_map_of_the_pair(squeezenet, rounded):
    pair = compare_modules(squeezenet, rounded, SAMPLE, CHOICE, PairRequest())
    before = state(rounded)
    own = explain_module(rounded, SAMPLE, CHOICE, PairRequest(target=pair.quantized.class_index))
    assert own.result.heatmap.values.tobytes() == pair.quantized.heatmap.values.tobytes()
    assert own.scores["map_v_saliency"] == pair.scores["quantized_v_saliency"]
    assert is_unchanged(rounded, before)
    layer = squeezenet.features[3]
    by_module = explain_module(squeezenet, SAMPLE, ModuleChoice(layer=layer, preprocessing=SQUEEZENET), PairRequest())
    assert (by_module.cam.layer, by_module.result.native.values.shape) == ("features.3", (55, 55))


def test_a_network_without_gradient_is_told_which_methods_need_none(squeezenet):
    without = copy.deepcopy(squeezenet)
    without.classifier[0] = Rounding()
    choice = ModuleChoice(layer="features.12", preprocessing=SQUEEZENET)
    for method in ("gradcam", "layercam"):
        with pytest.raises(UsageError, match=r"no gradient behind layer 'features.12'.*eigencam, scorecam, ablation"):
            compare_modules(squeezenet, without, SAMPLE, choice, PairRequest(method))
    found = compare_modules(squeezenet, without, SAMPLE, choice, PairRequest("eigencam"))
    assert not found.degenerate
    assert not without.classifier[0]._forward_hooks


class Stubs(nn.Module):
    """A classifier with the stubs between which torch's eager mode quantizes."""

    def __init__(self):
        super().__init__()
        self.quant, self.dequant = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

    def forward(self, image):
        return self.dequant(self.head(self.pool(self.features(self.quant(image))).flatten(1)))


def test_networks_that_torch_prepares_and_converts_are_compared(photograph):
    from torch.ao import quantization

    image, choice = photograph("squeezenet1_1"), ModuleChoice(layer="features.2", preprocessing=SQUEEZENET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that they are to go
        torch.manual_seed(0)
        model = Stubs().train()
        prepared = copy.deepcopy(model)
        prepared.qconfig = quantization.get_default_qat_qconfig(torch.backends.quantized.engine)
        quantization.prepare_qat(prepared, inplace=True)
        prepared(image)
        integers = quantization.convert(copy.deepcopy(prepared).eval())
        before = state(prepared)
        found = compare_modules(model, prepared, SAMPLE, choice, PairRequest(target=1))
        assert found.scores["quantized_v_float"].cc > 0.5
        assert is_unchanged(prepared, before)
        for method in ("gradcam", "eigencam", "scorecam", "ablationcam"):
            deployed = compare_modules(prepared, integers, SAMPLE, choice, PairRequest(method, target=1))
            assert deployed.scores["quantized_v_float"].cc > 0.99 or deployed.degenerate


def test_layers_that_do_not_fit_and_inputs_that_cannot_be_used_are_refused(squeezenet, rounded, photograph):
    other = nn.Sequential(squeezenet)
    with pytest.raises(UsageError, match=r"have no name in common; name both layers, layer=\(float, quantized\)"):
        compare_modules(squeezenet, other, SAMPLE, CHOICE, PairRequest())
    named = ModuleChoice(layer="features.12", preprocessing=SQUEEZENET)
    with pytest.raises(UsageError, match="does not exist in the quantized network; name both"):
        compare_modules(squeezenet, other, SAMPLE, named, PairRequest())
    both = ModuleChoice(layer=("features.12", "0.features.12"), preprocessing=SQUEEZENET)
    assert "0.features.12" in compare_modules(squeezenet, other, SAMPLE, both, PairRequest()).notes[0]
    with pytest.raises(UsageError, match="Two layers were given for one network"):
        explain_module(squeezenet, SAMPLE, both, PairRequest())
    tensor = photograph("squeezenet1_1")
    for wrong in (tensor[0], tensor.double(), tensor.repeat(2, 1, 1, 1)):
        with pytest.raises(ImageError, match=r"give one picture, float32 \(1, 3, H, W\) on the CPU"):
            explain_module(squeezenet, wrong, CHOICE, PairRequest())
    with pytest.raises(ImageError, match="NaN or infinity"):
        explain_module(squeezenet, tensor / 0, CHOICE, PairRequest())
