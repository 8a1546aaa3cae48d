"""Weights whose rounding is learned: the rounded network is taught to answer as the float network does.

All layers are learned together, on views of the calibration pictures and without labels. In the manner of AdaQuant
(Hubara et al. 2020, arXiv 2006.10518) and QAT by distillation (Polino et al. 2018, arXiv 1802.05668), with the step of
each channel learned too (LSQ, Esser et al. 2020, arXiv 1902.08153).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from quantviz.quantize._hooks import hooks, quantized_layers
from quantviz.quantize.gptq import execution_order, gptq
from quantviz.quantize.grids import WeightGrid
from quantviz.quantize.network import LearnedLayer, assemble, without_weights
from quantviz.quantize.ranges import Ranges
from quantviz.specs import Progress, QuantSpec, no_progress

_VIEWS = 512
_STEPS = 160
_BATCH = 16
_WATCHED = 16
_EDGE = 0.45
_WEIGHT_RATE, _OTHER_RATE = 0.001, 0.001


def distil(
    base: nn.Module,
    spec: QuantSpec,
    ranges: Ranges,
    batches: Callable[[], Iterable[Tensor]],
    views: Callable[[int], Tensor],
    progress: Progress = no_progress,
) -> dict[str, LearnedLayer]:
    """Learn every weight's rounding, its channels' scales, and the biases, starting from GPTQ.

    What is made small is the Kullback-Leibler divergence of the class probabilities from the float network's, plus
    the squared difference of layer outputs relative to the float outputs' variance, averaged over up to 16 layers
    evenly spaced in depth. Rounding passes the gradient on unchanged; Adam, one learning-rate cycle.

    Args:
        base: from ``float_base``; left as it was.
        spec: bit-widths and scheme.
        ranges: from ``calibrate`` on ``base``.
        batches: goes through the calibration inputs, (N, 3, H, W) float32, once a call.
        views: from a number n to as many inputs cut from the calibration pictures at random, (n, 3, H, W) float32.
        progress: told how far it is; whatever it raises ends the call.

    Raises:
        QuantvizError: as ``gptq``.
    """
    start = gptq(base, spec, ranges, batches, progress)
    student = assemble(base, without_weights(spec, base), ranges)
    rounders = _parametrize(student, start)
    _teach(student, base, rounders, views(_VIEWS), progress)
    layers = dict(quantized_layers(student))
    return {name: rounder.learned(layers[name]) for name, rounder in rounders.items()}


class _Nearest(torch.autograd.Function):
    """Rounds and clamps; the gradient passes as if it had done neither."""

    @staticmethod
    def forward(_ctx: Any, steps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(steps.round(), high), low)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0], None, None


class _Rounder(nn.Module):
    """Takes a weight in units of its grid's steps to the values of the grid.

    Args:
        grid: where the scales start.
        dimensions: of the weight.
    """

    def __init__(self, grid: WeightGrid, dimensions: int) -> None:
        super().__init__()
        self.grid = grid
        columns = (-1, *[1] * (dimensions - 1))
        self.scale = grid.scale.view(columns)
        self.low = (grid.quant_min - grid.zero_point).float().view(columns)
        self.high = (grid.quant_max - grid.zero_point).float().view(columns)
        self.gain = nn.Parameter(torch.ones_like(self.scale))

    def forward(self, steps: Tensor) -> Tensor:
        """Return the weight, of the shape of ``steps``."""
        rounded: Tensor = _Nearest.apply(steps, self.low, self.high)
        return rounded * (self.scale * self.gain)

    def learned(self, layer: nn.Conv2d | nn.Linear) -> LearnedLayer:
        """Return what was learned, on its final grid."""
        steps = _steps(layer).detach()
        zero_point = self.grid.zero_point
        scale = (self.scale * self.gain).detach().flatten().abs().clamp_min(torch.finfo(torch.float32).tiny)
        grid = WeightGrid(scale, zero_point, self.grid.quant_min, self.grid.quant_max)
        columns = zero_point.view(self.scale.shape)
        integers = torch.maximum(torch.minimum(steps.round(), self.high), self.low).to(torch.int32) + columns
        bias = None if layer.bias is None else layer.bias.detach().clone()
        return LearnedLayer(grid, integers, bias)


def _parametrize(student: nn.Module, start: dict[str, LearnedLayer]) -> dict[str, _Rounder]:
    """Make the student's weights, scales and biases learnable, from where GPTQ left them."""
    layers, rounders = dict(quantized_layers(student)), {}
    for name, found in start.items():
        layer = layers[name]
        rounder = _Rounder(found.grid, layer.weight.ndim)
        steps = layer.weight.detach() / rounder.scale
        mended = (found.integers - found.grid.zero_point.view(rounder.scale.shape)).float()
        # Where GPTQ rounds another way than to nearest, start from just beyond its side of the edge.
        inside = steps.clamp(mended - _EDGE, mended + _EDGE)
        layer.weight = nn.Parameter(inside, requires_grad=True)
        parametrize.register_parametrization(layer, "weight", rounder, unsafe=True)
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros(layer.weight.shape[0]))
        layer.bias.requires_grad_(True)
        rounders[name] = rounder
    return rounders


