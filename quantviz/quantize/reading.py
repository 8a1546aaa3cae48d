"""What a network reads beside the inputs of its layers, as modules that can be watched and rounded.

Attention multiplies activations by activations, and some networks use a linear layer's weight without calling the
layer (torchvision's Swin, BEiT, EVA). Neither shows to hooks on layers. So where a module calls such functions by
itself, they are led through modules of its own:

- Every matrix product of two activations (``@``, ``matmul``, ``bmm``, ``einsum``) reads its factors through a
  ``Reading`` each. ``scaled_dot_product_attention`` is taken apart: softmax(q kᵀ scale + mask) v, so that q, k, the
  softmax's output and v are read.
- What layer norms (also RMS and group norms) give is read by a ``Reading``.
- ``functional.linear`` with the weight of a layer of the module becomes a call of that layer.

In float all of it computes what the network computed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from quantviz.quantize._hooks import QUANTIZED, hooks
from quantviz.specs import QuantvizError

_READ = "read_products"
_GIVEN = "given"
_MATMULS = (torch.matmul, torch.Tensor.matmul, torch.bmm, torch.Tensor.bmm)
_ATTENTION = functional.scaled_dot_product_attention
_NORM = re.compile(r"LayerNorm|RMSNorm|RmsNorm|GroupNorm")
_RUNNING = threading.local()

T = TypeVar("T")


class Reading(nn.Module):
    """Gives what it is given; stands where a value that is no layer's input is read.

    Args:
        anchor: dotted name of the layer that ran before it, whose activation bits it has.
    """

    def __init__(self, anchor: str) -> None:
        super().__init__()
        self.anchor = anchor

    def forward(self, values: Tensor) -> Tensor:
        """Return ``values``."""
        return values


class _Products(nn.Module):
    """What a module calls by itself, in order: each product's readings; and the layers whose weights it uses.

    Args:
        sites: readings for each product.
        layers: names, within the module, of layers that it does not call.
    """

    def __init__(self, sites: list[list[Reading]], layers: list[str]) -> None:
        super().__init__()
        self.sites = nn.ModuleList(nn.ModuleList(readings) for readings in sites)
        self.layers = layers


def readings(model: nn.Module) -> list[tuple[str, Reading]]:
    """Return the readings of a network by name, in the order of registration."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, Reading)]


def lead_through(model: nn.Module, example: Tensor) -> bool:
    """Lead what a network reads beside its layers' inputs through modules, in place.

    Args:
        model: in eval mode, on the CPU.
        example: one input (1, 3, H, W).

    Returns:
        Whether there was anything to lead.
    """
    found = _Found(model)
    with found.watching(), torch.no_grad():
        model(example)
    names = {module: name for name, module in model.named_modules()}
    owners = dict.fromkeys((*found.products, *found.layers))
    for inner in {module for owner in owners for module in owner.modules()} - set(owners):
        inner.register_forward_pre_hook(_begin_inner)
        inner.register_forward_hook(_end_inner, always_call=True)
    for owner in owners:
        used = [names[layer].removeprefix(f"{names[owner]}.") for layer in found.layers.get(owner, ())]
        sites = [[Reading(anchor) for _ in range(count)] for count, anchor in found.products.get(owner, ())]
        owner.add_module(_READ, _Products(sites, used).eval())
        owner.forward = MethodType(_led, owner)
    for norm, anchor in found.norms.items():
        norm.add_module(_GIVEN, Reading(anchor).eval())
        norm.register_forward_hook(_read_given)
    return bool(found.products or found.layers or found.norms)


