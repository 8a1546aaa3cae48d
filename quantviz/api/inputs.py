"""What a user calls a picture, as a sample or as an input made already."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from quantviz import images
from quantviz.specs import ImageError, ImageSample, Preprocessing

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

Picture: TypeAlias = "str | Path | bytes | npt.NDArray[np.uint8] | Image.Image"


def sample_of(image: Picture) -> ImageSample:
    """Return the sample of a picture.

    Args:
        image: a path; the name of a bundled photograph; a file's bytes; a Pillow image; or an array, uint8 (H, W, 3).

    Raises:
        ImageError: it is none of these, or cannot be used.
    """
    if isinstance(image, str | Path):
        return images.picture(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return images.load(bytes(image))
    if isinstance(image, np.ndarray):
        return images.from_pixels(image)
    pillow = sys.modules.get("PIL.Image")  # whoever has such an image has imported it
    if pillow is not None and isinstance(image, pillow.Image):
        return images.from_pixels(image, name=Path(getattr(image, "filename", "") or "").name)
    raise ImageError(
        f"A {type(image).__name__} is no picture; give a path, a bundled photograph's name, a file's bytes, a Pillow "
        "image or a uint8 (H, W, 3) array."
    )


def is_tensor(value: object) -> bool:
    """Tell whether a value is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_module(value: object) -> bool:
    """Tell whether a value is a torch module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def input_of(tensor: Any, preprocessing: Preprocessing) -> tuple[ImageSample, Tensor]:
    """Return what an input made already shows, and the input itself, detached.

    Args:
        tensor: (1, 3, H, W) float32 on the CPU, normalized.
        preprocessing: its mean and deviation are undone, for the picture to show.

    Raises:
        ImageError: the tensor has another shape or type, or values that are not finite.
    """
    import torch

    if tensor.ndim != 4 or tensor.shape[:2] != (1, 3) or tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise ImageError(
            f"The input is a {tensor.dtype} tensor {tuple(tensor.shape)} on {tensor.device}; give one picture, float32 "
            "(1, 3, H, W) on the CPU."
        )
    values = np.ascontiguousarray(tensor.detach().numpy())
    if not np.isfinite(values).all():
        raise ImageError("The input holds NaN or infinity; give finite values.")
    mean, std = np.array((preprocessing.mean, preprocessing.std))
    levels = (values[0].transpose(1, 2, 0) * std + mean) * 255
    rgb = np.rint(levels.clip(0, 255)).astype(np.uint8)
    digest = hashlib.sha256(f"tensor {values.shape}".encode() + values.tobytes()).hexdigest()
    note = "the input was given as a tensor; the picture is what its normalization undone gives"
    return ImageSample(digest, rgb, "tensor", notes=(note,)), tensor.detach()
