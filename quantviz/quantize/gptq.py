"""Weights rounded one column after the other, each time mending what the columns before did wrong (GPTQ).

Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"
(arXiv 2210.17323), after optimal brain quantization (arXiv 2208.11580); here for convolutions, in groups or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from quantviz.quantize._hooks import hooks, quantized_layers
from quantviz.quantize.grids import WeightGrid, weight_grid
from quantviz.quantize.network import LearnedLayer, assemble, put_weight, without_weights
from quantviz.quantize.ranges import Ranges
from quantviz.specs import Phase, Progress, QuantSpec, QuantvizError, no_progress

_DAMPING = 0.01
_BATCH = 8
# As many positions of the input are enough for second moments, a batch giving at most a quarter of them.
_LEAST, _MOST, _PER_COLUMN = 32768, 65536, 64
_COLUMNS = 4096  # of one block, so that a wide linear layer's second moments fit in memory
_LAZY = 128  # columns that are rounded before what is left over goes to all the others at once


class _Reached(Exception):
    """Ends a forward pass at the layer that is asked about."""


def gptq(
    base: nn.Module,
    spec: QuantSpec,
    ranges: Ranges,
    batches: Callable[[], Iterable[Tensor]],
    progress: Progress = no_progress,
) -> dict[str, LearnedLayer]:
    """Round every weight by GPTQ, layer after layer in the order of execution.

    With a layer's input as columns X and H = X X^T, the columns j of its weight W are rounded in turn, and what is
    left over goes into the columns k that follow: ``W_k -= (W_j - Q_j) / U_jj * U_jk``, where U is the upper Cholesky
    factor of the inverse of ``H + 0.01 mean(diag H) I`` (algorithm 1). X is what the layer reads in the network whose
    earlier weights are rounded, and whose inputs are if they have less than 8 bits. The biases stay.

    Args:
        base: from ``float_base``; left as it was.
        spec: bit-widths and scheme.
        ranges: from ``calibrate`` on ``base``.
        batches: goes through the calibration inputs, (N, 3, H, W) float32, once a call.
        progress: reports how far it is; whatever it raises ends the call.

    Raises:
        QuantvizError: a layer's second moments cannot be inverted.
    """
    network = assemble(base, without_weights(spec, base), ranges)
    layers = dict(quantized_layers(network))
    inputs = _mixed(batches())
    learned = {}
    order = [name for name in execution_order(network, inputs[0][:1]) if spec.bits_of(name)[0] is not None]
    for done, name in enumerate(order):
        progress("Rounding the weights (GPTQ)", done / len(order), Phase.LEARNING)
        module, bits = layers[name], spec.bits_of(name)[0]
        assert bits is not None
        least_squares = spec.weight_ranges == "mse"
        grid = weight_grid(module.weight, bits, spec.scheme, spec.granularity, least_squares=least_squares)
        weight = _rounded(name, module, grid, _second_moments(network, module, inputs))
        learned[name] = LearnedLayer(grid, grid.integers(weight))
        put_weight(module, grid, learned[name].integers)
    return learned


def execution_order(network: nn.Module, example: Tensor) -> list[str]:
    """Return the names of the quantized layers in the order in which a forward pass reaches them first."""
    order: dict[str, None] = {}
    layers = quantized_layers(network)
    handles = [
        layer.register_forward_pre_hook(lambda _module, _inputs, name=name: order.setdefault(name))
        for name, layer in layers
    ]
    with hooks(handles), torch.no_grad():
        network(example)
    return list(order)


def _second_moments(network: nn.Module, module: nn.Conv2d | nn.Linear, batches: Iterable[Tensor]) -> list[Tensor]:
    """Return X X^T of a layer's input in blocks of columns: each float64 (groups, columns, columns)."""
    moments: list[Tensor] = []
    seen, enough = 0, min(max(_PER_COLUMN * module.weight[0].numel(), _LEAST), _MOST)

    def gather(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen
        columns = _columns(module, inputs[0], enough // 4)
        seen += columns.shape[1]
        for place, rows in enumerate(torch.split(columns, _COLUMNS, dim=2)):
            product = (rows.transpose(1, 2) @ rows).double()
            if place < len(moments):
                moments[place] += product
            else:
                moments.append(product)
        raise _Reached

    # Registered last, it sees the input after it was rounded.
    with hooks([module.register_forward_pre_hook(gather)]), torch.no_grad():
        for batch in batches:
            try:
                network(batch)
            except _Reached:
                if seen >= enough:
                    break
    return moments


def _mixed(batches: Iterable[Tensor]) -> list[Tensor]:
    """Return the inputs in batches, in an order that is always the same and keeps crops of one picture apart."""
    images = torch.cat(list(batches))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    mixed = torch.split(images[order], _BATCH)
    return [batch.contiguous(memory_format=torch.channels_last) for batch in mixed]


def _columns(module: nn.Conv2d | nn.Linear, values: Tensor, most: int) -> Tensor:
    """Return what a layer multiplies its weight with: (groups, positions, columns), about ``most`` positions."""
    if isinstance(module, nn.Linear):
        return values.reshape(1, -1, values.shape[-1])
    padding = module.padding
    assert not isinstance(padding, str)
    # Unfolding all of them would take as many times the memory as the kernel has positions.
    stride = module.stride[0] * module.stride[1]
    fewer = max(1, -(-most * stride // (values.shape[2] * values.shape[3])))
    values = values[:fewer]
    unfolded = functional.unfold(values, module.kernel_size, module.dilation, padding, module.stride)
    groups = module.groups
    rows = unfolded.reshape(len(values), groups, -1, unfolded.shape[-1]).permute(1, 0, 3, 2).flatten(1, 2)
    return rows[:, :: -(-rows.shape[1] // most)]


def _rounded(name: str, module: nn.Conv2d | nn.Linear, grid: WeightGrid, moments: list[Tensor]) -> Tensor:
    """Return the weight on its grid, the columns rounded in turn."""
    weight = module.weight.detach()
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    per_row = (1 if len(grid.scale) == 1 else groups, -1, 1)
    scale, zero_point = grid.scale.view(per_row), grid.zero_point.view(per_row)
    blocks = torch.split(weight.reshape(groups, weight.shape[0] // groups, -1), _COLUMNS, dim=2)

    def nearest(columns: Tensor) -> Tensor:
        integers = (columns / scale).round() + zero_point
        return (integers.clamp(grid.quant_min, grid.quant_max) - zero_point) * scale

    rounded = [
        _rounded_block(name, block.clone(), moment, nearest) for block, moment in zip(blocks, moments, strict=True)
    ]
    return torch.cat(rounded, dim=2).reshape(weight.shape)


def _rounded_block(name: str, weight: Tensor, moments: Tensor, nearest: Callable[[Tensor], Tensor]) -> Tensor:
    factor = _factor(name, moments).to(weight.dtype)
    rounded = torch.empty_like(weight)
    columns = weight.shape[2]
    for start in range(0, columns, _LAZY):
        end = min(start + _LAZY, columns)
        errors = torch.empty_like(weight[:, :, start:end])
        for column in range(start, end):
            current = weight[:, :, column : column + 1]
            rounded[:, :, column : column + 1] = nearest(current)
            error = (current - rounded[:, :, column : column + 1]) / factor[:, None, column : column + 1, column]
            weight[:, :, column:end] -= error * factor[:, column : column + 1, column:end]
            errors[:, :, column - start] = error[:, :, 0]
        weight[:, :, end:] -= errors @ factor[:, start:end, end:]
    return rounded


def _factor(name: str, moments: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the damped moments' inverse, (groups, columns, columns)."""
    diagonal = moments.diagonal(dim1=1, dim2=2)
    damping = (_DAMPING * diagonal.mean(dim=1)).clamp_min(1e-12)
    damped = moments + torch.diag_embed(damping[:, None].expand_as(diagonal))
    try:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
        factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        raise QuantvizError(f"GPTQ cannot round layer {name!r}: its inputs have no usable second moments.") from None
    return factor
