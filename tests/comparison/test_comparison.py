"""Comparing one picture: real results, kept and found again, whatever happens meanwhile."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import comparison_support
import numpy as np
import pytest
import torch
import torchvision
from comparison_support import SAMPLE, SQUEEZENET, bits, write_picture
from safetensors.torch import save_file

from quantviz import images, networks, scores
from quantviz.comparison import CompareRequest, Workbench, arrays, comparison_data, npz_bytes
from quantviz.comparison.pool import Pool
from quantviz.specs import CamSpec, LayerBits, Phase, QuantSpec, UsageError
from quantviz.store import TensorStore

store, shared, forwards, folder = (
    comparison_support.store,
    comparison_support.shared,
    comparison_support.forwards,
    comparison_support.folder,
)


# -- the comparison itself


def test_the_default_comparison_is_real(shared):
    found = shared.compare(CompareRequest(), SAMPLE)
    assert (found.model, found.weights.source, found.quant.label) == ("efficientnet_lite0", "bundled", "W8A8")
    assert found.weights.trained
    assert found.reference.predictions[0].label == "tiger cat"
    assert found.reference.class_index == found.quantized.class_index == found.reference.predictions[0].index
    assert not found.flipped
    assert found.degenerate == {}
    assert set(found.scores) == {"quantized_v_float", "float_v_saliency", "quantized_v_saliency"}
    assert found.scores["quantized_v_float"].cc > 0.98
    assert found.scores["quantized_v_float"] == scores.compare(
        found.quantized.heatmap.values, found.reference.heatmap.values
    )
    assert found.saliency.predicted
    assert "spectral residual" in found.saliency.source
    assert found.crop.shape == (224, 224, 3)
    probabilities = [prediction.probability for prediction in found.quantized.predictions]
    assert len(probabilities) == 5
    assert probabilities == sorted(probabilities, reverse=True)


def test_maps_are_float32_in_unit_range_on_the_stated_grids(shared):
    found = arrays(shared.compare(CompareRequest(), SAMPLE))
    assert {name: values.shape for name, values in found.items()} == {
        "float": (224, 224),
        "quantized": (224, 224),
        "saliency": (224, 224),
        "float_native": (7, 7),
        "quantized_native": (7, 7),
    }
    for values in found.values():
        assert values.dtype == np.float32
        assert values.min() == 0
        assert 1 - 1e-6 < values.max() <= 1


def test_the_report_is_json_and_the_maps_file_gives_the_maps_back(shared):
    found = shared.compare(CompareRequest(), SAMPLE)
    told = json.loads(json.dumps(comparison_data(found), allow_nan=False))
    assert told["weights"]["sha256"] == found.weights.sha256
    seen = [80 / 384, 16 / 256, 224 / 384, 224 / 256]
    assert told["image"] == {"sha256": SAMPLE.id, "size": [451, 300], "name": "chelsea", "notes": [], "seen": seen}
    assert told["quantization"]["calibration"]["source"] == "bundled photographs"
    assert told["scores"]["quantized_v_float"]["cc"] == found.scores["quantized_v_float"].cc
    assert told["cached"] is True
    with np.load(io.BytesIO(npz_bytes(found)), allow_pickle=False) as loaded:
        assert {name: loaded[name].tobytes() for name in loaded} == bits(found)
    assert npz_bytes(found) == npz_bytes(found)


# -- what is not computed again


def test_a_repeated_comparison_computes_nothing(shared, forwards):
    again = shared.compare(CompareRequest(), SAMPLE)
    assert forwards == []
    assert again.cached


def test_a_new_workbench_on_the_same_store_computes_nothing_and_gives_the_same_bits(store, forwards):
    first = Workbench(store).compare(SQUEEZENET, SAMPLE)
    assert not first.cached
    assert {"float", "quantized"} == set(forwards)
    forwards.clear()
    again = Workbench(store).compare(SQUEEZENET, SAMPLE)
    assert forwards == []
    assert again.cached
    assert bits(again) == bits(first)
    for name in ("reference", "quantized"):
        assert getattr(again, name).predictions == getattr(first, name).predictions
        assert getattr(again, name).class_index == getattr(first, name).class_index
    assert again.scores == first.scores
    assert again.weights == first.weights


def test_a_comparison_is_looked_up_without_computing_one_that_is_not_there(shared, forwards):
    stored = shared.stored(SQUEEZENET, SAMPLE)
    assert stored.cached
    assert bits(stored) == bits(shared.compare(SQUEEZENET, SAMPLE))
    assert shared.stored(replace(SQUEEZENET, quant=QuantSpec(7, 7)), SAMPLE) is None
    assert forwards == []


def test_whether_weights_are_learned_is_looked_up(shared, tmp_path):
    for name in ("coffee", "rocket"):  # as few pictures as are enough to learn from
        shutil.copy(images.bundled_path(name), tmp_path)
    request = replace(SQUEEZENET, quant=QuantSpec(8, 8, bias_correction=True), calibration=tmp_path)
    phases = []
    assert shared.has_learned(SQUEEZENET)  # which learns none
    assert not shared.has_learned(request, lambda *report: phases.append(report[-1]))
    assert Phase.LEARNING not in phases
    shared.compare(request, SAMPLE, lambda *report: phases.append(report[-1]))
    assert Phase.LEARNING in phases
    assert shared.has_learned(request)
    # A layer in float uses what was learned for all of them.
    assert shared.has_learned(only(request, LayerBits("classifier.1", None, None)))
    assert not shared.has_learned(only(request, LayerBits("classifier.1", 4, 8)))


def only(request, bits):
    """Return the request with bits of one layer's own."""
    return replace(request, quant=replace(request.quant, layer_bits=(bits,)))


