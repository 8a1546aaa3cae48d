"""Files in every form that quantizers write: matched with the float file, run as they are, and explained."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx_support import dynamic, pictures, quantized, rich, saved, small
from onnxruntime.quantization import QuantFormat, QuantType
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

from quantviz import cam
from quantviz.networks.onnx_files import open_file, pair_of
from quantviz.networks.onnx_files.network import LAYER, OnnxNetwork
from quantviz.specs import CamSpec, CheckpointError

MADE = Path(__file__).with_name("made")  # by tests/tools/make_onnx_pairs.py
QOPERATOR = QuantFormat.QOperator
EXAMPLES = pictures(3, seed=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("formats")


@pytest.fixture(scope="module")
def reference(folder):
    return saved(folder, rich())


def n_bits(path, form, bits=4, symmetric=True):
    """Return a file whose matrix is stored in blocks of integers, by ONNX Runtime's weight-only quantizer."""
    model = onnx.load(path)
    model.opset_import[0].version = 21
    config = DefaultWeightOnlyQuantConfig(
        block_size=16, is_symmetric=symmetric, quant_format=form, bits=bits, op_types_to_quantize=("MatMul",)
    )
    quantizer = MatMulNBitsQuantizer(model, algo_config=config)
    quantizer.process()
    return saved(path.parent, quantizer.model.model, f"bits-{form}-{bits}-{symmetric}.onnx")


def optimized(path, level):
    """Return what ONNX Runtime's optimizer makes of a file when it is told to save that."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path.with_name(f"optimized-{path.name}"))
    onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return Path(options.optimized_model_filepath)


def half(path, outside):
    return saved(path.parent, convert_float_to_float16(onnx.load(path), keep_io_types=outside), f"half{outside}.onnx")


EXTENDED = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
FORMS = {
    "qdq": (lambda path: quantized(path, "qdq.onnx"), "W8A8 QDQ"),
    "qdq-int8": (lambda path: quantized(path, "i8.onnx", activation_type=QuantType.QInt8), "W8A8 QDQ"),
    "qdq-uint16": (
        lambda path: quantized(path, "u16.onnx", activation_type=QuantType.QUInt16, weight_type=QuantType.QInt16),
        "W16A16 QDQ",
    ),
    "qdq-part": (lambda path: quantized(path, "part.onnx", op_types_to_quantize=["Conv"]), "W8A8 QDQ"),
    "qoperator": (lambda path: quantized(path, "q.onnx", quant_format=QOPERATOR, per_channel=False), "W8A8 QOperator"),
    "qoperator-channel": (lambda path: quantized(path, "qc.onnx", quant_format=QOPERATOR), "W8A8 QOperator"),
    "dynamic-uint8": (lambda path: dynamic(path, "du.onnx", weight_type=QuantType.QUInt8), "W8A8 dynamic"),
    "dynamic-channel": (
        lambda path: dynamic(
            path, "dc.onnx", weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul"]
        ),
        "W8A8 dynamic",
    ),
    "dynamic-optimized": (
        lambda path: optimized(dynamic(path, "do.onnx", weight_type=QuantType.QUInt8), EXTENDED),
        "W8A8 dynamic",
    ),
    "qdq-optimized": (lambda path: optimized(quantized(path, "qo.onnx"), EXTENDED), "W8A8 QOperator"),
    "float-optimized": (lambda path: optimized(path, EXTENDED), "FP32 float"),
    "4-bits-packed": (lambda path: n_bits(path, QOPERATOR), "W4A32 weight-only"),
    "4-bits-packed-affine": (lambda path: n_bits(path, QOPERATOR, symmetric=False), "W4A32 weight-only"),
    "8-bits-packed": (lambda path: n_bits(path, QOPERATOR, bits=8), "W8A32 weight-only"),
    "4-bits-blocks": (lambda path: n_bits(path, QuantFormat.QDQ), "W4A32 weight-only"),
    "half": (lambda path: half(path, False), "FP16 float16"),
    "half-inside": (lambda path: half(path, True), "FP16 float16"),
}


def check(pair, layer, least):
    """Hold a pair's map to the float file's, and the quantized network to the untouched file."""
    target, match = pair.target(layer)
    float_network = OnnxNetwork(pair.reference, target.tensor, EXAMPLES, set(), 1)
    network = OnnxNetwork(pair.quantized, match.quantized_tensor, EXAMPLES, pair.matching.fused(), 1)
    assert (pair.findings, network.refusal) == ((), "")
    # ONNX Runtime computes half precision in single where it may, and a further output moves where it may.
    exact = "16" not in pair.quantized.quantization.format
    assert network.held.logits <= (0 if exact else 1e-4 * network.held.span)
    assert network.held.tail <= 0.02 * network.held.span
    for image in pictures(3, seed=7):
        values = torch.from_numpy(image[None])
        first = cam.explain(float_network, values, CamSpec("gradcam", LAYER))
        second = cam.explain(network, values, CamSpec("gradcam", LAYER), first.class_index)
        assert np.corrcoef(first.native.values.ravel(), second.native.values.ravel())[0, 1] >= least


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_read_run_and_explained(name, reference):
    make, label = FORMS[name]
    pair = pair_of(open_file(reference), open_file(make(reference)))
    quantization = pair.quantized.quantization
    assert f"{quantization.label} {quantization.format}" == label
    for layer in (None, "both"):
        check(pair, layer, 0.98)


@pytest.mark.parametrize("opset", [11, 13, 19, 21, 23, 26])
def test_every_opset_is_explained(folder, opset):
    path = saved(folder, rich(opset), f"opset-{opset}.onnx")
    pair = pair_of(open_file(path), open_file(quantized(path, f"q-{opset}.onnx", per_channel=opset > 11)))
    check(pair, None, 0.98)


@pytest.mark.parametrize(
    ("reference", "name"),
    [("small", "nncf.onnx"), ("torch.onnx", "pt2e-x86.onnx"), ("torch.onnx", "pt2e-xnnpack.onnx")],
)
def test_files_of_other_tools(folder, reference, name):
    path = saved(folder, small(), "small.onnx") if reference == "small" else MADE / reference
    pair = pair_of(open_file(path), open_file(MADE / name))
    quantization = pair.quantized.quantization
    assert (quantization.label, quantization.format) == ("W8A8", "QDQ")
    check(pair, None, 0.98)
    check(pair, "added" if reference == "small" else "add", 0.98)


def test_an_opset_that_onnx_runtime_does_not_know_yet_is_named(folder):
    path = saved(folder, rich(26), "newest.onnx")
    model = onnx.load(quantized(path, "newest-int8.onnx"))
    model.opset_import[0].version = onnx.defs.onnx_opset_version()
    path = saved(folder, model, "too-new.onnx")
    with suppress(Exception):
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"], enable_fallback=0)
        pytest.skip("ONNX Runtime knows the newest opset of onnx")
    with pytest.raises(CheckpointError, match="export the network with an older opset than"):
        open_file(path)


def test_a_file_for_one_processor_is_refused(reference):
    path = optimized(reference, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    if not any(node.domain.endswith("nchwc") for node in onnx.load(path).graph.node):
        pytest.skip("ONNX Runtime has no blocked convolutions on this processor")
    with pytest.raises(CheckpointError, match="give the file from before"):
        open_file(path)
