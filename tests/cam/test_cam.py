"""Class activation maps against closed forms in float64 and plain loops."""

import copy

import numpy as np
import pytest
import torch
import torchvision
from cam_support import TOLERANCE, tiny, unit
from networks_support import some_networks
from torch.nn import functional

from quantviz import images, networks
from quantviz.cam import explain
from quantviz.quantize import calibrate, quantize
from quantviz.specs import CamSpec, QuantSpec

_LITE_STEM = pytest.param("efficientnet_lite0", "conv_stem", marks=pytest.mark.slow)
OTHER_LAYERS = [
    ("densenet121", "features.norm5"),  # a functional in-place ReLU follows
    ("densenet121", "features.denseblock3"),
    ("densenet121", "features.denseblock4.denselayer16.conv2"),
    ("resnet50", "layer4.2"),
    ("resnet50", "layer3"),
    ("resnet50", "layer4.0.conv1"),  # directly followed by a batch norm
    ("mobilenet_v2", "features.14"),
    ("mobilenet_v2", "features.18.0"),
    ("efficientnet_lite0", "conv_head"),
    ("efficientnet_lite0", "blocks.4"),
    ("squeezenet1_1", "features.9.expand3x3"),
]
LONG = [  # in float64; the networks are covered by other layers, or by other tests
    ("vgg16", "features.29"),
    ("densenet121", "features.denseblock3"),
    ("densenet121", "features.denseblock4"),
    ("resnet50", "layer3"),
    ("resnet50", "layer4.2.conv3"),
]


def capture(model, image, layer, class_index, dtype=torch.float64):
    """Return the layer's activation and the logit's gradient with respect to it, float64 (C, h, w) each."""
    model = copy.deepcopy(model).to(dtype)
    leaves = []

    def start_here(_module, _inputs, output):
        leaves.append(output.detach().clone().requires_grad_())
        return leaves[-1].clone()

    model.get_submodule(layer).register_forward_hook(start_here)
    logit = model(image.to(dtype))[0, class_index]
    (gradient,) = torch.autograd.grad(logit, leaves[0])
    return leaves[0].detach()[0].double().numpy(), gradient[0].double().numpy()


def gradcam(a, g):
    return (g.mean((1, 2))[:, None, None] * a).sum(0)


def gradcam_plus_plus(a, g):
    alpha = 1 / (2 + a.sum((1, 2))[:, None, None] * g)
    return ((alpha * np.maximum(g, 0)).sum((1, 2))[:, None, None] * a).sum(0)


def xgradcam(a, g):
    total = a.sum((1, 2))
    shares = np.divide((g * a).sum((1, 2)), total, out=np.zeros_like(total), where=total != 0)
    return (shares[:, None, None] * a).sum(0)


def hirescam(a, g):
    return (g * a).sum(0)


def layercam(a, g):
    return (np.maximum(g, 0) * a).sum(0)


CLOSED_FORMS = {
    "gradcam": gradcam,
    "gradcam++": gradcam_plus_plus,
    "xgradcam": xgradcam,
    "hirescam": hirescam,
    "layercam": layercam,
}


def upsampled(native, side):
    wide = functional.interpolate(
        torch.from_numpy(native)[None, None], (side, side), mode="bilinear", align_corners=False
    )
    return unit(wide[0, 0].numpy())


def difference(found, raw):
    """Return the greatest deviation of an explanation's two maps from those of a raw map (h, w)."""
    assert found.heatmap.degenerate == found.native.degenerate == ""
    native = unit(np.maximum(raw, 0))
    assert found.native.values.shape == native.shape
    return max(
        np.abs(found.native.values - native).max(),
        np.abs(found.heatmap.values - upsampled(native, len(found.heatmap.values))).max(),
    )


@pytest.fixture(scope="module")
def quantized(float_model, photograph):
    made = {}

    def get(name, layer, quant):
        key = (name, layer, quant)
        if key not in made:
            model = float_model(name)
            ranges = calibrate(model, [photograph(name), photograph(name, "rocket")])
            made[key] = quantize(model, quant, ranges, photograph(name), layer)
        return made[key]

    return get


@pytest.fixture(scope="module")
def off_kinks(float_model, photograph):
    """Return a function from a network and a layer to an input (1, 3, h, w), its top-1 class and what is captured.

    Some units sit so near a kink of ReLU or ReLU6 that their gradient is 0 in one precision and 1 in the other. Which
    ones do depends on the processor and on the number of threads, so that the picture is found by PyTorch's own
    gradients in both precisions: they agree to 1e-6 of their range where there is no such unit, and to 1e-3 where there
    is one.
    """
    made = {}

    def get(name, layer):
        if (name, layer) not in made:
            made[name, layer] = found(name, layer)
        return made[name, layer]

    def found(name, layer):
        model = float_model(name)
        for picture in images.BUNDLED:
            image = photograph(name, picture)
            top1 = int(model(image)[0].argmax())
            a, g = capture(model, image, layer, top1)
            if np.abs(capture(model, image, layer, top1, torch.float32)[1] - g).max() < 1e-5 * np.abs(g).max():
                return image, top1, a, g
        return pytest.fail(f"every picture has a unit on a kink of {name} behind {layer}")

    return get


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        pytest.param(name, layer, marks=pytest.mark.slow if (name, layer) in LONG else ())
        for name, layer in [*((name, entry.layer) for name, entry in networks.MODELS.items()), *OTHER_LAYERS]
    ],
)
def test_float_maps_equal_a_float64_closed_form(float_model, off_kinks, name, layer, method):
    image, top1, a, g = off_kinks(name, layer)
    found = explain(float_model(name), image, CamSpec(method, layer))
    assert found.class_index == top1
    assert difference(found, CLOSED_FORMS[method](a, g)) < TOLERANCE


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(
    "name",
    some_networks("efficientnet_lite0", "squeezenet1_1", of=[name for name in networks.MODELS if name != "vgg16"]),
)
def test_quantized_maps_equal_the_closed_form_of_the_quantized_network(quantized, photograph, name, bits):
    layer, image = networks.spec(name).layer, photograph(name)
    model = quantized(name, layer, QuantSpec(bits, bits))
    for method in ("gradcam", "gradcam++"):
        found = explain(model, image, CamSpec(method, layer), 281)
        # In float64 some values would round to another level of the grids; only the sums are checked in it.
        a, g = capture(model, image, layer, 281, torch.float32)
        if not np.maximum(CLOSED_FORMS[method](a, g), 0).any():
            assert found.heatmap.degenerate
        else:
            assert difference(found, CLOSED_FORMS[method](a, g)) < TOLERANCE


