"""An ONNX file as a network that maps can be taken of: ONNX Runtime gives activation and logits, torch the gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor, nn

from quantviz.networks.onnx_files.cutting import Cut, cuts, is_index
from quantviz.networks.onnx_files.grids import grid_of
from quantviz.networks.onnx_files.nodes import DEQUANTIZE, Array
from quantviz.networks.onnx_files.opened import Opened
from quantviz.networks.onnx_files.rest import TailRunner
from quantviz.networks.onnx_files.running import Runner, Tap
from quantviz.networks.onnx_files.tail import NotConvertibleError, Tail
from quantviz.specs import UsageError

LAYER: Final = "target"
"""Dotted name of what gives the target's activation, in every ``OnnxNetwork``."""

_LARGEST_DIFFERENCE = 0.1
_MOST_TRACED, _MOST_SLOPES = 4, 256


@dataclass(frozen=True, slots=True)
class Held:
    """How far a network's parts are from the untouched file, on the examples it was opened with.

    Attributes:
        logits: greatest difference of ONNX Runtime's logits with the target as a further output from those without.
        tail: greatest difference of torch's logits from ONNX Runtime's, from the same activation; None without a tail.
        span: greatest less least logit of the untouched file.
    """

    logits: float
    tail: float | None
    span: float


class OnnxNetwork(nn.Module):
    """An ONNX file parted at a target: the file runs by ONNX Runtime, what lies behind the target by torch as well.

    It takes (N, 3, H, W) float32 and gives logits (N, classes) float32, ONNX Runtime's. Its submodule ``target`` gives
    the activation: a hook that replaces it is followed by torch's tail, or by that part of the file. Of a network
    whose tail has no form in torch, gradients are refused with ``refusal``.

    Args:
        opened: the file.
        target: name of the target, as ``Opened.targets`` gives it.
        examples: inputs (n, 3, side, side) float32, on which ways to read the target are held to the untouched file.
        clipped: tensors whose quantizer stands for a Clip, too; of ``Matching.fused``.
        threads: how many ONNX Runtime computes in; their number decides the last bits.

    Raises:
        UsageError: the logits do not depend on the target.
        CheckpointError: ONNX Runtime fails on the examples.

    Attributes:
        held: how far it is from the untouched file.
        read_as: how the target is read, in words.
        refusal: why there are no gradients, or "".
    """

    gives_logits: ClassVar[bool] = True

    def __init__(self, opened: Opened, target: str, examples: Array, clipped: set[str], threads: int = 1) -> None:
        super().__init__()
        self.layer = LAYER
        self.target = nn.Identity()
        self._form, self._logits = opened.form, opened.logits
        self._folding = next((one.folding for one in opened.targets if one.tensor == target), None)
        self._single = opened.form.batch == 1 or any(entry.dynamic for entry in opened.quantization.tensors)
        self._cut, self._runner, difference, span = self._held(opened, target, examples, threads)
        self.read_as, self.refusal = self._cut.words, ""
        given = self._run(examples[:1])
        fixed = {tap.tensor: value for tap, value in zip(self._cut.beside, given[1:], strict=False) if is_index(value)}
        self._read = [at for at, tap in enumerate(self._cut.beside, start=1) if tap.tensor not in fixed]
        self._single = self._single or bool(fixed)
        self._traced: dict[tuple[torch.Size, ...], tuple[Callable[..., Tensor | None], bool]] = {}
        self._met: set[tuple[torch.Size, ...]] = set()
        self._slopes: dict[tuple[tuple[torch.Size, ...], int], Tensor] = {}
        self.tail: Tail | None = None
        self._rest: TailRunner | None = None
        error = self._add_tail(opened, clipped, fixed, examples, span)
        if self.tail is None:
            self._rest = TailRunner(opened.file, self._cut, _logits_taps(opened)[0], fixed, threads)
        self.held = Held(difference, error, span)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (N, classes) float32, of inputs (N, 3, H, W)."""
        values, logits = self.before(images)
        leaf = self.target(values[0])
        return logits if leaf is values[0] else self._behind((leaf, *values[1:]), None)

    def before(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return what the tail reads, the target's activation first, and the logits (N, classes), float32.

        Args:
            images: (N, 3, H, W) float32.
        """
        given = self._run(images.detach().numpy())
        tensors = [torch.from_numpy(given[at]) for at in (0, *self._read, len(given) - 1)]
        logits = tensors.pop()
        if self._folding is not None:
            tensors[0], rest = self._folding.grid(tensors[0])
            tensors += [] if rest is None else [rest]
        return tuple(tensors), logits.flatten(1)

    def _as_read(self, values: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return what ``before`` gave as the file's own tensors."""
        if self._folding is None:
            return values
        inner, rest = (values[1:-1], values[-1]) if self._folding.prefix else (values[1:], None)
        return (self._folding.tensor(values[0], rest), *inner)

    def scores(self, values: Sequence[Tensor], classes: Sequence[int]) -> Tensor:
        """Return the logit of each image's class, (N,) float32, by the tail; where gradients are recorded, from it on.

        Args:
            values: from ``before``, or with another activation in the first place.
            classes: of each image.
        """
        rows = sorted(set(classes))
        found = self._behind(values, torch.tensor(rows))
        return found[torch.arange(len(classes)), torch.tensor([rows.index(index) for index in classes])]

    def gradient(self, values: Sequence[Tensor], classes: Sequence[int]) -> Tensor | None:
        """Return the gradient of each image's logit of its class with respect to the activation, of its shape, or None.

        None where the logits do not depend on it. Where it is the same at every place, it is a view of one value for
        each channel. Of one image, the operations are noted the first time and repeated from then on.

        Args:
            values: from ``before``.
            classes: of each image.

        Raises:
            UsageError: there is no form in torch of what lies behind the target.
        """
        if self.tail is None:
            raise UsageError(self.refusal)
        if len(classes) > 1:
            slopes = [
                self.gradient([value[at : at + 1] for value in values], [index]) for at, index in enumerate(classes)
            ]
            return None if slopes[0] is None else torch.cat([slope for slope in slopes if slope is not None])
        shapes = tuple(value.shape for value in values)
        slope = self._slopes.get((shapes, classes[0]))
        if slope is None:
            rows = torch.tensor(list(classes))
            if shapes not in self._met:  # tracing is for what comes again: its import takes longer than one gradient
                self._met.add(shapes)
                slope = self._slope(*values, rows)
                return None if slope is None else slope.expand(values[0].shape)
            if shapes not in self._traced:
                if len(self._traced) >= _MOST_TRACED:
                    self._traced.clear()
                    self._slopes.clear()
                self._traced[shapes] = _traced(self._slope, (*values, rows))
            repeat, constant = self._traced[shapes]
            slope = repeat(*values, rows)
            if slope is None:
                return None
            if constant and len(self._slopes) < _MOST_SLOPES:
                self._slopes[shapes, classes[0]] = slope
        return slope.expand(values[0].shape)

    def _slope(self, *inputs: Tensor) -> Tensor | None:
        assert self.tail is not None
        *values, rows = inputs
        pooled = self.tail.pool(values[0]) if self._folding is None else None
        leaf = (values[0] if pooled is None else pooled).detach().requires_grad_()
        with torch.enable_grad():
            if pooled is None:
                score = self.tail(self._as_read((leaf, *values[1:])), rows)[:, 0]
            else:
                score = self.tail(values, rows, leaf)[:, 0]
        if not score.requires_grad:
            return None
        # Ones of their own, not like the score: else the trace would compute the score for its shape alone.
        slope = torch.autograd.grad(score, leaf, torch.ones(1), allow_unused=True)[0]
        if slope is None or pooled is None:
            return slope
        return slope.reshape(1, -1, 1, 1) / values[0][0, 0].numel()

    def _behind(self, values: Sequence[Tensor], rows: Tensor | None) -> Tensor:
        """Return the logits (N, classes), or (N, rows), from what is read; one by one where the file takes one."""
        count = len(values[0])
        wide = [values[0], *(value.expand(count, *value.shape[1:]) for value in values[1:])]
        parts = [[value[at : at + 1] for value in wide] for at in range(count)] if self._single else [wide]
        if self.tail is not None:
            return torch.cat([self.tail(self._as_read(part), rows) for part in parts])
        assert self._rest is not None
        logits = torch.cat([self._rest(self._as_read(part)) for part in parts])
        return logits if rows is None else logits.index_select(1, rows)

    def _run(self, images: Array) -> list[Array]:
        values = self._form.given(images)
        if len(values) == 1 or not self._single:
            return self._runner(values)
        return [np.concatenate(rows) for rows in zip(*(self._runner(entry[None]) for entry in values), strict=True)]

    def _held(self, opened: Opened, target: str, examples: Array, threads: int) -> tuple[Cut, Runner, float, float]:
        """Return the way to read the target that changes the file's own output least, and by how much."""
        own = Tap(opened.logits.output)
        untouched = Runner(opened.file, [own], threads)
        inputs = [opened.form.given(example[None]) for example in examples]
        expected = [untouched(values)[0] for values in inputs]
        best: tuple[float, Cut, Runner] | None = None
        for cut, logits in product(cuts(opened.graph, target, opened.logits.tensor), _logits_taps(opened)):
            taps = [cut.target, *cut.beside, logits]
            runner = Runner(opened.file, [own, *taps], threads)
            errors = [np.abs(runner(values)[0] - given).max() for values, given in zip(inputs, expected, strict=True)]
            if best is None or max(errors) < best[0]:
                best = float(max(errors)), cut, runner.reading(taps)
            if best[0] == 0:
                break
        if best is None:
            raise UsageError(f"The logits of {opened.file.name} do not depend on {target!r}; name another layer.")
        scores = [best[2](values)[-1] for values in inputs]
        return best[1], best[2], best[0], float(max(value.max() - value.min() for value in scores))

    def _add_tail(
        self, opened: Opened, clipped: set[str], fixed: dict[str, Array], examples: Array, span: float
    ) -> float | None:
        """Make the tail and return its greatest difference from ONNX Runtime's logits, or set ``refusal``."""
        try:
            tail = Tail(opened.graph, self._cut, clipped, fixed)
            error = 0.0
            for example in examples:
                values, logits = self.before(torch.from_numpy(example[None]))
                with torch.no_grad():
                    error = max(error, float((tail(self._as_read(values)) - logits).abs().max()))
        except NotConvertibleError as refused:
            self.refusal = str(refused)
            return None
        except (RuntimeError, TypeError, LookupError, ValueError, AssertionError) as wrong:
            self.refusal = (
                f"What lies behind {self._cut.start!r} in {opened.file.name} cannot be run in torch ({wrong}), so that "
                "gradients cannot pass; use eigencam, scorecam or ablationcam, or a layer behind it."
            )
            return None
        if not error <= _LARGEST_DIFFERENCE * span:
            self.refusal = (
                f"Behind {self._cut.start!r} in {opened.file.name}, torch's logits differ from ONNX Runtime's by "
                f"{error:.3g}; use eigencam, scorecam or ablationcam, or a layer behind it."
            )
            return None
        tail.prepare(self._as_read(values), grid=self._folding is None)
        self.tail = tail
        return error


def _logits_taps(opened: Opened) -> list[Tap]:
    """Return the ways to read the logits; several where they are none of the file's outputs and are quantized."""
    name, graph = opened.logits.tensor, opened.graph
    node = graph.producers.get(name)
    if not opened.logits.softmax or node is None or node.op != DEQUANTIZE:
        return [Tap(name)]
    grid, integers = grid_of(graph, node), node.inputs[0]
    ways = [Tap(integers, grid)] if grid is not None and grid.axis is None else []
    source = graph.producers.get(integers)
    ways += [Tap(name)] if name in opened.shapes else []
    if ways and source is not None and source.inputs[0] in opened.shapes:  # before it is rounded
        ways.append(Tap(source.inputs[0], grid))
    return ways


def _traced(
    function: Callable[..., Tensor | None], inputs: tuple[Tensor, ...]
) -> tuple[Callable[..., Tensor | None], bool]:
    """Return a function's tensor operations alone, and whether its last input alone decides what they give.

    They are for inputs of these shapes. Where they do not give the function's value, the function itself is returned.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    expected = function(*inputs)
    if expected is None:
        return function, False
    try:
        module: Any = make_fx(function)(*inputs)
        module.graph.eliminate_dead_code()
        module.recompile()
        found = module(*inputs)
    except Exception:  # whatever tracing does not bear, the function itself does
        return function, False
    if not torch.equal(found, expected):
        return function, False
    *others, _ = [node for node in module.graph.nodes if node.op == "placeholder"]
    repeat: Callable[..., Tensor | None] = torch.no_grad()(module.forward)
    return repeat, not any(node.users for node in others)
