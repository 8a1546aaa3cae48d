"""Maps that share a forward pass, and maps of batches: the same as one by one, and as the library's."""

import copy

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from cam_support import TOLERANCE, tiny
from networks_support import some_networks
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from quantviz import networks
from quantviz.cam import explain, explain_batch, explain_many
from quantviz.cam.peers import library_maps, peers
from quantviz.quantize import assemble, calibrate, float_base
from quantviz.quantize.grids import InputQuantizer
from quantviz.specs import CamSpec, QuantSpec, QuantvizError, UsageError

LIBRARY = {
    "gradcam": pytorch_grad_cam.GradCAM,
    "xgradcam": pytorch_grad_cam.XGradCAM,
    "hirescam": pytorch_grad_cam.HiResCAM,
    "layercam": pytorch_grad_cam.LayerCAM,
}


def passes_of(model):
    """Return a list that grows by the batch size at every forward pass of a model, and what ends that."""
    sizes = []
    handle = model.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    return sizes, handle


@pytest.mark.parametrize("method", LIBRARY)
@pytest.mark.parametrize("name", ["efficientnet_lite0", "squeezenet1_1", "mobilenet_v2"])
def test_a_map_is_the_librarys(float_model, photograph, name, method):
    model, image = copy.deepcopy(float_model(name)).requires_grad_(True), photograph(name, "coffee")
    layer = networks.spec(name).layer
    found = explain(float_model(name), image, CamSpec(method, layer))
    with LIBRARY[method](model=model, target_layers=[model.get_submodule(layer)]) as library:
        expected = library(input_tensor=image, targets=[ClassifierOutputTarget(found.class_index)])[0]
    assert not found.heatmap.degenerate
    # The library adds 1e-7 to each of two divisors, and to XGradCAM's sum of activations.
    np.testing.assert_allclose(found.heatmap.values, expected, atol=TOLERANCE)


def test_scorecam_and_ablationcam_are_the_librarys_where_their_definitions_agree(float_model, photograph):
    model, image = copy.deepcopy(float_model("squeezenet1_1")), photograph("squeezenet1_1", "coffee")[..., 48:144, :96]
    layer = "features.6.squeeze_activation"  # after a ReLU: the least value is 0, which the library ablates to
    for method, kind in (("scorecam", pytorch_grad_cam.ScoreCAM), ("ablationcam", pytorch_grad_cam.AblationCAM)):
        found = explain(model, image, CamSpec(method, layer), 504)
        with kind(model=model, target_layers=[model.get_submodule(layer)]) as library:
            expected = library(input_tensor=image, targets=[ClassifierOutputTarget(504)])[0]
        assert not found.heatmap.degenerate
        np.testing.assert_allclose(found.heatmap.values, expected, atol=20 * TOLERANCE)


def test_all_maps_of_a_layer_come_from_one_forward_pass(float_model, photograph):
    model, image = copy.deepcopy(float_model("squeezenet1_1")), photograph("squeezenet1_1")
    methods = ("eigencam", "gradcam", "gradcam++", "layercam", "eigengradcam")
    wanted = [(CamSpec(method, "features.12"), index) for method in methods for index in (None, 281)]
    wanted.append((CamSpec("gradcam", "features.9"), 281))
    sizes, handle = passes_of(model)
    found = explain_many(model, image, wanted)
    handle.remove()
    assert sizes == [1, 1]  # one for each layer
    for (spec, index), together in zip(wanted, found, strict=True):
        alone = explain(model, image, spec, index)
        assert together.class_index == alone.class_index
        assert together.heatmap.values.tobytes() == alone.heatmap.values.tobytes()
        assert together.native.values.tobytes() == alone.native.values.tobytes()
        assert together.probabilities.tobytes() == alone.probabilities.tobytes()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "squeezenet1_1", "mobilenet_v2"])
def test_a_batch_gives_the_maps_of_its_images(float_model, photograph, name):
    model, layer = float_model(name), networks.spec(name).layer
    pictures = ("chelsea", "coffee", "rocket", "china", "flower")
    images = torch.cat([photograph(name, picture) for picture in pictures])
    classes = [281, None, 5, None, 0]
    for method in ("gradcam++", "eigencam"):
        together = explain_batch(model, images, CamSpec(method, layer), classes)
        for image, index, found in zip(images, classes, together, strict=True):
            alone = explain(model, image[None], CamSpec(method, layer), index)
            assert found.class_index == alone.class_index
            assert found.heatmap.degenerate == alone.heatmap.degenerate
            np.testing.assert_allclose(found.heatmap.values, alone.heatmap.values, atol=TOLERANCE)
            np.testing.assert_allclose(found.probabilities, alone.probabilities, atol=1e-5)
    assert [found.class_index for found in explain_batch(model, images[:2], CamSpec("gradcam", layer))] == [
        int(model(images[:2]).argmax(dim=1)[place]) for place in (0, 1)
    ]


def test_a_batch_is_refused_where_it_cannot_be_one(float_model, photograph):
    model, image = float_model("squeezenet1_1"), photograph("squeezenet1_1")
    with pytest.raises(UsageError, match="'scorecam' takes one image at a time"):
        explain_batch(model, image, CamSpec("scorecam", "features.12"))
    with pytest.raises(UsageError, match="2 classes were given for 1 images"):
        explain_batch(model, image, CamSpec("gradcam", "features.12"), [1, 2])
    with pytest.raises(UsageError, match="Class -2 is negative"):
        explain_batch(model, image, CamSpec("gradcam", "features.12"), [-2])