class _Found:
    """What a forward pass shows of the functions that modules call by themselves."""

    def __init__(self, model: nn.Module) -> None:
        self.products: dict[nn.Module, list[tuple[int, str]]] = {}
        self.layers: dict[nn.Module, list[nn.Module]] = {}
        self.norms: dict[nn.Module, str] = {}
        self._model = model
        self._stack: list[nn.Module] = []
        self._anchor = ""
        named = model.named_modules()
        self._weights = {id(layer.weight): (name, layer) for name, layer in named if isinstance(layer, nn.Linear)}
        self._names: dict[nn.Module, str] = {
            layer: name for name, layer in model.named_modules() if isinstance(layer, QUANTIZED)
        }

    @contextmanager
    def watching(self) -> Iterator[None]:
        modules = list(self._model.modules())
        handles = [module.register_forward_pre_hook(self._begin) for module in modules]
        handles += [module.register_forward_hook(self._end) for module in modules]
        with hooks(handles), _Watcher(self.note):
            yield

    def note(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        owner = self._stack[-1] if self._stack else self._model
        if count := _factors(func, args):
            self.products.setdefault(owner, []).append((count, self._anchor))
        elif func is functional.linear and id(_linear(args, kwargs)[1]) in self._weights:
            name, layer = self._weights[id(_linear(args, kwargs)[1])]
            if layer is not owner and layer in owner.modules():
                self.layers.setdefault(owner, []).append(layer)
                self._anchor = name

    def _begin(self, module: nn.Module, _inputs: Any) -> None:
        self._stack.append(module)
        self._anchor = self._names.get(module, self._anchor)

    def _end(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        self._stack.pop()
        if _NORM.search(type(module).__name__) and isinstance(output, Tensor):
            self.norms[module] = self._anchor


class _Watcher(TorchFunctionMode):
    def __init__(self, note: Callable[[Any, tuple[Any, ...], Mapping[str, Any]], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._note(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


class _Leading(TorchFunctionMode):
    """While a module's own forward runs: its products read through readings, its layers are called."""

    def __init__(self, owner: nn.Module) -> None:
        super().__init__()
        products = owner.get_submodule(_READ)
        assert isinstance(products, _Products)
        self.owner, self._sites, self._at = owner, products.sites, 0
        layers = (owner.get_submodule(name) for name in products.layers)
        self._layers: Mapping[int, nn.Module] = {id(layer.weight): layer for layer in layers}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _running()[-1] is not self:  # a module inside, or a function that is led already
            return func(*args, **kwargs)
        if func is functional.linear:
            values, weight, bias = _linear(args, kwargs)
            layer = self._layers.get(id(weight))
            return func(*args, **kwargs) if layer is None else _by_layer(layer, values, bias)
        if not _factors(func, args):
            return func(*args, **kwargs)
        read, counts = self._next(), getattr(_RUNNING, "counts", None)
        if counts is None:
            return _product(read, func, args, kwargs)
        anchor = read[0].anchor
        result, products = _counted(lambda: _product(read, func, args, kwargs))
        counts[anchor] = counts.get(anchor, 0) + products
        return result

    def _next(self) -> Any:
        if self._at == len(self._sites):
            kind = type(self.owner).__name__
            raise QuantvizError(f"{kind} multiplies activations more often for some inputs; quantize another network.")
        self._at += 1
        return self._sites[self._at - 1]


@contextmanager
def counted_products() -> Iterator[dict[str, int]]:
    """Count the multiply-accumulates of products of activations that this thread runs in a block.

    Yields:
        Layer that ran before a product -> their number.
    """
    counts: dict[str, int] = {}
    _RUNNING.counts = counts
    try:
        yield counts
    finally:
        _RUNNING.counts = None


def _counted(product: Callable[[], T]) -> tuple[T, int]:
    """Return what a product gives, and its multiply-accumulates."""
    from torch.utils.flop_counter import FlopCounterMode  # it imports triton, which networks of convolutions never need

    with FlopCounterMode(display=False) as counter:
        return product(), counter.get_total_flops() // 2


def _product(read: Any, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return a product whose factors are read through readings."""
    if func is _ATTENTION:
        return _attention(read, *args, **kwargs)
    if func is torch.einsum:
        factors = args[1] if len(args) == 2 and isinstance(args[1], list | tuple) else args[1:]
        return torch.einsum(args[0], *(one(values) for one, values in zip(read, factors, strict=True)))
    return torch.matmul(read[0](args[0]), read[1](args[1]))


def _factors(func: Any, args: tuple[Any, ...]) -> int:
    """Return how many values a function reads through readings: 0 where it is no product of activations."""
    if func is _ATTENTION:
        return 4
    if func in _MATMULS:
        return 2 * (not any(isinstance(value, nn.Parameter) for value in args[:2]))
    if func is torch.einsum:
        factors = args[1] if len(args) == 2 and isinstance(args[1], list | tuple) else args[1:]
        return len(factors) * (len(factors) > 1 and not any(isinstance(value, nn.Parameter) for value in factors))
    return 0


def _attention(
    read: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return softmax(q kᵀ scale + mask) v, as torch documents it, without dropout."""
    query, key, value = read[0](query), read[1](key), read[3](value)
    if is_causal or enable_gqa:
        raise QuantvizError("Causal and grouped attention cannot be quantized; use another network.")
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    weights: Tensor = read[2](scores.softmax(dim=-1))
    return weights @ value


def _linear(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Return input, weight and bias of a call of ``functional.linear``."""
    given = dict(zip(("input", "weight", "bias"), args, strict=False)) | dict(kwargs)
    return given["input"], given["weight"], given.get("bias")


def _by_layer(layer: nn.Module, values: Tensor, bias: Tensor | None) -> Tensor:
    """Call a layer for ``functional.linear`` with its weight and some bias."""
    result: Tensor = layer(values)
    if bias is layer.bias:
        return result
    if isinstance(layer.bias, Tensor):
        result = result - layer.bias
    return result if bias is None else result + bias


def _running() -> list[Any]:
    """Return what runs in this thread, the innermost last: a mode, or a module that calls no products by itself."""
    if not hasattr(_RUNNING, "modules"):
        _RUNNING.modules = []
    running: list[Any] = _RUNNING.modules
    return running


def _led(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Run a module's own forward with its products led; in place of it, as hooks would not end with an interrupt."""
    running = _running()
    depth, mode = len(running), _Leading(module)
    running.append(mode)
    try:
        with mode:
            return type(module).forward(module, *args, **kwargs)
    finally:
        del running[depth:]


def _begin_inner(module: nn.Module, _inputs: Any) -> None:
    _running().append(module)  # what its hooks multiply is none of the owner's products


def _end_inner(module: nn.Module, _inputs: Any, _output: Any) -> None:
    running = _running()
    if running and running[-1] is module:
        running.pop()


def _read_given(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    read: Tensor = module.get_submodule(_GIVEN)(output)
    return read
