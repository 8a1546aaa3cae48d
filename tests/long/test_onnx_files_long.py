"""ONNX files on forty real pictures: every method in float, and the twins of the int8 files."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "networks" / "onnx"))

from onnx_support import REAL_PAIRS
from test_onnx_real import GRADIENTS, check_float, check_int8

from quantviz.specs import CAM_METHODS

MANY = [method for method in CAM_METHODS if method not in GRADIENTS]


@pytest.mark.parametrize(("name", "layer", "module_layer"), sorted(set(REAL_PAIRS.values())))
def test_float_maps_are_torch_s_by_every_method(name, layer, module_layer):
    check_float(name, layer, module_layer, GRADIENTS, 40)
    check_float(name, layer, module_layer, MANY, 40)


@pytest.mark.parametrize("name", REAL_PAIRS)
def test_int8_maps_are_those_of_a_twin(name):
    check_int8(name, 40)
