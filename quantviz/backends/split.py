"""A network parted at its CAM target: what is before it comes from elsewhere, the rest runs in torch as it always does.

The rest is the network's own code and modules. Its forward is called with a stand-in for the picture; whatever is done
to a stand-in before the target is skipped, and the target's place gives the activation that was computed elsewhere. So
nothing of the rest is traced or translated: gradients, rounding and hooks are what they are in the whole network.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn

from quantviz.specs import QuantvizError

Front = Callable[[Tensor], Sequence[Tensor]]
"""Inputs (N, 3, H, W) float32 -> what the rest of the network reads, in the order of ``Split``'s ``outputs``."""

Output = tuple[str, int]
"""A module's dotted name, and which of its calls in one forward pass is meant, from 0."""

_GIVEN: Final = "given"
_SUM: Callable[..., Any] = torch.add
_PRODUCT: Callable[..., Any] = torch.mul


class NotSplittableError(QuantvizError):
    """The network cannot be parted at this layer."""


class Split(nn.Module):
    """A network whose part up to the target layer is computed by ``front``; it takes what the network takes.

    One thread at a time may run it. The rest's modules are the network's own, not copies.

    Args:
        network: in eval mode, its parameters without gradients; left as it was.
        layer: dotted name of the target layer.
        outputs: from ``outputs_before``, of this network or of one with the same modules.
        front: computes them.

    Attributes:
        layer: dotted name, in this module, of what gives the target's activation: the layer that maps are taken at.
    """

    def __init__(self, network: nn.Module, layer: str, outputs: Sequence[Output], front: Front) -> None:
        super().__init__()
        self.layer = f"rest.{layer}.{_GIVEN}"
        self._run = Run()
        self._outputs = tuple(outputs)
        self._fronts = (front,)  # not as a module of this one, where it is a module
        self.rest = rest_of(network, layer, self._run)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits, (N, classes) float32, of inputs (N, 3, H, W)."""
        return self._behind(self._before(image))

    def _behind(self, given: Sequence[Tensor]) -> Tensor:
        """Return what the rest makes of what is before it: the logits."""
        values = given[: len(self._outputs)]  # a front may give more
        with self._run.of(dict(zip(self._outputs, values, strict=True))):
            logits: Tensor = self.rest(Skipped(self._run, None))
        return logits

    def _before(self, image: Tensor) -> Sequence[Tensor]:
        count = len(image)
        # AblationCAM changes the target's activation only: its batches are one picture many times.
        if count > 1 and bool((image[1:] == image[:1]).all()):
            return [value.repeat(count, *[1] * (value.ndim - 1)) for value in self._fronts[0](image[:1])]
        return self._fronts[0](image)


class FrontModule(nn.Module):
    """The whole network, giving what ``Split`` needs of it in place of logits.

    Args:
        network: left as it was.
        outputs: from ``outputs_before``.
        logits: whether to give the logits, too, after the outputs.
    """

    def __init__(self, network: nn.Module, outputs: Sequence[Output], *, logits: bool = False) -> None:
        super().__init__()
        self.network = network
        self._outputs = tuple(outputs)
        self._logits = logits

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs' values for inputs (N, 3, H, W) float32."""
        with captured(self.network, {name for name, _ in self._outputs}) as values_of:
            logits = self.network(image)
        values = tuple(values_of[output] for output in self._outputs)
        return (*values, logits) if self._logits else values


def outputs_before(network: nn.Module, layer: str, example: Tensor) -> tuple[Output, ...]:
    """Return what the rest of a network reads of what is before its target: the target's output, and any beside it.

    The parted network is run once and must give the network's own logits, bit for bit.

    Args:
        network: in eval mode; left as it was. No other thread may run it meanwhile.
        layer: dotted name of the target layer.
        example: one input (1, 3, H, W).

    Raises:
        NotSplittableError: the network cannot be parted there, with the reason.
    """
    with torch.no_grad(), captured(network, {name for name, _ in network.named_modules() if name}) as values_of:
        logits = network(example)
    run = Run()
    rest = rest_of(network, layer, run).eval()
    try:
        if (layer, 1) in values_of:
            raise NotSplittableError(f"Layer {layer!r} runs more than once")
        with torch.no_grad(), run.of(values_of):
            parted = rest(Skipped(run, None))
            if not run.reached:
                raise NotSplittableError(f"Layer {layer!r} does not run")
    except (NotSplittableError, AttributeError, TypeError, KeyError) as error:
        raise _refusal(layer, error) from None
    if not isinstance(parted, Tensor) or not torch.equal(parted, logits):
        raise _refusal(layer, "its parts do not give its logits")
    return (layer, 0), *run.read


def _refusal(layer: str, reason: object) -> NotSplittableError:
    return NotSplittableError(f"The network cannot be parted at layer {layer!r}: {reason}.")


