"""Grids, calibrated networks and their gradients."""

import copy
from collections import OrderedDict

import pytest
import torch
from hypothesis import strategies as st
from networks_support import some_networks
from quantize_support import PICTURES, assert_on_weight_grid, layers_of
from torch import nn
from torch.nn import functional

from quantviz import networks
from quantviz.quantize import (
    InputQuantizer,
    affine_grid,
    assemble,
    calibrate,
    float_base,
    fold_batch_norm,
    quantize,
)
from quantviz.quantize.network import nearest, put_weight
from quantviz.specs import MAX_BITS, MIN_BITS, LayerBits, QuantSpec, QuantvizError, UsageError

BITS = range(MIN_BITS, MAX_BITS + 1)
TINY = torch.finfo(torch.float32).tiny
LIMITS = st.floats(-(2.0**100), 2.0**100, width=32)


@pytest.fixture(scope="module")
def ranges(float_model, photograph):
    made = {}

    def get(name):
        if name not in made:
            made[name] = calibrate(float_model(name), [photograph(name, picture) for picture in PICTURES])
        return made[name]

    return get


@pytest.fixture(scope="module")
def quantized(float_model, photograph, ranges):
    def get(name, quant, layer=None):
        return quantize(float_model(name), quant, ranges(name), photograph(name), layer)

    return get


def watched(model, names, image):
    """Run a model and return the named modules' outputs."""
    found = {}
    handles = [
        model.get_submodule(name).register_forward_hook(lambda _m, _i, output, name=name: found.update({name: output}))
        for name in names
    ]
    with torch.no_grad():
        found["logits"] = model(image)
    for handle in handles:
        handle.remove()
    return found


# -- the grids


@pytest.mark.parametrize(
    "quant", [QuantSpec(8, 8), QuantSpec(4, None), QuantSpec(None, 4), QuantSpec(2, 16), QuantSpec(16, 2)]
)
@pytest.mark.parametrize(
    "name", some_networks("squeezenet1_1", of=("efficientnet_lite0", "squeezenet1_1", "densenet121"))
)
def test_all_convolutions_and_linear_layers_are_on_their_grids(float_model, photograph, ranges, quantized, name, quant):
    folded = copy.deepcopy(float_model(name))
    fold_batch_norm(folded, photograph(name))
    model = quantized(name, quant)
    seen = {}
    for layer, module in layers_of(model).items():
        own = folded.get_submodule(layer).weight
        if quant.weight_bits is None:
            assert torch.equal(module.weight, own)
        else:
            assert_on_weight_grid(module.weight, own, quant.weight_bits)
        assert hasattr(module, "input_quantizer") == (quant.act_bits is not None)
        # Registered after the quantizer's own hook, this one sees what the arithmetic reads.
        module.register_forward_pre_hook(lambda _m, inputs, layer=layer: seen.update({layer: inputs[0].clone()}))
    with torch.no_grad():
        model(photograph(name))
    assert set(seen) == set(layers_of(float_model(name)))
    if quant.act_bits is None:
        return
    for layer, values in seen.items():
        grid = model.get_submodule(layer).input_quantizer.grid
        low, high = ranges(name).limits[layer]
        assert grid == affine_grid(low * quant.headroom, high * quant.headroom, quant.act_bits)
        integers = (values.double() / grid.scale).round()
        assert torch.equal(integers.float() * torch.tensor(grid.scale, dtype=torch.float32), values)
        assert -grid.zero_point <= int(integers.min())
        assert int(integers.max()) <= grid.quant_max - grid.zero_point


# -- folding


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet50", "layer4.2.conv3"),
        pytest.param("resnet50", "layer4.2.bn3", marks=pytest.mark.slow),
        ("mobilenet_v2", "features.18.0"),
        ("mobilenet_v2", "features.18.1"),
        ("efficientnet_lite0", "conv_head"),
        ("efficientnet_lite0", "bn2"),
        ("densenet121", "features.denseblock4.denselayer16.conv1"),
        pytest.param("densenet121", "features.denseblock4", marks=pytest.mark.slow),
    ],
)
def test_the_target_layer_means_the_same_tensor_in_both_networks(float_model, photograph, quantized, name, layer):
    image = photograph(name, "chelsea")
    model = quantized(name, QuantSpec(16, 16), layer)
    expected, found = (watched(network, [layer], image)[layer] for network in (float_model(name), model))
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3 * float(expected.abs().max()))


