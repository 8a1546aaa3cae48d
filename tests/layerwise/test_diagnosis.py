"""Figures of every tensor, against closed forms; and the rules that name causes."""

import copy
import json
import os
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from quantviz.layerwise.diagnosis.causes import CAUSES, REMEDIES, causes, manual
from quantviz.layerwise.diagnosis.exports import export, mended_bits
from quantviz.layerwise.diagnosis.meter import Meter
from quantviz.layerwise.diagnosis.output import csv_of, html_of, report_diagnosis
from quantviz.layerwise.diagnosis.remedies import remedied
from quantviz.layerwise.diagnosis.simulation import AHEAD, diagnose_modules
from quantviz.layerwise.diagnosis.specs import Diagnosis, Site, TensorDrift
from quantviz.layerwise.diagnosis.structure import blocks_of, module_findings
from quantviz.quantize import assemble, calibrate, float_base
from quantviz.specs import LayerBits, QuantSpec, UsageError


class Branches(nn.Module):
    """Two branches that are joined, an in-place ReLU behind each, and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.mix = nn.Conv2d(10, 12, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = self.stem(x)
        left = self.left(x)
        x = torch.cat([self.act(left), self.act(self.right(x))], 1)
        return self.head(self.act(self.mix(x)).mean((2, 3)))


def drawn(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.fixture(scope="module")
def pictures():
    return [drawn(seed, 1, 3, 12, 12) for seed in range(4)]


@pytest.fixture(scope="module")
def networks(pictures):
    torch.manual_seed(0)
    base = float_base(Branches().eval(), QuantSpec(), pictures[0])
    return base, assemble(base, QuantSpec(), calibrate(base, pictures))


@pytest.fixture(scope="module")
def figures(networks, pictures):
    return {entry.name: entry for entry in diagnose_modules(*networks, pictures, by_channel=True)}


def read_by(module, name, pictures):
    """Return what a layer reads of each picture, copied, with its hooks run before."""
    values = []
    layer = module.get_submodule(name)
    handle = layer.register_forward_pre_hook(lambda _layer, inputs: values.append(inputs[0].detach().double().clone()))
    with torch.no_grad():
        for picture in pictures:
            module(picture)
    handle.remove()
    return torch.stack(values)


def sqnr(first, second):
    return float(10 * torch.log10(first.square().sum() / (first - second).square().sum()))


@pytest.mark.parametrize("layer", ["stem", "left", "right", "mix", "head"])
def test_activations_are_the_closed_form_in_float64(networks, pictures, figures, layer):
    base, quantized = networks
    entry = figures[f"{layer}.input"]
    before, after = read_by(base, layer, pictures), read_by(quantized, layer, pictures)
    assert entry.sqnr == pytest.approx(sqnr(before, after), abs=1e-4)
    cosine = (before * after).sum() / (before.square().sum() * after.square().sum()).sqrt()
    assert entry.cosine == pytest.approx(float(cosine), abs=1e-6)
    assert (entry.low, entry.high) == (float(before.min()), float(before.max()))
    assert entry.values == before.numel()
    axis = 2 if before.ndim == 5 else -1
    channels = before.movedim(axis, 0).flatten(1)
    assert np.array_equal(entry.by_channel.low, channels.amin(1).numpy())
    rounded = after.movedim(axis, 0).flatten(1)
    expected = 10 * torch.log10(channels.square().sum(1) / (channels - rounded).square().sum(1))
    assert entry.by_channel.sqnr == pytest.approx(expected.numpy(), abs=1e-6, nan_ok=True)


def test_isolated_is_the_rounding_of_what_the_quantized_network_reads(networks, pictures, figures):
    quantized = copy.deepcopy(networks[1])
    quantizer = quantized.get_submodule("mix").input_quantizer
    given, rounded = [], []

    def note(_module, inputs, output):
        given.append(inputs[0].double())
        rounded.append(output.double())

    quantizer.register_forward_hook(note)
    with torch.no_grad():
        for picture in pictures:
            quantized(picture)
    expected = sqnr(torch.stack(given), torch.stack(rounded))
    assert figures["mix.input"].sqnr_isolated == pytest.approx(expected, abs=1e-4)
    assert figures["mix.input"].sqnr_isolated > figures["mix.input"].sqnr


def test_a_float_network_that_runs_ahead_gives_the_same_bits(networks, pictures, figures):
    again = diagnose_modules(*networks, pictures, by_channel=True, ahead=True)
    assert [entry.name for entry in again] == list(figures)
    for entry in again:
        before = figures[entry.name]
        assert (entry.sqnr, entry.sqnr_isolated, entry.cosine) == (before.sqnr, before.sqnr_isolated, before.cosine)
        assert np.array_equal(entry.by_channel.low, before.by_channel.low)
        assert np.array_equal(entry.histogram.reference, before.histogram.reference)


def test_what_goes_wrong_ahead_is_raised_and_ends_the_thread(networks):
    pictures = [drawn(0, 1, 3, 12, 12), drawn(1, 1, 2, 12, 12)]
    with pytest.raises(RuntimeError, match="channels"):
        diagnose_modules(*networks, pictures, ahead=True)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(AHEAD)]


def test_tensors_come_in_the_order_of_execution(figures):
    assert [entry.depth for entry in figures.values()] == list(range(len(figures)))
    names = [name for name in figures if name.endswith("input")]
    assert names == [f"{layer}.input" for layer in ("stem", "left", "right", "mix", "head")]
    assert all(f"{name[:-6]}.weight" in figures for name in names)


def test_a_sound_network_has_no_cause(networks, pictures, figures):
    base, quantized = networks
    findings = module_findings(base, quantized, list(figures.values()), pictures[0])
    assert causes(list(figures.values()), findings, blocks_of(quantized, pictures[0])) == []


def test_memory_does_not_grow_with_the_pictures(networks, pictures):
    def sizes(count):
        meter = Meter(Site("x", "x", "activation"), 0)
        for place in range(count):
            meter.see(pictures[place % 4], pictures[place % 4], pictures[place % 4])
        held = [value for value in vars(meter).values() if isinstance(value, torch.Tensor)]
        return sum(value.numel() for value in held), meter._histogram._counts.size

    assert sizes(3) == sizes(30)


def test_histograms_hold_every_sampled_value_of_both(figures):
    for entry in figures.values():
        histogram = entry.histogram
        assert histogram.reference.sum() == histogram.quantized.sum() == histogram.sampled
        assert len(histogram.edges) == len(histogram.reference) + 1


def metered(values, after, **grid):
    scale = np.atleast_1d(np.asarray(grid.pop("scale"), np.float64))
    zero = np.full(len(scale), grid.pop("zero", 0), np.int64)
    bits, low, high = grid.pop("bits", 8), grid.pop("low", 0), grid.pop("high", 255)
    meter = Meter(Site("x", "x", "activation", bits, scale, zero, low, high), 0)
    meter.see(values, values, after)
    return meter.figures()


def rounded(values, scale, zero=0, low=0, high=255):
    return ((values / scale).round() + zero).clamp(low, high).sub(zero) * scale


def cause_of(values, scale, **grid):
    zero, low, high = grid.get("zero", 0), grid.get("low", 0), grid.get("high", 255)
    entry = metered(values, rounded(values, scale, zero, low, high), scale=scale, **grid)
    found = causes([entry])
    return (found[0].cause if found else None), entry


def test_each_rule_names_its_cause_with_the_figure():
    values = drawn(0, 1, 16, 12, 12).relu()
    top = float(values.max())
    assert cause_of(values, top / 255)[0] is None
    name, entry = cause_of(values, top / 255 / 4)
    assert name == "clipping"
    assert entry.clipped == pytest.approx(float((values > top / 4 + top / 255 / 8).float().mean()))
    assert cause_of(values, 8 * top / 255)[0] == "calibration_range"
    assert cause_of(values, top / 127, low=-127, high=127)[0] == "asymmetric_on_symmetric"
    far = values * torch.tensor([40.0] + [1.0] * 15).view(1, 16, 1, 1)
    name, entry = cause_of(far, float(far.max()) / 255)
    assert (name, entry.outliers) == ("outlier_channels", (0,))
    small = values * torch.tensor([1e-4] * 5 + [1.0] * 11).view(1, 16, 1, 1)
    name, entry = cause_of(small, top / 255)
    assert (name, entry.zero_channels) == ("dead_channels", 5)
    name, _ = cause_of(values, top / 7, bits=3, high=7)
    assert name == "too_few_bits"


def test_a_zero_point_at_the_end_with_values_beyond_it_saturates():
    values = drawn(0, 1, 4, 8, 8)
    entry = metered(values, rounded(values, 0.02), scale=0.02)
    assert entry.zero_point_saturates
    assert causes([entry])[0].cause == "clipping"


def test_structure_is_compared(networks, pictures):
    base, quantized = networks[0], copy.deepcopy(networks[1])
    quantized.right.padding_mode = "replicate"
    figures = diagnose_modules(base, quantized, pictures[:1])
    findings = module_findings(base, quantized, figures, pictures[0])
    assert [(entry.cause, entry.tensor) for entry in findings] == [("graph_differs", "right.input")]


def test_a_layer_left_in_float_is_found(networks, pictures):
    spec = QuantSpec(layer_bits=(LayerBits("right", None, None),))
    quantized = assemble(networks[0], spec, calibrate(networks[0], pictures))
    figures = diagnose_modules(networks[0], quantized, pictures[:1])
    findings = module_findings(networks[0], quantized, figures, pictures[0])
    assert [(entry.cause, entry.tensor) for entry in findings] == [("left_in_float", "right.input")]


def test_branches_are_known_through_what_keeps_channels(networks, pictures):
    assert blocks_of(networks[1], pictures[0]) == {"mix.input": [6, 4]}


def test_no_picture_is_refused(networks):
    with pytest.raises(UsageError, match="no picture to diagnose on"):
        diagnose_modules(*networks, [])


DATA = Path(os.environ.get("QUANTVIZ_REAL_DATA", Path(__file__).parents[2] / "../shared/data")) / "onnx"
needs_files = pytest.mark.skipif(not DATA.is_dir(), reason=f"real ONNX files are not at {DATA}")


@needs_files
def test_numbers_are_those_of_qdq_loss_debug(tmp_path, photograph):
    from onnxruntime.quantization import qdq_loss_debug as peer

    from quantviz.layerwise.diagnosis.files import diagnose_pair
    from quantviz.networks.onnx_files import open_file, pair_of

    paths = DATA / "squeezenet1_1.float.onnx", DATA / "squeezenet1_1.ort-qdq-pc-quint8.onnx"
    inputs = [photograph("squeezenet1_1", name).numpy() for name in ("chelsea",)]
    given = []
    for path in paths:
        copied = tmp_path / path.name
        peer.modify_model_output_intermediate_tensors(str(path), str(copied))
        given.append(peer.collect_activations(str(copied), iter([{"input": values} for values in inputs])))
    matched = peer.create_activation_matching(given[1], given[0])
    activations = peer.compute_activation_error({name: entry for name, entry in matched.items() if "float" in entry})
    weights = peer.compute_weight_error(peer.create_weight_matching(str(paths[0]), str(paths[1])))
    figures = {entry.name: entry for entry in diagnose_pair(pair_of(*map(open_file, paths)), inputs, threads=1)}
    for name, expected in weights.items():
        assert figures[name].sqnr == pytest.approx(expected, abs=1e-4), name
    # Where a ReLU is fused into the rounding, the peer compares what stands before it with what stands behind it.
    same = [name for name in activations if (name in figures and figures[name].low < 0) or name == "input"]
    same += [name for name in activations if "Concat" in name or "MaxPool" in name]
    assert len(same) >= 10
    for name in same:
        if activations[name]["qdq_err"] > 200:  # the peer's number where there is no difference at all
            activations[name]["qdq_err"] = None
        assert figures[name].sqnr == pytest.approx(activations[name]["xmodel_err"], abs=1e-4), name
        assert figures[name].sqnr_isolated == pytest.approx(activations[name]["qdq_err"], abs=1e-4), name
    assert len(weights) == 52


def diagnosed(tensors, found):
    return Diagnosis("net", "simulation", "W8A8", {}, (("0" * 64, "a"),), tuple(tensors), tuple(found))


@pytest.fixture(scope="module")
def harmed(networks, pictures):
    """Return a diagnosis of the small network whose ``mix`` reads on too wide a grid."""
    quantized = copy.deepcopy(networks[1])
    quantizer = quantized.mix.input_quantizer
    quantizer.grid = replace(quantizer.grid, scale=quantizer.grid.scale * 10)
    tensors = diagnose_modules(networks[0], quantized, pictures)
    return diagnosed(tensors, causes(tensors))


def test_the_tensor_with_a_cause_is_ranked_first(harmed):
    assert harmed.ranking[0] == "mix.input"
    assert [cause.cause for cause in harmed.causes] == ["calibration_range"]
    assert set(harmed.ranking) == {entry.name for entry in harmed.tensors}


def test_a_small_bias_is_not_ranked_before_what_is_rounded_worse_in_the_sum(figures):
    """A bias lies on the step of sums, so that its own SQNR may be poor where it hardly counts."""
    site = Site("mix.bias", "mix", "bias", 32, np.array([0.01]), np.zeros(1, np.int64), -(2**31), 2**31 - 1)
    meter = Meter(site, len(figures))
    bias = drawn(3, 6) * 0.01
    meter.see(bias, bias, (bias / 0.01).round() * 0.01)
    small = meter.figures()
    others = [entry for name, entry in figures.items() if name != "mix.bias"]
    assert small.sqnr_isolated < min(entry.sqnr_isolated for entry in others if entry.sqnr_isolated is not None)
    ranking = diagnosed([*others, small], ()).ranking
    assert all(ranking.index("mix.bias") > ranking.index(entry.name) for entry in others if entry.site.role != "bias")
    measured = replace(small, drift=TensorDrift(0.5, 0.1, None))
    assert diagnosed([*others, measured], ()).ranking[0] == "mix.bias"


def test_a_report_has_no_number_that_json_lacks(harmed):
    report = json.loads(json.dumps(report_diagnosis(harmed, by_channel=True), allow_nan=False))
    assert [entry["name"] for entry in report["tensors"]] == [entry.name for entry in harmed.tensors]
    assert report["ranking"][0] == report["causes"][0]["tensor"] == "mix.input"
    assert set(report["causes"][0]) >= {"tensor", "cause", "figures", "remedy"}
    rows = csv_of(harmed).decode().splitlines()
    assert len(rows) == len(harmed.tensors) + 1
    assert b"calibration range" in html_of([harmed])


def test_other_tools_are_told_of_the_harmed_layer(harmed):
    nodes = json.loads(export(harmed, "onnxruntime"))
    assert "/mix/Conv" in nodes
    assert not any("stem" in name for name in nodes)
    scope = json.loads(export(harmed, "nncf"))
    (pattern,) = scope["patterns"]
    assert all(re.fullmatch(pattern, name) for name in ("Net/Conv2d[mix]/conv2d_0", "mix/conv2d/0", "/mix/Conv"))
    assert not re.fullmatch(pattern, "Net/Conv2d[remix]/conv2d_0")
    encodings = json.loads(export(harmed, "aimet"))
    (entry,) = encodings["activation_encodings"]
    tensor = harmed.tensor("mix.input")
    assert entry["scale"][0] * (255 + entry["offset"][0]) == pytest.approx(tensor.high, rel=0.01)
    overlay = json.loads(export(harmed, "model-explorer-accumulated"))
    known = [harmed.tensor(name).sqnr for name in ("mix.input", "mix.weight")]
    assert overlay["results"]["/mix/Conv_output_0"]["value"] == pytest.approx(min(filter(None, known)))
    assert overlay["name"] == "SQNR, accumulated, dB"
    with pytest.raises(UsageError, match="No drift was measured"):
        export(
            replace(harmed, tensors=tuple(replace(one, drift=None) for one in harmed.tensors)), "model-explorer-drift"
        )
    assert '"mix": "float"' in mended_bits(harmed, QuantSpec(), "squeezenet1_1").decode()
    with pytest.raises(UsageError, match="Tool 'x' is unknown"):
        export(harmed, "x")


def test_remedies_change_the_quantization():
    quant = QuantSpec(weight_bits=4)
    assert remedied(quant, "equalize", "a").equalize
    assert remedied(quant, "exclude", "a").bits_of("a") == (None, None)
    assert remedied(quant, "more_bits", "a").bits_of("a") == (8, 8)
    with pytest.raises(UsageError, match="changes nothing"):
        remedied(quant, "affine", "a")
    with pytest.raises(UsageError, match="takes another file"):
        remedied(quant, "fold", "a")


def test_every_cause_has_a_remedy_and_a_section_of_the_manual():
    sections = manual()
    assert list(sections) == list(CAUSES)
    for name, text in CAUSES.items():
        assert text.remedy in REMEDIES
        assert sections[name].startswith("## ")
        assert "| NNCF |" in sections[name] or "| PyTorch |" in sections[name]
