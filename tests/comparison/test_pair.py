"""Two networks of any origin compared on one picture."""

import io
import json
from dataclasses import replace

import comparison_support
import numpy as np
import pytest
import torch
from comparison_support import SAMPLE, bits

from quantviz import figures
from quantviz.comparison import CompareRequest, PairRequest, compare_pair, comparison_data, npz_bytes
from quantviz.networks import Network
from quantviz.specs import GivenQuant, ImageError, QuantSpec, UsageError

shared, store = comparison_support.shared, comparison_support.store
QUANT = GivenQuant("W8A8 by us", {"sha256": "abc"})


@pytest.fixture(scope="module")
def table(shared):
    """Return the comparison of a network of the table, and the same two networks as they are."""
    request = CompareRequest()
    found = shared.compare(request, SAMPLE)
    float_module, quantized_module, image = shared.models(request, SAMPLE)
    reference = Network("lite0", float_module, found.cam.layer, found.weights)
    return found, reference, replace(reference, module=quantized_module, quant=QUANT), image


def test_any_two_networks_give_what_the_table_gives(table, shared):
    found, reference, quantized, _ = table
    pair = compare_pair(reference, quantized, SAMPLE)
    assert bits(pair) == bits(found)
    assert pair.scores == found.scores
    assert pair.reference.predictions == found.reference.predictions
    assert (pair.model, pair.quant.label, pair.calibration, pair.key) == ("lite0", "W8A8 by us", None, "")


def test_a_pair_renders_by_the_same_functions(table):
    found, reference, quantized, _ = table
    pair = compare_pair(reference, quantized, SAMPLE)
    told = json.loads(json.dumps(comparison_data(pair), allow_nan=False))
    assert told.keys() == comparison_data(found).keys()
    assert told["quantization"] == {"label": "W8A8 by us", "sha256": "abc", "deviations": {}, "calibration": None}
    assert npz_bytes(pair) == npz_bytes(found)
    assert figures.paper_png(pair).startswith(b"\x89PNG")
    assert "W8A8 by us" in figures.maps_figure(pair, opacity=0.5).to_json()


def test_an_input_made_already_and_names_of_its_classes_are_used(table):
    found, reference, quantized, image = table
    names = tuple(f"kind {index}" for index in range(1000))
    shown = replace(SAMPLE, rgb=found.crop)
    pair = compare_pair(
        replace(reference, classes=names),
        replace(quantized, classes=names),
        shown,
        PairRequest(target="own"),
        tensor=image,
    )
    assert bits(pair) == bits(found)
    assert [entry.label for entry in pair.reference.predictions] == [
        f"kind {entry.index}" for entry in found.reference.predictions
    ]
    with pytest.raises(UsageError, match="2 class names were given, but the float model has 1000 classes"):
        compare_pair(replace(reference, classes=("a", "b")), quantized, SAMPLE)


def test_a_pair_of_files_is_kept_and_found_again(table, store):
    _, reference, quantized, _ = table
    first = compare_pair(reference, quantized, SAMPLE, PairRequest(saliency=None), store=store)
    again = compare_pair(reference, quantized, SAMPLE, PairRequest(saliency=None), store=store)
    assert (first.cached, again.cached) == (False, True)
    assert bits(again) == bits(first)
    other = replace(quantized, weights=replace(quantized.weights, sha256="other"))
    assert not compare_pair(reference, other, SAMPLE, PairRequest(saliency=None), store=store).cached


def test_maps_on_different_grids_and_layers_are_noted(table):
    _, reference, quantized, _ = table
    pair = compare_pair(reference, replace(quantized, layer="blocks.2", quant=QuantSpec()), SAMPLE)
    assert any("7 x 7 (float) and 28 x 28 (quantized)" in note for note in pair.notes)
    assert any("taken at blocks.2" in note for note in pair.notes)
    assert comparison_data(pair)["notes"] == list(pair.notes)


def test_what_cannot_be_compared_is_refused(table):
    _, reference, quantized, _ = table
    fewer = replace(quantized, weights=replace(quantized.weights, classes=10))
    with pytest.raises(UsageError, match="1000 classes and the quantized one 10"):
        compare_pair(reference, fewer, SAMPLE)
    with pytest.raises(UsageError, match="Class rule 'first' is unknown"):
        PairRequest(target="first")
    wide = replace(SAMPLE, rgb=SAMPLE.rgb[:64, :96])
    with pytest.raises(ImageError, match="the networks' input has 96 x 64"):
        compare_pair(
            reference, quantized, wide, PairRequest(saliency=npy((224, 224))), tensor=torch.zeros(1, 3, 64, 96)
        )


def npy(shape):
    buffer = io.BytesIO()
    np.save(buffer, np.eye(*shape))
    return buffer.getvalue()
