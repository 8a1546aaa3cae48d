"""Bits shared out among layers, the search for them, and the file they are kept in."""

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path

import comparison_support
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from quantviz import images, networks
from quantviz.comparison import CompareRequest, Workbench
from quantviz.layerwise.allocate import after, fitted, path
from quantviz.layerwise.bits_file import bits_bytes, read_bits
from quantviz.layerwise.drift import model_cost
from quantviz.layerwise.pictures import dataset
from quantviz.layerwise.search import candidate_quant, search, stored_search
from quantviz.specs import ImageError, LayerBits, QuantSpec, QuantvizError, UsageError

MODEL = "squeezenet1_1"
REQUEST = CompareRequest(MODEL, "untrained", QuantSpec(8, 8, rounding="gptq"), saliency=None)
SAMPLES = [images.bundled(name) for name in ("chelsea", "coffee", "china")]
DATA = Path(os.environ.get("QUANTVIZ_REAL_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")
PICTURES = DATA / "imagenet-sample" / "val"
WIDTHS = (8, 5, 4, 2)

harms = st.lists(
    st.lists(st.floats(0, 10, width=16), min_size=len(WIDTHS), max_size=len(WIDTHS)), min_size=1, max_size=4
)
counts = st.lists(st.integers(1, 1000), min_size=4, max_size=4)


# -- sharing out


def problem(values, weights):
    """Return harms, weights, the start, and an assignment's size and harm."""
    names = [f"layer{place}" for place in range(len(values))]
    harm = {
        name: dict(zip(WIDTHS, itertools.accumulate(row, max), strict=True))
        for name, row in zip(names, values, strict=True)
    }
    weights = dict(zip(names, weights, strict=False))
    return (
        {name: dict(zip(WIDTHS, row, strict=True)) for name, row in zip(names, values, strict=True)},
        weights,
        dict.fromkeys(names, WIDTHS[0]),
        lambda bits: sum(weights[name] * bits[name] for name in names),
        lambda bits: sum(harm[name][bits[name]] for name in names),
    )


@settings(max_examples=60, deadline=None)
@given(harms, counts)
def test_no_assignment_beats_one_on_the_path_at_its_size(values, weights):
    harm, weights, start, size, total = problem(values, weights)
    moves = path(harm, weights)
    every = [dict(zip(start, widths, strict=True)) for widths in itertools.product(WIDTHS, repeat=len(start))]
    for count in range(len(moves) + 1):
        reached = after(start, moves[:count])
        least = min(total(bits) for bits in every if size(bits) <= size(reached))
        assert total(reached) <= least + 1e-9


@settings(max_examples=60, deadline=None)
@given(harms, counts)
def test_a_path_takes_bits_away_from_the_most_to_the_fewest(values, weights):
    harm, weights, start, size, total = problem(values, weights)
    moves = path(harm, weights)
    steps = [after(start, moves[:count]) for count in range(len(moves) + 1)]
    assert steps[-1] == dict.fromkeys(start, WIDTHS[-1])
    for before, next_ in itertools.pairwise(steps):
        changed = [name for name in start if before[name] != next_[name]]
        assert len(changed) == 1
        assert next_[changed[0]] < before[changed[0]]
    assert sum(move.saved for move in moves) == size(start) - size(steps[-1])
    assert sum(move.harm for move in moves) == pytest.approx(total(steps[-1]) - total(start), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(harms, counts, st.floats(0, 1))
def test_a_fitted_assignment_is_within_the_size_and_leaves_nothing_that_fits(values, weights, part):
    harm, weights, start, size, _ = problem(values, weights)
    moves = path(harm, weights)
    limit = int(part * size(start))
    found = fitted(start, moves, size, limit)
    if found is None:
        assert limit < size(dict.fromkeys(start, WIDTHS[-1]))
        return
    assert size(found) <= limit
    for name in start:
        places = [place for place, move in enumerate(moves) if (move.layer, move.bits) == (name, found[name])]
        if places:  # its last step, undone, does not fit
            assert size(found | {name: after(start, moves[: places[0]])[name]}) > limit
    assert fitted(start, moves, size, size(start)) == start


# -- the search


bench = comparison_support.bench


@pytest.fixture(scope="module")
def found(bench):
    return search(bench, REQUEST, SAMPLES, max_drift=0.01, max_flips=1.0, widths=(3, 8))


@pytest.mark.slow
def test_every_other_picture_is_searched_on(found):
    assert [name for _, name in found.searched] == ["chelsea", "china"]
    assert [name for _, name in found.held_out] == ["coffee"]
    assert (found.max_drift, found.max_flips, found.float_accuracy) == (0.01, 1.0, None)
    for candidate in (*found.uniform, *found.front, found.found):
        assert len(candidate.searched.cams) == 2
        assert len(candidate.held_out.cams) == 1


def test_uniform_bits_are_measured_beside(found):
    assert [candidate.name for candidate in found.uniform] == ["W3A8", "W8A8"]
    assert [{bits.weight_bits for bits in candidate.bits} for candidate in found.uniform] == [{3}, {8}]
    assert found.uniform[0].searched.cam > 0.01 > found.uniform[1].searched.cam


def test_what_is_found_is_within_the_budget_and_smaller_than_any_other_that_is(found):
    best = found.found
    assert best.name == "mixed"
    assert best.searched.cam <= 0.01
    others = [entry for entry in (*found.uniform, *found.front) if entry.searched.cam <= 0.01]
    assert best.cost.bytes == min(entry.cost.bytes for entry in others)
    assert best in found.front
    assert found.uniform[0].cost.bytes < best.cost.bytes < found.uniform[1].cost.bytes


def test_the_front_is_not_beaten_and_smallest_first(found):
    sizes = [candidate.cost.bytes for candidate in found.front]
    drifts = [candidate.searched.cam for candidate in found.front]
    assert len(found.front) > 2
    assert sizes == sorted(set(sizes))
    assert drifts == sorted(set(drifts), reverse=True)


def test_the_drift_of_what_was_found_is_that_of_comparisons(bench, found):
    request = replace(REQUEST, quant=candidate_quant(found, found.found))
    for marks, samples in ((found.found.searched, SAMPLES[::2]), (found.found.held_out, SAMPLES[1::2])):
        compared = [1 - bench.compare(request, sample).scores["quantized_v_float"].cc for sample in samples]
        assert list(marks.cams) == pytest.approx(compared, abs=1e-12)
    assert found.found.cost == model_cost(bench, request)


def test_the_scheme_told_is_the_one_that_was_measured(found):
    assert found.quant == QuantSpec(8, 8)  # not the rounding asked for, which is learned


def test_a_repeated_search_runs_no_network(bench, found):
    calls = []
    handle = torch.nn.modules.module.register_module_forward_pre_hook(lambda module, _inputs: calls.append(module))
    try:
        again = search(Workbench(bench.store), REQUEST, SAMPLES, max_drift=0.01, max_flips=1.0, widths=(8, 3, 3))
        others = [replace(SAMPLES[0], name="cat"), *SAMPLES[1:]]
        named = search(bench, REQUEST, others, max_drift=0.01, max_flips=1.0, widths=(3, 8))
        stored = stored_search(bench, REQUEST, SAMPLES, max_drift=0.01, max_flips=1.0, widths=(3, 8))
        other = stored_search(bench, REQUEST, SAMPLES, max_drift=0.02, max_flips=1.0, widths=(3, 8))
    finally:
        handle.remove()
    # The untrained weights are known by drawing them, but nothing is run.
    assert calls == []
    assert again == stored == found
    assert other is None
    assert named.searched[0][1] == "cat"


def test_a_budget_that_nothing_meets_finds_nothing(bench, found):
    nothing = search(bench, REQUEST, SAMPLES, max_drift=1e-9, widths=(3, 8))
    assert nothing.found is None
    assert nothing.uniform == found.uniform
    with pytest.raises(QuantvizError, match="no bits within its budgets"):
        bits_bytes(nothing)


def test_a_single_picture_leaves_none_held_out(bench):
    alone = search(bench, REQUEST, SAMPLES[:1], max_drift=0.9, widths=(3, 8))
    assert alone.held_out == ()
    assert {candidate.held_out for candidate in (*alone.front, *alone.uniform)} == {None}
    assert alone.found.cost.bytes == alone.uniform[0].cost.bytes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_drift": 0.0}, "greatest drift of 0.0 is no number above 0"),
        ({"max_drift": float("nan")}, "greatest drift of nan"),
        ({"max_flips": 1.5}, "flips of 1.5 is not from 0 to 1"),
        ({"widths": (4, 4)}, "two widths"),
        ({"widths": (1, 4)}, "Width 1 is not a whole number from 2 to 16"),
    ],
)
def test_wrong_budgets_are_refused(bench, wrong, message):
    with pytest.raises(UsageError, match=message):
        search(bench, REQUEST, SAMPLES, **{"max_drift": 0.01, **wrong})