@pytest.mark.parametrize("method", ["xgradcam", "hirescam", "layercam"])
@pytest.mark.parametrize(
    ("name", "layer"), [("efficientnet_lite0", "bn2"), ("squeezenet1_1", "features.7"), ("resnet50", "layer4.2")]
)
def test_the_other_gradient_methods_equal_their_closed_forms(float_model, off_kinks, name, layer, method):
    image, _, a, g = off_kinks(name, layer)
    found = explain(float_model(name), image, CamSpec(method, layer))
    assert difference(found, CLOSED_FORMS[method](a, g)) < TOLERANCE


@pytest.mark.parametrize("method", ["eigencam", "eigengradcam"])
@pytest.mark.parametrize(("name", "layer"), [("efficientnet_lite0", "bn2"), ("resnet50", "layer3")])
def test_eigen_maps_are_the_first_principal_component_with_the_stated_sign(float_model, off_kinks, name, layer, method):
    image, _, a, g = off_kinks(name, layer)
    found = explain(float_model(name), image, CamSpec(method, layer))
    features = a * g if method == "eigengradcam" else a
    points = features.reshape(len(features), -1).T
    points = points - points.mean(0)
    values, vectors = np.linalg.eigh(points @ points.T)  # the Gram matrix: another road to the same component
    projection = vectors[:, -1] * np.sqrt(values[-1])
    guide = features.sum(0) if method == "eigengradcam" else (features**2).sum(0)
    projection = projection * np.sign(np.corrcoef(projection, guide.ravel())[0, 1])
    assert difference(found, projection.reshape(a.shape[1:])) < TOLERANCE


@pytest.mark.parametrize(("name", "layer"), [("squeezenet1_1", "features.2"), _LITE_STEM])
def test_scorecam_equals_a_plain_loop(float_model, photograph, name, layer):
    model, image = float_model(name), photograph(name)
    found = explain(model, image, CamSpec("scorecam", layer), 281)
    activation = torch.from_numpy(capture(model, image, layer, 281, torch.float32)[0])
    scores = []
    for channel in activation.float():
        wide = functional.interpolate(channel[None, None], image.shape[-2:], mode="bilinear", align_corners=True)
        low, high = wide.min(), wide.max()
        with torch.no_grad():
            scores.append(model(image * ((wide - low) / (high - low) if high > low else 0 * wide))[0, 281].item())
    weights = np.exp(np.array(scores) - max(scores))
    raw = (weights[:, None, None] / weights.sum() * activation.numpy()).sum(0)
    assert difference(found, raw) < TOLERANCE


@pytest.mark.parametrize("class_index", [281, pytest.param(700, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "layer"), [("squeezenet1_1", "features.2"), _LITE_STEM])
def test_ablationcam_equals_a_plain_loop_that_zeroes_channels(float_model, photograph, name, layer, class_index):
    # conv_stem has negative values, where the library writes -1e7 and less instead of zero.
    model, image = copy.deepcopy(float_model(name)), photograph(name)
    found = explain(model, image, CamSpec("ablationcam", layer), class_index)
    activation = capture(model, image, layer, class_index, torch.float32)[0]
    ablated = []

    def without(_module, _inputs, output):
        output = output.clone()
        output[:, ablated[-1:]] = 0
        return output

    model.get_submodule(layer).register_forward_hook(without)
    scores = []
    with torch.no_grad():
        original = model(image)[0, class_index].item()
        for channel in range(len(activation)):
            ablated.append(channel)
            scores.append(model(image)[0, class_index].item())
    drops = (original - np.array(scores)) / abs(original)
    # A drop is a small difference of two float32 logits, so its own rounding is what limits the agreement.
    assert difference(found, (drops[:, None, None] * activation).sum(0)) < 20 * TOLERANCE


def test_a_negative_score_does_not_turn_the_ablation_map_around():
    image = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    maps = [explain(tiny(1.0, bias), image, CamSpec("ablationcam", "features"), 0).native for bias in (0.0, -5.0)]
    assert not maps[1].degenerate
    np.testing.assert_allclose(maps[0].values, maps[1].values, atol=TOLERANCE)


def test_an_in_place_relu_after_the_target_changes_nothing(photograph):
    torch.manual_seed(0)
    model = torchvision.models.squeezenet1_1().eval()  # as the library makes it: every ReLU works in place
    assert model.features[1].inplace
    image = photograph("squeezenet1_1")
    for layer in ("features.12.expand3x3", "features.0"):
        found = explain(model, image, CamSpec("gradcam++", layer), 5)
        assert difference(found, gradcam_plus_plus(*capture(model, image, layer, 5))) < TOLERANCE
