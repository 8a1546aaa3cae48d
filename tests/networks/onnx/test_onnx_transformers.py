"""Transformers in ONNX files: tokens and channels-last tensors as grids, seeded weights (nothing here is trained)."""

import warnings

import numpy as np
import pytest
import timm
import torch
from onnx_support import pictures, quantized

from quantviz import cam
from quantviz.networks.onnx_files import open_file, pair_of
from quantviz.networks.onnx_files.network import LAYER, OnnxNetwork
from quantviz.specs import CAM_METHODS, CamSpec, UsageError

EXAMPLES = pictures(2, seed=2)
SMALL = {"num_classes": 7, "img_size": 48}
# Name -> its settings, the torch module that gives the default target, and the target's grid with the tokens before.
NETWORKS = {
    "vit": ("vit_tiny_patch16_224", {"depth": 2, "patch_size": 8, "embed_dim": 48}, "blocks.1.norm1", (6, 6, 1)),
    "deit": (
        "deit_tiny_distilled_patch16_224",
        {"depth": 2, "patch_size": 8, "embed_dim": 48},
        "blocks.1.norm1",
        (6, 6, 2),
    ),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"window_size": 3, "depths": (1, 2), "embed_dim": 24, "num_heads": (1, 2)},
        "norm",
        (6, 6, 0),
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function from a name to the module, its float file and its int8 file."""
    folder, done = tmp_path_factory.mktemp("transformers"), {}

    def make(name):
        if name not in done:
            kind, settings, *_ = NETWORKS[name]
            torch.manual_seed(0)
            module = timm.create_model(kind, **SMALL, **settings).eval()
            path = folder / f"{name}.onnx"
            names = {"input_names": ["input"], "output_names": ["logits"]}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                example = torch.from_numpy(EXAMPLES[:1])
                torch.onnx.export(module, (example,), path, dynamo=True, external_data=False, verbose=False, **names)
            done[name] = module, path, quantized(path, f"{name}-int8.onnx")
        return done[name]

    return make


def by_hand(module, layer, image, target, folding):
    """Return Grad-CAM of a module's tokens or channels-last tensor, in plain torch, before it is scaled."""
    kept = []
    handle = module.get_submodule(layer).register_forward_hook(lambda _m, _i, out: kept.append(out) or out)
    with torch.enable_grad():
        score = module(torch.from_numpy(image[None]).requires_grad_())[0, target]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    rows, columns, prefix = folding
    activation, gradient = (entry.detach().reshape(1, -1, entry.shape[-1])[0, prefix:] for entry in (kept[0], gradient))
    raw = torch.relu((activation * gradient.mean(0)).sum(1)).reshape(rows, columns).double().numpy()
    return (raw - raw.min()) / (raw.max() - raw.min())


@pytest.mark.parametrize("name", ["vit", *(pytest.param(name, marks=pytest.mark.slow) for name in ("deit", "swin"))])
def test_tokens_become_the_grid_that_the_graph_tells(name, made):
    module, path, int8 = made(name)
    _, _, layer, folding = NETWORKS[name]
    pair = pair_of(open_file(path), open_file(int8))
    target, match = pair.target()
    assert pair.findings == ()
    found = target.folding
    assert (found.rows, found.columns, found.prefix) == folding
    first = OnnxNetwork(pair.reference, target.tensor, EXAMPLES, set(), 1)
    second = OnnxNetwork(pair.quantized, match.quantized_tensor, EXAMPLES, pair.matching.fused(), 1)
    assert (first.refusal, second.refusal) == ("", "")
    assert first.held.tail <= 1e-5
    for image in pictures(2, seed=7):
        values = torch.from_numpy(image[None])
        ours = cam.explain(first, values, CamSpec("gradcam", LAYER), 3)
        assert np.abs(ours.native.values - by_hand(module, layer, image, 3, folding)).max() <= 1e-4
        other = cam.explain(second, values, CamSpec("gradcam", LAYER), 3)
        assert np.corrcoef(ours.native.values.ravel(), other.native.values.ravel())[0, 1] > 0.9
    for method in CAM_METHODS:
        assert cam.explain(second, values, CamSpec(method, LAYER), 3).heatmap.values.shape == (48, 48)


def test_a_shape_alone_makes_no_grid(made):
    opened = open_file(made("vit")[1])
    names = {target.tensor for target in opened.targets}
    # Attention's own tensors have as many rows as there are tokens, and windows' as many as a small grid has places.
    others = [name for name, shape in opened.shapes.items() if 37 in shape and name not in names]
    assert others
    for name in others:
        with pytest.raises(UsageError, match="has no grid of places"):
            opened.target(name)
