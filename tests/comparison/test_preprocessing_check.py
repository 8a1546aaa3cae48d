"""Whether a network gets the input that it was trained with, judged on known pictures."""

from dataclasses import replace

import numpy as np
import pytest
from onnx_support import quantized, real_onnx, saved, small
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from torch import nn

from quantviz import networks
from quantviz.comparison import check_preprocessing
from quantviz.comparison.files import file_network
from quantviz.comparison.input_grid import calibrated_otherwise
from quantviz.networks import Network
from quantviz.networks.build import labels
from quantviz.networks.onnx_files import open_file
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


class Shades(CalibrationDataReader):
    def __init__(self, values):
        self._left = iter([{"input": entry[None]} for entry in values])

    def get_next(self):
        return next(self._left, None)


def static(path, to, reader, symmetric):
    """Return a file that ONNX Runtime quantizes with what a reader gives."""
    options = {"activation_type": QuantType.QInt8, "extra_options": {"ActivationSymmetric": symmetric}}
    quantize_static(str(path), str(to), reader, weight_type=QuantType.QInt8, **options)
    return to


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


HALF = replace(IMAGENET, mean=(0.5,) * 3, std=(0.5,) * 3)
UNIT = replace(IMAGENET, mean=(0.0,) * 3, std=(1.0,) * 3)
LEVELS = replace(UNIT, range="0-255")
USUAL = {"imagenet": IMAGENET, "half": HALF, "unit": UNIT, "levels": LEVELS}


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """Return files that were calibrated on black, white and what is between, normalized in each usual way."""
    folder = tmp_path_factory.mktemp("calibrated")
    path = saved(folder, small())
    found = {}
    for name, usual in USUAL.items():
        top = 255 if usual.range == "0-255" else 1
        shades = np.linspace(0, top, 6, dtype=np.float32).reshape(6, 1, 1, 1) + np.zeros((6, 3, 48, 48), np.float32)
        mean, std = (np.float32(values).reshape(1, 3, 1, 1) for values in (usual.mean, usual.std))
        for symmetric in (False, True):
            reader = Shades((shades - mean) / std)
            found[name, symmetric] = static(path, folder / f"{name}-{symmetric}.onnx", reader, symmetric)
    return found


def test_the_grid_of_the_input_tells_with_what_a_file_was_calibrated(calibrated):
    for (name, symmetric), path in calibrated.items():
        opened = open_file(path)
        told = {other: calibrated_otherwise(opened, usual) for other, usual in USUAL.items()}
        # From -1 to 1 may stand for 0 to 1 on a symmetric grid: nothing is said of it.
        alike = {"half", "unit"} if name == "half" or (name == "unit" and symmetric) else {name}
        assert {other for other, words in told.items() if not words} == alike, (name, symmetric, told)


def test_a_file_that_was_calibrated_on_something_else_says_nothing(tmp_path):
    noise = open_file(quantized(saved(tmp_path, small()), "noise.onnx"))  # from -3.6 to 3.6
    assert not any(calibrated_otherwise(noise, usual) for usual in USUAL.values())
    assert calibrated_otherwise(open_file(saved(tmp_path, small(), "none.onnx")), HALF) == ""


@pytest.mark.parametrize("name", ["mobilenet_v2.ort-qdq-pc-qint8", "squeezenet1_1.ort-qoperator-pt-quint8"])
def test_real_files_tell_what_the_network_hardly_minds(name):
    opened = open_file(real_onnx(name))
    assert calibrated_otherwise(opened, IMAGENET) == ""
    told = calibrated_otherwise(opened, HALF)
    assert "its input's grid reaches -2.13 to 2.63, as with mean 0.485/0.456/0.406" in told
    assert "but mean 0.5/0.5/0.5, std 0.5/0.5/0.5 makes -1 to 1 of black to white; check mean, std and range." in told