# -- the bits file


def test_a_bits_file_gives_back_what_was_found(found):
    data = bits_bytes(found)
    assert read_bits(data, "found.json", MODEL) == candidate_quant(found, found.found)
    entry = json.loads(data)
    assert entry["model"] == MODEL
    assert entry["layers"]["features.0"] in ("W3A8", "W8A8")
    assert entry["found"]["held_out"]["drift"] == found.found.held_out.cam
    assert entry["found"]["weights"]["sha256"] == found.weights.sha256


@pytest.mark.parametrize(
    "quant",
    [
        QuantSpec(4, None, scheme="affine", equalize=True),
        QuantSpec(
            6,
            8,
            ranges="entropy",
            weight_ranges="mse",
            layer_bits=(
                LayerBits("features.0", None, None),
                LayerBits("features.3.squeeze", None, 4),
                LayerBits("features.4.squeeze", 3, None),
                LayerBits("classifier.1", 16, 2),
            ),
        ),
    ],
)
def test_any_quantization_is_written_and_read(quant):
    assert read_bits(bits_bytes(quant, MODEL), "own.json", MODEL) == quant


def file_of(**changes):
    entry = {
        "format": "quantviz bits 1",
        "model": MODEL,
        "scheme": "standard",
        "ranges": "minmax",
        "default": "W8A8",
        "layers": {"features.0": 4},
    }
    return json.dumps({key: value for key, value in (entry | changes).items() if value != "LEFT OUT"}).encode()


