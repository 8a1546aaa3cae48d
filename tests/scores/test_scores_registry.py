"""The table of metrics, ``measure``, degenerate maps, the baselines and the generated page."""

import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scores_support import make_map, pixels

from quantviz import scores
from quantviz.scores.registry import FACTS, facts
from quantviz.specs import GroundTruth, Score, UsageError

SHAPE = (24, 32)
VALUES = make_map("smooth", SHAPE, 0)
MASK = np.zeros(SHAPE, np.float32)
MASK[5:15, 8:20] = 1
BOXES = np.array([[8.0, 5.0, 20.0, 15.0]])
KINDS = ("map", "mask", "fixations", "boxes")
ANY_TRUTH = {
    "map": {"values": make_map("smooth", SHAPE, 1).astype(np.float32)},
    "mask": {"values": MASK},
    "fixations": {"points": pixels(SHAPE, 9, 3)},
    "boxes": {"boxes": BOXES},
}
FIT = {
    "map": ["sim", "cc", "kld", "spearman", "top_k_iou", "ssim"],
    "mask": [
        *("f_beta_max", "f_beta_mean", "f_beta_adaptive", "weighted_f", "s_measure"),
        *("e_measure_max", "e_measure_mean", "e_measure_adaptive", "mae", "energy_pointing", "pointing_game"),
    ],
    "fixations": ["nss", "auc_judd", "auc_borji", "auc_shuffled", "information_gain"],
    "boxes": [
        *("box_iou_15", "box_iou_20", "box_iou_30", "box_iou_50", "box_iou_max", "energy_pointing", "pointing_game"),
    ],
}
each_metric = pytest.mark.parametrize("metric", scores.METRICS.values(), ids=lambda metric: metric.name)
each_kind = pytest.mark.parametrize("kind", KINDS)


def truth(kind, shape=SHAPE, **content):
    return GroundTruth(kind, shape, "a test", False, **(content or ANY_TRUTH[kind]))


def function_of(metric):
    return getattr(scores, metric.name, None) or getattr(scores, re.sub(r"_\d+$", "", metric.name))


@each_kind
def test_measure_computes_all_that_fit(kind):
    found = scores.measure(VALUES, truth(kind))
    assert list(found) == FIT[kind]
    missing = {name for name, score in found.items() if score.value is None}
    assert missing == ({"auc_shuffled"} if kind == "fixations" else set())
    for name, score in found.items():
        assert isinstance(score.value, float | None)
        assert scores.measure(VALUES, truth(kind), [name]) == {name: score}


def test_measure_gives_the_functions_values():
    region = scores.covered(BOXES, SHAPE)
    content = {"map": ANY_TRUTH["map"]["values"], "mask": MASK, "fixations": ANY_TRUTH["fixations"]["points"]}
    for kind in KINDS:
        for name, score in scores.measure(VALUES, truth(kind)).items():
            if name == "auc_shuffled":
                continue
            function = function_of(scores.METRICS[name])
            if name.startswith("box_iou_") and name != "box_iou_max":
                expected = function(VALUES, BOXES, threshold=int(name[-2:]) / 100)
            elif kind == "boxes":
                expected = function(VALUES, BOXES if name == "box_iou_max" else region)
            else:
                expected = function(VALUES, content[kind])
            assert score == Score(expected)


def test_measure_keeps_the_order_asked_for():
    assert list(scores.measure(VALUES, truth("map"), ["ssim", "sim"])) == ["ssim", "sim"]
    assert list(scores.measure(VALUES, truth("map"), "cc")) == ["cc"]
    assert scores.measure(VALUES, truth("map"), []) == {}


def test_measure_passes_other_fixations_and_the_baseline_on():
    others, points = pixels(SHAPE, 50, 9), ANY_TRUTH["fixations"]["points"]
    found = scores.measure(VALUES, truth("fixations"), others=others, baseline=scores.uniform(SHAPE))
    assert found["auc_shuffled"] == Score(scores.auc_shuffled(VALUES, points, others))
    assert found["information_gain"] == Score(scores.information_gain(VALUES, points, np.ones(SHAPE)))
    without = scores.measure(VALUES, truth("fixations"))
    assert without["auc_shuffled"] == Score(None, "it needs the fixations of other images")
    assert without["information_gain"] == Score(scores.information_gain(VALUES, points))


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"Metric 'simm' is unknown; use some of sim, cc, .*, pointing_game\.$"):
        scores.measure(VALUES, truth("map"), ["sim", "simm"])


