"""ONNX's operators in torch, held to ONNX Runtime's."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from quantviz.networks.onnx_files.operators import OPERATORS
from quantviz.networks.onnx_files.tail import _tensor

RANDOM = np.random.default_rng(0)
MAP = RANDOM.normal(size=(2, 6, 9, 8)).astype(np.float32)
ROWS = RANDOM.normal(size=(3, 10)).astype(np.float32)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def whole(*values):
    return np.array(values, np.int64)


CASES = [
    ("Conv", {"pads": [0, 1, 2, 1], "strides": [2, 1]}, [MAP, normal(4, 6, 3, 3), normal(4)], 17),
    ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, [MAP, normal(4, 6, 3, 3)], 17),
    ("Conv", {"auto_pad": "SAME_LOWER", "group": 3}, [MAP, normal(6, 2, 3, 2)], 17),
    ("ConvTranspose", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, [MAP, normal(6, 3, 3, 3), normal(3)], 17),
    ("Gemm", {"transB": 1, "alpha": 0.5, "beta": 2.0}, [ROWS, normal(4, 10), normal(4)], 17),
    ("Gemm", {"transA": 1}, [normal(10, 3), normal(10, 4), normal(3, 1)], 17),
    ("MatMul", {}, [normal(2, 3, 5), normal(5, 4)], 17),
    ("Clip", {}, [MAP, np.float32(-0.5), np.float32(0.5)], 17),
    ("Clip", {"min": 0.0, "max": 1.0}, [MAP], 10),
    ("BatchNormalization", {"epsilon": 1e-3}, [MAP, normal(6), normal(6), normal(6), np.abs(normal(6))], 17),
    ("LayerNormalization", {"axis": -1}, [MAP, normal(8), normal(8)], 17),
    ("InstanceNormalization", {}, [MAP, normal(6), normal(6)], 17),
    ("GroupNormalization", {"num_groups": 3}, [MAP, normal(6), normal(6)], 21),
    ("LRN", {"size": 3, "alpha": 0.01}, [MAP], 17),
    ("GlobalAveragePool", {}, [MAP], 17),
    ("GlobalMaxPool", {}, [MAP], 17),
    ("AveragePool", {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 2]}, [MAP], 17),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, [MAP], 17),
    ("AveragePool", {"kernel_shape": [4, 3], "strides": [3, 2], "ceil_mode": 1}, [MAP], 19),
    ("MaxPool", {"kernel_shape": [3, 3], "pads": [1, 0, 0, 1], "strides": [2, 2], "ceil_mode": 1}, [MAP], 17),
    ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2], "auto_pad": "VALID"}, [MAP], 17),
    ("ReduceMean", {"axes": [2, 3], "keepdims": 0}, [MAP], 17),
    ("ReduceMean", {}, [MAP, whole(-1, -2)], 18),
    ("ReduceSum", {"keepdims": 0}, [MAP], 17),
    ("ReduceMax", {"axes": [1]}, [MAP], 17),
    ("ReduceL2", {"axes": [1]}, [MAP], 17),
    ("Flatten", {"axis": 2}, [MAP], 17),
    ("Reshape", {}, [MAP, whole(0, -1, 8)], 17),
    ("Squeeze", {"axes": [0]}, [MAP[:1]], 11),
    ("Squeeze", {}, [MAP[:1, :1], whole(0, 1)], 17),
    ("Unsqueeze", {}, [ROWS, whole(0, 3)], 17),
    ("Transpose", {"perm": [0, 2, 3, 1]}, [MAP], 17),
    ("Transpose", {}, [ROWS], 17),
    ("Concat", {"axis": 1}, [MAP, 2 * MAP], 17),
    ("Slice", {}, [MAP, whole(1, -1), whole(100, -100), whole(1, 2), whole(2, -3)], 17),
    ("Slice", {"starts": [1], "ends": [3], "axes": [2]}, [MAP], 9),
    ("Gather", {"axis": 1}, [MAP, np.array([[0, -1], [2, 3]], np.int64)], 17),
    ("Pad", {}, [MAP, whole(0, 1, 0, 2, 0, 0, 1, 0), np.float32(0.5)], 17),
    ("Pad", {"mode": "reflect"}, [MAP, whole(0, 0, 1, 2, 0, 0, 2, 1)], 17),
    ("Expand", {}, [normal(3, 1), whole(2, 1, 4)], 17),
    ("Tile", {}, [ROWS, whole(2, 1)], 17),
    ("Softmax", {"axis": 1}, [MAP], 17),
    ("Softmax", {"axis": 1}, [MAP], 11),
    ("LogSoftmax", {}, [ROWS], 17),
    ("Div", {}, [whole(7, -7), whole(2, 2)], 17),
    ("Pow", {}, [np.abs(ROWS), np.float32(1.5)], 17),
    ("Mean", {}, [ROWS, 2 * ROWS, ROWS * ROWS], 17),
    ("Max", {}, [ROWS, -ROWS], 17),
    ("Where", {}, [ROWS > 0, ROWS, 2 * ROWS], 17),
    ("PRelu", {}, [MAP, normal(6, 1, 1)], 17),
    ("HardSigmoid", {"alpha": 0.3}, [MAP], 17),
    ("HardSwish", {}, [4 * MAP], 17),
    ("Gelu", {"approximate": "tanh"}, [MAP], 20),
    ("Shape", {"start": 1}, [MAP], 17),
    ("ConstantOfShape", {"value": numpy_helper.from_array(np.array([2.0], np.float32))}, [whole(2, 3)], 17),
    ("Cast", {"to": 7}, [whole(1, 2)], 17),
    ("DynamicQuantizeLinear", {}, [MAP], 17),
    (
        "MatMulInteger",
        {},
        [(ROWS * 40 + 128).astype(np.uint8), (normal(10, 4) * 40).astype(np.int8), np.uint8(128)],
        17,
    ),
    (
        "ConvInteger",
        {"pads": [1, 1, 1, 1]},
        [(MAP * 40 + 120).clip(0, 255).astype(np.uint8), (normal(4, 6, 3, 3) * 40).astype(np.uint8), np.uint8(120)],
        17,
    ),
    *((op, {}, [MAP], 22) for op in "Relu LeakyRelu Elu Selu Celu Sigmoid Mish Tanh Softplus Softsign Erf Exp".split()),
    *((op, {}, [np.abs(MAP) + 0.1], 17) for op in ("Log", "Sqrt", "Reciprocal", "Neg", "Abs", "Floor", "Ceil")),
    *((op, {}, [MAP, normal(6, 1, 1)], 17) for op in ("Add", "Sub", "Mul", "Div", "Sum", "Min", "Greater", "Less")),
]


def by_onnx_runtime(op, attributes, inputs, opset, outputs):
    names = [f"x{at}" for at in range(len(inputs))]
    given = [helper.make_tensor_value_info(f"y{at}", onnx.TensorProto.UNDEFINED, None) for at in range(outputs)]
    values = [np.asarray(value) for value in inputs]
    taken = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in zip(names, values, strict=True)
    ]
    node = helper.make_node(op, names, [entry.name for entry in given], **attributes)
    graph = helper.make_graph([node], "one", taken, [onnx.ValueInfoProto(name=entry.name) for entry in given])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names, values, strict=True)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[3]}")
def test_an_operator_gives_what_onnx_runtime_gives(case):
    op, attributes, inputs, opset = case
    count = 3 if op == "DynamicQuantizeLinear" else 1
    expected = by_onnx_runtime(op, attributes, inputs, opset, count)
    told = {name: helper.get_attribute_value(helper.make_attribute(name, value)) for name, value in attributes.items()}
    told = {name: value.decode() if isinstance(value, bytes) else value for name, value in told.items()}
    found = OPERATORS[op](told | {"opset": opset, "outputs": count}, *(_tensor(np.asarray(value)) for value in inputs))
    for value, wanted in zip(found if count > 1 else [found], expected, strict=True):
        assert tuple(value.shape) == wanted.shape
        assert np.allclose(value.numpy().astype(np.float64), wanted.astype(np.float64), rtol=1e-5, atol=2e-6)


def test_split_gives_each_part():
    expected = by_onnx_runtime("Split", {"axis": 1}, [MAP, whole(1, 2, 3)], 17, 3)
    found = OPERATORS["Split"]({"axis": 1, "opset": 17, "outputs": 3}, torch.from_numpy(MAP), torch.tensor([1, 2, 3]))
    assert all(np.array_equal(value.numpy(), wanted) for value, wanted in zip(found, expected, strict=True))