FRESH = """
import hashlib, sys
from pathlib import Path
from quantviz import images
from quantviz.comparison import CompareRequest, Workbench, arrays
from quantviz.networks.deferred import defer
from quantviz.store import TensorStore
defer()
found = Workbench(TensorStore(Path(sys.argv[1]))).compare(CompareRequest(), images.bundled("chelsea"))
digest = hashlib.sha256(b"".join(values.tobytes() for _, values in sorted(arrays(found).items()))).hexdigest()
print(digest, found.cached, "torch" in sys.modules, *(name for name in HEAVY if name in sys.modules))
"""
# What takes long to import: torch's compiler, its symbols of shapes, what timm and torchvision have beside a network.
HEAVY = ("torch._dynamo", "sympy", "timm.models.beit", "torchvision.models.vgg", "torchvision.datasets", "onnxruntime")


def fresh_process(directory):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"HEAVY = {HEAVY}\n{FRESH}", str(directory)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    return run.stdout.split()


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_bits_and_needs_no_torch_for_a_cached_comparison(shared, tmp_path):
    kept = fresh_process(shared.store.info().directory)
    assert kept[1:] == ["True", "False"]
    computed = fresh_process(tmp_path / "empty")
    assert computed[1:] == ["False", "True"]
    assert kept[0] == computed[0]


def test_another_bit_width_takes_the_float_map_and_the_ranges_from_the_store(shared, forwards):
    before = shared.compare(SQUEEZENET, SAMPLE)
    bench = Workbench(shared.store)
    found = bench.compare(replace(SQUEEZENET, quant=QuantSpec(6, 5)), SAMPLE)
    assert not found.cached
    assert bits(found)["float"] == bits(before)["float"]
    assert bits(found)["quantized"] != bits(before)["quantized"]
    # Two passes match batch norms and check the fold on the float weights, one before and one after, and one looks for
    # products of activations; no calibration.
    assert forwards.count("float") <= 4
    assert forwards.count("quantized") == 1


def test_the_order_of_comparisons_does_not_change_their_bits(shared, tmp_path):
    with TensorStore(tmp_path / "other") as opened:
        bench = Workbench(opened, quantized_models=1)
        for quant in (QuantSpec(3, 3), QuantSpec(16, 16), QuantSpec(4, None)):
            bench.compare(replace(SQUEEZENET, quant=quant, target="own"), images.bundled("rocket"))
        assert bits(bench.compare(SQUEEZENET, SAMPLE)) == bits(shared.compare(SQUEEZENET, SAMPLE))


