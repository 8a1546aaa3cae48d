"""The paper's protocol: its networks against torch's own prepare_qat, switch by switch."""

import copy
import warnings
from itertools import combinations

import pytest
import torch
from paper_support import PHOTOGRAPHS, with_switches
from torch import nn

from quantviz import cam
from quantviz.quantize import (
    NETWORK_DEVIATIONS,
    calibrate,
    frozen_observers,
    paper,
    paper_base,
    quantize,
    seeded,
    site_ranges,
    train_mode,
)
from quantviz.quantize.paper import SiteQuantizer, coarse_grid, coarse_weight_grid, quantizers
from quantviz.specs import CamSpec, LayerBits, QuantSpec, UsageError, spec_of

LITE0 = "efficientnet_lite0"


@pytest.fixture
def small(photograph):
    """Return the fixture ``photograph`` at 128 x 128 pixels, which is faster."""
    return lambda *names: nn.functional.interpolate(photograph(*names), size=(128, 128), mode="area")


def prepared(model, bits):
    """Return the model as the published code prepares it, by torch's own deprecated functions."""
    quantization = torch.ao.quantization
    if bits == 8:
        activation, weight = quantization.default_fake_quant, quantization.default_weight_fake_quant
    else:
        wide = {"observer": quantization.MovingAverageMinMaxObserver, "dtype": torch.qint32}
        fake = quantization.FakeQuantize.with_args(quant_min=-32768, quant_max=32767, **wide)
        activation = fake.with_args(qscheme=torch.per_tensor_affine, reduce_range=True)
        weight = fake.with_args(qscheme=torch.per_tensor_symmetric)
    model = copy.deepcopy(model).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.qconfig = quantization.QConfig(activation=activation, weight=weight)
        return quantization.prepare_qat(model)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1", "efficientnet_b0"])
def test_with_its_four_switches_on_the_network_is_prepare_qats_bit_for_bit(float_model, small, name, bits):
    model, spec = float_model(name), QuantSpec(bits, bits, protocol="paper")
    oracle, network = prepared(model, bits), paper(paper_base(model, spec, small(name)), spec)
    for seed, picture in enumerate(PHOTOGRAPHS):
        image = small(name, picture)
        with torch.no_grad(), torch.random.fork_rng(devices=[]), seeded(network, seed):
            torch.default_generator.manual_seed(seed)
            assert torch.equal(network(image), oracle(image))
    ours, seen = dict(quantizers(network)), 0
    for place, module in oracle.named_modules():
        if isinstance(getattr(module, "activation_post_process", None), torch.ao.quantization.FakeQuantizeBase):
            seen += 1
            fake, grid = module.activation_post_process, ours.pop(place).grid
            observer = fake.activation_post_process
            assert (float(fake.scale), int(fake.zero_point)) == (grid.scale, grid.zero_point)
            assert (observer.quant_min, observer.quant_max) == (grid.quant_min, grid.quant_max)
        if hasattr(module, "weight_fake_quant"):
            fake, grid = module.weight_fake_quant, network.get_submodule(place).weight_grid
            assert float(fake.scale) == float(grid.scale)
            assert (fake.quant_min, fake.quant_max) == (grid.quant_min, grid.quant_max)
            assert torch.equal(fake(module.weight), network.get_submodule(place).weight)
    assert ours == {}
    assert seen > 20


def test_train_mode_is_torchs_and_leaves_model_and_global_generator_as_they_were(float_model, photograph):
    model, image = float_model("efficientnet_b0"), photograph("efficientnet_b0")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network = train_mode(model)
    state = torch.get_rng_state()
    with torch.no_grad(), seeded(network, 5):
        ours = network(image)
        assert torch.equal(network.eval()(image), ours)
        assert torch.equal(network.train()(image), ours)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        assert torch.equal(copy.deepcopy(model).train()(image), ours)
        assert not torch.equal(network(image), ours)  # seed 0, outside the block
        assert not torch.allclose(model(image), ours)


def test_a_picture_gets_the_same_answer_alone_and_in_a_batch(float_model, small):
    network = train_mode(float_model("efficientnet_b0"))
    pictures = [small("efficientnet_b0", name) for name in PHOTOGRAPHS]
    with torch.no_grad(), seeded(network, 3):
        together, apart = network(torch.cat(pictures)), torch.cat([network(picture) for picture in pictures])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_names_of_layers_and_the_activation_inside_timms_batch_norm_stay(float_model):
    model = float_model(LITE0)
    network = train_mode(model)
    assert [name for name, _ in network.named_modules()] == [name for name, _ in model.named_modules()]
    assert isinstance(network.get_submodule("bn2.act"), nn.ReLU6)


@pytest.mark.parametrize("on", [names for size in (1, 2, 3, 4) for names in combinations(NETWORK_DEVIATIONS, size)])
def test_each_combination_does_what_its_switches_say(float_model, small, on):
    model, image = float_model(LITE0), small(LITE0)
    spec = with_switches(*on)
    base = paper_base(model, spec, image)
    ranges = None if "online_ranges" in on else site_ranges(base, spec, [image, small(LITE0, "coffee")])
    network, rounded = paper(base, spec, ranges), {}

    def keep(module, _inputs, output):
        rounded[module] = output

    for _, quantizer in quantizers(network):
        quantizer.register_forward_hook(keep)
    with torch.no_grad():
        logits = network(image)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert bool(norms) == ("train_mode" in on or "output_quantizers" in on)
    assert all((norm.running_mean is None) == ("train_mode" in on) for norm in norms)
    places = {type(network.get_submodule(name)) for name, _ in quantizers(network)}
    assert (nn.ReLU6 in places) == ("output_quantizers" in on)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert all((len(layer.weight_grid.scale) == 1) == ("coarse_grids" in on) for layer in convolutions)
    least = -128 if "coarse_grids" in on else -127
    for layer in convolutions:
        grid = layer.weight_grid
        assert (grid.quant_min, grid.quant_max) == (least, 127)
        assert torch.equal(grid.values(grid.integers(layer.weight)), layer.weight)
    for module, values in rounded.items():
        grid = module.grid
        assert grid.quant_max - grid.quant_min == (127 if "coarse_grids" in on else 255)
        integers = (values / grid.scale).round() + grid.zero_point
        assert torch.equal((integers - grid.zero_point) * grid.scale, values)
        assert grid.quant_min <= int(integers.min()) <= int(integers.max()) <= grid.quant_max
        assert module.online == ("online_ranges" in on)
    assert len(rounded) == len(quantizers(network))
    assert torch.isfinite(logits).all()


