"""Strangers' ONNX files diagnosed in a process of its own: what it says is what this one would, within limits."""

import numpy as np
import onnx
import pytest
from onnx_support import quantized, saved, small

from quantviz import images
from quantviz.comparison import FilesRequest, Workbench
from quantviz.comparison.sandbox import Sandbox, UploadedFiles
from quantviz.layerwise.diagnosis.asked import Asked, ask_files
from quantviz.layerwise.diagnosis.sandbox import MOST_PICTURES, compare_uploaded, diagnose_uploaded
from quantviz.layerwise.diagnosis.transfer import packed, unpacked
from quantviz.specs import CheckpointError, UsageError
from quantviz.store import TensorStore, encode

KEY = "0" * 64


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    path = saved(tmp_path_factory.mktemp("pair"), small())
    return path, quantized(path, "int8.onnx")


@pytest.fixture(scope="module")
def pair(paths):
    return UploadedFiles(paths[0].read_bytes(), "float.onnx", paths[1].read_bytes(), "int8.onnx")


@pytest.fixture(scope="module")
def samples():
    return [images.bundled(name) for name in ("coffee", "chelsea")]


@pytest.fixture(scope="module")
def answered(paths, samples, tmp_path_factory):
    """Return a function that has this process answer."""

    def answer(asked):
        with TensorStore(tmp_path_factory.mktemp("store")) as store:
            return ask_files(Workbench(store), FilesRequest(paths[0], paths[1:]), samples, asked)

    return answer


@pytest.fixture(scope="module")
def answer(answered):
    return answered(Asked())


def figures(found):
    return [(entry.name, entry.sqnr, entry.sqnr_isolated, entry.clipped, entry.drift) for entry in found.tensors]


def test_an_answer_comes_back_as_it_was(answer):
    again = unpacked(packed(answer, KEY), KEY)
    before, after = answer.diagnoses[0], again.diagnoses[0]
    assert figures(after) == figures(before)
    assert (after.ranking, after.causes, after.images) == (before.ranking, before.causes, before.images)
    assert (again.trial, again.mended) == (answer.trial, answer.mended)
    assert np.array_equal(after.tensors[0].histogram.reference, before.tensors[0].histogram.reference)


def changed(data, *, mended=True):
    """Return a packed answer whose facts are other ones."""
    arrays = {"mended": np.zeros(0, np.uint8)} if mended else {}
    return encode(KEY, type("Record", (), {"arrays": arrays, "metadata": {"facts": data}})())


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"quantviz" * 100,
        changed({}),
        changed({"diagnosis": {"network": "x"}, "trial": None}),
        changed({"diagnosis": None, "trial": None}, mended=False),
    ],
)
def test_a_forged_answer_is_refused(blob):
    with pytest.raises(ValueError, match=r"no diagnosis|missing or of another type"):
        unpacked(blob, KEY)


def test_too_many_pictures_are_refused_before_a_process_starts(pair, samples):
    with pytest.raises(UsageError, match="65 pictures are more than 64"):
        diagnose_uploaded(Sandbox(), pair, samples[:1] * (MOST_PICTURES + 1), Asked())


@pytest.mark.slow
def test_a_process_of_its_own_says_the_same(pair, samples, answered):
    asked = Asked(drifts=1, remedy="auto", method="gradcam")
    found, here = diagnose_uploaded(Sandbox(), pair, samples, asked), answered(asked)
    assert figures(found.diagnoses[0]) == figures(here.diagnoses[0])
    assert found.trial == here.trial
    assert found.mended == here.mended
    onnx.checker.check_model(onnx.load_from_string(found.mended))


@pytest.mark.slow
def test_maps_of_one_tensor_alone_come_from_a_process_of_its_own(pair, samples, answer):
    weight = next(entry.name for entry in answer.diagnoses[0].tensors if entry.site.role == "weight")
    found = compare_uploaded(Sandbox(), pair, samples[0], weight, "gradcam")
    assert found.sample.id == samples[0].id
    assert found.scores["quantized_v_float"].cc == pytest.approx(1, abs=0.1)
    with pytest.raises(CheckpointError, match="'none' is not rounded by itself"):
        compare_uploaded(Sandbox(), pair, samples[0], "none", "gradcam")


@pytest.mark.slow
def test_a_file_that_is_none_costs_a_sentence(pair, samples):
    broken = UploadedFiles(pair.reference[:-400], "a.onnx", pair.quantized, "b.onnx")
    with pytest.raises(CheckpointError, match="is no ONNX file"):
        diagnose_uploaded(Sandbox(), broken, samples, Asked())