def _steps(layer: nn.Module) -> Tensor:
    """Return a parametrized layer's weight in units of its grid's steps."""
    steps: Tensor = layer.get_parameter("parametrizations.weight.original")
    return steps


def _teach(
    student: nn.Module, teacher: nn.Module, rounders: dict[str, _Rounder], views: Tensor, progress: Progress
) -> None:
    layers = dict(quantized_layers(student))
    weights = [_steps(layers[name]) for name in rounders]
    others = [rounder.gain for rounder in rounders.values()] + [layers[name].bias for name in rounders]
    optimizer = torch.optim.Adam([{"params": weights, "lr": _WEIGHT_RATE}, {"params": others, "lr": _OTHER_RATE}])
    rates = [_WEIGHT_RATE, _OTHER_RATE]
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=_STEPS, pct_start=0.05)
    names = _watched(teacher, views[:1])
    with torch.enable_grad(), _outputs(student, names) as found, _outputs(teacher, names) as wanted:
        for step, batch in enumerate(_batches(views)):
            progress("Learning the rounding from the float network", step / _STEPS)
            with torch.no_grad():
                answer = teacher(batch)
            loss = _loss(student(batch), answer, [(found[name], wanted[name]) for name in names])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            cycle.step()


def _loss(logits: Tensor, answer: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    log_p, log_q = functional.log_softmax(logits, dim=1), functional.log_softmax(answer, dim=1)
    divergence = functional.kl_div(log_p, log_q, log_target=True, reduction="batchmean")
    errors = [(ours - theirs).square().mean() / theirs.var().clamp_min(1e-12) for ours, theirs in pairs]
    return divergence + torch.stack(errors).mean()


def _batches(views: Tensor) -> Iterator[Tensor]:
    """Yield batches of views, each view as often as the others, in an order that is always the same."""
    chance = torch.Generator().manual_seed(0)
    order = torch.cat([torch.randperm(len(views), generator=chance) for _ in range(-(-_STEPS * _BATCH // len(views)))])
    for start in range(0, _STEPS * _BATCH, _BATCH):
        yield views[order[start : start + _BATCH]].contiguous(memory_format=torch.channels_last)


def _watched(teacher: nn.Module, example: Tensor) -> list[str]:
    """Return the layers whose outputs are compared."""
    order = execution_order(teacher, example)
    count = min(_WATCHED, len(order))
    return [order[(place + 1) * len(order) // count - 1] for place in range(count)]


@contextmanager
def _outputs(network: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dictionary that after each forward pass holds the named layers' outputs."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            found[name] = output

        return hook

    with hooks(network.get_submodule(name).register_forward_hook(keep(name)) for name in names):
        yield found
