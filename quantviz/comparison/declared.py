"""What a simulated network declares of its layers, for the backends that run it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quantviz.backends import ActivationGrid, IntegerLayer, SimulatedLayer


def integer_layers(simulated: nn.Module) -> dict[str, IntegerLayer]:
    """Return the convolutions and linear layers of a simulated W8A8 network as integers, by dotted name.

    Args:
        simulated: from ``quantize.assemble``.
    """
    from torch import nn

    from quantviz.backends import ActivationGrid, IntegerLayer
    from quantviz.quantize import InputQuantizer, WeightGrid

    layers = {}
    for name, module in simulated.named_modules():
        grid, quantizer = getattr(module, "weight_grid", None), getattr(module, "input_quantizer", None)
        if not isinstance(module, nn.Conv2d | nn.Linear) or not isinstance(grid, WeightGrid):
            continue
        if not isinstance(quantizer, InputQuantizer):
            continue
        layers[name] = IntegerLayer(
            integers=grid.integers(module.weight).numpy().astype(np.int8),
            scale=grid.scale.expand(len(module.weight)).numpy(),
            bias=None if module.bias is None else module.bias.numpy(),
            source=ActivationGrid(quantizer.grid.scale, quantizer.grid.zero_point),
        )
    return layers


def simulated_layers(simulated: nn.Module) -> dict[str, SimulatedLayer]:
    """Return the convolutions and linear layers of a simulated network with the grids of their inputs, by dotted name.

    Args:
        simulated: from ``quantize.assemble``.

    Raises:
        NotSplittableError: it rounds what is no layer's input, which no export names.
    """
    from torch import nn

    from quantviz.backends import InputGrid, NotSplittableError, SimulatedLayer
    from quantviz.quantize import InputQuantizer

    layers = {}
    for name, module in simulated.named_modules():
        quantizer, grid = getattr(module, "input_quantizer", None), None
        if isinstance(quantizer, InputQuantizer):
            of = quantizer.grid
            grid = InputGrid(of.scale, of.zero_point, of.quant_min, of.quant_max)
        if isinstance(module, nn.Conv2d | nn.Linear):
            bias = None if module.bias is None else module.bias.numpy()
            layers[name] = SimulatedLayer(module.weight.numpy(), bias, grid)
        elif grid is not None:
            raise NotSplittableError("The network rounds what it reads beside its layers' inputs (attention, norms).")
    return layers


def target_grid(simulated: nn.Module, layer: str, example: Tensor) -> ActivationGrid | None:
    """Return the grid on which a layer of a simulated network reads the target's activation as it is, or None.

    Args:
        simulated: from ``quantize.assemble``.
        layer: dotted name of the target layer.
        example: one input (1, 3, H, W).
    """
    import torch

    from quantviz.backends import ActivationGrid
    from quantviz.quantize import Grid, InputQuantizer

    activations: list[Tensor] = []
    grids: list[ActivationGrid] = []

    def noting(grid: Grid) -> Callable[..., None]:
        def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if activations and inputs[0].shape == activations[0].shape and torch.equal(inputs[0], activations[0]):
                grids.append(ActivationGrid(grid.scale, grid.zero_point))

        return note

    handles = []
    for module in simulated.modules():
        quantizer = module._modules.get("input_quantizer")
        if isinstance(quantizer, InputQuantizer):  # first among the hooks, as the next one rounds
            handles.append(module.register_forward_pre_hook(noting(quantizer.grid), prepend=True))
    target = simulated.get_submodule(layer)
    handles.append(target.register_forward_hook(lambda _module, _inputs, output: activations.append(output.clone())))
    try:
        with torch.no_grad():
            simulated(example)
    finally:
        for handle in handles:
            handle.remove()
    return grids[0] if grids else None