class Run:
    """One forward pass of a parted network: whether the target has been reached, and what came from before it."""

    def __init__(self) -> None:
        self.reached = False
        self.values: Mapping[Output, Tensor] = {}
        self.calls: Counter[str] = Counter()
        self.read: list[Output] = []

    @contextmanager
    def of(self, values: Mapping[Output, Tensor]) -> Iterator[None]:
        """Hold the values for the length of a pass."""
        self.values, self.reached = values, False
        self.calls.clear()
        self.read.clear()
        try:
            yield
        finally:
            self.values = {}


class Skipped:
    """Stands for a tensor before the target, which nobody has computed here."""

    def __init__(self, run: Run, output: Output | None) -> None:
        self._run = run
        self._output = output

    def value(self) -> Tensor:
        """Return the tensor, which the rest of the network reads."""
        if self._output is None or self._output not in self._run.values:
            raise NotSplittableError("the rest of it reads a tensor that no module gives")
        if self._output not in self._run.read:
            self._run.read.append(self._output)
        return self._run.values[self._output]

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], _types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Skip a function of tensors before the target, and run it after."""
        stand_in = next(_stand_ins([args, kwargs or {}]))
        if not stand_in._run.reached:
            return Skipped(stand_in._run, None)
        return function(*_filled(args), **_filled(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not self._run.reached:
            raise AttributeError(f"it asks for {name} of a tensor before the target")
        return getattr(self.value(), name)

    def __add__(self, other: Any) -> Any:
        return _SUM(self, other)

    def __mul__(self, other: Any) -> Any:
        return _PRODUCT(self, other)

    __radd__ = __iadd__ = __add__
    __rmul__ = __imul__ = __mul__


class _Before(nn.Module):
    """Stands before a module beside the target's path: skips it before the target, runs it after."""

    def __init__(self, module: nn.Module, name: str, run: Run) -> None:
        super().__init__()
        self.module = module
        self._name = name
        self._run = run

    def forward(self, *inputs: Any, **options: Any) -> Any:
        skipped = bool(inputs) and isinstance(inputs[0], Skipped)  # nearly always: the others are looked through
        if self._run.reached or not (skipped or next(_stand_ins([inputs, options]), None)):
            return self.module(*_filled(inputs), **_filled(options))
        call = self._run.calls[self._name]
        self._run.calls[self._name] += 1
        return Skipped(self._run, (self._name, call))


class _Slot(nn.Module):
    """The target's place. The activation passes a module of its own, so that hooks see it and swaps replace it."""

    def __init__(self, layer: str, run: Run) -> None:
        super().__init__()
        self._layer = layer
        self._run = run
        self.add_module(_GIVEN, nn.Identity())

    def forward(self, *_inputs: Any) -> Tensor:
        self._run.reached = True
        given: Tensor = self.get_submodule(_GIVEN)(self._run.values[self._layer, 0])
        return given


def rest_of(network: nn.Module, layer: str, run: Run) -> nn.Module:
    """Return a copy of the network's modules from its root down to the target; all others are the network's own."""
    root = below = shallow(network)
    path = layer.split(".")
    for depth, step in enumerate(path, start=1):
        for name, child in _beside(below, step):
            below._modules[name] = _Before(child, ".".join([*path[: depth - 1], name]), run)
        if depth == len(path):
            below._modules[step] = _Slot(layer, run)
        else:
            deeper = shallow(below.get_submodule(step))
            below._modules[step] = deeper
            below = deeper
    return root


def _beside(above: nn.Module, step: str) -> list[tuple[str, nn.Module]]:
    """Return the modules beside one on the target's path that have to know whether the target has been reached.

    In a chain (``nn.Sequential``) that is the one before it alone, whose output the rest may read: what comes earlier
    is taken out, and what follows reads the target's own output.
    """
    names = list(above._modules)
    if type(above).forward is nn.Sequential.forward:
        for name in names[: max(names.index(step) - 1, 0)]:
            del above._modules[name]
        names = names[: names.index(step)][-1:]
    children = [(name, above._modules[name]) for name in names if name != step]
    return [(name, child) for name, child in children if child is not None]


def shallow(module: nn.Module) -> nn.Module:
    """Return a copy of a module that has the same children, parameters and hooks, and may be given other children."""
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    return copied


@contextmanager
def captured(network: nn.Module, names: set[str]) -> Iterator[dict[Output, Tensor]]:
    """Note what modules give, copied, since an in-place operation may follow."""
    values: dict[Output, Tensor] = {}
    calls: Counter[str] = Counter()

    def noting(name: str) -> Callable[..., None]:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                values[name, calls[name]] = output.clone()
            calls[name] += 1

        return note

    handles = [network.get_submodule(name).register_forward_hook(noting(name)) for name in sorted(names)]
    try:
        yield values
    finally:
        for handle in handles:
            handle.remove()


def _stand_ins(values: Any) -> Iterator[Skipped]:
    if isinstance(values, Skipped):
        yield values
    elif isinstance(values, (list, tuple, dict)):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _stand_ins(value)


def _filled(values: Any) -> Any:
    """Return nested arguments with the tensors in place of their stand-ins."""
    if isinstance(values, Skipped):
        return values.value()
    if isinstance(values, dict):
        return {name: _filled(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(_filled(value) for value in values)
    return values
