"""A straight-through gradient for networks whose rounding has none: PT2E's graphs, torchao's tensors, torch's integers.

What a network computes stays bit for bit as it is. Behind a quantized value the gradient goes on as if it had not been
rounded, and is 0 where it was clipped, as that of ``torch.fake_quantize_per_tensor_affine`` (Y. Bengio, N. Leonard and
A. Courville, "Estimating or propagating gradients through stochastic neurons for conditional computation", 2013).
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from quantviz.quantize.integer_operators import IntegerOperators, operator_name

_NOTE = (
    "Rounding that has no gradient of its own was given a straight-through one, which is 0 where values are clipped."
)

_NAMESPACES = ("quantized_decomposed", "torchao", "quant", "pt2e_quant")
_WEIGHTED = (functional.linear, functional.conv1d, functional.conv2d, functional.conv3d)
_EAGER_QUANTIZE = (torch.quantize_per_tensor, torch.quantize_per_channel)
_EAGER_DEQUANTIZE = (torch.dequantize, torch.Tensor.dequantize)
_SUBCLASSES = "torchao"


class StraightThrough(TorchFunctionMode):
    """While it is active in a thread, roundings there have a straight-through gradient.

    - Quantize and dequantize operators of ``torch.ops`` (``quantized_decomposed``, torchao's), and of torch's quantized
      tensors: what one gives and the other reads.
    - Linear and convolution layers whose weight is one of torchao's tensors: the gradient is that of the layer with the
      weight dequantized; the rounding of its input passes it on.
    - Whatever computes on torch's quantized tensors, as the modules of ``torch.ao.quantization.convert`` and
      ``convert_fx`` do: the gradient is that of the same operation on the values that the integers stand for.

    Attributes:
        given: whether a gradient was given to anything.
        weight_bits: of weights that were read.
        act_bits: of activations that were read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.given = False
        self.weight_bits: set[int] = set()
        self.act_bits: set[int] = set()
        self._operators = IntegerOperators()
        # Integers -> what was rounded, and the grid's ends; gone with the integers.
        self._quantized: Any = WeakTensorKeyDictionary()

    @property
    def label(self) -> str:
        """The bits that were read: ``"W8A8"``, ``"W4"`` where activations stay float; "" where none or several were."""
        if len(self.weight_bits) != 1 or len(self.act_bits) > 1:
            return ""
        acts = "".join(f"A{bits}" for bits in self.act_bits)
        return f"W{next(iter(self.weight_bits))}{acts}"

    @property
    def note(self) -> str:
        """What a reader of a map has to know where a gradient was given."""
        return _NOTE

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function, with a gradient where it rounds."""
        kwargs = kwargs or {}
        kind = _kind(func)
        if kind == "quantize":
            return self._quantize(func, args, kwargs)
        if kind == "dequantize":
            return self._dequantize(func, args, kwargs)
        if func in _WEIGHTED:
            values, weight = _of_layer(args, kwargs)
            if is_quantized_tensor(weight):
                return self._weighted(func, values, weight, args, kwargs)
        if operator_name(func) or self._tracked((*args, *kwargs.values())):
            return self._on_integers(func, args, kwargs)
        return func(*args, **kwargs)

    def _quantize(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        values = args[0]
        with torch.no_grad():
            integers = func(*args, **kwargs)
        limits = _limits(func, args, kwargs, integers)
        self.act_bits.add(_bits(limits))
        self._quantized[integers] = values, limits
        return integers

    def _dequantize(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        integers = args[0]
        values, limits = self._quantized.get(integers, (None, (0, 0)))
        if values is None:  # stored as integers
            self.weight_bits.add(_bits(_limits(func, args, kwargs, integers)))
        if values is None or not (values.requires_grad and torch.is_grad_enabled()):
            return func(*args, **kwargs)
        with torch.no_grad():
            exact = func(*args, **kwargs)
            inside = _inside(func, args, kwargs, values, exact, limits)
        self.given = True
        return _Exact.apply(values, exact, inside)

    def _weighted(
        self, func: Any, values: Tensor, weight: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.weight_bits.add(stored_bits(weight))
        if dynamic := _dynamic_bits(weight):
            self.act_bits.add(dynamic)
        if not (values.requires_grad and torch.is_grad_enabled()):
            return func(*args, **kwargs)
        with torch.no_grad():
            exact = func(*args, **kwargs)
            plain = weight.dequantize()
        rest = {name: value for name, value in kwargs.items() if name not in ("input", "weight")}
        smooth = func(values, plain, *args[2:], **rest)
        self.given = self.given or bool(dynamic)
        return _Exact.apply(smooth, exact, None)

    def _on_integers(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function of quantized tensors, or with a packed weight, and keep what it gives before it rounds."""
        weight = self._operators.weight(args) if operator_name(func) else None
        dynamic = "_dynamic" in operator_name(func)
        if weight is not None and weight.is_quantized:
            self.weight_bits.add(8)
            self.act_bits |= {8} if dynamic else set()
        if not torch.is_grad_enabled() or getattr(func, "__name__", "") == "__get__":
            return func(*args, **kwargs)
        values, options = self._real(args), self._real(kwargs)  # before the function, which may work in place
        with torch.no_grad():
            exact = func(*args, **kwargs)
        several = list(exact) if isinstance(exact, tuple | list) else [exact]
        if not all(isinstance(one, Tensor) and (one.is_quantized or dynamic) for one in several):
            return exact
        smooth = self._operators.twin(func, values, options)
        if dynamic and smooth is not None and smooth.requires_grad:
            self.given = True
            return _Exact.apply(smooth, exact, None)
        for one, real in zip(several, smooth if isinstance(smooth, tuple | list) else [smooth], strict=True):
            if not dynamic and real is not None and real.requires_grad:
                self._quantized[one] = real, _limits(func, args, kwargs, one)
        return exact

    def _tracked(self, values: Any) -> bool:
        """Tell whether what a function is given holds quantized tensors that have a gradient."""
        if isinstance(values, tuple | list):
            return any(self._tracked(value) for value in values)
        return isinstance(values, Tensor) and values.is_quantized and values in self._quantized

    def _real(self, values: Any) -> Any:
        """Return what a function is given with quantized tensors as the values that they stand for."""
        if isinstance(values, dict):
            return {name: self._real(value) for name, value in values.items()}
        if isinstance(values, tuple | list):
            return type(values)(self._real(value) for value in values)
        if isinstance(values, Tensor) and values.is_quantized:
            return self._dequantize(torch.dequantize, (values,), {})
        return values


class _Exact(torch.autograd.Function):
    """Gives ``exact``, and its gradient to ``values``, where ``inside`` holds."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, exact: Tensor, inside: Tensor | None) -> Tensor:
        ctx.inside, ctx.kind = inside, values.dtype
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gradient = gradients[0] if ctx.inside is None else gradients[0] * ctx.inside
        return gradient.to(ctx.kind), None, None


def is_quantized_tensor(value: Any) -> bool:
    """Tell whether a tensor is one of torchao's, which hold integers and scales."""
    return isinstance(value, Tensor) and type(value).__module__.partition(".")[0] == _SUBCLASSES


def stored_bits(value: Any) -> int:
    """Return the bits of the integers that one of torchao's tensors holds."""
    if named := re.search(r"int(\d+)$", str(getattr(value, "target_dtype", ""))):
        return int(named[1])
    for limit in ("quant_min", "quant_max"):
        if getattr(value, limit, None) is None:
            break
    else:
        return _bits((int(value.quant_min), int(value.quant_max)))
    inner = getattr(value, "qdata", None)
    return 8 * inner.element_size() if isinstance(inner, Tensor) else 8 * value.element_size()


def _kind(func: Any) -> str:
    """Return ``"quantize"``, ``"dequantize"`` or ``""``."""
    if isinstance(func, OpOverload | OpOverloadPacket):
        name = str(func._name) if isinstance(func, OpOverload) else str(func._qualified_op_name)
        space, _, rest = name.partition("::")
        if space not in _NAMESPACES or "float" in rest:
            return ""
        return "dequantize" if rest.startswith("dequantize") else "quantize" if rest.startswith("quantize") else ""
    if func in _EAGER_QUANTIZE:
        return "quantize"
    return "dequantize" if func in _EAGER_DEQUANTIZE else ""


def _limits(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], integers: Any) -> tuple[int, int]:
    """Return the least and the greatest integer, as the operator's arguments say, else of the integers' type."""
    found: dict[str, Any] = {}
    if isinstance(func, OpOverloadPacket):
        packet: Any = func
        func = getattr(packet, packet.overloads()[0])
    if isinstance(func, OpOverload):
        names = [argument.name for argument in func._schema.arguments]
        found = dict(zip(names, args, strict=False)) | kwargs
    low, high = found.get("quant_min"), found.get("quant_max")
    if isinstance(low, int | float) and isinstance(high, int | float):
        return int(low), int(high)
    if integers.is_quantized:
        integers = integers.int_repr()
    info = torch.iinfo(integers.dtype)
    return info.min, info.max