def test_a_target_convolution_keeps_its_batch_norm_and_its_own_weight(float_model, quantized):
    kept = quantized("resnet50", QuantSpec(), "layer4.2.conv3")
    folded = quantized("resnet50", QuantSpec(), None)
    assert isinstance(kept.layer4[2].bn3, nn.BatchNorm2d)
    assert isinstance(kept.layer4[2].bn2, nn.Identity)
    assert isinstance(folded.layer4[2].bn3, nn.Identity)
    assert_on_weight_grid(kept.layer4[2].conv3.weight, float_model("resnet50").layer4[2].conv3.weight, 8)


# -- the whole network


@pytest.mark.parametrize("name", some_networks("efficientnet_lite0", "resnet50", "squeezenet1_1"))
def test_sixteen_bits_are_nearly_the_float_network(float_model, photograph, quantized, name):
    layer = networks.spec(name).layer
    model = quantized(name, QuantSpec(16, 16), layer)
    expected, found = (watched(network, [layer], photograph(name)) for network in (float_model(name), model))
    for what in (layer, "logits"):
        error = (found[what] - expected[what]).norm() / expected[what].norm()
        assert 0 < float(error) < 5e-3
    assert int(found["logits"].argmax()) == int(expected["logits"].argmax())


def test_fewer_bits_are_further_from_float(float_model, photograph, quantized):
    image = photograph("efficientnet_lite0")
    with torch.no_grad():
        expected = float_model("efficientnet_lite0")(image)
        errors = [
            float((quantized("efficientnet_lite0", quant)(image) - expected).abs().mean())
            for quant in (QuantSpec(16, 16), QuantSpec(8, None), QuantSpec(8, 8), QuantSpec(6, 6), QuantSpec(4, 4))
        ]
    assert errors == sorted(errors)


def test_each_bit_halves_the_error(float_model, photograph, quantized):
    image = photograph("efficientnet_lite0")
    with torch.no_grad():
        expected = float_model("efficientnet_lite0")(image)
        coarse, fine = (
            float((quantized("efficientnet_lite0", QuantSpec(bits, bits))(image) - expected).norm())
            for bits in (12, 16)
        )
    assert 8 < coarse / fine < 32


def test_the_same_inputs_give_the_same_bits_whatever_ran_before(float_model, photograph, ranges):
    name = "efficientnet_lite0"
    model, image = float_model(name), photograph(name)

    def bits():
        found = calibrate(model, [photograph(name, picture) for picture in PICTURES])
        copied = quantize(model, QuantSpec(6, 5), found, image, "bn2")
        with torch.no_grad():
            logits = copied(image).numpy().tobytes()
        return dict(found.limits), {key: value.numpy().tobytes() for key, value in copied.state_dict().items()}, logits

    first = bits()
    quantize(model, QuantSpec(2, 2), ranges(name), image)
    torch.rand(1000)
    assert bits() == first


