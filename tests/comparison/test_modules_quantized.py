"""Modules in memory that other tools quantized: maps with a straight-through gradient, and bits that are read."""

import copy
import warnings

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # which registers the operators that PT2E's graphs call
from torch import nn

import quantviz as qv
from quantviz import images
from quantviz.networks.graph_module import with_layers
from quantviz.networks.preprocessing import IMAGENET
from quantviz.quantize.straight_through import StraightThrough

INPUT = qv.Preprocessing(55, 48, "bilinear", IMAGENET.mean, IMAGENET.std)
OPS = torch.ops.quantized_decomposed
NOTE = "Rounding that has no gradient of its own was given a straight-through one"


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 16, 3, 2, 1),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(16, 7)

    def forward(self, image):
        return self.head(self.features(image).mean((2, 3)))


class Rounded(Small):
    """The same, with its pooled values on a grid of ``bits`` bits up to ``high``, and its head's weight as integers."""

    def __init__(self, module, high, bits=8):
        super().__init__()
        self.load_state_dict(module.state_dict())
        self.top, self.scale = 2**bits - 1, high / (2**bits - 1)
        self.weight_scale = float(module.head.weight.detach().abs().max()) / 127
        self.register_buffer("integers", (module.head.weight / self.weight_scale).round().to(torch.int8).detach())

    def forward(self, image):
        pooled = self.features(image).mean((2, 3))
        grid = (self.scale, 0, 0, self.top, torch.uint8)
        pooled = OPS.dequantize_per_tensor(OPS.quantize_per_tensor(pooled, *grid), *grid)
        weight = OPS.dequantize_per_tensor(self.integers, self.weight_scale, 0, -127, 127, torch.int8)
        return nn.functional.linear(pooled, weight, self.head.bias)


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return Small().eval()


def inputs(*names):
    crops = [images.crop(images.bundled(name).rgb, INPUT) for name in names]
    return [torch.from_numpy(images.normalize(crop, INPUT)) for crop in crops]


def expected_map(module, image, index, clipped):
    """Return the Grad-CAM map in closed form: the head's weights over the area, 0 where the pooled value is clipped."""
    with torch.no_grad():
        activation = module.features(image)[0].double().numpy()
    weight = module.head.weight[index].detach().double().numpy() * ~clipped
    raw = np.maximum(np.einsum("c,chw->hw", weight, activation), 0)
    return (raw - raw.min()) / (raw.max() - raw.min())


def test_a_map_through_rounded_values_is_the_closed_form(module):
    (image,) = inputs("coffee")
    with torch.no_grad():
        pooled = module.features(image).mean((2, 3))[0].numpy()
    high = float(np.sort(pooled)[-4:-2].mean())  # three channels are beyond it
    rounded = Rounded(module, high)
    found = qv.compare(module, rounded, "coffee", preprocessing=INPUT, cam="gradcam", saliency=None).comparison
    clipped = pooled > high * (1 + 0.5 / 255)
    assert clipped.sum() == 3
    index = found.reference.class_index
    with torch.no_grad():
        weights = rounded.integers[index].double() * rounded.weight_scale
    own = copy.deepcopy(module)
    with torch.no_grad():
        own.head.weight[index] = weights.float()
    assert np.abs(found.quantized.native.values - expected_map(own, image, index, clipped)).max() < 1e-5
    assert np.abs(found.reference.native.values - expected_map(module, image, index, np.zeros(16, bool))).max() < 1e-5
    assert (found.quant.label, found.quant.details["bits"]) == ("W8A8", "W8A8")
    assert [NOTE in note for note in found.notes] == [True]
    free = qv.compare(module, rounded, "coffee", preprocessing=INPUT, cam="eigencam", saliency=None).comparison
    assert free.notes == ()  # no gradient was asked for


def test_what_a_network_computes_stays_as_it_is(module):
    (image,) = inputs("coffee")
    rounded = Rounded(module, 0.5, bits=4)
    with torch.no_grad():
        before = rounded(image)
    with StraightThrough() as rounding:
        after = rounded(image)
    assert torch.equal(before, after.detach())
    assert (rounding.label, rounding.given) == ("W8A4", True)


