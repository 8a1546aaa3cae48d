"""The real ONNX files: float maps are torch's, int8 maps those of a fake-quantized twin on the same grids."""

import numpy as np
import pytest
import torch
from onnx_support import REAL_PAIRS, real_input, real_module, real_onnx, real_pictures, real_values, twin

from quantviz import cam
from quantviz.networks.onnx_files import open_file, pair_of
from quantviz.networks.onnx_files.network import LAYER, OnnxNetwork
from quantviz.specs import CAM_METHODS, CamSpec

GRADIENTS = [method for method in CAM_METHODS if method not in ("scorecam", "ablationcam")]


def cc(first, second):
    return float(np.corrcoef(first.values.ravel(), second.values.ravel())[0, 1])


def network(path, layer, clipped=frozenset(), name=""):
    examples = np.concatenate([real_input(picture, name).numpy() for picture in real_pictures(2)])
    opened = open_file(path)
    return OnnxNetwork(opened, layer or opened.target().tensor, examples, set(clipped), torch.get_num_threads())


def check_float(name, layer, module_layer, methods, count, path=None):
    module, file = real_module(name), network(path or real_onnx(f"{name}.float"), layer, name=name)
    for picture in real_pictures(count):
        image = real_input(picture, name)
        theirs = cam.explain_many(module, image, [(CamSpec(method, module_layer), None) for method in methods])
        ours = cam.explain_many(file, image, [(CamSpec(method, LAYER), None) for method in methods])
        for method, first, second in zip(methods, theirs, ours, strict=True):
            assert first.class_index == second.class_index
            assert cc(first.heatmap, second.heatmap) >= 0.9999, (picture.name, method)


def check_int8(name, count, paths=None):
    module_name, layer, module_layer = REAL_PAIRS.get(name, (name, None, "bn2"))
    pair = pair_of(*(open_file(path) for path in paths or (real_onnx(f"{module_name}.float"), real_onnx(name))))
    assert pair.findings == ()
    _, match = pair.target(layer)
    path = paths[1] if paths else real_onnx(name)
    file = network(path, match.quantized_tensor, pair.matching.fused(), module_name)
    assert file.held.logits == 0
    assert file.held.tail <= 1e-4
    other = twin(real_module(module_name), pair.quantized, pair.matches)
    found = []
    for picture in real_pictures(count):
        image = real_input(picture, module_name)
        ours = cam.explain(file, image, CamSpec("gradcam", LAYER))
        theirs = cam.explain(other, image, CamSpec("gradcam", module_layer), ours.class_index)
        if not (ours.native.degenerate or theirs.native.degenerate):  # an empty map correlates with nothing
            found.append(cc(ours.native, theirs.native))
    assert len(found) >= 0.9 * count
    assert np.mean(found) >= 0.99, found


def check_closed_form(name, count, paths=None):
    """Hold the default layer's Grad-CAM map to the head's own weights times ONNX Runtime's activation."""
    module_name = REAL_PAIRS[name][0] if name in REAL_PAIRS else name
    pair = pair_of(*(open_file(path) for path in paths or (real_onnx(f"{module_name}.float"), real_onnx(name))))
    _, match = pair.target()
    path = paths[1] if paths else real_onnx(name)
    file = network(path, match.quantized_tensor, pair.matching.fused(), module_name)
    for picture in real_pictures(count):
        image = real_input(picture, module_name)
        found = cam.explain(file, image, CamSpec("gradcam", LAYER))
        activation = file.before(image)[0][0][0].numpy().astype(np.float64)
        raw = activation[found.class_index]  # SqueezeNet's channels there are the classes' scores
        if module_name != "squeezenet1_1":
            head = next(node for node in reversed(pair.quantized.graph.nodes) if node.op in ("Gemm", "MatMul"))
            weight = real_values(pair.quantized.graph, head.inputs[1])
            raw = np.einsum("c,chw->hw", weight[found.class_index].astype(np.float64), activation)
        raw = np.maximum(raw, 0)
        expected = (raw - raw.min()) / (raw.max() - raw.min())
        assert np.abs(found.native.values - expected).max() <= 1e-4


@pytest.mark.parametrize(("name", "layer", "module_layer"), sorted(set(REAL_PAIRS.values())))
def test_float_maps_are_torch_s(name, layer, module_layer):
    check_float(name, layer, module_layer, GRADIENTS, 3)


@pytest.mark.parametrize("name", REAL_PAIRS)
def test_int8_maps_are_those_of_a_twin_on_the_same_grids(name):
    check_int8(name, 3)


@pytest.mark.parametrize("name", REAL_PAIRS)
def test_the_default_layer_s_map_is_the_closed_form(name):
    check_closed_form(name, 3)