def test_the_float_model_is_left_as_it_was(float_model, photograph, ranges):
    name = "efficientnet_lite0"
    model, image = float_model(name), photograph(name)

    def state():
        with torch.no_grad():
            output = model(image).numpy().tobytes()
        hooks = [
            len(getattr(module, kind)) for module in model.modules() for kind in vars(module) if kind.endswith("_hooks")
        ]
        return (
            output,
            {key: value.numpy().tobytes() for key, value in model.state_dict().items()},
            [(name, id(module), module.training) for name, module in model.named_modules()],
            [(id(value), value.requires_grad) for value in model.parameters()],
            any(hooks),
        )

    before = state()
    assert not before[-1]
    copied = quantize(model, QuantSpec(3, 3), ranges(name), image, "bn2")
    calibrate(model, [image])
    assert state() == before
    # Nothing that was rounded or folded lies in the model's memory.
    changed = {layer.weight.data_ptr() for layer in copied.modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    assert not changed & {value.data_ptr() for value in model.state_dict().values() if value.numel()}
    assert not any(value.requires_grad for value in copied.parameters())
    assert not any(module.training for module in copied.modules())


def test_what_is_equal_lies_in_memory_once(float_model, photograph, ranges):
    model, image = float_model("squeezenet1_1"), photograph("squeezenet1_1")
    spec = QuantSpec(4, 4, layer_bits=(LayerBits("classifier.1", None, None),))
    base = float_base(model, spec, image)
    copied = assemble(base, spec, ranges("squeezenet1_1"))

    def lies(network, name):
        return network.get_submodule(name).weight.data_ptr()

    assert lies(copied, "classifier.1") == lies(base, "classifier.1")
    assert lies(copied, "features.0") != lies(base, "features.0")
    assert copied.get_submodule("features.0").bias.data_ptr() == model.get_submodule("features.0").bias.data_ptr()


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_a_weight_rounded_in_steps_has_the_bits_of_one_rounded_at_once(granularity):
    layer = nn.Linear(600, 4000, bias=False, device="meta")  # more than one step
    drawn = torch.randn(4000, 600, generator=torch.Generator().manual_seed(0))
    layer.weight = nn.Parameter(drawn, requires_grad=False)
    spec = QuantSpec(5, 5, granularity=granularity)
    whole = nearest(layer.weight.detach(), spec, 5)
    put_weight(layer, whole.grid)
    assert torch.equal(layer.weight, whole.grid.values(whole.integers))
    put_weight(layer, whole.grid, whole.integers)
    assert torch.equal(layer.weight, whole.grid.values(whole.integers))
    assert not layer.weight.requires_grad


def test_convolutions_that_pad_to_the_same_size_read_the_grid_and_pad_with_its_zero(photograph, quantized):
    model, name = quantized("efficientnet_lite0", QuantSpec(8, 8)), "conv_stem"
    conv, image = model.get_submodule(name), photograph("efficientnet_lite0")
    assert type(conv) is not nn.Conv2d
    assert conv.padding == (0, 0)
    on_grid = conv.input_quantizer(image)
    assert not torch.equal(on_grid, image)
    padded = functional.pad(on_grid, (0, 1, 0, 1))  # 224 by stride 2 and a 3x3 kernel: one row and column, at the end
    expected = functional.conv2d(padded, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)
    assert torch.equal(watched(model, [name], image)[name], expected)


def test_gradients_flow_where_values_are_in_range_and_stop_where_they_are_clipped():
    quantizer = InputQuantizer(affine_grid(-1.0, 1.0, 8))
    values = torch.tensor([-3.0, -0.9, 0.0, 0.3, 0.9, 3.0], requires_grad=True)
    quantizer(values).sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(("name", "bits"), [("efficientnet_lite0", 8), ("densenet121", 3)])
def test_gradients_reach_the_input_of_a_quantized_network(photograph, quantized, name, bits):
    image = photograph(name).clone().requires_grad_()
    quantized(name, QuantSpec(bits, bits))(image).max().backward()
    assert bool(torch.isfinite(image.grad).all())
    assert int(image.grad.count_nonzero()) > image.numel() // 2


# -- calibration


def small():
    torch.manual_seed(0)
    layers = OrderedDict(conv=nn.Conv2d(3, 4, 1), relu=nn.ReLU(), flat=nn.Flatten(), head=nn.Linear(16, 2))
    return nn.Sequential(layers).eval().requires_grad_(False)


def test_ranges_are_the_least_and_greatest_inputs_whatever_the_batches():
    model, images = small(), torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    found = calibrate(model, images.split(4))
    assert found.images == 6
    hidden = model.flat(model.relu(model.conv(images)))
    assert found.limits == {
        "conv": (float(images.min()), float(images.max())),
        "head": (float(hidden.min()), float(hidden.max())),
    }
    reverse = calibrate(model, [image[None] for image in reversed(images)])
    for name, limits in found.limits.items():
        assert reverse.limits[name] == pytest.approx(limits, rel=1e-6)
    with pytest.raises(TypeError):
        found.limits["conv"] = (0.0, 1.0)


def test_calibrating_on_nothing_is_refused():
    with pytest.raises(UsageError, match="no calibration image"):
        calibrate(small(), [])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused_and_leave_no_hook(bad):
    model, image = small(), torch.zeros(1, 3, 2, 2)
    image[0, 0, 0, 0] = bad
    with pytest.raises(QuantvizError, match="'conv' read a value that is not finite"):
        calibrate(model, [torch.ones(1, 3, 2, 2), image])
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_layer_without_a_range_is_refused_unless_activations_stay_in_float():
    model, image = small(), torch.ones(1, 3, 2, 2)
    ranges = calibrate(nn.Sequential(OrderedDict(other=model.conv)), [image])
    with pytest.raises(QuantvizError, match="'conv' was not reached during calibration"):
        quantize(model, QuantSpec(), ranges, image)
    quantize(model, QuantSpec(4, None), ranges, image)
