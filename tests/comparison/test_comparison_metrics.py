"""Every metric of a comparison beside its baselines, against each kind of ground truth."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from quantviz import images, scores
from quantviz.comparison import (
    BASELINES,
    CompareRequest,
    TruthSource,
    Workbench,
    describe_faithfulness,
    faithfulness,
    measure,
    tables_data,
)
from quantviz.specs import ImageError, QuantSpec, UsageError
from quantviz.store import TensorStore

REQUEST = CompareRequest(quant=QuantSpec(4, 4))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Workbench(TensorStore(tmp_path_factory.mktemp("cache") / "tensors"))


@pytest.fixture(scope="module")
def sample():
    return images.bundled("flower")


@pytest.fixture(scope="module")
def comparison(bench, sample):
    return bench.compare(REQUEST, sample)


def test_first_table_is_against_float_and_the_second_against_saliency(bench, comparison):
    tables = measure(bench, REQUEST, comparison)
    assert [table.predicted for table in tables] == [True, True]
    assert list(tables[0].columns) == ["quantized", *BASELINES]
    assert list(tables[1].columns) == ["quantized", "float", *BASELINES]
    for table, name in zip(tables, ("quantized_v_float", "quantized_v_saliency"), strict=True):
        for metric in ("sim", "cc", "kld"):
            assert table.columns["quantized"][metric].value == getattr(comparison.scores[name], metric)
        centre = scores.centre_gaussian((224, 224))
        reference = comparison.reference.heatmap if name == "quantized_v_float" else comparison.saliency.heatmap
        assert table.columns["centre Gaussian"]["cc"].value == scores.cc(centre, reference.values)
        assert table.columns["uniform"]["cc"].value is None
        assert "constant" in table.columns["uniform"]["cc"].reason


def test_the_untrained_and_the_other_picture_are_what_they_say(bench, comparison):
    table = measure(bench, REQUEST, comparison)[0]
    untrained = bench.float_result(
        replace(REQUEST, weights="untrained"),
        comparison.sample,
        comparison.reference.class_index,
        comparison.weights.preprocessing,
    )
    expected = scores.cc(untrained.heatmap.values, comparison.reference.heatmap.values)
    assert table.columns["untrained model"]["cc"].value == expected
    other = bench.float_result(REQUEST, images.bundled("astronaut"), None, comparison.weights.preprocessing)
    expected = scores.cc(other.heatmap.values, comparison.reference.heatmap.values)
    assert table.columns["another image's"]["cc"].value == expected


def test_a_picture_is_not_its_own_baseline(bench):
    sample = images.bundled("astronaut")
    comparison = bench.compare(REQUEST, sample)
    table = measure(bench, REQUEST, comparison)[0]
    assert table.columns["another image's"]["cc"].value < 0.999


def test_a_second_time_nothing_is_computed(bench, comparison, monkeypatch):
    first = measure(bench, REQUEST, comparison)

    def computed(*_arguments, **_options):
        raise AssertionError("a metric was computed again")

    monkeypatch.setattr(scores, "measure", computed)
    assert tables_data(measure(bench, REQUEST, comparison)) == tables_data(first)


def crop_box(sample):
    """Return a box, in the picture's pixels, around its centre."""
    height, width = sample.rgb.shape[:2]
    return width // 2 - 60, height // 2 - 50, width // 2 + 70, height // 2 + 60


def truth_file(sample, kind):
    height, width = sample.rgb.shape[:2]
    x0, y0, x1, y1 = crop_box(sample)
    if kind == "boxes":
        return f"x0,y0,x1,y1\n{x0},{y0},{x1},{y1}\n".encode(), "truth.csv"
    if kind == "fixations":
        return f"x,y\n{x0},{y0}\n{x1},{y1}\n{width // 2},{height // 2}\n".encode(), "truth.csv"
    values = np.zeros((height, width), np.uint8)
    values[y0:y1, x0:x1] = 1
    if kind == "map":
        values = values + np.linspace(0, 1, width)
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue(), "truth.npy"


@pytest.mark.parametrize("kind", ["map", "mask", "fixations", "boxes"])
def test_ground_truth_of_each_kind(bench, comparison, sample, kind):
    data, name = truth_file(sample, kind)
    table = measure(bench, REQUEST, comparison, TruthSource(data, name, kind))[-1]
    assert (table.reference, table.kind, table.predicted) == (name, kind, False)
    expected = [metric for metric, found in scores.METRICS.items() if kind in found.truths]
    for subject in ("quantized", "float", "centre Gaussian", "untrained model"):
        assert list(table.columns[subject]) == expected
    assert "another image's" in table.absent
    values = [found.value for found in table.columns["float"].values() if found.value is not None]
    assert len(values) >= 3
    json.dumps(tables_data([table]), allow_nan=False)


def test_chosen_metrics_and_wrong_ones(bench, comparison, sample):
    tables = measure(bench, REQUEST, comparison, metrics=["cc"])
    assert [list(column) for table in tables for column in table.columns.values()] == [["cc"]] * 11
    with pytest.raises(UsageError, match="'psnr' is unknown"):
        measure(bench, REQUEST, comparison, metrics=["psnr"])
    with pytest.raises(UsageError, match="'nss' needs a ground truth of fixations"):
        measure(bench, REQUEST, comparison, metrics=["nss"])
    data, name = truth_file(sample, "fixations")
    tables = measure(bench, REQUEST, comparison, TruthSource(data, name, "fixations"), metrics=["nss"])
    assert [table.kind for table in tables] == ["fixations"]


def test_truth_that_does_not_fit(bench, comparison):
    with pytest.raises(ImageError, match=r"notes\.csv"):
        measure(bench, REQUEST, comparison, TruthSource(b"hello\n", "notes.csv", "boxes"))


def test_faithfulness_is_on_the_page_of_metrics():
    text = describe_faithfulness()
    for word in ("(`deletion`)", "(`insertion`)", "(`road`)", "doi", "Range: ", "Degenerate maps: "):
        assert word in text


@pytest.mark.slow
def test_faithfulness_of_both_models_beside_a_centre_blob(bench, comparison):
    rows = faithfulness(bench, REQUEST, comparison)
    assert [row.name for row in rows] == ["deletion", "insertion", "road"]
    for row in rows:
        assert list(row.values) == ["float", "quantized", "centre Gaussian"]
        assert row.explanation
        assert all(score.value is not None for score in row.values.values())
    assert faithfulness(bench, REQUEST, comparison) == rows
    told = []
    faithfulness(bench, REQUEST, comparison, lambda *said: told.append(said))
    assert told == []  # the second time, nothing is computed
