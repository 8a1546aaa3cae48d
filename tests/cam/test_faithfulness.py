"""Deletion, insertion and ROAD against plain loops and the library itself; and what a call must leave alone."""

import copy
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional

from quantviz import networks
from quantviz.cam import FAITHFULNESS, Locked, explain, faithfulness
from quantviz.cam.perturbation import BLUR, PERCENTILES, STEPS
from quantviz.quantize import calibrate, quantize
from quantviz.specs import CamSpec, Heatmap, QuantSpec, QuantvizError, Score, UsageError

NAME = "efficientnet_lite0"
SPEC = CamSpec("gradcam", networks.spec(NAME).layer)
SIDE = 96


def values_of(scores):
    return {name: score.value for name, score in scores.items()}


def tied_nowhere(shape, seed=0):
    """Return a map in [0, 1] without two equal values, as float32 tells them apart even when taken from 1."""
    size = int(np.prod(shape))
    return Heatmap(np.random.default_rng(seed).permutation(size).reshape(shape).astype(np.float32) / (size - 1))


def tied_widely(shape):
    """Return a map that is zero on three quarters of its pixels, as ReLU leaves many."""
    values = np.zeros(shape, np.float32)
    values[: shape[0] // 2, : shape[1] // 2] = tied_nowhere((shape[0] // 2, shape[1] // 2)).values
    return Heatmap(values)


def small():
    """Return a network of two convolutions, batch norm and dropout, seeded, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(32, 5),
        )
    return model.eval()


def noise(height=20, width=24, seed=0):
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def lite(float_model):
    return float_model(NAME)


@pytest.fixture(scope="module")
def picture(photograph):
    """Return a function from a bundled photograph's name and a side to a smaller input, which costs less."""
    return lambda name="coffee", side=SIDE: functional.interpolate(
        photograph(NAME, name), (side, side), mode="bilinear", antialias=True
    )


# -- values


@pytest.mark.parametrize("name", ["lite", "small"])
def test_deletion_and_insertion_equal_a_plain_loop(lite, picture, name):
    model, image = (lite, picture()) if name == "lite" else (small(), noise(21, 26))
    class_index = int(model(image).argmax())
    heatmap = tied_nowhere(image.shape[-2:])
    found = faithfulness(model, image, heatmap, class_index)
    pixels = np.argsort(-heatmap.values, axis=None)
    sigma = BLUR * min(image.shape[-2:])
    picture_ = image[0].numpy()
    blurred = np.stack([gaussian_filter(plane.astype(float), sigma, mode="nearest", truncate=3) for plane in picture_])
    for key, start, end in (("deletion", picture_, 0 * picture_), ("insertion", blurred, picture_)):
        curve = []
        for step in range(STEPS + 1):
            values = start.reshape(3, -1).copy()
            first = pixels[: round(step * len(pixels) / STEPS)]
            values[:, first] = end.reshape(3, -1)[:, first]
            with torch.no_grad():
                logits = model(torch.from_numpy(values.reshape(image.shape)).float())
            curve.append(logits.softmax(1)[0, class_index].item())
        area = sum((left + right) / 2 for left, right in pairwise(curve)) / STEPS
        assert found[key].value == pytest.approx(area, abs=2e-5)


@pytest.mark.parametrize("name", [pytest.param("lite", marks=pytest.mark.slow), "small"])
def test_road_equals_the_library_with_the_same_seed(lite, picture, name):
    model, image = (lite, picture()) if name == "lite" else (small(), noise(21, 26))
    class_index = int(model(image).argmax())
    heatmap = tied_nowhere(image.shape[-2:])
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        targets = [ClassifierOutputSoftmaxTarget(class_index)]
        expected = ROADCombined()(image, heatmap.values[None].copy(), targets, model)[0]
        other = ROADCombined()(image, heatmap.values[None].copy(), targets, model)[0]
    found = faithfulness(model, image, heatmap, class_index)["road"].value
    assert found == pytest.approx(float(expected), abs=1e-6)
    assert other != expected  # the library without a seed


class OnePixel(nn.Module):
    """Two classes; the logit of the first is one pixel's value, that of the second is 0."""

    def forward(self, x):
        return torch.stack([x[:, 0, 5, 7], torch.zeros(len(x))], dim=1)


def test_a_model_of_one_pixel_has_the_areas_that_arithmetic_gives():
    image = torch.zeros(1, 3, 16, 16)
    image[0, 0, 5, 7] = 4.0
    values = np.full((16, 16), 0.25, np.float32)
    values[5, 7] = 1.0
    sure = 1 / (1 + np.exp(-4.0))
    first = values_of(faithfulness(OnePixel(), image, Heatmap(values), 0))
    last = values_of(faithfulness(OnePixel(), image, Heatmap(1.25 - values), 0))
    assert first["deletion"] == pytest.approx((sure / 2 + 0.5 * (STEPS - 0.5)) / STEPS)
    assert last["deletion"] == pytest.approx((sure * (STEPS - 0.5) + 0.5 / 2) / STEPS)
    assert first["insertion"] > 0.95 * sure
    assert first["insertion"] > last["insertion"]
    # Imputed from black neighbours: always gone when most relevant, always there when least.
    assert first["road"] == pytest.approx((sure - 0.5) / 2, abs=0.01)
    assert last["road"] == pytest.approx(-(sure - 0.5) / 2, abs=0.01)


@pytest.mark.slow
def test_the_models_own_map_beats_its_inverse_and_random_ones(lite, picture):
    kinds = {"own": [], "inverted": [], "random": []}
    for seed, name in enumerate(("coffee", "flower")):
        image = picture(name, 128)
        own = explain(lite, image, SPEC)
        # On the map's own grid: scattered pixels destroy an image whatever they show.
        grid = torch.rand((1, 1, *own.native.values.shape), generator=torch.Generator().manual_seed(seed))
        coarse = functional.interpolate(grid, image.shape[-2:], mode="bilinear")[0, 0].numpy()
        for kind, values in (("own", own.heatmap.values), ("inverted", 1 - own.heatmap.values), ("random", coarse)):
            kinds[kind].append(faithfulness(lite, image, Heatmap(values), own.class_index))
    means = {
        kind: {name: np.mean([scores[name].value for scores in found]) for name in FAITHFULNESS}
        for kind, found in kinds.items()
    }
    print("\n", means)
    for other in ("inverted", "random"):
        for name, metric in FAITHFULNESS.items():
            sign = 1 if metric.higher_is_better else -1
            assert sign * (means["own"][name] - means[other][name]) > 0.01, (other, name, means)
    assert means["own"]["road"] > 0 > means["inverted"]["road"]


class Counting(nn.Module):
    """Notes how many pixels of each input are 0 and how many are still 7, what the image has everywhere."""

    def __init__(self):
        super().__init__()
        self.zeros, self.sevens = [], []

    def forward(self, x):
        self.zeros.extend((x[:, 0] == 0).sum(dim=(1, 2)).tolist())
        self.sevens.extend((x[:, 0] == 7).sum(dim=(1, 2)).tolist())
        return torch.ones(len(x), 2)


def test_every_step_changes_its_share_of_the_pixels_even_where_they_tie():
    heatmap, image = tied_widely((20, 24)), torch.full((1, 3, 20, 24), 7.0)
    model = Counting()
    faithfulness(model, image, heatmap, 0)
    deleted, kept = model.zeros[1 : STEPS + 2], model.sevens[-2 * len(PERCENTILES) :]
    assert deleted == [round(step * 480 / STEPS) for step in range(STEPS + 1)]
    assert kept == pytest.approx([percentile * 4.8 for percentile in PERCENTILES * 2], abs=1)
    # The library, for the same map, removes the whole image at most percentiles.
    plain = Counting()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        ROADCombined()(image, heatmap.values[None].copy(), [ClassifierOutputSoftmaxTarget(0)], plain)
    assert plain.sevens.count(0) >= 7


def test_any_increasing_transform_of_the_map_gives_the_same_bits():
    model, image = small(), noise()
    heatmap = tied_nowhere(image.shape[-2:])
    assert faithfulness(model, image, heatmap, 1) == faithfulness(model, image, Heatmap(heatmap.values**2 / 3), 1)


def test_a_quantized_model_has_scores_of_its_own(lite, picture, photograph):
    example = photograph(NAME)
    quantized = quantize(lite, QuantSpec(8, 8), calibrate(lite, [example]), example, SPEC.layer)
    image = picture()
    own = explain(quantized, image, SPEC)
    found = faithfulness(quantized, image, own.heatmap, own.class_index)
    assert values_of(found) != values_of(faithfulness(lite, image, own.heatmap, own.class_index))


# -- the same input, the same bits

_OTHER_PROCESS = """
import sys, numpy as np, torch
torch.manual_seed(99); torch.randn(5); torch.set_num_threads(int(sys.argv[2]))
from quantviz import networks
from quantviz.cam import faithfulness
from quantviz.specs import Heatmap
from quantviz.networks.build import build
given = np.load(sys.argv[1])
spec = networks.spec("efficientnet_lite0")
model = build(spec, networks.resolve(spec, None))[0]
scores = faithfulness(model, torch.from_numpy(given["image"]), Heatmap(given["map"]), int(given["index"]))
print([score.value.hex() for score in scores.values()])
"""


@pytest.mark.slow
def test_results_are_the_same_again_and_in_another_process_and_the_model_is_left_as_it_was(lite, picture, tmp_path):
    image = picture("coffee", 128)
    own = explain(lite, image, SPEC)
    before = state_of(lite, image), lite(image).numpy().tobytes()
    found = faithfulness(lite, image, own.heatmap, own.class_index)
    assert (state_of(lite, image), lite(image).numpy().tobytes()) == before
    assert found == faithfulness(lite, image.clone(), own.heatmap, own.class_index)
    np.savez(tmp_path / "given.npz", image=image.numpy(), map=own.heatmap.values, index=own.class_index)
    command = [sys.executable, "-c", _OTHER_PROCESS, str(tmp_path / "given.npz"), str(torch.get_num_threads())]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.strip() == str([score.value.hex() for score in found.values()])


def test_the_global_generators_are_left_alone():
    model, image = small(), noise()
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    faithfulness(model, image, tied_widely(image.shape[-2:]), 1)
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])


