"""Float model -> quantized copy that simulates integer arithmetic and stays differentiable.

What is simulated: every convolution and linear layer reads its input on a per-tensor integer grid and holds its weight
on an integer grid. Batch norm is folded into the convolution before it. The factors of matrix products of activations
(attention's q, k, softmax and v) and the outputs of layer norms are rounded to per-tensor grids, too. Biases,
additions, concatenations, pooling and activation functions stay in float32.
"""

from quantviz.quantize._hooks import hooks, quantized_layers
from quantviz.quantize.bias import correct_biases
from quantviz.quantize.cost import cost, layer_costs, other_values
from quantviz.quantize.distil import distil
from quantviz.quantize.equalize import ChannelClip, equalizable, equalized
from quantviz.quantize.fold import conv_norm_pairs, fold_batch_norm, folded
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
from quantviz.quantize.learn import learn
from quantviz.quantize.network import LearnedLayer, assemble, float_base, input_grid, quantize
from quantviz.quantize.paper import (
    NETWORK_DEVIATIONS,
    after_picture,
    check_protocol,
    frozen_observers,
    paper,
    paper_base,
    site_ranges,
)
from quantviz.quantize.ranges import Histogram, Ranges, calibrate
from quantviz.quantize.reading import Reading, readings
from quantviz.quantize.switch import Switchboard
from quantviz.quantize.training import seeded, train_mode

__all__ = [
    "NETWORK_DEVIATIONS",
    "ChannelClip",
    "Grid",
    "Histogram",
    "InputQuantizer",
    "LearnedLayer",
    "Ranges",
    "Reading",
    "Switchboard",
    "WeightGrid",
    "activation_grid",
    "affine_grid",
    "after_picture",
    "assemble",
    "calibrate",
    "check_protocol",
    "conv_norm_pairs",
    "correct_biases",
    "cost",
    "distil",
    "equalizable",
    "equalized",
    "float_base",
    "fold_batch_norm",
    "folded",
    "frozen_observers",
    "gptq",
    "hooks",
    "input_grid",
    "layer_costs",
    "learn",
    "other_values",
    "paper",
    "paper_base",
    "quantize",
    "quantize_weight",
    "quantized_layers",
    "readings",
    "seeded",
    "site_ranges",
    "symmetric_grid",
    "train_mode",
    "weight_grid",
]