@pytest.mark.parametrize(
    "change",
    [
        {"quant": QuantSpec(7, 8)},
        {"quant": QuantSpec(8, 7)},
        {"quant": QuantSpec(8, None)},
        {"cam": CamSpec("gradcam")},
        {"cam": CamSpec("gradcam++", "features.11")},
        {"target": "own"},
        {"target": 0},
        {"saliency": None},
    ],
    ids=str,
)
def test_whatever_decides_the_result_is_part_of_the_key(shared, change):
    assert shared.compare(SQUEEZENET, SAMPLE).cached
    changed = shared.compare(replace(SQUEEZENET, **change), SAMPLE)
    assert not changed.cached
    assert shared.compare(replace(SQUEEZENET, **change), SAMPLE).cached


def test_image_weights_calibration_and_saliency_files_are_part_of_the_key(shared, tmp_path, folder, noise_picture):
    assert not shared.compare(SQUEEZENET, images.load(write_picture(tmp_path / "a.png", noise_picture(9)))).cached
    assert not shared.compare(replace(SQUEEZENET, calibration=folder), SAMPLE).cached
    assert shared.compare(replace(SQUEEZENET, calibration=folder), SAMPLE).cached
    write_picture(folder / "0.png", noise_picture(7))
    assert not shared.compare(replace(SQUEEZENET, calibration=folder), SAMPLE).cached
    supplied = tmp_path / "map.npy"
    for seed in (1, 2):
        np.save(supplied, np.random.default_rng(seed).random((224, 224)))
        assert not shared.compare(replace(SQUEEZENET, saliency=supplied), SAMPLE).cached
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    save_file(torchvision.models.squeezenet1_1().state_dict(), other)
    assert not shared.compare(replace(SQUEEZENET, weights=str(other)), SAMPLE).cached


def test_naming_the_default_layer_is_the_same_request(shared):
    layer = networks.spec("squeezenet1_1").layer
    assert shared.compare(replace(SQUEEZENET, cam=CamSpec("gradcam++", layer)), SAMPLE).cached


# -- class rules


def test_class_rules(shared):
    low = QuantSpec(2, 2)  # so coarse that the quantized network has another top-1
    fixed = shared.compare(replace(SQUEEZENET, quant=low), SAMPLE)
    own = shared.compare(replace(SQUEEZENET, quant=low, target="own"), SAMPLE)
    chosen = shared.compare(replace(SQUEEZENET, quant=low, target=7), SAMPLE)
    top = fixed.reference.predictions[0].index
    assert fixed.flipped
    assert (fixed.reference.class_index, fixed.quantized.class_index) == (top, top)
    assert own.reference.class_index == top
    assert own.quantized.class_index == own.quantized.predictions[0].index != top
    assert (chosen.reference.class_index, chosen.quantized.class_index) == (7, 7)
    assert (fixed.class_rule, own.class_rule, chosen.class_rule) == ("float", "own", 7)
    assert bits(own)["float"] == bits(fixed)["float"]
    assert comparison_data(own)["class_index_quantized"] == own.quantized.class_index


@pytest.mark.parametrize("target", [-1, 1000, 10**9])
def test_a_class_out_of_range_is_refused(shared, target):
    with pytest.raises(UsageError, match=rf"Class {target} does not exist; squeezenet1_1 has classes 0 to 999 here\."):
        shared.compare(replace(SQUEEZENET, target=target), SAMPLE)


