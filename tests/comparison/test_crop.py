"""One picture by several crops: what the networks see, what is kept apart, and what is said."""

import json
from dataclasses import replace

import comparison_support
import numpy as np
import pytest
from comparison_support import SQUEEZENET

from quantviz import images
from quantviz.comparison import Seen, comparison_data
from quantviz.layerwise.noise import with_floor
from quantviz.specs import CALIBRATED, Crop, QuantSpec, UsageError

bench = comparison_support.bench
ROCKET = images.bundled("rocket")
REQUEST = replace(SQUEEZENET, saliency=None)


@pytest.fixture(scope="module")
def found(bench):
    crops = {"centre": Crop(), "fit": Crop(fit=True), "left": Crop(x=0, y=0.5)}
    made = {name: replace(REQUEST, crop=crop) for name, crop in crops.items()}
    return {name: with_floor(bench, request, bench.compare(request, ROCKET)) for name, request in made.items()}


def test_each_crop_has_its_own_pixels_maps_key_and_floor(found):
    for values in (
        {one.key for one in found.values()},
        {one.crop.tobytes() for one in found.values()},
        {one.reference.heatmap.values.tobytes() for one in found.values()},
        {one.quantized.heatmap.values.tobytes() for one in found.values()},
        {one.floor for one in found.values()},
    ):
        assert len(values) == 3
    for one in found.values():
        assert np.array_equal(one.crop, images.crop(ROCKET.rgb, one.weights.preprocessing))


def test_only_the_picture_is_cut_otherwise(found, bench):
    # The quantized networks are the same: calibration pictures are cut as the weights want it.
    assert len({one.calibration.sha256 for one in found.values()}) == 1
    again = bench.compare(replace(REQUEST, crop=Crop(x=0, y=0.5)), ROCKET)
    assert again.cached
    assert again.weights.preprocessing.place == (0, 0.5)


def test_json_says_what_was_seen(found):
    told = {name: json.loads(json.dumps(comparison_data(one))) for name, one in found.items()}
    assert told["centre"]["preprocessing"]["place"] == [0.5, 0.5]
    assert told["left"]["preprocessing"]["place"] == [0, 0.5]
    assert told["fit"]["preprocessing"]["fit"] == "pad"
    assert told["left"]["image"]["seen"][0] == 0
    left, top, width, height = told["fit"]["image"]["seen"]
    assert min(left, top) < 0
    assert min(width, height) == 1


def test_what_is_lost_is_said(found):
    said = {name: Seen.of(ROCKET, one.weights.preprocessing).sentence for name, one in found.items()}
    assert said["fit"].startswith("The networks see the whole photograph; ")
    assert said["centre"] == said["left"] == "The networks see 51% of the photograph."
    panorama = replace(ROCKET, rgb=ROCKET.rgb[:200])
    seen = Seen.of(panorama, found["centre"].weights.preprocessing)
    assert seen.little
    assert seen.sentence.endswith("most of it is lost.")
    stretched = Seen.of(panorama, replace(found["centre"].weights.preprocessing, fit="stretch"))
    assert (stretched.part, stretched.little, stretched.stretched) == (1, False, True)


def test_a_protocol_that_stretches_leaves_no_crop():
    with pytest.raises(UsageError, match="exclude each other"):
        replace(REQUEST, quant=QuantSpec(protocol="paper"), crop=Crop(fit=True))
    replace(REQUEST, quant=QuantSpec(protocol=f"{CALIBRATED}+own_class"), crop=Crop(fit=True))