def test_an_exported_graph_has_the_layers_of_its_module(module):
    (image,) = inputs("coffee")
    graph = torch.export.export(module, (image,)).module()
    layered = with_layers(graph)
    assert torch.equal(layered(image), module(image))
    names = {name for name, _ in layered.named_modules()}
    assert {"features", "features.0", "features.2", "features.4", "head"} <= names
    assert with_layers(module) is module
    for layer in (None, "features.2"):
        found = qv.compare(module, graph, "coffee", preprocessing=INPUT, cam="gradcam", layer=layer, saliency=None)
        assert found.comparison.cam.layer == (layer or "features.4")
        values = [one.native.values for one in (found.comparison.reference, found.comparison.quantized)]
        assert np.abs(values[0] - values[1]).max() < 1e-5
        assert found.comparison.notes == ()
    scored = qv.compare(module, graph, "coffee", preprocessing=INPUT, cam="scorecam", saliency=None)
    assert scored.scores["quantized_v_float"].cc > 0.9999  # one picture at a time, as it was exported


def test_the_float_weights_of_fake_quantizers_have_gradients_of_their_own(module):
    quantization = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = copy.deepcopy(module).train()
        trained.qconfig = quantization.get_default_qat_qconfig("x86")
        prepared = quantization.prepare_qat(trained)
        for image in inputs("coffee", "chelsea"):
            prepared(image)
    found = qv.compare(module, prepared.eval(), "coffee", preprocessing=INPUT, cam="gradcam", saliency=None)
    assert not found.comparison.degenerate
    assert found.comparison.notes == ()


@pytest.mark.slow  # PT2E's and torchao's import and tracing
@pytest.mark.filterwarnings("ignore")
class TestTools:
    def test_pt2e_s_graphs_are_compared_by_the_layers_of_their_module(self, module):
        pytest.importorskip("torchao")
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
        pictures = inputs("coffee", "chelsea", "rocket")
        prepared = prepare_pt2e(torch.export.export(module, (pictures[0],)).module(), quantizer)
        for image in pictures:
            prepared(image)
        converted = convert_pt2e(prepared)
        with torch.no_grad():
            before = converted(pictures[0])
        found = qv.compare(module, converted, "coffee", preprocessing=INPUT, cam="gradcam", saliency=None).comparison
        assert (found.cam.layer, found.quant.label) == ("features.4", "W8A8")
        assert any(NOTE in note for note in found.notes)
        (node,) = [node for node in converted.graph.nodes if node.name == "quantize_per_tensor_default_2"]
        _, scale, zero_point, low, high, _ = node.args
        layered = with_layers(converted)
        kept = []
        handle = layered.get_submodule("features.4").register_forward_hook(lambda *given: kept.append(given[2]))
        with torch.no_grad():
            assert torch.equal(layered(pictures[0]), before)
        handle.remove()
        activation = kept[0][0].double().numpy()
        pooled = kept[0].mean((2, 3))[0].numpy() / scale + zero_point
        inside = (pooled >= low - 0.5) & (pooled <= high + 0.5)
        weight = module.head.weight[found.quantized.class_index].detach().double().numpy()
        raw = np.maximum(np.einsum("c,chw->hw", weight * inside, activation), 0)
        expected = (raw - raw.min()) / (raw.max() - raw.min())
        assert np.abs(found.quantized.native.values - expected).max() < 0.02  # the weight is rounded to 8 bits

    @pytest.mark.parametrize("name", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig", "int4"])
    def test_torchao_s_tensors_are_read_and_differentiated(self, module, name):
        quantization = pytest.importorskip("torchao.quantization")
        config = (
            quantization.IntxWeightOnlyConfig(weight_dtype=torch.int4)
            if name == "int4"
            else getattr(quantization, name)()
        )
        rounded = copy.deepcopy(module)
        quantization.quantize_(rounded, config)
        found = qv.compare(module, rounded, "coffee", preprocessing=INPUT, cam="gradcam", saliency=None).comparison
        labels = {"Int8WeightOnlyConfig": "W8", "Int8DynamicActivationInt8WeightConfig": "W8A8", "int4": "W4"}
        assert found.quant.label == labels[name]
        assert any(NOTE in note for note in found.notes) == ("Dynamic" in name)
        own = copy.deepcopy(module)
        own.head.weight = nn.Parameter(rounded.head.weight.dequantize().detach())
        (image,) = inputs("coffee")
        index = found.quantized.class_index
        expected = expected_map(own, image, index, np.zeros(16, bool))
        assert np.abs(found.quantized.native.values - expected).max() < 1e-4


class Branched(nn.Module):
    """A network with what torch's integer operators have between layers: stubs, a sum, a product, a concatenation."""

    def __init__(self):
        super().__init__()
        quantization = torch.ao.quantization
        self.quant, self.dequant = quantization.QuantStub(), quantization.DeQuantStub()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.ReLU6())
        self.right = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Hardswish())
        self.add, self.gated, self.joined = (torch.ao.nn.quantized.FloatFunctional() for _ in range(3))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.last = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(inplace=True))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 7)

    def forward(self, image):
        values = self.stem(self.quant(image))
        both = self.add.add_relu(self.left(values), self.right(values))
        both = self.joined.cat([self.gated.mul(both, self.gate(both)), values], dim=1)
        both = torch.cat(torch.chunk(self.last(both), 2, 1), 1)
        return self.dequant(self.head(torch.flatten(self.pool(both), 1)))


