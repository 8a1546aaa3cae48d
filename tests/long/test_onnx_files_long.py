"""ONNX files on forty real pictures: every method in float, and the twins and closed forms of the int8 files."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "networks" / "onnx"))

from onnx_support import LITE, REAL_PAIRS, lite_files, real_pictures
from test_onnx_real import GRADIENTS, check_closed_form, check_float, check_int8

PICTURES = 40
# ScoreCAM runs the whole network for each of up to 1,280 channels: a minute a picture.
BY_SCORES = 4


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    return lite_files(tmp_path_factory.mktemp("lite"), real_pictures(16))


@pytest.mark.parametrize(("name", "layer", "module_layer"), sorted(set(REAL_PAIRS.values())))
def test_float_maps_are_torch_s_by_every_method(name, layer, module_layer):
    check_float(name, layer, module_layer, [*GRADIENTS, "ablationcam"], PICTURES)
    check_float(name, layer, module_layer, ["scorecam"], BY_SCORES)


@pytest.mark.parametrize("name", REAL_PAIRS)
def test_int8_maps_are_those_of_a_twin_and_the_closed_form(name):
    check_int8(name, PICTURES)
    check_closed_form(name, PICTURES)


def test_a_third_network_exported_and_quantized_here(lite):
    check_float(LITE, None, "bn2", [*GRADIENTS, "ablationcam"], PICTURES, lite[0])
    check_float(LITE, None, "bn2", ["scorecam"], 1, lite[0])
    check_int8(LITE, PICTURES, lite)
    check_closed_form(LITE, PICTURES, lite)
