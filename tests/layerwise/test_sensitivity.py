"""Single layers switched on and off, the drift they cause, and the drift that is not quantization."""

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import comparison_support
import numpy as np
import pytest
import torch
from locked_support import opened
from networks_support import some_networks
from safetensors.torch import save_file

from quantviz import images, networks
from quantviz.comparison import CompareRequest, Workbench
from quantviz.layerwise.drift import Changes, Drifts, MapAndLogits, decides, model_cost, resolved, switchboard
from quantviz.layerwise.noise import _shifted, grey_moved, noise_floor, with_floor
from quantviz.layerwise.sensitivity import only_layer, sensitivity, stored_sensitivity
from quantviz.quantize import LearnedLayer, Ranges, Switchboard, assemble, float_base, weight_grid
from quantviz.specs import CamSpec, Crop, LayerBits, QuantSpec, UsageError, no_progress
from quantviz.store import TensorStore

MODEL = "squeezenet1_1"
REQUEST = CompareRequest(MODEL, "untrained", QuantSpec(4, 8), saliency=None)
DATA = Path(os.environ.get("QUANTVIZ_REAL_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")
PICTURES = DATA / "imagenet-sample" / "val"


store, forwards = comparison_support.store, comparison_support.forwards


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("atlas")


@pytest.fixture(scope="module")
def request_(folder, float_model):
    """A request with weights of a file, which are known by its digest without torch."""
    save_file(float_model(MODEL).state_dict(), folder / "own.safetensors")
    return replace(REQUEST, weights=str(folder / "own.safetensors"))


@pytest.fixture(scope="module")
def atlas(folder, request_):
    """A workbench on which one photograph's layers have been measured, and what was found."""
    with TensorStore(folder / "store") as opened:
        bench = Workbench(opened)
        yield bench, sensitivity(bench, request_, [images.bundled("chelsea")])


# -- the network whose layers can be switched


@pytest.fixture(scope="module")
def parts(float_model, photograph):
    """A folded float network, ranges for its layers, and an input."""
    name = "efficientnet_lite0"
    image = photograph(name)
    base = float_base(float_model(name), QuantSpec(), image, networks.spec(name).layer)
    limits = {layer: (-3.0, 6.0) for layer, module in base.named_modules() if hasattr(module, "weight")}
    return base, Ranges(limits, 1), image


def run(network, image):
    with torch.no_grad():
        return network(image)


def float_bits(network):
    names = [name for name, module in network.named_modules() if hasattr(module, "weight")]
    return tuple(LayerBits(name, None, None) for name in names)


@pytest.mark.parametrize(
    "spec",
    [
        QuantSpec(4, 8),
        QuantSpec(3, None),
        QuantSpec(5, 6, scheme="affine", granularity="per_tensor", act_scheme="symmetric"),
        QuantSpec(8, 8, layer_bits=(LayerBits("conv_stem", 2, None), LayerBits("classifier", None, 4))),
    ],
    ids=lambda spec: spec.label,
)
def test_a_switched_network_is_bit_for_bit_the_assembled_one(parts, spec):
    base, ranges, image = parts
    before = copy.deepcopy(base.state_dict())
    board = Switchboard(base, spec, ranges)
    in_float = replace(spec, layer_bits=float_bits(base))
    one = replace(spec, layer_bits=(*float_bits(base)[1:], LayerBits("conv_stem", 2, 4)))
    assert torch.equal(run(board.network, image), run(base, image))
    for wanted in (spec, in_float, one, spec):
        assert torch.equal(run(board.set(wanted), image), run(assemble(base, wanted, ranges), image))
    assert not torch.equal(run(board.set(one), image), run(base, image))
    assert torch.equal(run(board.set(in_float), image), run(base, image))
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


def test_switched_weights_on_least_squares_grids(parts):
    base, ranges, image = parts
    few = (*float_bits(base)[3:], LayerBits("conv_stem", 3, 8), LayerBits("blocks.0.0.conv_dw", 4, None))
    spec = QuantSpec(weight_ranges="mse", layer_bits=few)
    switched = run(Switchboard(base, spec, ranges).set(spec), image)
    assert torch.equal(switched, run(assemble(base, spec, ranges), image))
    assert not torch.equal(switched, run(assemble(base, replace(spec, weight_ranges="minmax"), ranges), image))


def test_learned_weights_and_biases_are_switched_with_their_layer(parts):
    base, ranges, image = parts
    spec = QuantSpec(4, 8, rounding="gptq")
    learned = {}
    for name, module in base.named_modules():
        if hasattr(module, "weight"):
            grid = weight_grid(module.weight, 4)
            lowered = (grid.integers(module.weight) - 1).clamp_min(grid.quant_min)
            learned[name] = LearnedLayer(grid, lowered, torch.full((len(module.weight),), 0.25))
    board = Switchboard(base, spec, ranges, learned)
    assert torch.equal(run(board.set(spec), image), run(assemble(base, spec, ranges, learned), image))
    # At other bits than were learned, a weight is rounded to nearest and its bias is the float network's.
    other = replace(spec, weight_bits=5)
    assert torch.equal(run(board.set(other), image), run(assemble(base, other, ranges), image))
    assert torch.equal(run(board.set(replace(spec, layer_bits=float_bits(base))), image), run(base, image))


def test_a_switched_layer_that_does_not_exist_is_refused(parts):
    base, ranges, _ = parts
    with pytest.raises(UsageError, match=r"'conv_stern' is none that is quantized"):
        Switchboard(base, QuantSpec(), ranges).set(QuantSpec(layer_bits=(LayerBits("conv_stern", 4, 4),)))


# -- drift


def answer(logits, heatmap):
    return MapAndLogits(np.asarray(heatmap, np.float32), np.asarray(logits, float), int(np.argmax(logits)))


def test_drift_is_what_its_definitions_say(noise_picture):
    chance = np.random.default_rng(3)
    first, second = chance.normal(size=(2, 3, 5)) * 3
    maps = chance.random((2, 3, 8, 8))
    maps[1, 2] = 0  # a map that has lost all evidence
    before = [answer(*pair) for pair in zip(first, maps[0], strict=True)]
    after = [answer(*pair) for pair in zip(second, maps[1], strict=True)]
    drift = Changes.of(before, after).drift([int(second[0].argmax()), None, -1])
    expected = [1 - np.corrcoef(maps[0, i].ravel(), maps[1, i].ravel())[0, 1] for i in range(2)]
    assert drift.cams[:2] == pytest.approx(expected, abs=1e-6)
    assert drift.cams[2] == 1.0
    assert drift.cam == pytest.approx(np.mean([*expected, 1.0]), abs=1e-6)
    nothing = Changes.of(after, after).drift([None] * 3)  # where the float map carries none, there is nothing to lose
    assert nothing.cams == (pytest.approx(0), pytest.approx(0), None)
    assert nothing.cam == pytest.approx(0)
    log_p, log_q = (torch.log_softmax(torch.tensor(values), dim=1) for values in (first, second))
    divergence = torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    assert drift.kl == pytest.approx(float(divergence), rel=1e-12)
    ratio = np.square(first).sum() / np.square(first - second).sum()
    assert drift.sqnr == pytest.approx(10 * np.log10(ratio), rel=1e-12)
    assert drift.flips == np.mean(first.argmax(1) != second.argmax(1))
    assert drift.accuracy == 0.5


def test_no_change_is_no_drift():
    same = [answer([1.0, 800.0], np.eye(4))]
    drift = Changes.of(same, same).drift([None])
    assert (drift.cam, drift.kl, drift.sqnr, drift.flips, drift.accuracy) == (0.0, 0.0, None, 0.0, None)


# -- the noise floor


@pytest.mark.parametrize("name", ["chelsea", "grace_hopper", "astronaut"])
@pytest.mark.parametrize("model", ["efficientnet_lite0", "squeezenet1_1", "mobilenet_v2", "resnet50"])
def test_the_shifted_crop_is_the_crop_moved_by_one_pixel(model, name):
    rgb, preprocessing = images.bundled(name).rgb, networks.spec(model).weights[0].preprocessing
    crop, moved = images.crop(rgb, preprocessing), _shifted(rgb, preprocessing, Crop())
    assert moved.shape == crop.shape
    if rgb.shape[1] >= rgb.shape[0]:
        assert np.array_equal(moved[:, :-1], crop[:, 1:])
    else:
        assert np.array_equal(moved[:-1], crop[1:])
    assert not np.array_equal(moved, crop)


def test_grey_twins_differ_by_one_grey_level_at_most_and_are_the_same_every_time(noise_picture):
    crop = noise_picture(0, 50, 50)
    crop[:10], crop[-10:] = 0, 255
    sample = images.bundled("coffee")
    moved = grey_moved(crop, sample.id)
    assert moved.dtype == np.uint8
    steps = moved.astype(int) - crop
    assert [int((steps == value).sum()) > 500 for value in (-1, 0, 1)] == [True] * 3
    assert np.abs(steps).max() == 1
    assert np.array_equal(moved, grey_moved(crop, sample.id))
    assert not np.array_equal(moved, grey_moved(crop, images.bundled("china").id))


def test_sixteen_bits_are_at_the_noise_floor(store):
    bench = Workbench(store)
    request = CompareRequest(quant=QuantSpec(16, 16))
    samples = [images.bundled(name) for name in ("chelsea", "coffee", "grace_hopper")]
    floor = noise_floor(bench, request, samples, calibration=False)
    assert floor.calibration is None
    assert floor.floor == max(floor.grey.cam, floor.shift.cam)
    assert 0 < measured(bench, request, samples).cam <= floor.floor
    assert measured(bench, replace(request, quant=QuantSpec(4, 4)), samples).cam > floor.floor


def test_a_comparison_has_the_floor_of_its_picture_and_its_class(store):
    bench, sample = Workbench(store), images.bundled("coffee")
    request = CompareRequest(saliency=None)
    comparison = with_floor(bench, request, bench.compare(request, sample))
    assert comparison.floor == noise_floor(bench, request, [sample], calibration=False).floor
    assert comparison.verdict.drift == max(1 - comparison.scores["quantized_v_float"].cc, 0)
    chosen = replace(request, target=3)
    other = with_floor(bench, chosen, bench.compare(chosen, sample))
    assert other.floor not in (None, comparison.floor)
    without = replace(comparison, floor=None)
    paper = replace(request, quant=replace(request.quant, protocol="paper"))
    many = replace(request, cam=replace(request.cam, method="scorecam"))
    assert [with_floor(bench, one, without).floor for one in (paper, many)] == [None, None]


def measured(bench, request, samples):
    """Return the drift of a whole quantized network."""
    subject, cam = resolved(bench, request, no_progress)
    drifts = Drifts(bench, subject, cam, samples)
    network = bench.networks.quantized(subject, request.quant, no_progress)
    return drifts.changes(lambda: network, decides(subject, request.quant), no_progress).drift(drifts.labels)


def test_calibration_twins_differ_and_weight_only_has_none(atlas, request_):
    bench, found = atlas
    assert 0 < found.floor.calibration.cam < found.network.cam
    sample = images.bundled("chelsea")
    assert noise_floor(bench, replace(request_, quant=QuantSpec(4, None)), [sample]).calibration is None


# -- the atlas


def test_the_atlas_agrees_with_comparisons_of_its_networks(atlas, request_):
    bench, found = atlas
    sample = images.bundled("chelsea")

    def compared(quant):
        return 1 - bench.compare(replace(request_, quant=quant), sample).scores["quantized_v_float"].cc

    names = [layer.cost.name for layer in found.layers]
    assert found.network.cam == pytest.approx(compared(request_.quant), abs=1e-12)
    for place in (0, 7, len(names) - 1):
        layer = found.layers[place]
        assert layer.alone.cam == pytest.approx(compared(only_layer(found, names[place])), abs=1e-12)
        without = replace(request_.quant, layer_bits=(LayerBits(names[place], None, None),))
        assert layer.all_but.cam == pytest.approx(compared(without), abs=1e-12)


def test_the_atlas_is_complete_and_in_order_of_execution(atlas, request_, float_model):
    bench, found = atlas
    names = [layer.cost.name for layer in found.layers]
    assert names[0] == "features.0"
    assert names[-1] == "classifier.1"
    assert sorted(names) == sorted(
        name for name, module in float_model(MODEL).named_modules() if hasattr(module, "weight")
    )
    assert [layer.depth for layer in found.layers] == list(range(len(names)))
    drifts = [layer.alone.cam for layer in found.ranked]
    assert drifts == sorted(drifts, reverse=True)
    assert found.images == ((images.bundled("chelsea").id, "chelsea"),)
    assert found.labelled == 0
    assert found.cost == model_cost(bench, request_)
    with pytest.raises(UsageError, match=r"'features\.O' is none that is quantized; near it: features\.0"):
        only_layer(found, "features.O")


def test_a_repeated_atlas_runs_no_network(atlas, request_, forwards):
    bench, found = atlas
    assert sensitivity(Workbench(bench.store), request_, [images.bundled("chelsea")]) == found
    assert forwards == []


def test_an_atlas_is_looked_up_without_computing_one_that_is_not_there(atlas, request_, forwards):
    bench, found = Workbench(atlas[0].store), atlas[1]
    chelsea, coffee = images.bundled("chelsea"), images.bundled("coffee")
    reports = []
    assert stored_sensitivity(bench, request_, [chelsea], lambda *report: reports.append(report)) == found
    others = (request_, [coffee]), (replace(request_, quant=QuantSpec(5, 8)), [chelsea])
    assert [stored_sensitivity(bench, *other) for other in others] == [None, None]
    assert (forwards, reports) == ([], [])


def test_an_interrupted_atlas_goes_on_where_it_ended(store, forwards):
    bench, sample = Workbench(store), [images.bundled("chelsea")]

    def stop(message, _fraction=None, _phase=None):
        if message == "features.9.squeeze alone":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sensitivity(bench, REQUEST, sample, stop)
    done = len(forwards)
    assert stored_sensitivity(bench, REQUEST, sample) is None  # a part of it is there
    fractions = []
    sensitivity(bench, REQUEST, sample, lambda _message, fraction=None, _phase=None: fractions.append(fraction))
    known = [fraction for fraction in fractions if fraction is not None]
    # 13 of the 26 layers come from that one on, each in two networks; the float network's forward pass is kept.
    assert len(forwards) - done == 26
    assert done > 26
    assert known == sorted(known)
    assert known[0] > 0.5


def test_a_repeated_atlas_imports_no_torch(atlas, folder, request_):
    code = (
        "import sys; from pathlib import Path\n"
        "from quantviz import images\n"
        "from quantviz.comparison import CompareRequest, Workbench\n"
        "from quantviz.layerwise.sensitivity import sensitivity, stored_sensitivity\n"
        "from quantviz.specs import QuantSpec\n"
        "from quantviz.store import TensorStore\n"
        f"request = CompareRequest({MODEL!r}, {request_.weights!r}, QuantSpec(4, 8), saliency=None)\n"
        f"bench = Workbench(TensorStore(Path({str(folder / 'store')!r})))\n"
        "found = sensitivity(bench, request, [images.bundled('chelsea')])\n"
        "stored = stored_sensitivity(bench, request, [images.bundled('chelsea')])\n"
        "other = stored_sensitivity(bench, request, [images.bundled('coffee')])\n"
        "print(found.network.cam, stored == found, other, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [repr(atlas[1].network.cam), "True", "None", "False"]


def test_requests_that_have_no_layers_to_switch_are_refused(store):
    bench, sample = Workbench(store), [images.bundled("chelsea")]
    with pytest.raises(UsageError, match="under the protocol 'paper'; use calibrated"):
        sensitivity(bench, replace(REQUEST, quant=QuantSpec(protocol="paper")), sample)
    with pytest.raises(UsageError, match="no picture to measure on"):
        sensitivity(bench, REQUEST, [])


def test_the_switchboard_of_a_request_is_its_quantized_network(atlas, request_):
    bench, _ = atlas
    subject, cam = resolved(bench, request_, no_progress)
    drifts = Drifts(bench, subject, cam, [images.bundled("coffee")])
    image = torch.from_numpy(images.normalize(drifts.crops[0], subject.ref.preprocessing))
    board = switchboard(bench, subject, request_.quant, no_progress)
    whole = bench.networks.quantized(subject, request_.quant, no_progress)
    assert torch.equal(run(board.set(request_.quant), image), run(opened(whole), image))


@pytest.mark.skipif(
    not PICTURES.is_dir(), reason=f"no real data at {DATA}; set QUANTVIZ_REAL_DATA to a folder that has it"
)
@pytest.mark.parametrize(
    "model", some_networks("efficientnet_lite0", of=["efficientnet_lite0", "squeezenet1_1", "mobilenet_v2"])
)
def test_sixteen_bits_are_at_the_noise_floor_of_real_data(store, model):
    weights = None if networks.spec(model).weights[0].bundled else str(DATA / "weights" / f"{model}.safetensors")
    samples = [images.load(path) for path in images.folder(PICTURES)[::25]]
    bench, request = Workbench(store), CompareRequest(model, weights, QuantSpec(16, 16), CamSpec("gradcam++"))
    floor = noise_floor(bench, request, samples, calibration=False)
    drift = measured(bench, request, samples)
    print(f"\n{model}: W16A16 {drift.cam:.2e}, grey {floor.grey.cam:.2e}, shift {floor.shift.cam:.2e}")
    assert drift.cam <= floor.floor
    assert drift.flips <= floor.shift.flips + 0.1


def test_a_picture_that_is_there_twice_is_computed_once_and_counts_twice(store):
    bench, coffee = Workbench(store), images.bundled("coffee")
    subject, cam = resolved(bench, REQUEST, no_progress)
    network, passes = bench.networks.reference(subject, no_progress), []
    hook = opened(network).get_submodule("features.0").register_forward_hook(lambda *_: passes.append(1))
    drifts = Drifts(bench, subject, cam, [coffee, images.bundled("rocket"), replace(coffee, name="again")])
    before = drifts.before(no_progress)
    after = drifts.answers(network, drifts.crops, no_progress)
    hook.remove()
    assert len(passes) == 2 * 2
    assert [name for _, name in drifts.images] == ["coffee", "rocket", "again"]
    for found in (before, after):
        assert found[0] is found[2]
    assert len(Changes.of(before, after).drift(drifts.labels).cams) == 3