def _bits(limits: tuple[int, int]) -> int:
    return math.ceil(math.log2(limits[1] - limits[0] + 1))


def _inside(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], values: Tensor, exact: Tensor, limits: tuple[int, int]
) -> Tensor:
    """Return where values were not clipped: within half a step of the value that stands for them, or not at an end."""
    integers = args[0]
    plain = integers.int_repr() if integers.is_quantized else integers
    at_end = (plain == limits[0]) | (plain == limits[1])
    if integers.is_quantized:
        scales = integers.q_per_channel_scales() if integers.qscheme() != torch.per_tensor_affine else None
        if scales is None:
            step = torch.tensor(integers.q_scale())
        else:
            shape = [1] * plain.ndim
            shape[integers.q_per_channel_axis()] = -1
            step = scales.reshape(shape)
    else:
        inner = torch.where(plain == limits[1], plain - 1, plain + 1)
        step = (func(inner, *args[1:], **kwargs) - exact).abs()
    inside: Tensor = ~at_end | ((values - exact).abs() <= step * (0.5 + 1e-4))
    return inside


def _of_layer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    given = dict(zip(("input", "weight"), args, strict=False)) | kwargs
    return given["input"], given["weight"]


def _dynamic_bits(weight: Any) -> int:
    """Return the bits that a torchao weight has its layer's input rounded to; 0 where it is not."""
    if getattr(weight, "act_quant_kwargs", None) is not None or "ActivationQuantized" in type(weight).__name__:
        return 8
    return 0
