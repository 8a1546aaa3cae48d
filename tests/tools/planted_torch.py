"""Plant one fault in a quantized network in torch: which tensor, of which cause, is known then."""

import copy

import numpy as np
import torch
from torch import nn

from quantviz.quantize import Grid, affine_grid, assemble, calibrate, float_base, quantized_layers, weight_grid
from quantviz.specs import QuantSpec

CAUSES = (
    "outlier_channels",
    "dead_channels",
    "unequal_scales",
    "calibration_range",
    "clipping",
    "asymmetric_on_symmetric",
    "bias_overflow",
    "batch_norm_not_folded",
    "graph_differs",
    "too_few_bits",
)
STRENGTHS = {
    "outlier_channels": (16, 40, 100),
    "dead_channels": (0.12, 0.25, 0.4),
    "unequal_scales": (12, 32, 96),
    "calibration_range": (6, 12, 24),
    "clipping": (0.9, 0.7, 0.4),
    "asymmetric_on_symmetric": (1 / 3, 1 / 5, 0),
    "bias_overflow": (2, 8, 64),
    "batch_norm_not_folded": (1, 2, 4),
    "graph_differs": (0, 1, 2),
    "too_few_bits": (4, 3, 2),
}
"""What each strength means: see the functions."""


class Scaled(nn.Module):
    """Channels times factors of their own, plus a shift; with ``branches``, as two joined parts."""

    def __init__(self, factors, shift=0.0, branches=0):
        super().__init__()
        self.factors, self.shift, self.branches = factors.view(1, -1, 1, 1), shift, branches

    def forward(self, x):
        x = x * self.factors + self.shift
        if self.branches:
            return torch.cat([x[:, : self.branches], x[:, self.branches :]], 1)
        return x


class Sound:
    """A network in float and at W8A8, with what every layer reads of the calibration pictures."""

    def __init__(self, model, pictures, layer=None):
        self.base = float_base(model, QuantSpec(), pictures[0], layer)
        self.quantized = assemble(self.base, QuantSpec(), calibrate(self.base, pictures))
        self.values = {}
        handles = [
            module.register_forward_pre_hook(
                lambda _m, inputs, name=name: self.values.setdefault(name, []).append(inputs[0].clone())
            )
            for name, module in quantized_layers(self.base)
        ]
        with torch.no_grad():
            for picture in pictures[:6]:
                self.base(picture)
        for handle in handles:
            handle.remove()
        self.values = {name: torch.cat(values) for name, values in self.values.items()}


def plant(sound, cause, strength, seed):
    """Return (reference, quantized, planted tensor): the float network, the faulty one, and where the fault is."""
    rng = np.random.default_rng([seed, CAUSES.index(cause), strength])
    reference, quantized = copy.deepcopy(sound.base), copy.deepcopy(sound.quantized)
    names = [name for name in sound.values if fits(sound, name, cause)]
    name = names[rng.integers(len(names))]
    tensor = PLANTERS[cause](sound, reference, quantized, name, STRENGTHS[cause][strength], rng)
    return reference, quantized, tensor


def fits(sound, name, cause):
    """Whether a fault can be planted at a layer."""
    layer, values = sound.base.get_submodule(name), sound.values[name]
    if values.ndim != 4 or type(layer) is nn.Linear:
        return cause in ("calibration_range", "too_few_bits")
    if cause in ("outlier_channels", "dead_channels", "unequal_scales"):
        reach = values.abs().amax((0, 2, 3))
        return values.shape[1] >= 32 and float((reach > 0).float().mean()) > 0.9
    if cause == "asymmetric_on_symmetric":
        return float(values.min()) == 0 and values.shape[1] > 3
    if cause == "bias_overflow":
        return layer.bias is not None and float(layer.bias.abs().max()) > 1e-3
    if cause == "graph_differs":
        return type(layer) is nn.Conv2d and layer.kernel_size[0] >= 3 and min(layer.padding) > 0
    if cause == "batch_norm_not_folded":
        return isinstance(layer, nn.Conv2d)
    return True


def replace(module, name, made):
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, made)


def rounded(layer, bits=8):
    """Round a layer's weight anew, from what it is now."""
    grid = weight_grid(layer.weight, bits)
    layer.weight = nn.Parameter(grid.round(layer.weight), requires_grad=False)
    object.__setattr__(layer, "weight_grid", grid)


def inserted(sound, reference, quantized, name, factors, shift=0.0, branches=0, grid=None):
    """Scale and shift what a layer reads, and take it back in its weight and bias: the function stays."""
    original = sound.base.get_submodule(name)
    values = Scaled(factors, shift, branches)(sound.values[name])
    for network in (reference, quantized):
        layer = network.get_submodule(name)
        depthwise = layer.groups == layer.in_channels and layer.groups > 1
        columns = factors.view(-1, 1, 1, 1) if depthwise else factors.view(1, -1, 1, 1)
        layer.weight = nn.Parameter(original.weight / columns, requires_grad=False)
        if shift:
            bias = torch.zeros(layer.out_channels) if original.bias is None else original.bias
            layer.bias = nn.Parameter(bias - shift * layer.weight.flatten(1).sum(1), requires_grad=False)
        replace(network, name, nn.Sequential(Scaled(factors, shift, branches), layer))
    layer = quantized.get_submodule(f"{name}.1")
    rounded(layer)
    layer.input_quantizer.grid = grid or affine_grid(float(values.min()), float(values.max()), 8)
    return f"{name}.1.input"


