"""The part of a network up to its CAM target as an ONNX file, and its ONNX Runtime session."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from quantviz.backends.split import FrontModule, NotSplittableError, Output

IMAGE, LOGITS = "image", "logits"
"""Names of the file's input, and of its last output where it goes on behind the target."""

_TOLERANCE = 1e-3
_LARGEST_BATCH = 1024
_SPIN_MICROSECONDS = "20"


def output_names(count: int) -> list[str]:
    """Return the names of the file's outputs: the target's activation, then what else the rest reads."""
    return ["activation", *(f"beside_{number}" for number in range(1, count))]


def exported(network: nn.Module, outputs: Sequence[Output], example: Tensor, *, logits: bool = False) -> bytes:
    """Return an ONNX model of what a network computes up to its target, for batches of any size.

    Initializers keep the parameters' dotted names behind ``network.``. What comes after the target is pruned.

    Args:
        network: in eval mode, its parameters without gradients; no thread may run any network meanwhile, as the export
            watches modules process-wide.
        outputs: from ``outputs_before``.
        example: one input (1, 3, H, W) float32, by which the model is checked.
        logits: whether the model goes on to the logits, its last output.

    Raises:
        NotSplittableError: the network cannot be exported, or ONNX Runtime does not give its values.
    """
    # Weights that lie channels last would be traced as such: a pooling then becomes a dozen nodes on shapes.
    contiguous = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    front = FrontModule(contiguous, outputs, logits=logits).eval()
    batch = example.expand(2, -1, -1, -1).contiguous()
    names = [*output_names(len(outputs)), *([LOGITS] if logits else [])]
    try:
        with _quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                front,
                (batch,),
                dynamo=True,
                verbose=False,
                input_names=[IMAGE],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("n", min=1, max=_LARGEST_BATCH)},),
            )
            data = _saved(program.model_proto)
    except Exception as error:  # the exporter's own errors have no common class
        raise NotSplittableError(f"The network cannot be exported to ONNX: {type(error).__name__}.") from error
    check_front(Session(data), FrontModule(network, outputs, logits=logits).eval(), example)
    return data


def parted(model: bytes) -> tuple[bytes, bytes]:
    """Return what an exported model with logits computes up to its target, and from there on, as two models.

    Args:
        model: from ``exported`` with ``logits``; the inputs of the second model are the outputs of the first.
    """
    import onnx
    from onnx.utils import Extractor

    whole = Extractor(onnx.load_from_string(model))
    names = [entry.name for entry in whole.graph.output if entry.name != LOGITS]
    front, rest = whole.extract_model([IMAGE], names), whole.extract_model(names, [LOGITS])
    return front.SerializeToString(), rest.SerializeToString()


def _saved(proto: Any) -> bytes:
    """Return a model's bytes without the exporter's notes, which name files of this machine."""
    for owner in (
        proto,
        proto.graph,
        *proto.graph.node,
        *proto.graph.input,
        *proto.graph.output,
        *proto.graph.value_info,
    ):
        del owner.metadata_props[:]
        owner.ClearField("doc_string")
    data: bytes = proto.SerializeToString()
    return data


def check_front(
    session: Callable[[Tensor], Sequence[Tensor]], front: FrontModule, example: Tensor, backend: str = "ONNX Runtime"
) -> None:
    """Refuse a session that does not give what the network gives.

    Raises:
        NotSplittableError: they differ by more than 1e-3 of the greatest value.
    """
    with torch.no_grad():
        expected = front(example)
    for first, second in zip(session(example), expected, strict=True):
        error = float((first - second).abs().max() / second.abs().max().clamp_min(1e-12))
        if not error < _TOLERANCE:
            raise NotSplittableError(f"{backend} differs from torch by {error:.2g} of the activation's range.")


class Session:
    """An ONNX Runtime session on the CPU; any number of threads may call it.

    Args:
        model: bytes of an ONNX model.
        threads: how many it computes in; their number decides the last bits of its outputs.
        fuse_integers: whether float operations between DequantizeLinear and QuantizeLinear become integer kernels.

    Raises:
        NotSplittableError: ONNX Runtime cannot read it.
    """

    def __init__(self, model: bytes, threads: int = 1, *, fuse_integers: bool = True) -> None:
        import onnxruntime  # here, so that who does not use it does not wait for it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that go to sleep between two nodes cost small networks a fifth of their time. Those that wait by
        # spinning for as long as they are wont to take the cores from torch's, which come next.
        options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_MICROSECONDS)
        # On any x86 processor this takes slower kernels, to the same bits where the usual ones do not overflow.
        options.add_session_config_entry("session.x64quantprecision", str(int(sums_overflow())))
        if not fuse_integers:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common class
            raise NotSplittableError(f"ONNX Runtime cannot read the exported network: {error}.") from error

        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Return the outputs for inputs (N, 3, H, W) float32, or whatever the model reads, float32."""
        return [torch.from_numpy(values) for values in self.arrays(*(values.numpy() for values in inputs))]

    def arrays(self, *inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Return the outputs for inputs (N, 3, H, W) float32, as arrays."""
        given = {name: np.ascontiguousarray(values) for name, values in zip(self._inputs, inputs, strict=True)}
        outputs: list[npt.NDArray[np.float32]] = self._session.run(None, given)
        return outputs


@lru_cache(maxsize=1)
def sums_overflow() -> bool:
    """Return whether ONNX Runtime's usual integer kernels for signed weights overflow on this processor.

    Those for x86 without the VNNI instructions add up pairs of products in 16 bits. It is tried with the greatest
    products there are, once in a process, which takes some milliseconds.
    """
    import onnxruntime  # here, because it takes long
    from onnx import TensorProto, helper, numpy_helper

    side, depth = 8, 64
    values, weight = np.full((side, depth), 255, np.uint8), np.full((depth, depth), 127, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["values", "weight"], ["sums"])],
        "overflow",
        [helper.make_tensor_value_info("values", TensorProto.UINT8, values.shape)],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, values.shape)],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"values": values})
    return bool((sums != 255 * 127 * depth).any())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes from the terminal."""
    import contextlib

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
