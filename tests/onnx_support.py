"""Small ONNX classifiers, and what toolchains make of them."""

import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn
from weights_support import REAL, real_weights

from quantviz import images, networks
from quantviz.networks.build import build
from quantviz.networks.preprocessing import IMAGENET

SIDE, CLASSES = 48, 7
LAST = "last"


def real_onnx(name):
    path = REAL / "onnx" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"no real ONNX file at {path}; set QUANTVIZ_REAL_DATA")
    return path


def real_pictures(count):
    folder = REAL / "imagenet-sample" / "val"
    if not folder.is_dir():
        pytest.skip(f"no real pictures at {folder}; set QUANTVIZ_REAL_DATA")
    paths = sorted(folder.glob("*/*.JPEG"))
    return paths[:: max(1, len(paths) // count)][:count]


def pictures(count=4, seed=0, side=SIDE):
    """Return inputs (count, 3, side, side), or of height and width, with structure: smooth shapes, a little noise."""
    random = np.random.default_rng(seed)
    height, width = side if isinstance(side, tuple) else (side, side)
    coarse = random.normal(size=(count, 3, 6, 6)).repeat(height // 6, 2).repeat(width // 6, 3)
    return (coarse + 0.3 * random.normal(size=coarse.shape)).astype(np.float32)


class Builder:
    """Writes a graph node by node, its weights drawn by a seed."""

    def __init__(self, seed=0):
        self.nodes, self.stored, self.random = [], [], np.random.default_rng(seed)

    def weight(self, name, values):
        self.stored.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def conv(self, source, name, channels, kernel=3, stride=1, group=1):
        weight = self.random.normal(size=(channels[1], channels[0] // group, kernel, kernel))
        scale = (2 / weight[0].size) ** 0.5
        inputs = [
            source,
            self.weight(f"{name}.weight", (weight * scale).astype(np.float32)),
            self.weight(f"{name}.bias", (0.1 * self.random.normal(size=channels[1])).astype(np.float32)),
        ]
        pads = [kernel // 2] * 4
        shape = {"kernel_shape": [kernel, kernel], "pads": pads, "strides": [stride, stride], "group": group}
        return self.node("Conv", inputs, name, **shape)

    def model(self, output, opset, batch="N", layout="NCHW", side=SIDE):
        sides = side if isinstance(side, tuple) else (side, side)
        shape = [batch, 3, *sides] if layout == "NCHW" else [batch, *sides, 3]
        graph = helper.make_graph(
            self.nodes,
            "small",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, CLASSES])],
            self.stored,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def small(opset=17, batch="N", layout="NCHW", softmax=False, seed=0, side=SIDE):
    """Return a network with a residual, a depthwise convolution, Relu and Clip, pooling and one linear layer."""
    make = Builder(seed)
    source = "input"
    if layout == "NHWC":
        source = make.node("Transpose", ["input"], "turned", perm=[0, 3, 1, 2])
    stem = make.node("Relu", [make.conv(source, "stem", (3, 8), stride=2)], "stem_relu")
    deep = make.conv(stem, "deep", (8, 8), group=8)
    limits = [make.weight("low", np.float32(0)), make.weight("high", np.float32(6))]
    deep = make.node("Clip", [deep, *limits], "deep_clip")
    point = make.conv(deep, "point", (8, 8), kernel=1)
    added = make.node("Add", [stem, point], "added")
    last = make.node("Relu", [make.conv(added, "conv_last", (8, 16), stride=2)], LAST)
    pooled = make.node("GlobalAveragePool", [last], "pooled")
    flat = make.node("Flatten", [pooled], "flat", axis=1)
    weight = make.weight("head.weight", make.random.normal(size=(CLASSES, 16)).astype(np.float32))
    bias = make.weight("head.bias", make.random.normal(size=CLASSES).astype(np.float32))
    logits = make.node("Gemm", [flat, weight, bias], "logits", transB=1)
    if softmax:
        logits = make.node("Softmax", [logits], "probabilities", axis=1)
    return make.model(logits, opset, batch, layout, side)


def rich(opset=17):
    """Return a network with a concatenation, a squeeze-and-excitation gate, pooling inside and SiLU at the end."""
    make = Builder(3)
    stem = make.node("LeakyRelu", [make.conv("input", "stem", (3, 8), stride=2)], "stem_act", alpha=0.1)
    left = make.node("Relu", [make.conv(stem, "left", (8, 8), kernel=1)], "left_relu")
    right = make.node("Relu", [make.conv(stem, "right", (8, 8))], "right_relu")
    both = make.node("Concat", [left, right], "both", axis=1)
    pooled = make.node("GlobalAveragePool", [both], "squeezed")
    gate = make.node("Sigmoid", [make.conv(pooled, "gate", (16, 16), kernel=1)], "gate_sigmoid")
    scaled = make.node("Mul", [both, gate], "scaled")
    smaller = make.node("AveragePool", [scaled], "smaller", kernel_shape=[2, 2], strides=[2, 2])
    last = make.conv(smaller, "conv_last", (16, 16))
    last = make.node("Mul", [last, make.node("Sigmoid", [last], "last_sigmoid")], LAST)
    flat = make.node("Flatten", [make.node("GlobalAveragePool", [last], "pooled")], "flat", axis=1)
    weight = make.weight("head.weight", make.random.normal(size=(16, CLASSES)).astype(np.float32))
    bias = make.weight("head.bias", make.random.normal(size=CLASSES).astype(np.float32))
    logits = make.node("Add", [make.node("MatMul", [flat, weight], "product"), bias], "logits")
    return make.model(logits, opset)


def saved(folder, model, name="float.onnx"):
    path = folder / name
    onnx.save(model, path)
    return path


class Pictures(CalibrationDataReader):
    def __init__(self, layout="NCHW", count=6, side=SIDE):
        values = pictures(count, seed=1, side=side)
        values = values.transpose(0, 2, 3, 1) if layout == "NHWC" else values
        self._left = iter([{"input": np.ascontiguousarray(entry[None])} for entry in values])

    def get_next(self):
        return next(self._left, None)


def quantized(path, name, layout="NCHW", side=SIDE, **options):
    """Return the path of what ONNX Runtime's static quantizer makes of a file."""
    given = {"quant_format": QuantFormat.QDQ, "per_channel": True, "weight_type": QuantType.QInt8} | options
    prepared = path.with_name(f"prepared-{name}")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), str(path.with_name(name)), Pictures(layout, side=side), **given)
    return path.with_name(name)


def dynamic(path, name, **options):
    """Return the path of what ONNX Runtime's dynamic quantizer makes of a file."""
    quantize_dynamic(str(path), str(path.with_name(name)), **options)
    return path.with_name(name)


REAL_PAIRS = {
    "squeezenet1_1.ort-qdq-pc-quint8": ("squeezenet1_1", "/features/features.12/Concat_output_0", "features.12"),
    "squeezenet1_1.ort-qoperator-pt-quint8": ("squeezenet1_1", "/features/features.12/Concat_output_0", "features.12"),
    "mobilenet_v2.ort-qdq-pc-qint8": (
        "mobilenet_v2",
        "/features/features.18/features.18.2/Clip_output_0",
        "features.18",
    ),
}


LITE = "efficientnet_lite0"


def real_module(name):
    """Return one of the real networks in torch."""
    spec = networks.spec(name)
    return build(spec, networks.resolve(spec, None if name == LITE else str(real_weights(name))))[0]


def real_input(path, name=""):
    preprocessing = networks.spec(LITE).weights[0].preprocessing if name == LITE else IMAGENET
    return torch.from_numpy(images.normalize(images.crop(images.load(path).rgb, preprocessing), preprocessing))


class Inputs(CalibrationDataReader):
    def __init__(self, paths):
        self._left = (real_input(path, LITE).numpy() for path in paths)

    def get_next(self):
        values = next(self._left, None)
        return None if values is None else {"input": values}


def lite_files(folder, calibration):
    """Return EfficientNet-Lite0's float file, as torch's older exporter writes it, and ONNX Runtime's int8 file of it.

    The float file keeps arithmetic on shapes for each padding; the int8 file does not.
    """
    path, prepared, int8 = (folder / f"{name}.onnx" for name in ("lite0", "prepared", "lite0-int8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and traces shapes
        names = {"input_names": ["input"], "output_names": ["logits"]}
        torch.onnx.export(
            real_module(LITE), real_input(calibration[0], LITE), path, dynamo=False, opset_version=17, **names
        )
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), str(int8), Inputs(calibration), per_channel=True, weight_type=QuantType.QInt8)
    return path, int8


def module_name(tensor):
    """Return the module that gives a tensor, from the name that torch's exporter made of it."""
    parts = []
    for part in tensor.strip("/").split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def twin(module, opened, matches):
    """Return a torch network whose weights lie on a file's grids and whose activations are rounded to them.

    It rounds by torch's own fake-quantize; ``matches`` are of the float file's tensors.
    """
    graph = opened.graph
    convolutions = [node for node in graph.nodes if node.op in ("Conv", "Gemm")]
    for name in [name for name, layer in module.named_modules() if isinstance(layer, nn.BatchNorm2d)]:
        parent, _, last = name.rpartition(".")
        activation = getattr(module.get_submodule(name), "act", nn.Identity())  # timm's norms have theirs within
        setattr(module.get_submodule(parent), last, activation)
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for node, layer in zip(convolutions, layers, strict=True):
        weight, bias = (real_values(graph, name) for name in node.inputs[1:3])
        layer.weight = nn.Parameter(torch.from_numpy(weight), requires_grad=False)
        layer.bias = nn.Parameter(torch.from_numpy(bias), requires_grad=False)
    grids = {entry.tensor: entry.grid for entry in opened.quantization.tensors if entry.role == "activation"}
    modules = dict(module.named_modules())

    def rounded_to(grid, values):
        limits = (float(grid.scale.item()), int(grid.zero_point.item()), grid.quant_min, grid.quant_max)
        return torch.fake_quantize_per_tensor_affine(values, *limits)

    rounded = 0
    for match in matches:
        grid, place = grids.get(match.quantized_tensor), module_name(match.float_tensor).removesuffix(".act")
        if grid is not None and place in modules and place:
            modules[place].register_forward_hook(lambda _module, _inputs, out, grid=grid: rounded_to(grid, out))
            rounded += 1
    assert rounded >= len(layers) - 1  # else the twin would be no twin
    module.register_forward_pre_hook(lambda _module, inputs: (rounded_to(grids["input"], inputs[0]),))
    return module


def real_values(graph, name):
    """Return the real values of a weight, which may be stored as integers."""
    if name in graph.constants:
        return graph.constants[name].copy()
    node = graph.producers[name]
    integers, scale = (graph.constants[entry] for entry in node.inputs[:2])
    zero = graph.constants[node.inputs[2]].astype(np.float64) if len(node.inputs) > 2 else np.zeros(1)
    wide = (-1,) + (1,) * (integers.ndim - 1)
    return ((integers.astype(np.float64) - zero.reshape(wide)) * scale.reshape(wide)).astype(np.float32)
