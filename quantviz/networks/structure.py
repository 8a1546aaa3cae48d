"""Which layers of a network give a grid, as one forward pass shows it, and which of them the logits rest on.

A grid is what stands for places of the picture: (N, C, h, w), channels last (N, h, w, C), or tokens (N, n, C). Numbers
that happen to fit are none: attention matrices and the vectors of attention heads have four dimensions, too. So in a
network of tokens or channels last a grid's sides must be those that one of its convolutions or pooling layers gave, or
half of them, rounded, once or more, as patch merging makes them. Tokens must be as many as such a grid has places, or
more by just the class, distillation and register tokens that the network says it has.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from quantviz.specs import GridLayout, UsageError

_POOLING = (
    *(nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.FractionalMaxPool2d),
    *(nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
)
_WEIGHTED = (nn.Conv2d, nn.Linear)
_SPATIAL = (nn.Conv2d, nn.Upsample, *_POOLING)
_PREFIX = re.compile(r"(class|cls|dist|reg)_token_?\d*")
# Layers that put tokens in another order than row by row until its last stage: Hiera's.
_REORDERING = ("Unroll",)
_LEAST_SHARE = 1e-9


@dataclass(frozen=True, slots=True)
class GridLayer:
    """A tensor that is a grid, and the layers that give it in a forward pass.

    Attributes:
        names: of the layers that are called once, in the order in which they end: the innermost first.
        kinds: their class names.
        channels: C.
        height: h.
        width: w.
        layout: None for (N, C, h, w).
        pooled: a pooling layer gives it.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    channels: int
    height: int
    width: int
    layout: GridLayout | None = None
    pooled: bool = False

    @property
    def size(self) -> tuple[int, int, int]:
        """(C, h, w)."""
        return self.channels, self.height, self.width


@dataclass(frozen=True, slots=True)
class Structure:
    """What one forward pass shows of a network.

    Attributes:
        classes: number of logits.
        layers: those that give a grid, in execution order.
        mixes: it has tokens, so that places may be mixed, and the last grid need not be one that the logits rest on.
        unused: convolution and linear layers whose weights were not read: auxiliary heads, which only train.
    """

    classes: int
    layers: tuple[GridLayer, ...]
    mixes: bool
    unused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    name: str
    module: nn.Module
    output: Tensor
    version: int