def outlier_channels(sound, reference, quantized, name, strength, rng):
    """One or two channels reach so many times as far as the median one."""
    reach = sound.values[name].abs().amax((0, 2, 3))
    median = float(reach[reach > 0].median())
    chosen = rng.choice(np.flatnonzero(reach.numpy() > 0), size=int(rng.integers(1, 3)), replace=False)
    factors = torch.ones(len(reach))
    for channel in chosen:
        factors[channel] = strength * median / float(reach[channel])
    return inserted(sound, reference, quantized, name, factors)


def dead_channels(sound, reference, quantized, name, strength, rng):
    """Such a part of the channels is 4,096 times smaller than it was."""
    reach = sound.values[name].abs().amax((0, 2, 3))
    alive = np.flatnonzero(reach.numpy() > 0)
    factors = torch.ones(len(reach))
    factors[rng.choice(alive, size=max(4, round(strength * len(reach))), replace=False)] = 1 / 4096
    return inserted(sound, reference, quantized, name, factors)


def unequal_scales(sound, reference, quantized, name, strength, rng):
    """Of two branches that are joined, one reaches so many times as far as the other."""
    reach = sound.values[name].abs().amax((0, 2, 3))
    half = len(reach) // 2
    factors = torch.ones(len(reach))
    factors[half:] = float(reach[:half].max() / reach[half:].max()) / strength
    if rng.random() < 0.5:
        factors = 1 / factors
    return inserted(sound, reference, quantized, name, factors, branches=half)


def regrid(quantized, name, factor):
    quantizer = quantized.get_submodule(name).input_quantizer
    grid = quantizer.grid
    quantizer.grid = Grid(grid.scale * factor, grid.zero_point, grid.quant_min, grid.quant_max)
    return f"{name}.input"


def calibration_range(_sound, _reference, quantized, name, strength, _rng):
    """The range is so many times as wide as the values."""
    return regrid(quantized, name, strength)


def clipping(sound, _reference, quantized, name, strength, _rng):
    """The range ends at this part of the greatest value, or where the 0.5 % greatest begin, whichever is less."""
    values = sound.values[name].abs().flatten()
    cut = float(values[values > 0][:: max(1, values.numel() // 100_000)].quantile(0.995))
    top = float(values.max())
    grid = quantized.get_submodule(name).input_quantizer.grid
    reach = grid.scale * max(grid.quant_max - grid.zero_point, grid.zero_point - grid.quant_min)
    return regrid(quantized, name, min(cut, strength * top) / reach)


def asymmetric_on_symmetric(sound, reference, quantized, name, strength, _rng):
    """Values that are not negative, but for a shift by such a part of the greatest one, on a symmetric grid."""
    top = float(sound.values[name].max())
    shift = -strength * top
    grid = Grid(max(top + shift, -shift) / 127, 0, -127, 127)
    return inserted(sound, reference, quantized, name, torch.ones(sound.values[name].shape[1]), shift, grid=grid)


def bias_overflow(sound, reference, quantized, name, strength, _rng):
    """The weights of the channel with the greatest bias are so small that its bias is so many times too great."""
    original, read = sound.base.get_submodule(name), quantized.get_submodule(name).input_quantizer.grid
    channel = int(original.bias.abs().argmax())
    needed = float(original.bias[channel].abs()) / strength / 2**31 / read.scale * 127
    weight = original.weight.clone()
    weight[channel] *= needed / float(weight[channel].abs().max())
    for network in (reference, quantized):
        network.get_submodule(name).weight = nn.Parameter(weight.clone(), requires_grad=False)
    layer = quantized.get_submodule(name)
    rounded(layer)
    limit = 2**31 * read.scale * layer.weight_grid.scale
    layer.bias = nn.Parameter(original.bias.clamp(-limit, limit), requires_grad=False)
    return f"{name}.bias"


def batch_norm_not_folded(sound, reference, quantized, name, strength, rng):
    """A batch norm with gains from 2^-strength to 2^strength stands behind the convolution, which is rounded alone."""
    layer, original = quantized.get_submodule(name), sound.base.get_submodule(name)
    gain = torch.from_numpy(2 ** rng.uniform(-strength, strength, layer.out_channels)).float()
    norm = nn.BatchNorm2d(layer.out_channels, eps=0.0).eval().requires_grad_(False)
    norm.weight.copy_(gain)
    layer.weight = nn.Parameter(original.weight / gain.view(-1, 1, 1, 1), requires_grad=False)
    rounded(layer)
    if original.bias is not None:
        layer.bias = nn.Parameter(original.bias / gain, requires_grad=False)
    replace(quantized, name, nn.Sequential(layer, norm))
    replace(reference, name, nn.Sequential(reference.get_submodule(name), nn.Identity()))
    return f"{name}.0.weight"


def graph_differs(_sound, _reference, quantized, name, strength, _rng):
    """The convolution pads by the edge's values, by the other side's, or leaves out every other place."""
    layer = quantized.get_submodule(name)
    if strength < 2:
        layer.padding_mode = ("replicate", "circular")[strength]
        layer._reversed_padding_repeated_twice = [side for side in reversed(layer.padding) for _ in range(2)]
    else:
        layer.dilation = tuple(2 * side for side in layer.dilation)
        layer.padding = tuple(side * 2 for side in layer.padding)
    return f"{name}.input"


def too_few_bits(sound, _reference, quantized, name, strength, rng):
    """Weight or input has so many bits."""
    layer = quantized.get_submodule(name)
    if rng.random() < 0.5:
        layer.weight = nn.Parameter(sound.base.get_submodule(name).weight.clone(), requires_grad=False)
        rounded(layer, strength)
        return f"{name}.weight"
    values = sound.values[name]
    layer.input_quantizer.grid = affine_grid(float(values.min()), float(values.max()), strength)
    return f"{name}.input"


PLANTERS = {name: globals()[name] for name in CAUSES}