def test_input_quantizers_with_calibrated_ranges_are_the_calibrated_networks(float_model, small):
    model, image = float_model(LITE0), small(LITE0)
    spec = with_switches("coarse_grids")
    base = paper_base(model, spec, image)
    ranges = site_ranges(base, spec, [image, small(LITE0, "coffee")])
    assert ranges == dict(calibrate(base, [image, small(LITE0, "coffee")]).limits)
    # Without a switch that changes the network, its pieces are those of the calibrated protocol.
    plain = QuantSpec()
    with torch.no_grad():
        expected = quantize(model, plain, calibrate(base, [image, small(LITE0, "coffee")]), image)(image)
        assert torch.equal(paper(base, plain, ranges)(image), expected)


def test_observers_average_and_stop_where_they_are_held(photograph):
    quantizer = SiteQuantizer(8, "affine", coarse=False, limits=None)
    values = [torch.tensor([-1.0, 3.0]), torch.tensor([-2.0, 13.0]), torch.tensor([0.0, 103.0])]
    quantizer(values[0])
    assert (float(quantizer.low), float(quantizer.high)) == (-1.0, 3.0)
    quantizer(values[1])
    assert float(quantizer.low) == pytest.approx(-1.01)
    assert float(quantizer.high) == pytest.approx(3.1)
    assert quantizer.grid.scale == pytest.approx(4.11 / 255)
    with frozen_observers(nn.Sequential(quantizer)):
        clipped = quantizer(values[2])
    assert float(quantizer.high) == pytest.approx(3.1)
    assert float(clipped.max()) == pytest.approx(3.1, abs=quantizer.grid.scale)
    quantizer(values[2])
    assert float(quantizer.high) == pytest.approx(3.1 + 0.01 * (103 - 3.1))


@pytest.mark.parametrize("bits", [2, 4, 8, 9, 16])
def test_coarse_grids_by_their_formulas(bits):
    weight = torch.tensor([[-0.5, 0.25], [2.0, 0.0]])
    grid = coarse_weight_grid(weight, bits)
    assert float(grid.scale) == pytest.approx(2.0 / ((2**bits - 1) / 2))
    assert (grid.quant_min, grid.quant_max) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    found = coarse_grid(torch.tensor(-1.0), torch.tensor(3.0), bits)
    assert found.quant_max - found.quant_min == 2 ** (bits - 1) - 1
    assert found.scale == pytest.approx(4.0 / (2 ** (bits - 1) - 1))
    assert (found.quant_min - found.zero_point) * found.scale == pytest.approx(-1.0, abs=found.scale / 2)
    zero = coarse_grid(torch.tensor(0.0), torch.tensor(0.0), bits)
    assert zero.scale == torch.finfo(torch.float32).eps


def test_single_layers_and_weight_only(float_model, photograph):
    model, image = float_model("squeezenet1_1"), photograph("squeezenet1_1")
    spec = QuantSpec(8, None, protocol="paper", layer_bits=(LayerBits("features.0", None, 4),))
    network = paper(paper_base(model, spec, image), spec)
    assert [name for name, _ in quantizers(network)] == ["features.0"]
    assert torch.equal(network.get_submodule("features.0").weight, model.get_submodule("features.0").weight)


@pytest.mark.parametrize(
    ("words", "ranges", "protocol", "named"),
    [
        ("gptq", None, "paper", "gptq"),
        ("best", None, "calibrated+train_mode", "distilled"),
        ("equalize", None, "paper", "Equalization"),
        ("bias_correction", None, "calibrated+coarse_grids", "Bias correction"),
        ("standard", "percentile", "calibrated+train_mode", "percentile"),
    ],
)
def test_what_a_protocol_does_not_define_is_refused(float_model, photograph, words, ranges, protocol, named):
    spec = spec_of(words, ranges=ranges, protocol=protocol)
    with pytest.raises(UsageError, match=named):
        paper_base(float_model("squeezenet1_1"), spec, photograph("squeezenet1_1"))


def test_a_clipped_logit_leaves_no_evidence(float_model, photograph):
    # Later pictures' greatest logits lie beyond a moving average that the first set: no gradient passes there.
    name = "mobilenet_v2"
    model, spec = float_model(name), with_switches("output_quantizers", "coarse_grids", "online_ranges", bits=16)
    network = paper(paper_base(model, spec, photograph(name)), spec)
    target = CamSpec("gradcam++", "features.18")
    first = cam.explain(network, photograph(name), target)
    assert not first.heatmap.degenerate
    head = dict(quantizers(network))["classifier.1"]
    head.low, head.high = head.low / 4, head.high / 4
    assert cam.explain(network, photograph(name), target).heatmap.degenerate == "no positive evidence for the class"
