"""A parted network of which torch computes no more than the explained class: the backend gives all logits.

Behind the target of most networks there is one layer of weights, the head, which makes the logits of pooled features.
Once they are known from elsewhere, a map needs the gradient of one of them: one row of the head's weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from quantviz.backends.split import Front, Output, Run, Skipped, Split, captured, rest_of, shallow

_TOLERANCE = 1e-5
_MOST_TRACED = 4

_Gradient = Callable[..., "Tensor | None"]


class HeadedSplit(Split):
    """A parted network whose ``front`` gives the logits, too, after its outputs; otherwise a ``Split``.

    Args:
        network: in eval mode, its parameters without gradients; left as it was.
        layer: dotted name of the target layer.
        outputs: from ``outputs_before``, of this network or of one with the same modules.
        front: computes them, and behind them the logits (N, classes).
        head: from ``head_of``.
    """

    gives_logits: ClassVar[bool] = True

    def __init__(self, network: nn.Module, layer: str, outputs: Sequence[Output], front: Front, head: str) -> None:
        rows = _Rows()
        super().__init__(_replaced(network, head, lambda module: _Head(module, rows)), layer, outputs, front)
        self._rows = rows
        self._traced: dict[tuple[torch.Size, ...], _Gradient] = {}
        self._met: set[tuple[torch.Size, ...]] = set()

    def before(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return what the rest reads, the target's activation first, and the logits (N, classes), float32.

        Args:
            images: (N, 3, H, W) float32.
        """
        *values, logits = self._before(images)
        return tuple(values), logits

    def scores(self, values: Sequence[Tensor], classes: Sequence[int]) -> Tensor:
        """Return the logit of each image's class, (N,) float32; where gradients are recorded, from ``values`` on.

        Args:
            values: from ``before``, or with another activation in the first place.
            classes: of each image.
        """
        rows = sorted(set(classes))
        logits = self._of_rows(values, torch.tensor(rows))
        if len(rows) == 1:
            return logits[:, 0]
        return logits[torch.arange(len(classes)), torch.tensor([rows.index(index) for index in classes])]

    def gradient(self, values: Sequence[Tensor], classes: Sequence[int]) -> Tensor | None:
        """Return the gradient of each image's logit of its class with respect to the activation, of its shape, or None.

        None where the logits do not depend on it. The images of a batch do not see each other. Of one image, the
        operations are noted the second time and repeated from then on, without the network's own code around them,
        which takes longer than they do.

        Args:
            values: from ``before``.
            classes: of each image.
        """
        if len(classes) > 1:
            return _gradient(values, lambda moved: self.scores(moved, classes))
        rows, shapes = torch.tensor(list(classes)), tuple(value.shape for value in values)
        if shapes not in self._met:  # noting is for what comes again: its import takes longer than one gradient
            self._met.add(shapes)
            return self._slope(*values, rows)
        if shapes not in self._traced:
            if len(self._traced) >= _MOST_TRACED:
                self._traced.clear()
            self._traced[shapes] = _traced(self._slope, (*values, rows))
        return self._traced[shapes](*values, rows)

    def _slope(self, *inputs: Tensor) -> Tensor | None:
        """Return the gradient for values and, last, the one class."""
        *values, rows = inputs
        return _gradient(values, lambda moved: self._of_rows(moved, rows)[:, 0])

    def _of_rows(self, values: Sequence[Tensor], rows: Tensor) -> Tensor:
        """Return the logits of some classes, (N, rows)."""
        with self._rows.of(rows):
            return self._behind(values)


