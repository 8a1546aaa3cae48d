"""Modules in memory as networks: their layers, their preprocessing, and that running them leaves no trace."""

import copy
import warnings

import pytest
import timm
import torch
from torch import nn
from torchvision.models import MobileNet_V2_Weights, ResNet50_Weights

from quantviz import networks
from quantviz.networks.module import layer_name, network_of, untouched
from quantviz.networks.preprocessing import IMAGENET, of_input, preprocessing_of
from quantviz.networks.structure import pooled_layer
from quantviz.specs import Preprocessing, UsageError


@pytest.mark.parametrize(("name", "expected"), [("squeezenet1_1", "features.12"), ("efficientnet_lite0", "bn2")])
def test_the_last_feature_map_is_that_of_the_table(float_model, photograph, name, expected):
    module = float_model(name)
    with untouched(module):
        found = pooled_layer(module, photograph(name)).names
    assert expected in found
    assert networks.spec(name).layer == expected


def test_a_pooled_map_and_the_maps_of_the_classes_are_passed_over():
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    model = nn.Sequential(features, nn.Conv2d(4, 7, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with untouched(model):
        assert pooled_layer(model, torch.zeros(1, 3, 16, 16)).names == ("0.1",)


def test_a_network_of_tokens_and_other_unusable_modules_are_refused():
    example = torch.zeros(1, 3, 32, 32)
    tokens = nn.Sequential(nn.Flatten(2), nn.Linear(1024, 5), nn.Flatten(), nn.Linear(15, 2))
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UsageError, match="has no layer with a feature map"):
        pooled_layer(tokens, example)
    with pytest.raises(UsageError, match=r"gives \(1, 4, 30, 30\) in place of logits"):
        network_of(small[:1], example, IMAGENET)
    with pytest.raises(UsageError, match=r"is torch.bfloat16; convert the module by .float\(\)"):
        network_of(copy.deepcopy(small).bfloat16(), example, IMAGENET)
    with pytest.raises(UsageError, match="2 class names were given, but Sequential gives 4 logits"):
        network_of(small, example, IMAGENET, classes=("a", "b"))
    with pytest.raises(UsageError, match="given as layer is not part of Sequential"):
        layer_name(small, tokens[0])
    with pytest.raises(UsageError, match=r"Layer '0.weight' does not exist in Sequential; name one of its layers"):
        layer_name(small, "0.weight")


def prepared():
    """Return a small network as torch's prepare_qat makes it, its observers fed once."""
    from torch.ao import quantization

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    return quantization.prepare_qat(model.train())


def test_a_module_is_left_as_it_was_even_where_observers_watch_and_modes_are_mixed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = prepared()
        fresh = prepared()
        model(torch.randn(4, 3, 16, 16))
        model[1].eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        modes = [module.training for module in model.modules()]
        with untouched(model):
            assert not any(module.training for module in model.modules())
            first = model(torch.ones(1, 3, 16, 16) * 100)
            assert torch.equal(model(torch.ones(1, 3, 16, 16) * 100), first)
            model[1].running_mean.add_(1)
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        assert [module.training for module in model.modules()] == modes
        assert all(not module._forward_hooks for module in model.modules() if isinstance(module, nn.ReLU))
        with pytest.raises(UsageError, match="has seen no data, so that its layer has no scale"), untouched(fresh):
            pass
        assert fresh.training


def test_preprocessing_is_read_from_what_the_libraries_say():
    weights = {"mobilenet_v2": MobileNet_V2_Weights.IMAGENET1K_V2, "resnet50": ResNet50_Weights.IMAGENET1K_V2}
    for name, enum in weights.items():
        expected = networks.spec(name).weights[1].preprocessing
        assert preprocessing_of(enum) == preprocessing_of(enum.transforms()) == (expected, "")
    lite0 = networks.spec("efficientnet_lite0").weights[0].preprocessing
    settings = timm.get_pretrained_cfg("tf_efficientnet_lite0").to_dict()
    assert preprocessing_of(settings) == (lite0, "")
    assert preprocessing_of(None, timm.create_model("tf_efficientnet_lite0")) == (lite0, "")
    found, note = preprocessing_of(None, nn.Identity())
    assert (found, "are assumed" in note) == (IMAGENET, True)
    own = Preprocessing(64, 64, "bilinear", (0, 0, 0), (1, 1, 1))
    assert preprocessing_of(own) == (own, "")
    wide = {"input_size": (3, 64, 32), "mean": (0,) * 3, "std": (1,) * 3}
    assert preprocessing_of(wide)[0].crop == (64, 32)
    assert of_input(IMAGENET, 48, 64).crop == (48, 64)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("imagenet", "Preprocessing str is none that can be read"),
        ({"mean": 1}, "Preprocessing with mean is unclear"),
        ({"input_size": (3, 9, 9), "mean": (0,) * 3, "std": (1,) * 3, "crop_mode": "border"}, "Crop mode 'border'"),
        ({"input_size": (3, 9, 9), "mean": (0,) * 3, "std": (1,) * 3, "interpolation": "nearest"}, "'nearest'"),
    ],
)
def test_preprocessing_that_cannot_be_read_is_refused(choice, message):
    with pytest.raises(UsageError, match=message):
        preprocessing_of(choice)