@pytest.fixture(scope="module")
def integers():
    """Return a float network, the same with fake-quantizers, and on torch's integer kernels (eager mode)."""
    quantization = torch.ao.quantization
    torch.manual_seed(0)
    plain = Branched().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that they are to go
        prepared = copy.deepcopy(plain).train()
        prepared.qconfig = quantization.get_default_qat_qconfig(torch.backends.quantized.engine)
        quantization.prepare_qat(prepared, inplace=True)
        for image in inputs("coffee", "chelsea", "rocket"):
            prepared(image)
        prepared.eval().apply(quantization.disable_observer)
        return plain, prepared, quantization.convert(copy.deepcopy(prepared))


@pytest.mark.parametrize("layer", ["stem", "left", "right", "last"])
def test_integer_kernels_have_the_maps_of_their_fake_quantized_twin(integers, layer):
    _, prepared, converted = integers
    for method in ("gradcam", "layercam"):
        options = {"preprocessing": INPUT, "cam": method, "layer": layer, "class_": 3, "saliency": None}
        found = qv.compare(prepared, converted, "coffee", **options).comparison
        assert not found.degenerate
        assert found.scores["quantized_v_float"].cc > 0.99
        assert (found.quant.label, [NOTE in note for note in found.notes]) == ("W8A8", [True])


def test_the_map_of_integer_kernels_is_the_closed_form(integers):
    plain, _, converted = integers
    (image,) = inputs("coffee")
    seen = []
    handle = converted.last.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dequantize()))
    with torch.no_grad():
        logits = converted(image)
    handle.remove()
    options = {"preprocessing": INPUT, "cam": "gradcam", "layer": "last", "saliency": None}
    found = qv.compare(plain, converted, "coffee", **options).comparison
    index = found.reference.class_index
    raw = torch.einsum("c,chw->hw", converted.head.weight().dequantize()[index], seen[0][0]).clamp(min=0).numpy()
    assert np.abs(found.quantized.native.values - (raw - raw.min()) / (raw.max() - raw.min())).max() < 1e-5
    with torch.no_grad():
        assert torch.equal(logits, converted(image))  # it is left as it was


def test_graph_mode_and_dynamic_quantization_have_gradients(module):
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_dynamic, quantize_fx

    (image,) = inputs("coffee")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapping = get_default_qconfig_mapping(torch.backends.quantized.engine)
        prepared = quantize_fx.prepare_fx(copy.deepcopy(module), mapping, (image,))
        prepared(image)
        graph = quantize_fx.convert_fx(prepared)
        dynamic = quantize_dynamic(copy.deepcopy(module), {nn.Linear})
    for other in (graph, dynamic):
        found = qv.compare(module, other, "coffee", preprocessing=INPUT, cam="gradcam", saliency=None).comparison
        assert found.scores["quantized_v_float"].cc > 0.98
        assert (found.quant.label, NOTE in found.notes[-1]) == ("W8A8", True)


def test_integers_have_no_gradient_where_an_operator_has_no_twin(integers):
    from quantviz import cam
    from quantviz.specs import CamSpec, UsageError

    (image,) = inputs("coffee")
    with pytest.raises(UsageError, match=r"torch.quint8, which has no gradient; use .* eigencam, scorecam"):
        cam.explain(integers[2], image, CamSpec("gradcam", "last"))  # nobody gives rounding a gradient
