"""Maps at tokens and channels-last grids: pytorch-grad-cam's with its reshape_transform, and every method."""

import copy

import numpy as np
import pytest
import pytorch_grad_cam
import timm
import torch
from networks_support import some_networks
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from quantviz import networks
from quantviz.cam import explain
from quantviz.networks.build import build
from quantviz.specs import CAM_METHODS, LAYOUT, CamSpec, GridLayout, UsageError

LIBRARY = {
    "gradcam": pytorch_grad_cam.GradCAM,
    "hirescam": pytorch_grad_cam.HiResCAM,
    "layercam": pytorch_grad_cam.LayerCAM,
}
LAYERS = {
    "timm:vit_tiny_patch16_224": "blocks.11.norm1",
    "timm:deit_tiny_distilled_patch16_224": "blocks.11.norm1",
    "torchvision:vit_b_32": "encoder.layers.encoder_layer_11.ln_1",
    "timm:swin_tiny_patch4_window7_224": "layers.3.blocks.1.norm2",
    "torchvision:swin_t": "features.7.1.norm1",
}


@pytest.fixture(scope="module")
def seeded():
    """Return a function from a name to the network with its seeded weights, built once."""
    made = {}

    def model(name):
        if name not in made:
            entry = networks.spec(name)
            made[name] = build(entry, networks.resolve(entry, "untrained"))[0]
        return made[name]

    return model


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 4 - 2


def reshaped(name):
    """Return the reshape_transform that the library's documentation has for a network."""
    if "swin" in name:
        return lambda values: values.reshape(len(values), 7, 7, -1).permute(0, 3, 1, 2)
    first, side = (2 if "distilled" in name else 1), (7 if name.endswith("32") else 14)
    return lambda values: values[:, first:].reshape(len(values), side, side, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", some_networks("timm:vit_tiny_patch16_224", "torchvision:swin_t", of=tuple(LAYERS)))
@pytest.mark.parametrize("method", LIBRARY)
def test_maps_are_those_of_pytorch_grad_cam_with_reshape_transform(name, method, seeded, image):
    model, layer = seeded(name), LAYERS[name]
    ours = explain(model, image, CamSpec(method, layer), 7)
    theirs = copy.deepcopy(model).requires_grad_()
    with LIBRARY[method](theirs, [theirs.get_submodule(layer)], reshape_transform=reshaped(name)) as cam:
        expected = cam(image, [ClassifierOutputTarget(7)])[0]
    assert ours.heatmap.degenerate == ""
    assert expected.max() > 0.9
    assert np.abs(ours.heatmap.values - expected).max() <= 1e-5


@pytest.fixture(scope="module")
def little():
    """Return a vision transformer of two blocks for 4 x 4 patches of 48 channels, and an input of it."""
    torch.manual_seed(3)
    sizes = {"img_size": 64, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
    model = timm.create_model("vit_tiny_patch16_224", **sizes).eval().requires_grad_(False)
    setattr(model.blocks[1].norm1, LAYOUT, GridLayout("tokens", 4, 4, prefix=1))
    return model, torch.randn(1, 3, 64, 64)


@pytest.mark.parametrize("method", CAM_METHODS)
def test_every_method_gives_a_map_at_tokens(method, little):
    found = explain(*little, CamSpec(method, "blocks.1.norm1"), 7)
    assert (found.heatmap.degenerate, found.native.values.shape) == ("", (4, 4))


def test_the_class_token_is_kept_where_a_channel_is_removed(little):
    """AblationCAM by its definition: what setting the places' channel to zero costs, the class token left."""
    model, image = little
    target, kept = model.blocks[1].norm1, {}
    handle = target.register_forward_hook(lambda _module, _inputs, output: kept.update(values=output))
    with torch.no_grad():
        whole = float(model(image)[0, 7])
    handle.remove()
    drops = []
    for channel in range(48):
        ablated = kept["values"].clone()
        ablated[:, 1:, channel] = 0
        handle = target.register_forward_hook(lambda _module, _inputs, _output, values=ablated: values)
        with torch.no_grad():
            drops.append((whole - float(model(image)[0, 7])) / abs(whole))
        handle.remove()
    summed = (np.array(drops) @ kept["values"][0, 1:].double().numpy().T).reshape(4, 4).clip(0)
    found = explain(model, image, CamSpec("ablationcam", "blocks.1.norm1"), 7).native.values
    assert found == pytest.approx((summed - summed.min()) / (summed.max() - summed.min()), abs=1e-3)


def test_tokens_of_another_input_size_are_refused(image):
    model = torch.nn.Sequential(torch.nn.Flatten(2), torch.nn.Flatten())
    setattr(model[0], LAYOUT, GridLayout("tokens", 14, 14, prefix=1))
    with pytest.raises(UsageError, match=r"gives \(1, 3, 50176\), not 1 and 14 x 14 tokens; use the input size"):
        explain(model, image, CamSpec("gradcam", "0"))
