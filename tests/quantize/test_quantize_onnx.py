"""Quantized tensors and networks against ONNX's reference and ONNX Runtime."""

import copy
import io
import warnings
from functools import lru_cache
from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import quantize_support
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from quantize_support import GRANULARITIES, LITE, MOBILE, SCHEMES, SQUEEZE, layers_of
from torch import nn

from quantviz.quantize import (
    Grid,
    InputQuantizer,
    Ranges,
    assemble,
    weight_grid,
)
from quantviz.specs import (
    QuantSpec,
    scheme_name,
)

pictures, base, ranges = quantize_support.pictures, quantize_support.base, quantize_support.ranges


TYPES = {(4, False): TensorProto.UINT4, (4, True): TensorProto.INT4, (8, False): np.uint8, (8, True): np.int8}


@pytest.mark.parametrize(("bits", "scheme", "granularity"), list(product((4, 8), SCHEMES, GRANULARITIES)))
def test_rounding_agrees_with_onnxs_reference(bits, scheme, granularity):
    kind = (
        helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[8, scheme == "symmetric"]))
        if bits == 8
        else TYPES[4, scheme == "symmetric"]
    )
    weight = torch.randn(5, 40, generator=torch.Generator().manual_seed(bits)) * torch.logspace(-2, 2, 5)[:, None]
    grid = weight_grid(weight, bits, scheme, granularity)
    shape = [5] if granularity == "per_channel" else []
    scale = helper.make_tensor("scale", TensorProto.FLOAT, shape, grid.scale.tolist())
    zero = helper.make_tensor("zero", kind, shape, grid.zero_point.tolist())
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=0),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=0),
    ]
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [5, 40]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "rounding", floats[:1], floats[1:], [scale, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    expected = ReferenceEvaluator(model).run(None, {"x": weight.numpy()})[0]
    # Integer types have one value more than the narrow range, which nothing within the range is rounded to.
    assert np.array_equal(grid.round(weight).numpy(), expected)
    if granularity == "per_tensor":
        whole = Grid(float(grid.scale), int(grid.zero_point), grid.quant_min, grid.quant_max)
        assert np.array_equal(InputQuantizer(whole)(weight).numpy(), expected)


def with_rounding(model, network):
    """Return an exported float network with QuantizeLinear and DequantizeLinear where the quantized one rounds."""
    model, nodes, constants, used = copy.deepcopy(model), [], [], set()

    def constant(name, values):
        constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            layer = node.input[1].removesuffix(".weight")
            used.add(node.input[1])
            module = network.get_submodule(layer)
            if hasattr(module, "input_quantizer"):
                grid = module.input_quantizer.grid
                kind = np.int8 if grid.quant_min < 0 else np.uint8
                scale = [constant(f"{layer}.s", np.float32(grid.scale)), constant(f"{layer}.z", kind(grid.zero_point))]
                nodes.append(helper.make_node("QuantizeLinear", [node.input[0], *scale], [f"{layer}.q"]))
                nodes.append(helper.make_node("DequantizeLinear", [f"{layer}.q", *scale], [f"{layer}.x"]))
                node.input[0] = f"{layer}.x"
            grid = module.weight_grid
            kind = np.int8 if grid.quant_min < 0 else np.uint8
            parts = [grid.integers(module.weight).numpy(), grid.scale.numpy(), grid.zero_point.numpy()]
            if len(grid.scale) == 1:
                parts[1:] = [part[0] for part in parts[1:]]
            inputs = [constant(f"{layer}.w{place}", part.astype(dtype)) for place, (part, dtype) in enumerate(
                zip(parts, (kind, np.float32, kind), strict=True)
            )]  # fmt: skip
            nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{layer}.v"], axis=0))
            node.input[1] = f"{layer}.v"
        nodes.append(node)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in used]
    for field, values in ((model.graph.node, nodes), (model.graph.initializer, kept + constants)):
        del field[:]
        field.extend(values)
    assert {name.removesuffix(".weight") for name in used} == set(layers_of(network))
    return model


def session(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exported(base, photograph):
    @lru_cache(maxsize=4)
    def get(name):
        file = io.BytesIO()
        with warnings.catch_warnings():  # the exporter that keeps the parameters' names is the older one
            warnings.simplefilter("ignore")
            torch.onnx.export(
                base(name), (photograph(name),), file, dynamo=False, opset_version=21, do_constant_folding=False,
                input_names=["image"], output_names=["logits"],
            )  # fmt: skip
        return onnx.load_from_string(file.getvalue())

    return get


ORACLES = (QuantSpec(), QuantSpec(8, 8, "affine", "per_tensor", "symmetric"), QuantSpec(4, 8, "affine", ranges="mse"))


def distance(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("spec", ORACLES, ids=scheme_name)
@pytest.mark.parametrize("name", [LITE, SQUEEZE])
def test_every_layer_of_a_network_agrees_with_onnx_runtime(base, ranges, exported, pictures, name, spec):
    network, image = assemble(base(name), spec, ranges(name, spec.ranges)), pictures(name)[1]
    model, reads, makes = with_rounding(exported(name), network), {}, {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            reads[node.output[0].removesuffix(".q")] = node.input[0]
        if node.op_type in ("Conv", "Gemm"):
            makes[node.input[1].removesuffix(".v")] = node.output[0]
    assert set(reads) == set(makes) == set(layers_of(network))
    rounded = {layer: f"{layer}.x" for layer in reads}
    wanted = sorted({*reads.values(), *makes.values(), *rounded.values()} - {"image", "logits"})
    model.graph.output.extend(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None) for tensor in wanted)
    values = session(model).run(["logits", *wanted], {"image": image.numpy()})
    theirs = dict(zip(["logits", *wanted], map(torch.from_numpy, values), strict=True)) | {"image": image}
    for layer, module in layers_of(network).items():
        # Compared on what their layer read, padding included: a value halfway between two steps, which dividing by
        # the scale and multiplying by its inverse may round apart, would move all that follows.
        expected, step = theirs[rounded[layer]], module.input_quantizer.grid.scale
        apart = (module.input_quantizer(theirs[reads[layer]]) - expected).abs() / step
        assert float(apart.max()) < 1.01
        assert int((apart > 0.01).sum()) <= max(1, 1e-4 * apart.numel())
        if isinstance(module, nn.Linear):
            made = nn.functional.linear(expected, module.weight, module.bias)
        else:
            made = module._conv_forward(expected, module.weight, module.bias)
        assert distance(made, theirs[makes[layer]]) < 1e-5
    with torch.no_grad():
        expected, found, exact = theirs["logits"], network(image), base(name)(image)
    assert distance(found, expected) < 0.5 * distance(exact, expected)


@pytest.mark.parametrize("name", [LITE, MOBILE, SQUEEZE])
def test_a_whole_network_with_rounded_weights_agrees_with_onnx_runtime(base, exported, photograph, name):
    image = photograph(name, "rocket")
    for scheme, granularity in product(SCHEMES, GRANULARITIES):
        network = assemble(base(name), QuantSpec(8, None, scheme, granularity), Ranges({}, 0))
        expected = session(with_rounding(exported(name), network)).run(None, {"image": image.numpy()})[0]
        with torch.no_grad():
            found = network(image).numpy()
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
