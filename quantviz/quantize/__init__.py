"""Float model -> quantized copy that simulates integer arithmetic and stays differentiable.

What is simulated: every convolution and linear layer reads its input on a per-tensor integer grid and holds its weight
on an integer grid. Batch norm is folded into the convolution before it. Biases, additions, concatenations, pooling and
activation functions stay in float32.
"""

from quantviz.quantize.distil import distil
from quantviz.quantize.fold import fold_batch_norm, folded
from quantviz.quantize.gptq import gptq
from quantviz.quantize.grids import (
    Grid,
    InputQuantizer,
    WeightGrid,
    activation_grid,
    affine_grid,
    quantize_weight,
    symmetric_grid,
    weight_grid,
)
from quantviz.quantize.learn import learn, learns
from quantviz.quantize.network import LearnedLayer, assemble, float_base, input_grid, quantize
from quantviz.quantize.ranges import Ranges, calibrate

__all__ = [
    "Grid",
    "InputQuantizer",
    "LearnedLayer",
    "Ranges",
    "WeightGrid",
    "activation_grid",
    "affine_grid",
    "assemble",
    "calibrate",
    "distil",
    "float_base",
    "fold_batch_norm",
    "folded",
    "gptq",
    "input_grid",
    "learn",
    "learns",
    "quantize",
    "quantize_weight",
    "symmetric_grid",
    "weight_grid",
]
