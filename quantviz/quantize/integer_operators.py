"""The float twins of torch's operators on integers: eager and FX graph mode of ``torch.ao.quantization``.

``torch.ops.quantized`` computes on quantized tensors and has no gradients. A twin computes the same of real values,
with the weights that the integers stand for, before it would round: what a straight-through gradient goes through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket
from torch.nn import functional

Twin = Callable[..., Tensor]

_SPACE: Final = "quantized"
_GRID: Final = ("scale", "zero_point", "output_scale", "output_zero_point")
_WEIGHTED: Final = ("conv2d", "conv_transpose2d", "linear")


class IntegerOperators:
    """Twins of operators, with the weights that were unpacked for them; for one network, in one thread."""

    def __init__(self) -> None:
        # Packed weights by identity, held so that no other can have the same.
        self._unpacked: dict[int, tuple[Any, Tensor, Tensor | None]] = {}

    def weight(self, args: tuple[Any, ...]) -> Tensor | None:
        """Return the weight, quantized or of half precision, that an operator is given packed; None without one."""
        packed = _packed(args)
        return None if packed is None else self._weights(packed)[0]

    def twin(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what a function gives before it rounds, float32, with a gradient; None for one without a twin.

        Args:
            func: a function of torch, or an operator of ``torch.ops.quantized``.
            args: what it takes, with float tensors for quantized ones.
            kwargs: the same by names.
        """
        name = operator_name(func)
        if not name:
            return func(*args, **kwargs)
        base, rectified = _without_relu(name.removesuffix("_fp16").removesuffix("_dynamic"))
        kind = next((kind for kind in _WEIGHTED if base in (kind, f"{kind}_add", f"{kind}_leaky_relu")), "")
        if kind:
            found = self._weighted(kind, base.removeprefix(kind), args)
        elif base in _TWINS:
            found = _TWINS[base](*args, **{key: value for key, value in kwargs.items() if key not in _GRID})
        else:
            return None
        return functional.relu(found) if rectified else found

    def _weighted(self, kind: str, rest: str, args: tuple[Any, ...]) -> Tensor:
        packed = _packed(args)
        weight, bias = self._weights(packed)
        weight = weight.dequantize() if weight.is_quantized else weight.float()
        values = args[0]
        if kind == "linear":
            found = functional.linear(values, weight, bias)
        elif kind == "conv2d":
            found = functional.conv2d(values, weight, bias, packed.stride(), packed.padding(), *_spread(packed))
        else:
            shape = (packed.stride(), packed.padding(), packed.output_padding(), packed.groups(), packed.dilation())
            found = functional.conv_transpose2d(values, weight, bias, *shape)
        if rest == "_add":  # (values, added, packed, ...)
            added: Tensor = found + args[1]
            return added
        return functional.leaky_relu(found, args[4]) if rest == "_leaky_relu" else found

    def _weights(self, packed: Any) -> tuple[Tensor, Tensor | None]:
        if id(packed) not in self._unpacked:
            self._unpacked[id(packed)] = (packed, *packed.unpack())
        _, weight, bias = self._unpacked[id(packed)]
        return weight, bias


def operator_name(func: Any) -> str:
    """Return the name of an operator of ``torch.ops.quantized`` ("conv2d_relu"), "" for anything else."""
    if isinstance(func, OpOverload):
        name = str(func._schema.name)
    elif isinstance(func, OpOverloadPacket):
        name = str(func._qualified_op_name)
    else:
        return ""
    space, _, rest = name.partition("::")
    return rest if space == _SPACE else ""


def _without_relu(name: str) -> tuple[str, bool]:
    """Return the name of an operator without the ReLU that it ends in, and whether there was one."""
    if name.endswith("leaky_relu") or not name.endswith("_relu"):
        return name, False
    return name.removesuffix("_relu"), True


def _packed(args: tuple[Any, ...]) -> Any:
    return next((value for value in args[:3] if isinstance(value, torch.ScriptObject)), None)


def _spread(packed: Any) -> tuple[Any, Any]:
    return packed.dilation(), packed.groups()


def _normalized(function: Callable[..., Tensor]) -> Twin:
    """Return the twin of a normalization: (values, shape or groups, weight, bias, epsilon, scale, zero point)."""
    return lambda values, shape, weight, bias, epsilon, *_: function(values, shape, weight, bias, epsilon)


def _batch_norm(values: Tensor, weight: Any, bias: Any, mean: Tensor, variance: Tensor, epsilon: float, *_: Any) -> Any:
    return functional.batch_norm(values, mean, variance, weight, bias, eps=epsilon)


_TWINS: Final[dict[str, Twin]] = {
    "add": lambda first, second, *_: first + second,
    "add_scalar": lambda first, second, *_: first + second,
    "mul": lambda first, second, *_: first * second,
    "mul_scalar": lambda first, second, *_: first * second,
    "matmul": lambda first, second, *_: first @ second,
    "cat": lambda values, dim, *_: torch.cat(list(values), dim),
    "batch_norm": _batch_norm,
    "batch_norm2d": _batch_norm,
    "layer_norm": _normalized(functional.layer_norm),
    "group_norm": _normalized(functional.group_norm),
    "instance_norm": lambda values, weight, bias, epsilon, *_: functional.instance_norm(
        values, None, None, weight, bias, eps=epsilon
    ),
    "hardswish": lambda values, *_: functional.hardswish(values),
    "sigmoid": lambda values, *_: torch.sigmoid(values),
    "relu6": lambda values, *_: functional.relu6(values),
    "leaky_relu": lambda values, slope, *_: functional.leaky_relu(values, slope),
    "elu": lambda values, *rest: functional.elu(values, *rest[2:3]),
    "celu": lambda values, *rest: functional.celu(values, *rest[2:3]),
    "prelu": lambda values, weight, *_: functional.prelu(values, weight),
    "softmax": lambda values, dim, *_: torch.softmax(values, dim),
    "threshold": lambda values, least, value, *_: functional.threshold(values, least, value),
    "dropout": lambda values, *_: values,
}
