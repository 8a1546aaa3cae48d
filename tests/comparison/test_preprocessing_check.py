"""Whether a network gets the input that it was trained with, judged on known pictures."""

from dataclasses import replace

import pytest
from onnx_support import real_onnx
from torch import nn

from quantviz import networks
from quantviz.comparison import check_preprocessing
from quantviz.comparison.files import file_network
from quantviz.networks import Network
from quantviz.networks.build import labels
from quantviz.networks.preprocessing import IMAGENET
from quantviz.specs import WeightsRef

# The others differ by their rounding alone.
REAL = (
    "squeezenet1_1.ort-qdq-pc-quint8",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "squeezenet1_1.float",
            "squeezenet1_1.ort-qoperator-pt-quint8",
            "mobilenet_v2.float",
            "mobilenet_v2.ort-qdq-pc-qint8",
        )
    ),
)
NAME = "efficientnet_lite0"
GIVEN = networks.spec(NAME).weights[0].preprocessing


class Swapped(nn.Module):
    """A network as if it had been trained on BGR."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, images):
        return self.module(images.flip(1))


def check(module, preprocessing=GIVEN, source="memory", classes=1000, names=()):
    ref = WeightsRef(source, NAME, "0" * 64, preprocessing, classes)
    return check_preprocessing(Network("mine", module, "blocks", ref, classes=tuple(names)))


@pytest.fixture(scope="module")
def module(float_model):
    return float_model(NAME)


def test_the_right_input_gets_no_warning(module):
    found = check(module)
    assert (found.right, found.known, found.warning) == (5, 5, "")
    assert next(entry for entry in found.pictures if entry.picture == "coffee").top[0].label == "espresso"


def test_red_and_blue_exchanged_are_seen(module):
    found = check(Swapped(module))
    assert "trained on BGR, not RGB" in found.warning
    assert check(Swapped(module), replace(GIVEN, order="BGR")).warning == ""


def test_another_normalization_is_seen(module):
    wrong = replace(GIVEN, mean=(0.0,) * 3, std=(1.0,) * 3, range="0-255")
    found = check(module, wrong)
    assert "another normalization" in found.warning
    assert "0 of 5 known pictures" in found.warning
    assert "with mean 0.5/0.5/0.5, std 0.5/0.5/0.5 as with mean 0/0/0, std 1/1/1, 0-255" in found.warning


def test_imagenet_s_normalization_in_place_of_a_half_is_seen(module):
    found = check(module, replace(GIVEN, mean=IMAGENET.mean, std=IMAGENET.std))
    assert "another normalization" in found.warning
    assert "with mean 0.5/0.5/0.5, std 0.5/0.5/0.5 as with mean 0.485/0.456/0.406" in found.warning
    near = replace(GIVEN, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    assert check(module, near).warning == ""


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_warned_of_with_the_wrong_normalization_alone(name):
    """Both ways: ImageNet's, which they were trained with, and a half in its place."""
    path = real_onnx(name)
    assert check_preprocessing(file_network(path, IMAGENET)).warning == ""
    half = check_preprocessing(file_network(path, replace(IMAGENET, mean=(0.5,) * 3, std=(0.5,) * 3))).warning
    if name.startswith("mobilenet"):  # which hardly minds: 0.06 nats a picture
        assert half == ""
    else:
        assert "another normalization" in half
        assert "with mean 0.485/0.456/0.406" in half


def test_classes_in_another_order_are_seen(module):
    names = labels(1000)[500:] + labels(1000)[:500]
    assert "check its weights, the order of its classes" in check(module, names=names).warning


def test_nothing_is_judged_where_nothing_is_known(module):
    wrong = replace(GIVEN, mean=(9.0,) * 3)
    assert check(module, wrong, source="untrained").warning == ""
    found = check(module, wrong, names=[f"part {index}" for index in range(1000)])
    assert (found.known, found.warning) == (0, "")
    assert all(entry.right is None for entry in found.pictures)