@pytest.mark.parametrize("target", ["top", "", "7", True, 1.0, None])
def test_an_unknown_class_rule_is_refused(target):
    with pytest.raises(UsageError, match=r"Class rule .* is unknown"):
        CompareRequest(target=target)


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (CompareRequest("alexnet"), "alexnet"),
        (replace(SQUEEZENET, cam=CamSpec("gradcam", "features.99")), "features.99"),
        (replace(SQUEEZENET, cam=CamSpec("gradcam", "classifier.3")), "no spatial output"),
        (replace(SQUEEZENET, saliency="deepgaze"), "Saliency 'deepgaze' is unknown"),
        (replace(SQUEEZENET, weights="nothing.pth"), "nothing.pth"),
        (replace(SQUEEZENET, calibration=Path("no such folder")), "does not exist"),
        (replace(SQUEEZENET, saliency=Path("no such map.png")), "no such map.png"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_computed(shared, forwards, request_, match):
    with pytest.raises(UsageError, match=match):
        shared.compare(request_, SAMPLE)
    assert forwards == []


# -- trouble


def test_a_broken_store_still_gives_the_result(shared, tmp_path):
    (tmp_path / "file").write_text("in the way")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "cache.db").write_bytes(os.urandom(4096))
    for directory in (tmp_path / "file" / "store", damaged):
        with TensorStore(directory) as opened:
            found = Workbench(opened).compare(SQUEEZENET, SAMPLE)
            assert bits(found) == bits(shared.compare(SQUEEZENET, SAMPLE))
            assert opened.info().problem


def test_a_closed_store_computes_every_time(tmp_path, shared):
    opened = TensorStore(tmp_path / "store")
    bench = Workbench(opened)
    opened.close()
    for _ in range(2):
        found = bench.compare(SQUEEZENET, SAMPLE)
        assert not found.cached
        assert bits(found) == bits(shared.compare(SQUEEZENET, SAMPLE))


class Stop(BaseException):
    """What a page raises to end its script."""


def test_progress_may_end_a_comparison_anywhere_and_the_next_one_is_whole(store, tmp_path, shared):
    bench, told = Workbench(store, quantized_models=1), []

    def ended_at(stop):
        def progress(message, _fraction, _phase=None):
            told.append(message)
            if len(told) > stop:
                raise Stop

        with TensorStore(tmp_path / f"store {stop}") as opened:
            for each in (Workbench(opened), bench):
                told.clear()
                with pytest.raises(Stop):
                    each.compare(SQUEEZENET, SAMPLE, progress)

    with TensorStore(tmp_path / "calm") as opened:
        Workbench(opened).compare(SQUEEZENET, SAMPLE, lambda message, _fraction, _phase=None: told.append(message))
    stages = [told.index(message) for message in dict.fromkeys(told)]
    assert len(stages) == 5  # loading, the float map, calibrating, quantizing, the quantized map
    ended_at(stages[0])
    ended_at(stages[2] + 1)  # half way through calibrating
    found = bench.compare(SQUEEZENET, SAMPLE)
    assert not found.cached
    assert bits(found) == bits(shared.compare(SQUEEZENET, SAMPLE))


@pytest.mark.slow
def test_threads_on_one_workbench_give_the_serial_bits(shared, tmp_path):
    requests = [replace(SQUEEZENET, quant=QuantSpec(width, width)) for width in (8, 8, 6, 4)]
    requests += [replace(CompareRequest(), cam=CamSpec("gradcam")), CompareRequest(), CompareRequest()]
    expected = [bits(shared.compare(request_, SAMPLE)) for request_ in requests]
    start = threading.Barrier(4)
    with (
        TensorStore(tmp_path / "store") as opened,
        ThreadPoolExecutor(4, initializer=start.wait) as pool,
    ):
        bench = Workbench(opened, float_models=1, quantized_models=1)
        found = list(pool.map(lambda request_: bits(bench.compare(request_, SAMPLE)), requests))
    assert found == expected


def test_a_pool_makes_each_value_once_keeps_the_last_and_retries_a_failure():
    pool, made = Pool(2), []

    def make(value):
        made.append(value)
        return value

    start = threading.Barrier(4)

    def ask(_):
        start.wait()
        return pool.get("a", lambda: make("a"))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, range(4))) == ["a"] * 4
    assert made == ["a"]
    for key in ("b", "a", "c", "a", "b"):  # "c" puts "b" out
        pool.get(key, lambda key=key: make(key))
    assert made == ["a", "b", "c", "b"]
    with pytest.raises(ZeroDivisionError):
        pool.get("d", lambda: 1 // 0)
    assert pool.get("d", lambda: make("d")) == "d"
