"""Forward passes that are kept: nothing is computed twice, nothing changes, and not too much is held."""

import copy
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import comparison_support
import pytest
import torch
from cam_support import tiny
from comparison_support import SAMPLE, SQUEEZENET, bits
from networks_support import some_networks

from quantviz import cam, images, networks
from quantviz.cam import KeptFeatures, explain, explain_many
from quantviz.comparison import Workbench
from quantviz.comparison.deploy import parted_layer
from quantviz.comparison.protocols import ProtocolNetworks, explained, seed_of
from quantviz.layerwise.noise import noise_floor
from quantviz.quantize import assemble, calibrate, float_base, frozen_observers
from quantviz.specs import CAM_METHODS, CamSpec, QuantSpec, QuantvizError, UsageError, no_progress
from quantviz.store import TensorStore

SMALL = ("efficientnet_lite0", "squeezenet1_1", "mobilenet_v2")
MANY_PASSES = ("scorecam", "ablationcam")
FAST = tuple(method for method in CAM_METHODS if method not in MANY_PASSES)
store, forwards = comparison_support.store, comparison_support.forwards


def raw(found):
    heatmaps = found.heatmap.values.tobytes(), found.native.values.tobytes()
    return *heatmaps, found.class_index, found.probabilities.tobytes(), found.logits.tobytes()


@pytest.fixture(scope="module")
def pairs(float_model, photograph):
    """Return a function from a model's name to its float and its W8A8 network, and an input."""

    def made(name):
        image = photograph(name)
        base = float_base(float_model(name), QuantSpec(), image, networks.spec(name).layer)
        return base, assemble(base, QuantSpec(8, 8), calibrate(base, [image])), image

    return made


# -- maps


@pytest.mark.parametrize("name", some_networks("efficientnet_lite0", "squeezenet1_1", "densenet121"))
def test_maps_of_a_kept_pass_are_those_of_their_own_pass_to_the_bit(pairs, forwards, name):
    *both, image = pairs(name)
    image = image if name in SMALL else image[..., :96, :96].clone()
    wanted = [(CamSpec(method, networks.spec(name).layer), index) for method in FAST for index in (None, 7)]
    for network in both:
        alone = [raw(found) for found in explain_many(network, image, wanted)]
        for order in (wanted, wanted[::-1]):
            kept, count = KeptFeatures(), len(forwards)
            found = {each: raw(explain(network, image, *each, kept=kept)) for each in order}
            assert len(forwards) == count + 1
            assert [found[each] for each in wanted] == alone


@pytest.mark.parametrize("method", MANY_PASSES)
def test_methods_of_many_passes_share_the_first_one(pairs, forwards, method):
    network, _, image = pairs("squeezenet1_1")
    image, spec = image[..., :96, :96].clone(), CamSpec(method, "features.3.squeeze")
    forwards.clear()
    alone = raw(explain(network, image, spec, 281))
    own, kept = len(forwards), KeptFeatures()
    explain(network, image, CamSpec("gradcam", spec.layer), 281, kept=kept)
    forwards.clear()
    assert raw(explain(network, image, spec, 281, kept=kept)) == alone
    assert len(forwards) == own - 1


def test_another_network_layer_or_picture_is_a_pass_of_its_own(pairs, forwards):
    base, network, image = pairs("squeezenet1_1")
    kept, spec = KeptFeatures(), CamSpec("gradcam", "features.12")
    moved = image.clone()
    moved[0, 0, 0, 0] += 1e-3
    forwards.clear()
    for each in (base, network, copy.deepcopy(base)):
        explain(each, image, spec, kept=kept)
    explain(base, moved, spec, kept=kept)
    explain(base, image[..., :96, :], spec, kept=kept)
    explain(base, image, CamSpec("gradcam", "features.11"), kept=kept)
    assert len(forwards) == 6
    image.mul_(0.5)  # in place: the same tensor, another picture
    assert raw(explain(base, image, spec, kept=kept)) == raw(explain(base, image, spec))
    assert len(forwards) == 8


def test_threads_share_one_pass(pairs, forwards):
    network, _, image = pairs("squeezenet1_1")
    wanted = [(CamSpec(method, "features.12"), index) for method in FAST for index in range(3)]
    expected = [raw(found) for found in explain_many(network, image, wanted)]
    forwards.clear()
    kept, start = KeptFeatures(), threading.Barrier(4)
    with ThreadPoolExecutor(4, initializer=start.wait) as threads:
        found = list(threads.map(lambda each: raw(explain(network, image, *each, kept=kept)), wanted))
    assert found == expected
    assert len(forwards) == 1


# -- memory


