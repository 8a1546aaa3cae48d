"""Activations that lie otherwise than (N, C, h, w), as such tensors and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quantviz.specs import LAYOUT, GridLayout, UsageError


def layout_of(target: nn.Module) -> GridLayout | None:
    """Return the layout of a layer's output, None for (N, C, h, w)."""
    layout: GridLayout | None = getattr(target, LAYOUT, None)
    return layout


def to_grid(output: Tensor, layout: GridLayout | None) -> Tensor:
    """Return a layer's output as (N, C, h, w).

    Args:
        output: (N, C, h, w), or what ``layout`` says.
        layout: None for (N, C, h, w).

    Raises:
        UsageError: it is something else: the input has another size than the layout was found for.
    """
    if layout is None:
        if output.ndim != 4:
            raise UsageError("The target layer gives no feature map; name a convolution-stage layer.")
        return output
    if layout.kind == "channels last" and output.ndim == 4:
        return output.permute(0, 3, 1, 2)
    places = layout.height * layout.width
    if layout.kind != "tokens" or output.ndim != 3 or output.shape[1] != layout.prefix + places:
        raise UsageError(
            f"The target layer gives {tuple(output.shape)}, not {layout.prefix} and {layout.height} x {layout.width} "
            "tokens; use the input size that the network was made for."
        )
    tokens = output[:, layout.prefix :].transpose(1, 2)
    return tokens.reshape(*tokens.shape[:2], layout.height, layout.width)


def from_grid(values: Tensor, output: Tensor, layout: GridLayout | None) -> Tensor:
    """Return (N, C, h, w) values as the layer's output, with the other tokens that the output had.

    Args:
        values: (N, C, h, w).
        output: what the layer gave, for N inputs or for one.
        layout: of the output.
    """
    if layout is None:
        return values
    if layout.kind == "channels last":
        return values.permute(0, 2, 3, 1)
    tokens = values.flatten(2).transpose(1, 2)
    if not layout.prefix:
        return tokens
    others = output[:, : layout.prefix].detach()
    return torch.cat([others.expand(len(values), -1, -1), tokens], dim=1)