def head_of(network: nn.Module, layer: str, outputs: Sequence[Output], example: Tensor) -> str | None:
    """Return the dotted name of the one convolution or linear layer behind a target, which makes the logits.

    None where there are several, or where one row of it alone does not give one logit.

    Args:
        network: in eval mode; left as it was. No other thread may run it meanwhile.
        layer: dotted name of the target layer.
        outputs: from ``outputs_before``.
        example: one input (1, 3, H, W).
    """
    with torch.no_grad(), captured(network, {name for name, _ in outputs}) as values_of:
        logits = network(example)
    run = Run()
    rest = rest_of(network, layer, run).eval()
    with torch.no_grad(), run.of(values_of), _weighted(network) as ran:
        rest(Skipped(run, None))
    if len(ran) != 1:
        return None
    values = [values_of[output] for output in outputs]
    split = HeadedSplit(network, layer, outputs, lambda _image: [*values, logits], ran[0])
    classes = (0, int(logits.argmax()), logits.shape[1] - 1)
    try:
        with torch.no_grad():
            errors = [float((split.scores(values, [index]) - logits[0, index]).abs()) for index in classes]
    except (RuntimeError, IndexError):  # what follows the head needs all of it
        return None
    return ran[0] if max(errors) <= _TOLERANCE * float(logits.abs().max()) else None


def _gradient(values: Sequence[Tensor], score: Callable[[Sequence[Tensor]], Tensor]) -> Tensor | None:
    leaf = values[0].detach().requires_grad_()
    with torch.enable_grad():
        scores = score((leaf.clone(), *values[1:]))  # what is behind the target may change it in place
    if not scores.requires_grad:
        return None
    return torch.autograd.grad(scores, leaf, torch.ones_like(scores), allow_unused=True)[0]


def _traced(function: _Gradient, inputs: tuple[Tensor, ...]) -> _Gradient:
    """Return a function's tensor operations alone, for inputs of these shapes; itself, where they give another value.

    Weights are not copied.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    expected = function(*inputs)
    if expected is None:
        return function
    try:
        module = make_fx(function)(*inputs)
        module.graph.eliminate_dead_code()
        module.recompile()
        repeated = module(*inputs)
    except Exception:  # whatever tracing does not bear, the function itself does
        return function
    repeat: _Gradient = torch.no_grad()(module.forward)
    return repeat if torch.equal(repeated, expected) else function


class _Rows:
    """Which rows of a head's weight are wanted; None for all."""

    def __init__(self) -> None:
        self.chosen: Tensor | None = None

    @contextmanager
    def of(self, chosen: Tensor) -> Iterator[None]:
        """Want some rows for the length of a pass."""
        self.chosen = chosen
        try:
            yield
        finally:
            self.chosen = None


class _Head(nn.Module):
    """Stands before the head: all of it, or the wanted rows, under the same hooks."""

    def __init__(self, module: nn.Module, rows: _Rows) -> None:
        super().__init__()
        self.module = module
        self._rows = rows

    def forward(self, *inputs: Any) -> Any:
        if self._rows.chosen is None:
            return self.module(*inputs)
        narrow = shallow(self.module)
        wanted: dict[str, Any] = dict(self.module._parameters)
        for name, values in self.module._parameters.items():
            wanted[name] = None if values is None else values.index_select(0, self._rows.chosen)
        narrow._parameters = wanted
        return narrow(*inputs)


def _replaced(network: nn.Module, name: str, change: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return a copy of the modules from a network's root down to one of them, which is changed; others are its own."""
    root = below = shallow(network)
    *path, last = name.split(".")
    for step in path:
        copied = shallow(below.get_submodule(step))
        below._modules[step] = copied
        below = copied
    below._modules[last] = change(below.get_submodule(last))
    return root


@contextmanager
def _weighted(network: nn.Module) -> Iterator[list[str]]:
    """Note which convolutions and linear layers run, by dotted name."""
    ran: list[str] = []

    def noting(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, _output: ran.append(name)

    kinds = (nn.Conv2d, nn.Linear)
    handles = [
        module.register_forward_hook(noting(name))
        for name, module in network.named_modules()
        if isinstance(module, kinds)
    ]
    try:
        yield ran
    finally:
        for handle in handles:
            handle.remove()