def structure_of(module: nn.Module, example: Tensor) -> Structure:
    """Run a network once and return what is to be seen of it.

    Args:
        module: in eval mode, on any device, the meta device too.
        example: (N, 3, H, W); with N above 1 nothing of another batch size can pass for a grid.

    Raises:
        UsageError: the network gives no logits (N, classes).
    """
    seen, sides, weights = [], _Sides(example), _ReadWeights()
    handles = []

    def note(name: str, inner: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append(_Seen(name, inner, output, output._version))
            if isinstance(inner, _SPATIAL):
                sides.add(output)
                sides.add(inputs[0] if inputs else None)

    for name, inner in module.named_modules():
        if name:
            handles.append(inner.register_forward_hook(lambda inner, *rest, name=name: note(name, inner, *rest)))
    try:
        with torch.no_grad(), weights:
            logits = module(example)
    finally:
        for handle in handles:
            handle.remove()
    classes = _classes(logits, module, example)
    unused = tuple(
        name for name, inner in module.named_modules() if isinstance(inner, _WEIGHTED) and weights.lack(inner)
    )
    mixes = any(entry.output.ndim == 3 and entry.output.shape[1] > 1 for entry in seen)
    return Structure(classes, _grids(module, seen, sides, mixes), mixes, unused)


def pooled_layer(module: nn.Module, example: Tensor, structure: Structure | None = None) -> GridLayer:
    """Return the grid that is pooled for the logits: the default target layer.

    It is the last one in execution order that no pooling layer gives, that has no channel for each class, and that the
    logits rest on: their gradient with respect to it is not zero. In a vision transformer, whose logits rest on the
    class token, this is what the last attention reads. Tokens and channels-last grids count only where they are as
    wide as what the head reads and come from no linear layer, if there are such: queries, keys and values are none.

    Args:
        module: in eval mode, on the CPU; run twice where it has tokens.
        example: (N, 3, H, W).
        structure: of the module, if it is known.

    Raises:
        UsageError: there is none; or the module gives no logits.
    """
    structure = structure or structure_of(module, example)
    layers = [layer for layer in structure.layers if not layer.pooled and layer.channels != structure.classes]
    if not layers:
        raise UsageError("The module has no layer with a feature map (1, C, h, w); name the target layer by layer=.")
    if not structure.mixes:
        return layers[-1]
    width = _width(module, structure.classes)
    streams = [
        layer for layer in layers if layer.layout is None or (layer.channels == width and layer.kinds[0] != "Linear")
    ]
    layers = streams or layers
    flags = _resting(module, example, layers)
    found = [layer for layer, rests in zip(layers, flags, strict=True) if rests]
    if not found:
        raise UsageError("The logits rest on no layer with a grid; name the target layer by layer=.")
    return found[-1]


def _width(module: nn.Module, classes: int) -> int | None:
    """Return how many values the head reads."""
    heads = [inner for inner in module.modules() if isinstance(inner, nn.Linear) and inner.out_features == classes]
    return heads[-1].in_features if heads else None


def _resting(module: nn.Module, example: Tensor, layers: Sequence[GridLayer]) -> list[bool]:
    """Return for each layer whether the logits have a gradient at the places of its grid."""
    kept: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> Tensor:
        if not output.requires_grad:  # nothing before the first of the layers is recorded
            output = output.detach().requires_grad_()
        kept[name] = output
        return output.clone()  # what follows may work in place

    handles = [
        module.get_submodule(layer.names[0]).register_forward_hook(
            lambda _module, _inputs, output, name=layer.names[0]: keep(name, output)
        )
        for layer in layers
    ]
    try:
        with torch.enable_grad():
            logits = module(example)
            if not logits.requires_grad:  # integers or rounding without a gradient: nothing can be said
                return [True] * len(layers)
            weights = torch.linspace(1, 2, logits.shape[1])
            values = [kept[layer.names[0]] for layer in layers]
            gradients = torch.autograd.grad((logits * weights).sum(), values, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return [_has(gradient, layer) for gradient, layer in zip(gradients, layers, strict=True)]


def _has(gradient: Tensor | None, layer: GridLayer) -> bool:
    if gradient is None:
        return False
    prefix = layer.layout.prefix if layer.layout else 0
    places = gradient[:, prefix:] if prefix else gradient
    return float(places.abs().max()) > _LEAST_SHARE * float(gradient.abs().max())


class _ReadWeights(TorchFunctionMode):
    """While it is active, every weight that a function is given is noted, whatever module calls the function."""

    def __init__(self) -> None:
        super().__init__()
        self._read: set[int] = set()

    def lack(self, layer: nn.Conv2d | nn.Linear) -> bool:
        """Return whether a layer's weight was not read."""
        return id(layer.weight) not in self._read

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._read |= {id(value) for value in (*args, *kwargs.values()) if isinstance(value, nn.Parameter)}
        return func(*args, **kwargs)


class _Sides:
    """The sides (h, w) that convolutions and pooling layers read and gave, and their halves."""

    def __init__(self, example: Tensor) -> None:
        self.batch, (self._down, self._across) = len(example), example.shape[2:]
        self.known: set[tuple[int, int]] = set()

    def add(self, values: Any) -> None:
        if isinstance(values, Tensor) and values.ndim == 4 and min(values.shape[2:]) > 1:
            sides = int(values.shape[2]), int(values.shape[3])
            while min(sides) > 1 and self.fit(*sides):
                self.known |= {sides, (sides[0] // 2, sides[1] // 2)}
                sides = math.ceil(sides[0] / 2), math.ceil(sides[1] / 2)

    def has(self, values: Tensor, prefix: int) -> bool:
        """Return whether values are tokens of one of the grids."""
        if values.ndim != 3 or len(values) != self.batch:
            return False
        return any(
            self.fit(*grid) and math.prod(grid) in (values.shape[1], values.shape[1] - prefix) for grid in self.known
        )

    def fit(self, height: int, width: int) -> bool:
        """Return whether sides above 1 have the input's aspect ratio."""
        return min(height, width) > 1 and abs(height * self._across / self._down - width) <= 1 + 0.1 * width


def _grids(module: nn.Module, seen: Sequence[_Seen], sides: _Sides, mixes: bool) -> tuple[GridLayer, ...]:
    calls = Counter(entry.name for entry in seen)
    groups: dict[tuple[int, int], list[_Seen]] = {}
    for entry in seen:  # all are held, so that no two have the same id
        groups.setdefault((id(entry.output), entry.version), []).append(entry)
    prefix, known = _prefix(module), sides.known
    if any(type(inner).__name__ in _REORDERING for inner in module.modules()):
        fewest = min((entry.output.shape[1] for entry in seen if sides.has(entry.output, prefix)), default=0)
        known = {grid for grid in known if math.prod(grid) <= fewest}
    layers = []
    for entries in groups.values():
        once = [entry for entry in entries if calls[entry.name] == 1]
        grid = _grid(entries[0].output, sides, known, prefix, mixes)
        if once and grid is not None:
            pooled = any(isinstance(entry.module, _POOLING) for entry in entries)
            kinds = tuple(type(entry.module).__name__ for entry in once)
            layers.append(GridLayer(tuple(entry.name for entry in once), kinds, *grid, pooled))
    return tuple(layers)


def _grid(
    output: Tensor, sides: _Sides, token_grids: set[tuple[int, int]], prefix: int, mixes: bool
) -> tuple[int, int, int, GridLayout | None] | None:
    """Return channels, rows, columns and layout of an output, or None where it is no grid."""
    shape = tuple(map(int, output.shape))
    if shape[0] != sides.batch:
        return None
    if len(shape) == 4:
        if sides.fit(*shape[2:]) and (shape[2:] in sides.known or not mixes):
            return shape[1], shape[2], shape[3], None
        if sides.fit(*shape[1:3]) and shape[1:3] in sides.known:
            return shape[3], shape[1], shape[2], GridLayout("channels last", shape[1], shape[2])
    if len(shape) == 3:
        for extra in dict.fromkeys((prefix, 0)):
            fitting = [grid for grid in token_grids if sides.fit(*grid) and math.prod(grid) == shape[1] - extra]
            if len(fitting) == 1:
                height, width = fitting[0]
                return shape[2], height, width, GridLayout("tokens", height, width, extra)
    return None


def _prefix(module: nn.Module) -> int:
    """Return how many tokens that stand for no place the network puts first, by its own attributes."""
    said = getattr(module, "num_prefix_tokens", None)
    if isinstance(said, int):
        return said
    named = ((_PREFIX.fullmatch(name.rpartition(".")[2]), value) for name, value in module.named_parameters())
    values = ((match[1], value) for match, value in named if match)
    counts: dict[str, int] = {}
    for kind, value in values:
        if value.ndim == 3:
            counts[kind] = max(counts.get(kind, 0), value.shape[1])
    return sum(counts.values())


def _classes(logits: Any, module: nn.Module, example: Tensor) -> int:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(example):
        given = f"{tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UsageError(
            f"{type(module).__name__} gives {given} in place of logits (1, classes); wrap it in a module that returns "
            "them."
        )
    return int(logits.shape[1])
