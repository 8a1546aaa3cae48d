"""Networks of many kinds, compared with nothing but their names."""

import pytest
from networks_support import some_networks
from PIL import Image

from quantviz import images
from quantviz.comparison import CompareRequest, Workbench
from quantviz.specs import QuantSpec
from quantviz.store import TensorStore

# Name -> the grid of its default layer: convolutions, tokens, channels last, hybrids.
GRIDS = {
    "timm:mobilenetv3_small_050": (7, 7),
    "timm:vit_tiny_patch16_224": (14, 14),
    "torchvision:shufflenet_v2_x0_5": (7, 7),
    "torchvision:swin_t": (7, 7),
    "timm:mobilevit_xxs": (8, 8),
    "timm:poolformer_s12": (7, 7),
    "timm:edgenext_xx_small": (8, 8),
}


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    """Return a folder with the picture itself: of untrained networks, the ranges of another do not fit."""
    folder = tmp_path_factory.mktemp("calibration")
    Image.fromarray(images.bundled("coffee").rgb).save(folder / "coffee.png")
    return folder


@pytest.mark.parametrize(
    "name", some_networks("timm:mobilenetv3_small_050", "timm:vit_tiny_patch16_224", of=tuple(GRIDS))
)
def test_a_name_is_enough(name, tmp_path, calibration):
    request = CompareRequest(
        name, "untrained", QuantSpec(weight_bits=16, act_bits=16), calibration=calibration, saliency=None
    )
    with TensorStore(tmp_path) as store:
        found = Workbench(store).compare(request, images.bundled("coffee"))
    assert found.model == name
    assert found.weights.trained is False
    assert found.degenerate == {}
    assert found.reference.native.values.shape == found.quantized.native.values.shape == GRIDS[name]
    assert found.scores["quantized_v_float"].cc > 0.99