def test_what_is_kept_stays_below_the_limit_the_last_used_longest(pairs, photograph, forwards):
    network, _, first = pairs("squeezenet1_1")
    spec, measured = CamSpec("gradcam", "features.12"), KeptFeatures()
    explain(network, first, spec, 1, kept=measured)
    one = measured.nbytes
    leaf = 512 * 14 * 14
    assert one > leaf * (4 + 8 + 8)  # activation, and activation and gradient in float64
    assert one < leaf * 40
    kept = KeptFeatures(int(2.5 * one))
    inputs = [first, photograph("squeezenet1_1", "coffee"), photograph("squeezenet1_1", "rocket")]
    forwards.clear()
    for place in (0, 1, 0, 2, 0):  # the third puts the second out
        explain(network, inputs[place], spec, 1, kept=kept)
        assert kept.nbytes <= 2.5 * one
    assert len(forwards) == 3
    explain(network, inputs[1], spec, 1, kept=kept)
    assert len(forwards) == 4


def test_a_pass_too_large_is_used_and_not_kept_and_the_others_stay(pairs, forwards):
    network, _, image = pairs("squeezenet1_1")
    kept, late, early = KeptFeatures(8 << 20), CamSpec("gradcam", "features.12"), CamSpec("gradcam", "features.0")
    explain(network, image, late, 1, kept=kept)
    held_before = kept.nbytes
    assert raw(explain(network, image, early, 1, kept=kept)) == raw(explain(network, image, early, 1))
    assert kept.nbytes == held_before > 0
    forwards.clear()
    explain(network, image, late, 1, kept=kept)
    assert forwards == []


def test_gradients_of_many_classes_count(pairs):
    network, _, image = pairs("squeezenet1_1")
    kept, spec = KeptFeatures(8 << 20), CamSpec("gradcam", "features.12")
    for index in range(30):
        explain(network, image, spec, index, kept=kept)
        assert kept.nbytes <= 8 << 20


def test_the_size_is_what_the_recorded_pass_holds(pairs):
    network, _, image = pairs("mobilenet_v2")
    sizes = {}
    for layer in ("features.18", "features.0.0"):
        kept = KeptFeatures(1 << 30)
        explain(network, image, CamSpec("eigencam", layer), kept=kept)
        sizes[layer] = kept.nbytes
    assert sizes["features.18"] < 2 << 20
    # The input of every later convolution and of every ReLU6, whose outputs they are: some 6.7 million float32 each.
    assert 30 << 20 < sizes["features.0.0"] < 80 << 20


class Custom(torch.nn.Module):
    """A convolution to two channels, and behind it whatever is asked for."""

    def __init__(self, behind):
        super().__init__()
        self.features = torch.nn.Conv2d(1, 2, 1)
        self.behind = behind
        self.requires_grad_(False).eval()

    def forward(self, image):
        return self.behind(self.features(image))


def test_a_recorded_pass_holds_each_tensor_once_and_none_that_was_freed():
    def behind(values):
        (values.exp() * 2).sum()  # what only an unused result needs is not kept
        grown = values.exp()
        return (grown * grown.sin()).mean(dim=(2, 3))

    kept = KeptFeatures()
    kept.features(Custom(behind), torch.ones(1, 1, 5, 5), "features")
    # The target's output, what exp gave, which two more operations need too, and what sin gave; two logits.
    assert kept.nbytes == 4 * (3 * 50 + 2)


@pytest.mark.parametrize("kept", [None, KeptFeatures()], ids=["used once", "kept"])
def test_a_saved_tensor_that_is_overwritten_is_an_error_and_no_wrong_map(kept):
    model = Custom(lambda values: values.exp().mul_(2).mean(dim=(2, 3)))
    with pytest.raises(QuantvizError, match=r"in.?place"):
        explain(model, torch.ones(1, 1, 5, 5), CamSpec("gradcam", "features"), 0, kept=kept)


def test_features_of_a_network_that_is_gone_go_with_the_next_pass():
    kept, image = KeptFeatures(), torch.ones(1, 1, 6, 6)
    first, second = tiny(1.0), tiny(2.0)
    explain(first, image, CamSpec("gradcam", "features"), 0, kept=kept)
    one = kept.nbytes
    explain(second, image, CamSpec("gradcam", "features"), 0, kept=kept)
    assert kept.nbytes == 2 * one > 0
    del first
    gc.collect()
    explain(second, image, CamSpec("gradcam", "features"), 0, kept=kept)
    assert kept.nbytes == one


def test_calls_that_fail_do_not_fill_the_memory(pairs, photograph):
    network, _, _ = pairs("squeezenet1_1")
    kept = KeptFeatures(1 << 19)  # below one pass
    for name in ("chelsea", "coffee"):
        with pytest.raises(UsageError, match="Class 1000 does not exist"):
            explain(network, photograph("squeezenet1_1", name), CamSpec("gradcam", "features.12"), 1000, kept=kept)
        assert kept.nbytes == 0


# -- comparisons