def test_a_metric_that_does_not_fit_is_refused_with_those_that_do():
    with pytest.raises(UsageError, match=r"'nss' takes a ground truth of fixations, not map; for map use sim, cc, kld"):
        scores.measure(VALUES, truth("map"), ["sim", "nss"])
    with pytest.raises(UsageError, match="'energy_pointing' takes a ground truth of boxes or mask, not fixations"):
        scores.measure(VALUES, truth("fixations"), ["energy_pointing"])


@each_kind
def test_a_map_of_another_shape_is_refused(kind):
    with pytest.raises(UsageError, match=r"map's shape \(24, 31\) differs from the ground truth's, \(24, 32\)"):
        scores.measure(VALUES[:, 1:], truth(kind))
    with pytest.raises(UsageError, match="cannot be scored"):
        scores.measure(VALUES[..., None], truth(kind))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (truth("mask", values=MASK * 2), "The mask holds 2"),
        (truth("mask", values=MASK[1:]), "mask's shape"),
        (truth("map", values=VALUES[1:].astype(np.float32)), "differ"),
        (truth("map", points=np.zeros((1, 2))), "'a test' of kind map holds none"),
        (truth("boxes", values=MASK), "'a test' of kind boxes holds none"),
        (truth("fixations", points=np.array([[32.0, 3.0]])), "not in the map"),
        (truth("boxes", boxes=np.array([[5.0, 5.0, 5.0, 9.0]])), "not x0 < x1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malformed_ground_truth_is_refused(bad, message):
    with pytest.raises(UsageError, match=message):
        scores.measure(VALUES, bad)


@pytest.mark.parametrize(
    ("empty", "reason"),
    [
        (truth("map", values=np.zeros(SHAPE, np.float32)), "the ground truth is all zero"),
        (truth("map", values=np.full(SHAPE, 0.5, np.float32)), "the ground truth is constant"),
        (truth("map", values=np.full(SHAPE, np.nan, np.float32)), "the ground truth contains NaN or infinity"),
        (truth("mask", values=np.zeros(SHAPE, np.float32)), "the mask is empty"),
        (truth("fixations", points=np.zeros((0, 2))), "there are no fixations"),
        (truth("boxes", boxes=np.zeros((0, 4))), "there are no boxes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_ground_truth_that_holds_nothing_gives_no_score(empty, reason):
    assert set(scores.measure(VALUES, empty).values()) == {Score(None, reason)}


SHARE = MASK.mean()
DEFINED = {
    # metric: its value for a constant map and for an all-zero one, None where it has none
    "sim": (scores.sim(np.ones(SHAPE), ANY_TRUTH["map"]["values"]), None),
    "kld": (scores.kld(np.ones(SHAPE), ANY_TRUTH["map"]["values"]), None),
    "auc_judd": (0.5, 0.5),
    "auc_borji": (0.5, 0.5),
    "auc_shuffled": (0.5, 0.5),
    "information_gain": (scores.information_gain(np.ones(SHAPE), ANY_TRUTH["fixations"]["points"]), None),
    "top_k_iou": (0.2 / 1.8, 0.2 / 1.8),
    "energy_pointing": (SHARE, None),
    "pointing_game": (1.0, 1.0),
}


@each_metric
def test_degenerate_maps_have_a_defined_result(metric):
    constant, zero = DEFINED.get(metric.name, (None, None))
    cases = [
        (np.full(SHAPE, 0.25), constant, "the map is constant"),
        (np.zeros(SHAPE), zero, "the map is all zero"),
        (np.where(MASK, np.nan, VALUES), None, "the map contains NaN or infinity"),
        (np.where(MASK, np.inf, VALUES), None, "the map contains NaN or infinity"),
    ]
    for values, expected, reason in cases:
        for kind in metric.truths:
            found = scores.measure(values, truth(kind), [metric.name], others=pixels(SHAPE, 20, 1))[metric.name]
            if expected is None:
                assert found == Score(None, reason)
            else:
                assert found == Score(pytest.approx(expected, abs=1e-3 if metric.name == "top_k_iou" else 1e-6))
    words = scores.DEGENERATE[metric.name]
    assert ("None of the three" in words) is (constant is None)
    assert ("constant or all-zero map has" in words) is (zero is not None)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sampled_from(["random", "smooth", "sparse", "levels", "spike", "negative"]),
    st.integers(0, 10**6),
)
def test_values_stay_within_the_stated_range(kind, map_kind, seed):
    for name, score in scores.measure(make_map(map_kind, SHAPE, seed), truth(kind), others=pixels(SHAPE, 9, 9)).items():
        low, high = scores.METRICS[name].low, scores.METRICS[name].high
        assert np.isfinite(score.value)
        assert low is None or score.value >= low
        assert high is None or score.value <= high


@each_metric
def test_the_map_that_is_the_ground_truth_is_best(metric):
    best = {"map": ANY_TRUTH["map"]["values"], "mask": MASK, "boxes": MASK}
    points = ANY_TRUTH["fixations"]["points"].astype(int)
    best["fixations"] = np.zeros(SHAPE)
    best["fixations"][points[:, 1], points[:, 0]] = 1
    sign = 1 if metric.higher_is_closer else -1
    for kind in metric.truths:
        others = pixels(SHAPE, 200, 8)
        found = scores.measure(best[kind], truth(kind), [metric.name], others=others)[metric.name].value
        for seed in range(20):
            noise = scores.measure(make_map("random", SHAPE, seed), truth(kind), [metric.name], others=others)
            assert sign * found >= sign * noise[metric.name].value
        limit = metric.high if metric.higher_is_closer else metric.low
        if kind != "fixations" and metric.name not in ("f_beta_mean", "e_measure_mean"):
            assert found == pytest.approx(limit, abs=1e-6)


@each_metric
def test_every_metric_says_everything_about_itself(metric):
    for field in fields(metric):
        value = getattr(metric, field.name)
        if isinstance(value, str):
            assert value.strip() == value != "", field.name
            assert "\n" not in value, field.name
    for text in (metric.convention, metric.explanation, metric.source, metric.cost, scores.DEGENERATE[metric.name]):
        assert text.endswith("."), text
    assert metric.truths <= set(KINDS)
    assert metric.truths
    assert metric.convention.rstrip(".").count(". ") == 0, "more than one sentence"
    direction = "higher" if metric.higher_is_closer else "lower"
    assert f"{direction} is closer" in metric.convention
    assert re.search(r"doi|arXiv|pages", metric.source)


@each_metric
def test_every_metric_has_a_function_and_a_test_of_its_name(metric):
    function = function_of(metric)
    assert function.__name__ == re.sub(r"_\d+$", "", metric.name)
    assert list(facts(function)) == list(FACTS)
    assert all(facts(function).values())
    for section in ("Args:", "Returns:", "Raises:"):
        assert section in inspect.getdoc(function)
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_scores*.py"))
    assert re.search(rf"def test_(\w+_)?{function.__name__}(_\w+)?\(", tests)


def test_facts_of_a_docstring_without_them_are_empty():
    assert set(facts(truth).values()) == {""}


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        scores.METRICS["sim"] = scores.METRICS["cc"]
    assert [metric.name for metric in scores.METRICS.values()] == list(scores.METRICS) == list(scores.DEGENERATE)
    assert set(scores.METRICS) == set().union(*FIT.values())


@each_metric
def test_the_page_tells_all_of_every_metric(metric):
    page = scores.describe()
    section = page[page.index(f"### {metric.title} (`{metric.name}`)") :].split("\n### ")[0]
    for text in (metric.explanation, metric.convention, metric.source, metric.cost):
        assert text in section
    for label in ("Formula and convention: ", "Range: ", "Ground truth: ", "Source: ", "Cost: "):
        assert len(section.split(f"- {label}")[1].split("\n")[0]) > 2
    for kind in metric.truths:
        assert kind in section.split("Ground truth: ")[1].split("\n")[0]
    assert f"| {metric.title} | `{metric.name}` |" in page
    assert f"| {metric.title} | {scores.DEGENERATE[metric.name]} |" in page


def test_the_page_is_sound_markdown():
    page = scores.describe()
    assert page.startswith("# Metrics\n")
    assert page.endswith("|\n")
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    assert [table.count("\n") - 2 for table in tables] == [len(scores.METRICS)] * 2
    for table in tables:
        assert len({line.count(" | ") for line in table.splitlines() if "---" not in line}) == 1
    assert all(line == line.rstrip() for line in page.splitlines())
    assert "None" not in page.replace("None of the three", "")


def test_centre_gaussian_closed_form():
    found = scores.centre_gaussian((4, 6), 0.25)
    assert found.dtype == np.float32
    assert found.shape == (4, 6)
    y, x = (0.5 / 4 - 0.5) / 0.25, (2.5 / 6 - 0.5) / 0.25
    assert found[0, 2] == pytest.approx(np.exp(-(y**2 + x**2) / 2))
    assert np.array_equal(found, found[::-1])
    assert np.array_equal(found, found[:, ::-1])
    assert scores.centre_gaussian((5, 5))[2, 2] == 1.0 == scores.centre_gaussian((5, 5)).max()


def test_centre_gaussian_is_scaled_with_the_map():
    small, large = scores.centre_gaussian((15, 25)), scores.centre_gaussian((45, 75))
    assert np.allclose(large[1::3, 1::3], small, atol=1e-6)
    assert scores.centre_gaussian((9, 9), 0.1).sum() < scores.centre_gaussian((9, 9), 0.5).sum()


def test_uniform_is_one_everywhere():
    assert np.array_equal(scores.uniform((3, 5)), np.ones((3, 5)))
    assert scores.uniform((3, 5)).dtype == np.float32
    assert scores.degenerate(scores.uniform((3, 5))) == "constant"


@pytest.mark.parametrize("shape", [(0, 3), (3,), (3, 4, 5), (2.5, 3), (-1, 3), "ab"])
def test_baselines_refuse_what_is_no_shape(shape):
    for baseline in (scores.uniform, scores.centre_gaussian):
        with pytest.raises(UsageError, match="not two whole numbers above 0"):
            baseline(shape)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_centre_gaussian_refuses_a_bad_sigma(sigma):
    with pytest.raises(UsageError, match="sigma"):
        scores.centre_gaussian((3, 3), sigma)


@each_kind
def test_the_baselines_can_be_scored(kind):
    for baseline in (scores.centre_gaussian(SHAPE), scores.uniform(SHAPE)):
        found = scores.measure(baseline, truth(kind), others=pixels(SHAPE, 9, 9))
        assert list(found) == FIT[kind]
    assert None not in [
        score.value
        for score in scores.measure(scores.centre_gaussian(SHAPE), truth(kind), others=pixels(SHAPE, 9, 9)).values()
    ]


@each_kind
def test_threads_and_repetition_change_no_bit(kind):
    first = scores.measure(VALUES, truth(kind))
    with ThreadPoolExecutor(4) as threads:
        assert all(found == first for found in threads.map(lambda _: scores.measure(VALUES, truth(kind)), range(12)))


@each_kind
def test_all_metrics_of_one_map_take_little_time(kind, effort):
    shape = (224, 224)
    content = {
        "map": {"values": make_map("smooth", shape, 1).astype(np.float32)},
        "mask": {"values": np.pad(np.ones((100, 100), np.float32), 62)},
        "fixations": {"points": pixels(shape, 50, 1)},
        "boxes": {"boxes": np.array([[30.0, 40.0, 150.0, 160.0]])},
    }[kind]
    known, others = truth(kind, shape, **content), pixels(shape, 1000, 2)
    maps = [make_map("smooth", shape, seed) for seed in range(3)]
    assert min(effort(lambda values=values: scores.measure(values, known, others=others)) for values in maps) < 12
