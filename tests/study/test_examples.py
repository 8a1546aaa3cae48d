"""The results that quantviz comes with: they are read back as they were written, and hold no path."""

import json
from dataclasses import replace

import numpy as np
import pytest

from quantviz.comparison.structured import structured
from quantviz.layerwise.diagnosis.specs import Diagnosis, Site
from quantviz.layerwise.specs import SearchResult, Sensitivity
from quantviz.specs import StoreError
from quantviz.study import examples
from quantviz.study.examples import example_bytes, shipped_example


@pytest.mark.parametrize("kind", [Diagnosis, Sensitivity, SearchResult])
def test_an_example_is_read_back_as_it_is_written(kind):
    found = shipped_example(kind)
    written = example_bytes(found)
    assert example_bytes(structured(kind, json.loads(written))) == written
    assert b"/home" not in written
    assert len(written) < 200_000


def test_the_diagnosis_has_arrays_causes_and_drift():
    found = shipped_example(Diagnosis)
    assert found.quantization == "W4A8"
    assert found.causes
    assert sum(entry.drift is not None for entry in found.tensors) >= 5
    entry = found.tensors[0]
    assert (entry.site.zero_point.dtype, entry.by_channel.low.dtype) == (np.int64, np.float64)


@pytest.mark.parametrize("scale", [["a"], 1.0, [[1.0]], None])
def test_what_is_no_list_of_numbers_is_no_array(scale):
    with pytest.raises(ValueError, match="of another type"):
        structured(Site, {"name": "a", "layer": "a", "role": "weight", "scale": scale})
    assert structured(Site, {"name": "a", "layer": "a", "role": "weight", "scale": [1, 0.5]}).scale.tolist() == [1, 0.5]


def test_the_sensitivity_has_its_noise_floor_and_the_search_found_something():
    assert 0 < shipped_example(Sensitivity).floor.floor < shipped_example(Sensitivity).network.cam
    found = shipped_example(SearchResult)
    assert found.found.searched.cam <= found.max_drift


def test_a_damaged_example_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "SHIPPED", tmp_path)
    (tmp_path / "example-search.json").write_text('{"model": 3}')
    for kind in (Sensitivity, SearchResult):
        with pytest.raises(StoreError, match="install quantviz again"):
            shipped_example.__wrapped__(kind)


def test_numbers_have_six_digits():
    found = replace(shipped_example(Sensitivity), labelled=2)
    drift = replace(found.network, cam=0.123456789)
    assert b'"cam":0.123457' in example_bytes(replace(found, network=drift))
