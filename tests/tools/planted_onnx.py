"""Plant one fault in a quantized ONNX file, as toolchains leave them: which tensor, of which cause, is known then."""

import copy

import numpy as np
from onnx import helper, numpy_helper
from planted_torch import CAUSES, STRENGTHS

from quantviz.networks.onnx_files import open_file, pair_of
from quantviz.networks.onnx_files.making import make_pair
from quantviz.networks.onnx_files.taps import PairRunner, tapped

FILES = {
    "squeezenet1_1": ("squeezenet1_1.float.onnx", "squeezenet1_1.ort-qdq-pc-quint8.onnx"),
    "mobilenet_v2": ("mobilenet_v2.float.onnx", "mobilenet_v2.ort-qdq-pc-qint8.onnx"),
}
PLANTED = "planted"


class Sound:
    """A float file and its int8 QDQ file, with the float values of every tensor on a grid."""

    def __init__(self, name, module, calibration, folder, data):
        if name in FILES:
            self.paths = [data / "onnx" / file for file in FILES[name]]
        else:
            self.paths = make_pair(module, np.concatenate(calibration), folder, name)
        found = pair_of(*map(open_file, self.paths))
        self.first, self.second = (Editor(opened.file.model) for opened in (found.reference, found.quantized))
        entries = tapped(found)
        runner = PairRunner(found, entries, 1)
        given = [runner.values(picture)[0] for picture in calibration[:6]]
        self.values = {
            entry.name: np.concatenate([values[entry.reference] for values in given])
            for entry in entries
            if entry.reference is not None and entry.grid is not None
        }
        matched = {match.quantized_tensor: match.float_tensor for match in found.matches}
        self.layers = {}
        for node in self.second.model.graph.node:
            if node.op_type == "Conv" and (read := self.second.read_by(node)) in self.values:
                twin = self.first.conv_of(matched.get(node.output[0], node.output[0]), node.output[0])
                if twin is not None:
                    self.layers[node.output[0]] = read, twin.output[0]

    def pair(self):
        return self.first, self.second


