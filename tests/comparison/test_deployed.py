"""Comparisons with ONNX Runtime: the float network by another backend, and the quantized one as deployed."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from quantviz import images
from quantviz.comparison import CompareRequest, Workbench, arrays, comparison_data, deployed_words
from quantviz.figures import maps_figure, paper_png, predictions_figure
from quantviz.specs import (
    CamSpec,
    LayerBits,
    Phase,
    QuantSpec,
    QuantvizError,
    UsageError,
    check_deployable,
    spec_of,
)
from quantviz.store import TensorStore

REQUEST = CompareRequest("squeezenet1_1", "untrained", backend="onnxruntime", deployed=True)
SAMPLE = images.bundled("chelsea")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def bench(folder):
    with TensorStore(folder / "tensors") as store:
        yield Workbench(store)


@pytest.fixture(scope="module")
def found(bench):
    return bench.compare(REQUEST, SAMPLE)


def test_the_deployed_map_is_close_to_the_simulated_one(found):
    deployed = found.deployed
    assert found.backend == "onnxruntime"
    assert set(deployed.scores) == {"deployed_v_quantized", "deployed_v_float", "deployed_v_saliency"}
    assert 0.99 < deployed.scores["deployed_v_quantized"].cc < 1
    assert deployed.result.class_index == found.reference.class_index
    assert set(deployed.milliseconds) == {"float", "quantized", "deployed"}
    assert min(deployed.milliseconds.values()) > 0


def test_the_float_map_is_that_of_torch(bench, found):
    plain = bench.compare(replace(REQUEST, backend="torch", deployed=False), SAMPLE)
    assert (plain.backend, plain.deployed) == ("torch", None)
    assert plain.key != found.key
    difference = np.abs(plain.reference.heatmap.values - found.reference.heatmap.values)
    assert 0 < difference.max() < 1e-3  # another backend rounds otherwise
    assert (plain.quantized_backend, found.quantized_backend) == ("torch", "onnxruntime")
    assert np.corrcoef(plain.quantized.heatmap.values.flat, found.quantized.heatmap.values.flat)[0, 1] > 0.999


def test_a_comparison_comes_back_from_the_store_as_it_was(bench, found):
    again = bench.compare(REQUEST, SAMPLE)
    assert again.cached
    assert comparison_data(again)["deployed"] == comparison_data(found)["deployed"]
    assert np.array_equal(again.deployed.result.heatmap.values, found.deployed.result.heatmap.values)


def test_an_export_is_kept_and_made_again_where_it_is_damaged(folder, found):
    def reported(workbench):
        phases = []
        workbench.compare(REQUEST, images.bundled("coffee"), lambda *report: phases.append(report[2]))
        return phases

    with TensorStore(folder / "tensors") as store:
        assert Phase.EXPORTING not in reported(Workbench(store))
    largest = max(
        (path for path in (folder / "tensors").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    with TensorStore(folder / "tensors") as store:
        workbench = Workbench(store)
        assert not workbench.backends.ready(workbench.subject(REQUEST), REQUEST.quant)


def test_the_json_tells_scores_predictions_flips_and_milliseconds(found):
    data = json.loads(json.dumps(comparison_data(found), allow_nan=False))
    assert data["backend"] == {"name": "onnxruntime", "quantized": "onnxruntime", "note": ""}
    block = data["deployed"]
    assert len(block["predictions"]) == 5
    assert block["flipped_from_float"] == (block["predictions"][0]["index"] != data["predictions"]["float"][0]["index"])
    assert block["scores"]["deployed_v_quantized"]["cc"] == found.deployed.scores["deployed_v_quantized"].cc
    assert set(block["milliseconds_on_this_machine"]) == {"float", "quantized", "deployed"}
    assert block["difference"] == deployed_words(found)
    assert block["difference"].count(".") >= 1
    assert {"deployed", "deployed_native"} <= set(arrays(found))


def test_a_flip_is_told_first(found):
    result = found.deployed.result
    turned = replace(result, predictions=result.predictions[::-1])
    words = deployed_words(replace(found, deployed=replace(found.deployed, result=turned)))
    assert turned.predictions[0].label in words
    assert words.startswith("Deployed and simulated differ")


def test_figures_have_a_third_model_where_there_is_one(found):
    titles = [entry.text for entry in maps_figure(found, opacity=0.5).layout.annotations]
    assert any("int8 deployed" in title for title in titles)
    assert len(predictions_figure(found).data) == 3
    without = replace(found, deployed=None)
    assert len(predictions_figure(without).data) == 2
    assert paper_png(found, dpi=60) != paper_png(without, dpi=60)


@pytest.mark.parametrize(
    ("quant", "told"),
    [
        (QuantSpec(4, 8), "W4A8"),
        (QuantSpec(8, None), "W8"),
        (QuantSpec(8, 8, layer_bits=(LayerBits("features.0", 4, 8),)), "mixed"),
        (spec_of("affine"), "affine weight grid"),
        (spec_of("naive"), "symmetric activation grid"),
        (QuantSpec(protocol="paper"), "protocol 'paper'"),
    ],
)
def test_a_scheme_without_a_deployed_form_is_refused_in_one_sentence(quant, told):
    with pytest.raises(UsageError, match=told) as caught:
        CompareRequest(quant=quant, deployed=True)
    assert str(caught.value).count(". ") == 0


@pytest.mark.parametrize(
    "scheme", ["standard", "per_tensor", "gptq", "best", "equalize", "mse_weights,bias_correction"]
)
def test_schemes_of_w8a8_with_integer_kernels_are_taken(scheme):
    check_deployable(spec_of(scheme))


def test_other_grids_and_corrected_biases_are_deployed(bench, tmp_path):
    for name in ("coffee", "flower", "rocket"):
        Image.fromarray(images.bundled(name).rgb).save(tmp_path / f"{name}.png")
    quant = spec_of("bias_correction,mse_weights,per_tensor", ranges="mse")
    found = bench.compare(replace(REQUEST, quant=quant, calibration=tmp_path, saliency=None), SAMPLE)
    assert found.deployed.scores["deployed_v_quantized"].cc > 0.99


def test_the_papers_protocol_and_layers_that_cannot_be_parted_stay_in_torch_and_say_so(bench):
    request = CompareRequest("squeezenet1_1", "untrained", QuantSpec(protocol="paper"), backend="onnxruntime")
    found = bench.compare(request, SAMPLE)
    assert found.backend == "torch"
    assert "calibrated protocol only" in found.backend_note
    request = CompareRequest("resnet50", "untrained", backend="onnxruntime")
    subject = replace(bench.subject(request), layer="layer4.2.relu")  # which runs three times
    reason = bench.backends.prepare(subject, QuantSpec(), lambda *_: None)
    assert reason.count(". ") == 0
    assert "cannot be parted" in reason
    with pytest.raises(QuantvizError, match="cannot be parted"):
        bench.backends.deployed(subject, QuantSpec(), lambda *_: None)


@pytest.mark.slow
def test_methods_of_many_passes_are_not_timed(bench):
    request = replace(REQUEST, cam=CamSpec("ablationcam", "features.3.squeeze"), backend="torch", saliency=None)
    found = bench.compare(request, SAMPLE)
    assert found.deployed.milliseconds == {}
    assert found.deployed.scores["deployed_v_quantized"].cc > 0.9


def wait_until(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_an_export_runs_in_a_process_of_its_own(tmp_path):
    with TensorStore(tmp_path / "tensors") as store:
        bench = Workbench(store)
        subject = bench.subject(REQUEST)
        options = ["--model", REQUEST.model, "--weights", "untrained", "--cache", str(tmp_path)]
        backends, quant = bench.backends, REQUEST.quant
        assert not backends.ready(subject, quant)
        assert backends.export_apart(subject, quant, ["prepare", *options])
        wait_until(lambda: not backends.at_work(subject, quant))
        assert not backends.export_apart(subject, quant, [])
        assert backends.ready(subject, quant)


def test_an_export_that_fails_says_why(tmp_path):
    with TensorStore(tmp_path / "tensors") as store:
        bench = Workbench(store)
        subject, wrong = bench.subject(REQUEST), ["prepare", "--model", "nonesuch"]
        assert bench.backends.export_apart(subject, REQUEST.quant, wrong)
        wait_until(lambda: not bench.backends.at_work(subject, REQUEST.quant))
        with pytest.raises(QuantvizError, match=r"export to ONNX failed: .*nonesuch"):
            bench.backends.export_apart(subject, REQUEST.quant, wrong)


def test_the_command_line_shows_the_third_network(run, folder, found):
    options = ["--model", "squeezenet1_1", "--weights", "untrained", "--backend", "onnxruntime", "--deployed"]
    status, told, complaint = run("compare", "chelsea", *options, "--cache", folder)
    assert (status, complaint) == (0, "")
    assert "deployed v simulated" in told
    assert "deployed top-5" in told
    assert deployed_words(found) in told
    assert "on this machine" in told


@pytest.mark.slow
def test_a_bias_that_int32_cannot_hold_raises_the_scale_of_its_weight(bench, tmp_path, float_model):
    state = {name: value.clone() for name, value in float_model("squeezenet1_1").state_dict().items()}
    state["features.3.expand3x3.weight"][:20] *= 1e-9  # as good as pruned, but for the bias
    state["features.3.expand3x3.bias"][:20] = 0.5
    save_file(state, tmp_path / "pruned.safetensors")
    request = CompareRequest("squeezenet1_1", str(tmp_path / "pruned.safetensors"), saliency=None, deployed=True)
    found = bench.compare(request, images.bundled("coffee"))
    assert found.deployed.raised_channels == 20
    assert found.deployed.scores["deployed_v_quantized"].cc > 0.99
    assert "In 20 channels the weight's scale was raised" in deployed_words(found)
    assert comparison_data(found)["deployed"]["raised_channels"] == 20