def test_shorthands_mean_what_they_say():
    layers = {
        "features.0": 4,
        "features.3.squeeze": "W5",
        "features.4.squeeze": "float",
        "features.6.squeeze": {"weight_bits": None, "act_bits": 6},
        "features.7.squeeze": "W2A16",
    }
    found = read_bits(file_of(layers=layers), "own.json", MODEL)
    assert [found.bits_of(name) for name in layers] == [(4, 8), (5, None), (None, None), (None, 6), (2, 16)]
    assert found.bits_of("classifier.1") == (8, 8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 100_000, "is nested deeper than 32"),
        (b"[]", 'has no "format"'),
        (b" " * (2**20 + 1), "has 1,048,577 bytes, more than 1,048,576"),
        (b'{"layers": 1, "layers": 2}', "has 'layers' twice"),
        (file_of(format="quantviz bits 2"), 'has no "format"'),
        (file_of(scheme="LEFT OUT"), "lacks 'scheme'"),
        (file_of(layer={}), "unknown key 'layer'; near it: layers"),
        (file_of(model="resnet50"), "is for the model 'resnet50', not 'squeezenet1_1'"),
        (file_of(scheme=["standard"]), r"scheme \['standard'\]"),
        (file_of(scheme="fancy"), "Scheme word 'fancy' is unknown"),
        (file_of(ranges="widest"), "ranges 'widest'; use one of minmax"),
        (file_of(ranges=["minmax"]), "has the ranges"),
        (file_of(default="float"), "leaves everything in float by default"),
        (file_of(default="W1A8"), "weight bit-width 1 is not a whole number from 2 to 16"),
        (file_of(layers=["features.0"]), "layers that are no object"),
        (file_of(layers={"features.O": 4}), r"'features\.O', which .* near it: features\.0"),
        (file_of(layers={"features.0": 1}), r"layer 'features\.0': weight bit-width 1 is not"),
        (file_of(layers={"features.0": True}), "has the bits true"),
        (file_of(layers={"features.0": "w4a8"}), 'has the bits "w4a8"'),
        (file_of(layers={"features.0": "W4A"}), "has the bits"),
        (file_of(layers={"features.0": {"weight_bits": 4}}), "has the bits"),
        (file_of(layers={"features.0": {"weight_bits": "4", "act_bits": 8}}), "weight bit-width '4' is not"),
    ],
)
def test_a_bits_file_that_is_wrong_is_refused_in_one_sentence(data, message):
    with pytest.raises(UsageError, match=message) as refused:
        read_bits(data, "own.json", MODEL)
    assert "own.json" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