def test_threads_that_share_a_model_get_what_they_get_alone(lite, picture):
    jobs = [(picture(name), tied_nowhere((SIDE, SIDE), seed)) for seed, name in enumerate(("coffee", "rocket"))]
    alone = [faithfulness(lite, image, heatmap, 967) for image, heatmap in jobs]
    mapped = [explain(lite, image, SPEC, 967).heatmap.values.tobytes() for image, _ in jobs]
    with ThreadPoolExecutor(4) as pool:
        scores = [pool.submit(faithfulness, lite, image, heatmap, 967) for image, heatmap in jobs]
        maps = [pool.submit(explain, lite, image, SPEC, 967) for image, _ in jobs * 2]
        assert [future.result() for future in scores] == alone
        assert [future.result().heatmap.values.tobytes() for future in maps] == mapped * 2


def test_a_model_that_is_in_use_is_waited_for():
    model, image = small(), noise()
    with ThreadPoolExecutor(1) as pool:
        with Locked(model).locked():
            future = pool.submit(faithfulness, model, image, tied_nowhere(image.shape[-2:]), 1)
            with pytest.raises(TimeoutError):
                future.result(timeout=0.5)
        assert set(future.result(timeout=60)) == set(FAITHFULNESS)


# -- what a call leaves alone


def state_of(model, image):
    modules = [(name, id(module), module.training) for name, module in model.named_modules()]
    hooks = [
        [len(getattr(module, kind)) for kind in vars(module) if kind.endswith("_hooks")] for module in model.modules()
    ]
    tensors = [(name, value.numpy(force=True).tobytes()) for name, value in model.state_dict().items()]
    grads = [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    return modules, hooks, tensors, grads, image.numpy().tobytes()


def test_model_and_image_are_left_as_they_were_and_training_layers_are_not_trained():
    model, image = small(), noise()
    heatmap = tied_nowhere(image.shape[-2:])
    expected = faithfulness(model, image, heatmap, 1)
    model[1].train()
    model[7].train()
    before = state_of(model, image)
    assert faithfulness(model, image, heatmap, 1) == expected
    assert state_of(model, image) == before


def test_an_operation_in_place_on_the_input_changes_nothing():
    image = noise()
    model, in_place = (
        nn.Sequential(nn.ReLU(inplace=inplace), *copy.deepcopy(small())).eval() for inplace in (False, True)
    )
    heatmap, before = tied_nowhere(image.shape[-2:]), image.clone()
    assert faithfulness(in_place, image, heatmap, 1) == faithfulness(model, image, heatmap, 1)
    assert torch.equal(image, before)


def test_progress_rises_and_may_stop_the_call_and_nothing_is_printed(capfd):
    model, image = small(), noise()
    model[1].train()
    told = []
    heatmap = tied_nowhere(image.shape[-2:])
    faithfulness(model, image, heatmap, 1, progress=lambda message, fraction, _phase=None: told.append(fraction))
    assert len(told) > 5
    assert told == sorted(set(told))
    assert told[0] == 0
    assert 0.8 < told[-1] < 1
    assert capfd.readouterr() == ("", "")

    def stop(_message, fraction, _phase=None):
        if fraction > 0.5:
            raise KeyboardInterrupt

    before = state_of(model, image)
    with pytest.raises(KeyboardInterrupt):
        faithfulness(model, image, heatmap, 1, progress=stop)
    assert state_of(model, image) == before


# -- maps without evidence, and wrong requests


@pytest.mark.parametrize(
    ("heatmap", "reason"),
    [
        (Heatmap(np.zeros((20, 24)), "no positive evidence for the class"), "no positive evidence for the class"),
        (Heatmap(np.zeros((20, 24))), "constant"),
        (Heatmap(np.full((20, 24), 0.7)), "constant"),
        (Heatmap(np.full((20, 24), np.nan)), "NaN or infinity"),
        (Heatmap(np.where(np.eye(20, 24) > 0, np.inf, 0)), "NaN or infinity"),
    ],
)
def test_a_degenerate_map_has_no_value_and_the_reason(heatmap, reason):
    found = faithfulness(small(), noise(), heatmap, 1)
    assert list(found) == ["deletion", "insertion", "road"]
    for score in found.values():
        assert isinstance(score, Score)
        assert score.value is None
        assert reason in score.reason


@pytest.mark.parametrize("degenerate", ["", "constant"])
@pytest.mark.parametrize(
    ("image", "class_index", "message"),
    [
        (noise(), 5, r"Class 5 does not exist; this model has classes 0 to 4\."),
        (noise(), -1, r"Class -1 is negative; classes count from 0\."),
        (noise(24, 20), 1, r"map's shape \(20, 24\) differs from the image's, \(24, 20\)"),
        (noise()[0], 1, r"one image, \(1, C, H, W\), not \(3, 20, 24\)"),
        (noise().repeat(2, 1, 1, 1), 1, r"not \(2, 3, 20, 24\)"),
    ],
)
def test_a_wrong_request_is_refused(image, class_index, message, degenerate):
    with pytest.raises(UsageError, match=message):
        faithfulness(small(), image, Heatmap(tied_nowhere((20, 24)).values, degenerate), class_index)


def test_logits_that_are_not_finite_are_told():
    model = small()
    with torch.no_grad():
        model[-1].bias.fill_(float("nan"))
    with pytest.raises(QuantvizError, match="logits are not finite"):
        faithfulness(model, noise(), tied_nowhere((20, 24)), 1)


# -- the descriptions


def test_each_metric_is_described_and_its_words_agree_with_its_facts():
    assert list(FAITHFULNESS) == ["deletion", "insertion", "road"]
    for name, metric in FAITHFULNESS.items():
        assert metric.name == name
        assert metric.family == "faithfulness"
        for words in (metric.convention, metric.explanation, metric.source, metric.cost, metric.degenerate):
            assert words.endswith(".")
        assert metric.convention.endswith(
            f"from {metric.low:g} to {metric.high:g}, {'higher' if metric.higher_is_better else 'lower'} is better."
        )
        assert "doi 10." in metric.source
    for name in ("deletion", "insertion"):
        assert f"in {STEPS} equal steps" in FAITHFULNESS[name].convention
        assert FAITHFULNESS[name].cost.startswith(f"{STEPS + 1} ")
    assert FAITHFULNESS["road"].cost.startswith(f"{2 * len(PERCENTILES)} ")
    with pytest.raises(TypeError):
        FAITHFULNESS["other"] = FAITHFULNESS["road"]
