"""Which tensor of an ONNX file holds what a layer of another network gives, by their values."""

from __future__ import annotations

from typing import Final

import numpy as np

from quantviz.networks.onnx_files.nodes import Array
from quantviz.networks.onnx_files.opened import Opened
from quantviz.networks.onnx_files.running import values_of
from quantviz.networks.onnx_files.targets import Target, plain
from quantviz.specs import UsageError

LEAST: Final = 0.5
"""The least correlation of two activations that are taken for the same one."""


def target_like(opened: Opened, picture: Array, activation: Array, layer: str) -> Target:
    """Return the target whose values on a picture correlate best with a layer's activation.

    The correlation does not depend on a grid's scale and zero point, so that integers are compared as they are.

    Args:
        opened: the file.
        picture: (1, 3, H, W) float32.
        activation: (C, h, w) of the layer for this picture.
        layer: the layer's name, for messages.

    Raises:
        CheckpointError: the file fails on the picture.
        UsageError: no tensor has the activation's shape and is like it.
    """
    same = [target for target in opened.targets if target.shape == activation.shape]
    shape = " x ".join(map(str, activation.shape))
    advice = "name one by layer = { float = ..., quantized = ... } in the card, or give a file of the same network"
    if not same:
        raise UsageError(f"{opened.file.name} has no tensor of {shape}, the shape of layer {layer!r}; {advice}.")
    names = list(dict.fromkeys(plain(target.tensor) for target in same))
    given = values_of(opened.file, names, opened.form.given(picture))
    likeness = [_correlation(given[plain(target.tensor)], activation) for target in same]
    best = int(np.argmax(likeness))
    if not likeness[best] >= LEAST:
        raise UsageError(
            f"No tensor of {opened.file.name} is like layer {layer!r}: the nearest, {same[best].tensor!r}, correlates "
            f"with it by {likeness[best]:.2f}; {advice}."
        )
    return same[best]


def _correlation(values: Array, activation: Array) -> float:
    """Return Pearson's correlation of a tensor (1, C, h, w) or (1, h, w, C) with an activation; 0 of constant ones."""
    values = values[0].astype(np.float64)
    if values.shape != activation.shape:
        values = values.transpose(2, 0, 1)
    first, second = values - values.mean(), activation - activation.mean(dtype=np.float64)
    size = float(np.sqrt((first * first).sum() * (second * second).sum()))
    return float((first * second).sum()) / size if size > 0 else 0.0