# -- pictures with labels


def test_pictures_in_folders_of_synsets_have_labels(tmp_path, noise_picture):
    for number, folder in enumerate(("n01440764", "n02123045", "n15075141", "n99999999", "cats")):
        (tmp_path / folder).mkdir()
        Image.fromarray(noise_picture(number)).save(tmp_path / folder / "picture.png")
    found = dataset(tmp_path)
    assert [sample.label for sample in found] == [None, 0, 281, 999, None]
    assert [sample.id for sample in dataset(tmp_path, 2)] == [found[0].id, found[2].id]
    assert dataset(tmp_path / "n02123045" / "picture.png")[0].label == 281
    with pytest.raises(UsageError, match="limit of 0"):
        dataset(tmp_path, 0)


def test_more_pictures_than_memory_should_hold_are_refused(tmp_path):
    for number in range(1001):
        (tmp_path / f"{number:04d}.png").touch()
    with pytest.raises(UsageError, match="holds 1,001 pictures to read, more than 1,000"):
        dataset(tmp_path)
    with pytest.raises(ImageError, match=r"0000\.png"):  # read, and found to be empty
        dataset(tmp_path, 1000)


def test_the_classes_are_those_of_the_labels():
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    assert [networks.synset_class(name) for name in info.label_names()] == list(range(1000))


# -- real data


@pytest.mark.slow
@pytest.mark.skipif(
    not PICTURES.is_dir(), reason=f"no real data at {DATA}; set QUANTVIZ_REAL_DATA to a folder that has it"
)
def test_mixed_bits_beat_uniform_ones_of_the_same_size_on_pictures_not_searched(bench, record_property):
    samples = dataset(PICTURES, 10)
    request = CompareRequest("efficientnet_lite0", quant=QuantSpec(8, 8), saliency=None)
    result = search(bench, request, samples, max_drift=0.05, widths=(2, 4, 5, 6, 8))
    assert [len(result.searched), len(result.held_out)] == [5, 5]
    for uniform in result.uniform[1:4]:
        mixed = [entry for entry in result.front if entry.cost.bytes <= uniform.cost.bytes][-1]
        told = {"uniform": uniform.held_out.cam, "mixed": mixed.held_out.cam}
        print(f"\n{uniform.name}, {uniform.cost.bytes} bytes; mixed {mixed.cost.bytes} bytes; held-out drift", told)
        record_property(uniform.name, told)
        assert mixed.held_out.cam < 0.5 * uniform.held_out.cam
    assert result.found.searched.cam <= 0.05
    assert result.found.cost.bytes < result.uniform[1].cost.bytes * 1.1
    assert result.float_accuracy >= 3 / 5
