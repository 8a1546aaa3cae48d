"""What a user calls a picture, as a sample or as an input made already."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from quantviz import images
from quantviz.specs import ImageError, ImageSample

if TYPE_CHECKING:
    from PIL import Image

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