def test_another_method_or_class_of_a_comparison_runs_no_network(store, tmp_path, forwards):
    bench = Workbench(store)
    bench.compare(SQUEEZENET, SAMPLE)
    forwards.clear()
    changes = [{"cam": CamSpec(method)} for method in FAST] + [{"target": "own"}, {"target": 7}]
    found = [bench.compare(replace(SQUEEZENET, **change), SAMPLE) for change in changes]
    assert forwards == []
    assert sum(comparison.cached for comparison in found) == 1  # the first one's own method
    for place in (0, -1):
        with TensorStore(tmp_path / f"alone {place}") as opened:
            alone = Workbench(opened).compare(replace(SQUEEZENET, **changes[place]), SAMPLE)
        assert bits(alone) == bits(found[place])


def test_the_float_network_of_another_bit_width_is_not_run(store, forwards):
    bench = Workbench(store)
    bench.compare(replace(SQUEEZENET, quant=QuantSpec(6, 6)), SAMPLE)
    bench.compare(replace(SQUEEZENET, quant=QuantSpec(5, 5)), SAMPLE)
    forwards.clear()
    bench.compare(replace(SQUEEZENET, quant=QuantSpec(5, 5), cam=CamSpec("layercam")), SAMPLE)
    bench.compare(replace(SQUEEZENET, quant=QuantSpec(6, 6), cam=CamSpec("layercam")), SAMPLE)
    assert forwards == []


def test_the_noise_floor_runs_the_float_network_on_its_twins_only(store, forwards):
    bench = Workbench(store)
    bench.compare(SQUEEZENET, SAMPLE)
    forwards.clear()
    noise_floor(bench, SQUEEZENET, [SAMPLE], calibration=False)
    assert forwards == ["float", "float"]
    forwards.clear()
    noise_floor(bench, replace(SQUEEZENET, cam=CamSpec("xgradcam")), [SAMPLE], calibration=False)
    assert forwards == []


@pytest.mark.slow
def test_engines_share_theirs(store, forwards):
    request = replace(SQUEEZENET, backend="onnxruntime", deployed=True, saliency=None)
    bench = Workbench(store)
    bench.compare(request, SAMPLE)
    forwards.clear()
    found = bench.compare(replace(request, cam=CamSpec("hirescam"), target=7), SAMPLE)
    subject, image = bench.subject(request), bench.models(request, SAMPLE)[2]
    networks = {
        "reference": bench.backends.reference(subject, no_progress),
        "deployed": bench.backends.deployed(subject, request.quant, no_progress),
    }
    for name, network in networks.items():
        result = found.deployed.result if name == "deployed" else found.reference
        alone = explain(network, image, CamSpec("hirescam", parted_layer(network)), 7)
        assert result.heatmap.values.tobytes() == alone.heatmap.values.tobytes()
    assert forwards == []  # of torch; all three networks run in ONNX Runtime, the simulated one too


@pytest.mark.parametrize("protocol", ["paper", "calibrated+online_ranges", "calibrated+train_mode"])
def test_networks_that_pictures_or_draws_change_keep_nothing(store, forwards, protocol):
    bench = Workbench(store)
    request = replace(SQUEEZENET, quant=QuantSpec(protocol=protocol), saliency=None)
    bench.compare(request, SAMPLE)
    forwards.clear()
    other = replace(request, cam=CamSpec("layercam"))
    found = bench.compare(other, SAMPLE)
    assert len(forwards) >= 1
    assert bench.protocols.kept_features(request.quant, quantized=True) is None
    assert (bench.protocols.kept_features(request.quant, quantized=False) is None) == ("online" not in protocol)
    with TensorStore(store.info().directory.parent / "alone") as opened:
        assert bits(Workbench(opened).compare(other, SAMPLE)) == bits(found)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_the_own_class_of_a_sequence_is_of_the_same_pass(store, name):
    request = replace(SQUEEZENET, model=name, quant=QuantSpec(4, 4, protocol="paper"))
    bench = Workbench(store)
    subject, other = bench.subject(request), ProtocolNetworks(bench.networks)
    first, second = (other.quantized(subject, request.quant, no_progress) for _ in range(2))
    spec = CamSpec("gradcam++", subject.layer)
    for picture in ("chelsea", "coffee"):
        sample = images.bundled(picture)
        pixels = images.crop(sample.rgb, subject.ref.preprocessing)
        image = torch.from_numpy(images.normalize(pixels, subject.ref.preprocessing))
        kept, results = KeptFeatures(), []
        for network, shared in ((first, kept), (second, None)):
            explained(network, image, spec, 3, seed_of(sample.id, True), no_progress, "", shared)
            with network.locked() as module, frozen_observers(module):
                found = explained(network, image, spec, None, seed_of(sample.id, True), no_progress, "", shared)
            results.append((found.heatmap.values.tobytes(), found.predictions))
        assert results[0] == results[1]


def test_what_a_caller_does_to_a_result_does_not_reach_the_next_one(pairs):
    network, _, image = pairs("squeezenet1_1")
    kept, spec = KeptFeatures(), CamSpec("gradcam", "features.12")
    found = cam.explain(network, image, spec, kept=kept)
    expected = raw(found)
    found.logits[:] = found.probabilities[:] = 0
    assert raw(cam.explain(network, image, spec, kept=kept)) == expected