def test_a_class_that_does_not_depend_on_the_layer_is_refused():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.aside = tiny(1.0), nn.Conv2d(1, 1, 1)

        def forward(self, image):
            self.aside(image)
            return self.used(image)

    image = torch.ones(1, 1, 6, 6)
    with pytest.raises(QuantvizError, match="does not depend on the target layer"):
        explain(Aside().eval(), image, CamSpec("gradcam", "aside"), 0)
    unused = nn.Sequential(*tiny(1.0)).eval()
    unused.add_module("never", nn.Module())
    unused.forward = lambda values: tiny(1.0)(values)
    with pytest.raises(QuantvizError, match="does not depend on the target layer"):
        explain(unused, image, CamSpec("gradcam", "never"), 0)


def test_ablationcam_computes_what_comes_before_the_layer_for_one_image(float_model, photograph):
    model, image = copy.deepcopy(float_model("squeezenet1_1")), photograph("squeezenet1_1")[..., :96, :96]
    before, after = [], []
    model.features[3].register_forward_hook(lambda _module, inputs, _output: before.append(len(inputs[0])))
    model.features[9].register_forward_hook(lambda _module, inputs, _output: after.append(len(inputs[0])))
    explain(model, image, CamSpec("ablationcam", "features.6.squeeze"), 281)
    assert set(before) == {1}
    assert sum(after) == 1 + model.features[6].squeeze.out_channels


# -- the networks that maps are taken of


@pytest.mark.parametrize("name", some_networks("efficientnet_lite0", "squeezenet1_1", "densenet121"))
def test_maps_of_the_folded_network_are_those_of_the_model(float_model, photograph, name):
    model, layer = float_model(name), networks.spec(name).layer
    folded = float_base(model, QuantSpec(), photograph(name), layer)
    image = photograph(name, "coffee")
    first, second = (explain(network, image, CamSpec("gradcam++", layer), 281) for network in (model, folded))
    assert first.heatmap.degenerate == second.heatmap.degenerate
    np.testing.assert_allclose(second.heatmap.values, first.heatmap.values, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "shared"), [("squeezenet1_1", 8), ("resnet50", 4), ("mobilenet_v2", 0)])
def test_a_tensor_that_several_layers_read_is_rounded_once(float_model, photograph, name, shared):
    image = photograph(name)
    base = float_base(float_model(name), QuantSpec(), image, networks.spec(name).layer)
    network = assemble(base, QuantSpec(8, 8), calibrate(base, [image]))
    rounded, quantizers = [], [module for module in network.modules() if isinstance(module, InputQuantizer)]
    for quantizer in quantizers:
        quantizer.register_forward_hook(lambda *_args: rounded.append(1))
    spec = CamSpec("gradcam++", networks.spec(name).layer)
    together = explain(network, image, spec, 281)
    assert len(rounded) == len(quantizers) - shared
    # Each layer on a tensor of its own: nothing is shared, and nothing changes.
    for module in network.modules():
        if hasattr(module, "input_quantizer"):
            module.register_forward_pre_hook(lambda _module, inputs: (inputs[0].clone(),), prepend=True)
    rounded.clear()
    apart = explain(network, image, spec, 281)
    assert len(rounded) == len(quantizers)
    assert together.heatmap.values.tobytes() == apart.heatmap.values.tobytes()
    assert together.probabilities.tobytes() == apart.probabilities.tobytes()


def test_what_was_rounded_is_not_taken_for_a_tensor_that_changed(float_model, photograph):
    image = photograph("squeezenet1_1").clone()
    base = float_base(float_model("squeezenet1_1"), QuantSpec(), image)
    network = assemble(base, QuantSpec(8, 8), calibrate(base, [image]))
    with torch.no_grad():
        first = network(image)
        image.mul_(0.5)
        halved = network(image)
        assert not torch.equal(first, halved)
        assert torch.equal(halved, network(image.clone()))
    image.requires_grad_()
    network(image)[0, 0].backward()  # what was rounded without a gradient does not stand in its way
    assert image.grad is not None


def test_other_libraries_are_asked_as_their_documentation_does(float_model, photograph):
    model, image = copy.deepcopy(float_model("squeezenet1_1")).requires_grad_(True), photograph("squeezenet1_1")
    layer = model.features[12]
    found = library_maps(model, layer, torch.cat([image, image]), [281, 5])
    assert found.shape == (2, 224, 224)
    assert not layer._forward_hooks
    assert set(peers()) == {"torch-cam", "Captum"}
    (map_,) = peers()["torch-cam"](model, layer, image, [281])
    assert map_.shape == (1, 13, 13)
    assert 0 <= map_.min() < map_.max() <= 1
    assert not layer._forward_hooks


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2", "densenet121"])
def test_captum_finds_the_same_map(float_model, photograph, name):
    model, image = copy.deepcopy(float_model(name)).requires_grad_(True), photograph(name)
    layer = networks.spec(name).layer
    found = peers()["Captum"](model, model.get_submodule(layer), image, [281])[0, 0].detach().numpy()
    ours = explain(float_model(name), image, CamSpec("gradcam", layer), 281).native
    assert not ours.degenerate
    wanted = (found - found.min()) / (found.max() - found.min())
    np.testing.assert_allclose(ours.values, wanted, atol=1e-4)