class Editor:
    """An ONNX model that is changed node by node."""

    def __init__(self, model):
        self.model = copy.deepcopy(model)
        self.index()

    def index(self):
        graph = self.model.graph
        self.constants = {entry.name: entry for entry in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = node.attribute[0].t
        self.producers = {name: node for node in graph.node for name in node.output}
        return self

    def value(self, name):
        return numpy_helper.to_array(self.constants[name])

    def constant(self, name, values):
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        self.constants[name] = self.model.graph.initializer[-1]
        return name

    def insert(self, before, nodes):
        place = next(at for at, node in enumerate(self.model.graph.node) if node is before or node == before)
        for node in reversed(nodes):
            self.model.graph.node.insert(place, node)
        self.index()

    def read_by(self, conv):
        dequantizer = self.producers.get(conv.input[0])
        if dequantizer is None or dequantizer.op_type != "DequantizeLinear":
            return None
        quantizer = self.producers.get(dequantizer.input[0])
        return None if quantizer is None else quantizer.input[0]

    def conv_of(self, *tensors):
        """Return the convolution that gives a tensor, or what an activation made of it."""
        for tensor in tensors:
            node = self.producers.get(tensor)
            if node is not None and node.op_type in ("Relu", "Clip"):
                node = self.producers.get(node.input[0])
            if node is not None and node.op_type == "Conv":
                return node
        return None

    def quantizers(self, tensor):
        """Return the QuantizeLinear of a tensor and its DequantizeLinears."""
        (quantizer,) = [
            node for node in self.model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == tensor
        ]
        return quantizer, [node for node in self.model.graph.node if quantizer.output[0] in node.input]

    def set_grid(self, tensor, scale, zero=None):
        quantizer, readers = self.quantizers(tensor)
        names = [self.constant(f"{PLANTED}_scale", np.float32(scale))]
        if zero is not None:
            names.append(self.constant(f"{PLANTED}_zero", np.asarray(zero, self.value(quantizer.input[2]).dtype)))
        for node in (quantizer, *readers):
            node.input[1] = names[0]
            if zero is not None:
                node.input[2] = names[1]

    def set_weight(self, conv, weight, bias, read_scale, limit=127, minimum=None):
        """Round a convolution's weight and bias anew, per channel."""
        reach = np.abs(weight).reshape(len(weight), -1).max(1)
        scale = np.where(reach > 0, reach, 1).astype(np.float32) / np.float32(limit)
        columns = scale.reshape(-1, *[1] * (weight.ndim - 1))
        integers = np.rint(weight / columns).clip(-limit, limit).astype(np.int8)
        dequantizer = self.producers[conv.input[1]]
        dequantizer.input[0] = self.constant(f"{PLANTED}_weight_quantized", integers)
        dequantizer.input[1] = self.constant(f"{PLANTED}_weight_scale", scale)
        dequantizer.input[2] = self.constant(f"{PLANTED}_weight_zero", np.zeros(len(scale), np.int8))
        del dequantizer.attribute[:]
        dequantizer.attribute.append(helper.make_attribute("axis", 0))
        if bias is None or len(conv.input) < 3:
            return
        step = (scale.astype(np.float64) * read_scale).astype(np.float32)
        steps = np.rint(bias.astype(np.float64) / step).clip(-(2**31), 2**31 - 1).astype(np.int32)
        dequantizer = self.producers[conv.input[2]]
        dequantizer.input[0] = self.constant(f"{PLANTED}_bias_quantized", steps)
        dequantizer.input[1] = self.constant(f"{PLANTED}_bias_scale", step)
        if len(dequantizer.input) > 2:
            dequantizer.input[2] = self.constant(f"{PLANTED}_bias_zero", np.zeros(len(step), np.int32))
        del dequantizer.attribute[:]
        dequantizer.attribute.append(helper.make_attribute("axis", 0))


def pair(first, second, folder):
    """Write two models and return them as a pair."""
    paths = folder / "planted.float.onnx", folder / "planted.int8.onnx"
    for path, editor in zip(paths, (first, second), strict=True):
        path.unlink(missing_ok=True)
        path.write_bytes(editor.model.SerializeToString())
    return pair_of(*map(open_file, paths))


def plant(sound, cause, strength, seed):
    """Return (float model, faulty model, planted tensor)."""
    rng = np.random.default_rng([seed, CAUSES.index(cause), strength, 7])
    fault = Fault(sound, cause, rng)
    return fault.first, fault.second, getattr(fault, cause)(STRENGTHS[cause][strength])


class Fault:
    """Two models and the convolution at which a fault is planted."""

    def __init__(self, sound, cause, rng):
        self.rng = rng
        self.first, self.second = Editor(sound.first.model), Editor(sound.second.model)
        names = [name for name, (read, twin) in sound.layers.items() if self.fits(sound, cause, name, read, twin)]
        self.name = names[rng.integers(len(names))]
        self.read, twin = sound.layers[self.name]
        self.values = sound.values[self.read]
        self.twin = self.first.producers[twin]
        self.conv = self.second.producers[self.name]
        self.weight = self.first.value(self.twin.input[1])
        self.bias = self.first.value(self.twin.input[2]) if len(self.twin.input) > 2 else None
        quantizer, _ = self.second.quantizers(self.read)
        self.scale, self.zero = float(self.second.value(quantizer.input[1])), int(self.second.value(quantizer.input[2]))
        self.least = -128 if self.second.value(quantizer.input[2]).dtype == np.int8 else 0
        self.depthwise = self.weight.shape[1] == 1 and self.values.shape[1] > 1

    def fits(self, sound, cause, name, read, twin):
        values = sound.values[read]
        twin = sound.first.producers[twin]
        if cause in ("outlier_channels", "dead_channels", "unequal_scales"):
            reach = np.abs(values).max((0, 2, 3))
            return values.shape[1] >= 32 and (reach > 0).mean() > 0.9
        if cause == "asymmetric_on_symmetric":
            return values.min() == 0 and values.shape[1] > 3
        if cause == "bias_overflow":
            return len(twin.input) > 2 and np.abs(sound.first.value(twin.input[2])).max() > 1e-3
        if cause == "graph_differs":
            pads = [entry for entry in twin.attribute if entry.name == "pads"]
            return bool(pads) and min(pads[0].ints) > 0
        return True

    def reach(self):
        return np.abs(self.values).max((0, 2, 3))

    def inserted(self, factors, shift=0.0, branches=0, symmetric=False):
        """Scale and shift what the convolution reads, on a grid of its own, and take it back in weight and bias."""
        columns = factors.reshape(-1, 1, 1, 1) if self.depthwise else factors.reshape(1, -1, 1, 1)
        weight = (self.weight / columns).astype(np.float32)
        bias = self.bias
        if shift:
            bias = (0 if bias is None else bias) - shift * weight.reshape(len(weight), -1).sum(1)
        scaled = self.values * factors.reshape(1, -1, 1, 1) + shift
        low, high = min(float(scaled.min()), 0.0), max(float(scaled.max()), 0.0)
        scale, zero = (high - low) / 255, round(self.least - low / ((high - low) / 255))
        if symmetric:
            scale, zero = max(high, -low) / 127, self.least + 128
        self.first.index()
        for editor, conv in ((self.first, self.twin), (self.second, self.conv)):
            self.add(editor, conv, factors, shift, branches)
        self.twin.input[1] = self.first.constant(f"{PLANTED}_weight", weight)
        if bias is not None and len(self.twin.input) > 2:
            self.twin.input[2] = self.first.constant(f"{PLANTED}_bias", bias.astype(np.float32))
        kind = np.uint8 if self.least == 0 else np.int8
        grid = [
            self.second.constant(f"{PLANTED}_in_scale", np.float32(scale)),
            self.second.constant(f"{PLANTED}_in_zero", np.asarray(zero, kind)),
        ]
        nodes = [
            helper.make_node("QuantizeLinear", [PLANTED, *grid], [f"{PLANTED}_q"], "planted_q"),
            helper.make_node("DequantizeLinear", [f"{PLANTED}_q", *grid], [f"{PLANTED}_dq"], "planted_dq"),
        ]
        self.second.insert(self.conv, nodes)
        self.conv.input[0] = f"{PLANTED}_dq"
        self.second.set_weight(self.conv, weight, bias, scale)
        return PLANTED

    def add(self, editor, conv, factors, shift, branches):
        factor = editor.constant(f"{PLANTED}_factors", factors.reshape(1, -1, 1, 1).astype(np.float32))
        offset = editor.constant(f"{PLANTED}_shift", np.float32(shift))
        scaled, moved = f"{PLANTED}_scaled", f"{PLANTED}_moved"
        last = moved if branches else PLANTED
        nodes = [
            helper.make_node("Mul", [conv.input[0], factor], [scaled], "planted_mul"),
            helper.make_node("Add", [scaled, offset], [last], "planted_add"),
        ]
        if branches:
            ends = [(0, branches), (branches, len(factors))]
            for part, (start, end) in enumerate(ends):
                limits = [
                    editor.constant(f"{PLANTED}_{what}{part}", np.array([value], np.int64))
                    for what, value in (("start", start), ("end", end), ("axis", 1))
                ]
                nodes.append(
                    helper.make_node("Slice", [moved, *limits], [f"{PLANTED}_part{part}"], f"planted_slice{part}")
                )
            parts = [f"{PLANTED}_part{part}" for part in range(2)]
            nodes.append(helper.make_node("Concat", parts, [PLANTED], "planted_concat", axis=1))
        editor.insert(conv, nodes)
        conv.input[0] = PLANTED

    def outlier_channels(self, strength):
        reach = self.reach()
        chosen = self.rng.choice(np.flatnonzero(reach > 0), size=int(self.rng.integers(1, 3)), replace=False)
        factors = np.ones(len(reach), np.float32)
        factors[chosen] = strength * np.median(reach[reach > 0]) / reach[chosen]
        return self.inserted(factors)

    def dead_channels(self, strength):
        reach = self.reach()
        factors = np.ones(len(reach), np.float32)
        size = max(4, round(strength * len(reach)))
        factors[self.rng.choice(np.flatnonzero(reach > 0), size=size, replace=False)] = 1 / 4096
        return self.inserted(factors)

    def unequal_scales(self, strength):
        reach, half = self.reach(), self.values.shape[1] // 2
        factors = np.ones(len(reach), np.float32)
        factors[half:] = reach[:half].max() / reach[half:].max() / strength
        return self.inserted(1 / factors if self.rng.random() < 0.5 else factors, branches=half)

    def calibration_range(self, strength):
        self.second.set_grid(self.read, self.scale * strength)
        return self.read

    def clipping(self, strength):
        values = np.abs(self.values)
        cut, top = np.quantile(values[values > 0], 0.995), float(values.max())
        span = max(self.least + 255 - self.zero, self.zero - self.least)
        self.second.set_grid(self.read, min(float(cut), strength * top) / span)
        return self.read

    def asymmetric_on_symmetric(self, strength):
        shift = -strength * float(self.values.max())
        return self.inserted(np.ones(self.values.shape[1], np.float32), shift, symmetric=True)

    def bias_overflow(self, strength):
        channel = int(np.abs(self.bias).argmax())
        needed = abs(float(self.bias[channel])) / strength / 2**31 / self.scale * 127
        weight = self.weight.copy()
        weight[channel] *= needed / np.abs(weight[channel]).max()
        self.twin.input[1] = self.first.constant(f"{PLANTED}_weight", weight)
        self.second.set_weight(self.conv, weight, self.bias, self.scale)
        return f"{PLANTED}_bias"

    def batch_norm_not_folded(self, strength):
        gain = (2 ** self.rng.uniform(-strength, strength, len(self.weight))).astype(np.float32)
        weight = self.weight / gain.reshape(-1, *[1] * (self.weight.ndim - 1))
        self.second.set_weight(self.conv, weight, None if self.bias is None else self.bias / gain, self.scale)
        names = [
            self.second.constant(f"{PLANTED}_{what}", values)
            for what, values in (
                ("gain", gain),
                ("offset", np.zeros_like(gain)),
                ("mean", np.zeros_like(gain)),
                ("variance", np.ones_like(gain)),
            )
        ]
        norm = helper.make_node("BatchNormalization", [PLANTED, *names], [self.name], "planted_norm", epsilon=0.0)
        at = next(at for at, node in enumerate(self.second.model.graph.node) if node == self.conv)
        self.conv.output[0] = PLANTED
        self.second.model.graph.node.insert(at + 1, norm)
        return PLANTED

    def graph_differs(self, strength):
        for entry in self.conv.attribute:
            if entry.name == "pads" and strength < 2:
                top, left, bottom, right = entry.ints
                entry.ints[:] = [top + 1, left + strength, bottom - 1, right - strength]
            elif entry.name == "pads":
                entry.ints[:] = [2 * side for side in entry.ints]
            elif entry.name == "dilations" and strength == 2:
                entry.ints[:] = [2 * side for side in entry.ints]
        return self.name

    def too_few_bits(self, strength):
        self.second.set_weight(self.conv, self.weight, self.bias, self.scale, limit=2 ** (strength - 1) - 1)
        dequantizer = self.second.producers[self.conv.input[1]]
        return dequantizer.input[0].removesuffix("_quantized")
