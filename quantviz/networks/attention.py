"""torch's attention with its layers apart, so that each can be watched and quantized."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class SeparateAttention(nn.Module):
    """What an ``nn.MultiheadAttention`` computes in eval mode, by linear layers that are called as modules.

    torch's own holds the projections of queries, keys and values as one parameter, ``in_proj_weight``, and may run all
    of it in one function, where hooks on its layers see nothing.

    Args:
        fused: batch first, keys and values as wide as queries, without ``bias_k`` and ``add_zero_attn``; its weights
            are taken, not copied.
    """

    def __init__(self, fused: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = fused.num_heads
        width, bias = fused.embed_dim, fused.in_proj_bias is not None
        with torch.device("meta"):
            self.in_proj = nn.Linear(width, 3 * width, bias=bias)
        self.in_proj.weight = fused.in_proj_weight
        if bias:
            self.in_proj.bias = fused.in_proj_bias
        self.out_proj = fused.out_proj

    def forward(self, query: Tensor, key: Tensor, value: Tensor, **settings: Any) -> tuple[Tensor, None]:
        """Return the attended values, (N, n, C), and None in place of the weights.

        Args:
            query: (N, n, C).
            key: (N, m, C).
            value: (N, m, C).
            settings: ``attn_mask`` is added to the scores; ``need_weights`` must be False.
        """
        if settings.get("need_weights", True) or settings.get("key_padding_mask") is not None:
            raise NotImplementedError("SeparateAttention gives no weights and takes no padding mask")
        parts = [self.in_proj(query)] * 3
        if not (query is key is value):
            parts = [self.in_proj(values) for values in (query, key, value)]
        q, k, v = (part.chunk(3, dim=-1)[place] for place, part in enumerate(parts))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=settings.get("attn_mask"))
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None


def separate(model: nn.Module) -> None:
    """Put a ``SeparateAttention`` in place of each ``nn.MultiheadAttention`` of a model that it can stand for."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MultiheadAttention) and _plain(child):
                setattr(module, name, SeparateAttention(child).train(child.training))


def _plain(attention: nn.MultiheadAttention) -> bool:
    together = attention.in_proj_weight is not None
    return together and attention.batch_first and attention.bias_k is None and not attention.add_zero_attn
