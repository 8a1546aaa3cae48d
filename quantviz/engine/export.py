"""The part of a network up to its CAM target as an ONNX file, and its ONNX Runtime session."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from quantviz.engine.split import FrontModule, NotSplittableError, Output

IMAGE = "image"
"""Name of the file's input."""

_TOLERANCE = 1e-3
_LARGEST_BATCH = 1024


def output_names(count: int) -> list[str]:
    """Return the names of the file's outputs: the target's activation, then what else the rest reads."""
    return ["activation", *(f"beside_{number}" for number in range(1, count))]


def exported(network: nn.Module, outputs: Sequence[Output], example: Tensor) -> bytes:
    """Return an ONNX model of what a network computes up to its target, for batches of any size.

    Initializers keep the parameters' dotted names behind ``network.``. What comes after the target is pruned.

    Args:
        network: in eval mode, its parameters without gradients; no thread may run any network meanwhile, as the export
            watches modules process-wide.
        outputs: from ``outputs_before``.
        example: one input (1, 3, H, W) float32, by which the model is checked.

    Raises:
        NotSplittableError: the network cannot be exported, or ONNX Runtime does not give its values.
    """
    front = FrontModule(network, outputs).eval()
    batch = example.expand(2, -1, -1, -1).contiguous()
    names = output_names(len(outputs))
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
    check_front(Session(data), front, example)
    return data


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
    session: Callable[[Tensor], Sequence[Tensor]], front: FrontModule, example: Tensor, engine: str = "ONNX Runtime"
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
            raise NotSplittableError(f"{engine} differs from torch by {error:.2g} of the activation's range.")


class Session:
    """An ONNX Runtime session on the CPU, with as many threads as torch has; any number of threads may call it.

    Args:
        model: bytes of an ONNX model.

    Raises:
        NotSplittableError: ONNX Runtime cannot read it.
    """

    def __init__(self, model: bytes) -> None:
        import onnxruntime  # here, so that who does not use it does not wait for it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        # Threads that wait for more work by spinning would take the cores from torch's, which come next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common class
            raise NotSplittableError(f"ONNX Runtime cannot read the exported network: {error}.") from error

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Return the outputs for inputs (N, 3, H, W) float32, float32."""
        return [torch.from_numpy(values) for values in self.arrays(image.numpy())]

    def arrays(self, image: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Return the outputs for inputs (N, 3, H, W) float32, as arrays."""
        found: list[npt.NDArray[np.float32]] = self._session.run(None, {IMAGE: np.ascontiguousarray(image)})
        return found


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
