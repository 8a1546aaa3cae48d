"""Other libraries' reasons, told without where in their source they arose."""

import onnxruntime
import pytest
from onnx import TensorProto, helper

from quantviz.specs import reason_of, too_new


def refusal(ir_version, opset):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "one",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version, model.opset_import[0].version = ir_version, opset
    with pytest.raises(Exception) as caught:  # noqa: PT011, its errors have no common class
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return caught.value


@pytest.mark.parametrize(("ir_version", "opset", "told"), [(99, 18, "version: 99, max"), (10, 99, "till opset")])
def test_a_runtime_that_is_older_than_a_file_says_so(ir_version, opset, told):
    error = refusal(ir_version, opset)
    assert told in reason_of(error)
    assert "onnxruntime_src" not in reason_of(error)
    assert too_new(error)


def test_a_long_reason_keeps_its_beginning_and_its_end():
    text = reason_of(ValueError("first " + "x " * 400 + "last."))
    assert text.startswith("first")
    assert text.endswith("last")
    assert len(text) < 260
    assert reason_of(KeyError()) == "KeyError"
    assert not too_new(ValueError("version"))
