"""Saliency from any ONNX network that the user supplies, U2-Net style, on ONNX Runtime."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from quantviz.saliency.maps import resized, to_heatmap
from quantviz.specs import RGB, CheckpointError, Heatmap, foreign, limits, reason_of, too_new

MAX_BYTES = limits.ONNX_BYTES
"""Largest .onnx file that is opened; the full U2-Net has 168 MiB."""

DEFAULT_SIDE = 320
"""Side of the input where the network leaves it open, U2-Net's own."""

SIDES = range(16, 2049)
"""Input sides that are accepted."""

THREADS = 2

_MEAN = np.array((0.485, 0.456, 0.406), np.float32)  # ImageNet's, as U2-Net takes them
_STD = np.array((0.229, 0.224, 0.225), np.float32)
_NO_FOLDER = os.devnull  # no file can lie under it
_EXTERNAL = re.compile("external.data", re.IGNORECASE)


class OnnxSaliency:
    """A saliency network from an .onnx file, called with a picture.

    The picture is resized (bilinear, antialiased) to the network's input, divided by its largest value, and
    normalized with ImageNet's mean and standard deviation, as U2-Net does (X. Qin et al., "U2-Net: Going Deeper with
    Nested U-Structure for Salient Object Detection", Pattern Recognition 2020, doi 10.1016/j.patcog.2020.107404). The
    first output is min-max scaled and resized bilinearly to the picture. A network that was trained with another
    preprocessing gives worse maps, and no error.

    The file is a program of tensor operations: it cannot read or write other files here (weights stored beside it are
    refused), but nothing bounds its time and memory, so use files that you trust. Calls from several threads are safe.

    Attributes:
        name: the file's name.
        sha256: of the file's bytes, in hex.
        side: of the square input, in pixels.

    Args:
        path: an .onnx file of at most ``MAX_BYTES`` with one input, float32 (1, 3, S, S) with S in ``SIDES`` or open,
            whose first output is (1, 1, h, w) or (1, h, w).

    Raises:
        CheckpointError: the file cannot be read, is too large, is no ONNX network that ONNX Runtime can run on the
            CPU, keeps weights in another file, or has other inputs or outputs.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        data = _read(path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._session = _session(data, self.name)
        self._input, self.side = _input_of(self._session, self.name)
        self._output = _output_of(self._session, self.name)

    def __call__(self, rgb: RGB) -> Heatmap:
        """Predict the saliency of a picture.

        Args:
            rgb: uint8 (h, w, 3).

        Returns:
            A map at (h, w); degenerate where the picture has one colour (``"constant image"``) or where the
            network's output is constant or not finite.

        Raises:
            CheckpointError: the network fails, or its first output has another shape.
        """
        height, width = rgb.shape[:2]
        if (rgb == rgb[:1, :1]).all():
            return Heatmap(np.zeros((height, width), np.float32), "constant image")
        small = Image.fromarray(rgb).resize((self.side, self.side), Image.Resampling.BILINEAR)
        pixels = np.asarray(small, dtype=np.float32)
        pixels = (pixels / max(pixels.max(), np.float32(1)) - _MEAN) / _STD
        output = self._run(np.ascontiguousarray(pixels.transpose(2, 0, 1)[np.newaxis]))
        heatmap = to_heatmap(output)
        if heatmap.degenerate:
            return Heatmap(np.zeros((height, width), np.float32), heatmap.degenerate)
        return to_heatmap(resized(heatmap.values, height, width, Image.Resampling.BILINEAR))

    def _run(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        try:
            output = np.asarray(self._session.run([self._output], {self._input: pixels})[0])
        except Exception as error:  # a supplied network may fail in any way
            raise CheckpointError(
                f"{self.name} failed on an input of {self.side} x {self.side} ({reason_of(error)}); "
                "give a network like U2-Net."
            ) from None
        shape = output.shape
        if output.dtype.kind != "f" or len(shape) not in (3, 4) or set(shape[:-2]) != {1} or 0 in shape:
            raise CheckpointError(
                f"{self.name} has a first output of type {output.dtype} and shape {shape}; "
                "give a network whose first output is one map, float (1, 1, h, w) or (1, h, w)."
            )
        return output.reshape(shape[-2:])


def onnx_saliency(path: Path, rgb: RGB) -> Heatmap:
    """Predict a picture's saliency by an .onnx network, which stays open for the next call.

    Args:
        path: an .onnx file that ``OnnxSaliency`` accepts.
        rgb: uint8 (h, w, 3).

    Returns:
        A map at (h, w).

    Raises:
        CheckpointError: the file is one that ``OnnxSaliency`` refuses.
    """
    return open_network(path)(rgb)


def open_network(path: Path) -> OnnxSaliency:
    """Return the network of an .onnx file, opened again only when the file has changed.

    Raises:
        CheckpointError: the file is one that ``OnnxSaliency`` refuses.
    """
    status = _stat(path)
    return _opened(path.absolute(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2)  # networks are large
def _opened(path: Path, _size: int, _mtime: int) -> OnnxSaliency:
    return OnnxSaliency(path)


def _stat(path: Path) -> os.stat_result:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; give the path of an .onnx file.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read ({reason}); check its path and permissions.") from None
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{path} is not a regular file; give the path of an .onnx file.")
    if not 0 < status.st_size <= MAX_BYTES:
        raise CheckpointError(
            f"{path.name} has {status.st_size / 2**20:.1f} MiB; give an .onnx file of up to {MAX_BYTES >> 20} MiB."
        )
    return status


def _read(path: Path) -> bytes:
    _stat(path)  # first, since opening a named pipe would wait for ever
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check its path and permissions.") from None
    if len(data) > MAX_BYTES:
        raise CheckpointError(f"{path.name} has more than {MAX_BYTES >> 20} MiB; give a smaller .onnx file.")
    return data


def _session(data: bytes, name: str) -> Any:
    import onnxruntime  # here, so that who uses no network does not wait for it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    options.log_severity_level = 4  # its own lines on standard error would repeat ours
    options.use_deterministic_compute = True
    # Opened from bytes, a network may still name weight files in the working directory.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    try:
        # Without its fallback, which would print on standard output and try the same again.
        return onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # parsers of untrusted bytes raise nearly anything
        if _EXTERNAL.search(str(error)):
            raise CheckpointError(
                f"{name} keeps weights in another file, which is not read; save the network as one file."
            ) from None
        if found := foreign(data, "ONNX"):
            raise CheckpointError(
                found.sentence(name, "an ONNX network", "export the network as an .onnx file")
            ) from None
        advice = "for an older ONNX version, a lower opset and IR version" if too_new(error) else "as one .onnx file"
        raise CheckpointError(
            f"{name} is no ONNX network that can be run here ({reason_of(error)}); export it again {advice}."
        ) from None


def _input_of(session: Any, name: str) -> tuple[str, int]:
    """Return the name and side of the network's only input."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise CheckpointError(f"{name} has {len(inputs)} inputs; give a network with one, float (1, 3, S, S).")
    shape = [length if isinstance(length, int) and length > 0 else None for length in inputs[0].shape]
    sides = {length for length in shape[2:] if length}
    if (
        inputs[0].type != "tensor(float)"
        or len(shape) != 4
        or shape[0] not in (None, 1)
        or shape[1] not in (None, 3)
        or len(sides) > 1
        or not all(side in SIDES for side in sides)
    ):
        raise CheckpointError(
            f"{name} takes {inputs[0].type} of shape {tuple(inputs[0].shape)}; give a network that takes float "
            f"(1, 3, S, S) with S from {SIDES[0]} to {SIDES[-1]}."
        )
    return inputs[0].name, sides.pop() if sides else DEFAULT_SIDE


def _output_of(session: Any, name: str) -> str:
    outputs = session.get_outputs()
    if not outputs:
        raise CheckpointError(f"{name} has no output; give a network whose first output is one map.")
    return str(outputs[0].name)
