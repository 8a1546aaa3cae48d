"""ONNX files as strangers might upload them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx_support import SIDE


def of_nodes(nodes, stored=(), shape=(1, 3, SIDE, SIDE)):
    """Return the bytes of a network of these nodes, from ``input`` to ``output``."""
    graph = helper.make_graph(
        nodes,
        "strange",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        stored,
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("strange", 1)], ir_version=8
    ).SerializeToString()


def endless():
    """Return a network with a loop that does not end."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["still"]), helper.make_node("Mul", ["kept", "kept"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("at", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    most = numpy_helper.from_array(np.array(2**62), "most")
    goes_on = numpy_helper.from_array(np.array(True), "condition")
    return of_nodes([helper.make_node("Loop", ["most", "condition", "input"], ["output"], body=body)], [most, goes_on])
