"""Attention, layer norms and layers that are used without being called: led through readings, and rounded there."""

import copy

import pytest
import timm
import torch
import torchvision
from networks_support import some_networks
from torch import nn
from torch.nn import functional

from quantviz import networks
from quantviz.networks.attention import SeparateAttention, separate
from quantviz.networks.build import build
from quantviz.quantize import Switchboard, assemble, calibrate, cost, float_base, layer_costs, learn
from quantviz.quantize.reading import lead_through, readings
from quantviz.specs import LayerBits, QuantSpec

LITTLE = {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 5}


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(2)
    return timm.create_model("vit_tiny_patch16_224", **LITTLE).eval().requires_grad_(False), torch.randn(4, 3, 32, 32)


def test_what_is_read_beside_layers(vit):
    model, images = vit
    base = float_base(model, QuantSpec(), images[:1])
    names = [name for name, _ in readings(base)]
    assert [name for name in names if name.startswith("blocks.0.")] == [
        "blocks.0.norm1.given",
        *(f"blocks.0.attn.read_products.sites.0.{place}" for place in range(4)),
        "blocks.0.norm2.given",
    ]
    assert {reading.anchor for name, reading in readings(base) if "blocks.1.attn" in name} == {"blocks.1.attn.qkv"}
    assert torch.allclose(base(images), model(images), atol=1e-5)


def test_attention_is_rounded_where_the_documentation_says(vit):
    """One block's attention against the formula, every factor on the grid of its calibrated range."""
    model, images = vit
    spec = QuantSpec(weight_bits=8, act_bits=4)
    base = float_base(model, spec, images[:1])
    ranges = calibrate(base, [images])
    network = assemble(base, spec, ranges)
    kept = {}
    attention = network.blocks[0].attn
    attention.qkv.register_forward_hook(lambda _module, _inputs, output: kept.update(qkv=output))
    attention.proj.register_forward_pre_hook(lambda _module, inputs: kept.update(attended=inputs[0]), prepend=True)
    network(images[:1])
    q, k, v = kept["qkv"].reshape(1, 5, 3, 3, 8).permute(2, 0, 3, 1, 4)
    rounders = [reading.input_quantizer for reading in attention.read_products.sites[0]]
    weights = (rounders[0](q) @ rounders[1](k).transpose(-2, -1) * 8**-0.5).softmax(-1)
    expected = (rounders[2](weights) @ rounders[3](v)).transpose(1, 2).reshape(1, 5, 24)
    assert torch.allclose(kept["attended"], expected, atol=1e-6)
    low, high = ranges.limits["blocks.0.attn.read_products.sites.0.2"]
    assert 0 <= low < high <= 1
    assert rounders[2].grid.quant_max == 15


def test_readings_have_the_bits_of_the_layer_before_them(vit):
    model, images = vit
    spec = QuantSpec(weight_bits=8, act_bits=8, layer_bits=(LayerBits("blocks.0.attn.qkv", 8, None),))
    base = float_base(model, spec, images[:1])
    ranges = calibrate(base, [images])
    network = assemble(base, spec, ranges)
    first, second = (block.attn.read_products.sites[0] for block in network.blocks)
    assert not any(hasattr(reading, "input_quantizer") for reading in first)
    assert all(hasattr(reading, "input_quantizer") for reading in second)
    assert torch.equal(Switchboard(base, spec, ranges).set(spec)(images), network(images))


def test_the_gradient_goes_through(vit):
    model, images = vit
    base = float_base(model, QuantSpec(), images[:1])
    network = assemble(base, QuantSpec(), calibrate(base, [images]))
    image = images[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(image)[0, 0], image)
    plain = images[:1].clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(plain)[0, 0], plain)
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0) > 0.95


class Indirect(nn.Module):
    """Uses its layer's weight without calling it, as torchvision's Swin and BEiT do, and a product by einsum."""

    def __init__(self, keyword):
        super().__init__()
        self.embed, self.qkv, self.head = nn.Conv2d(3, 6, 8, 8), nn.Linear(6, 6, bias=False), nn.Linear(6, 3)
        self.extra, self.keyword = nn.Parameter(torch.ones(6)), keyword

    def forward(self, images):
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        if self.keyword:
            mixed = functional.linear(input=tokens, weight=self.qkv.weight, bias=self.extra)
        else:
            mixed = functional.linear(tokens, self.qkv.weight, self.extra)
        scores = torch.einsum("bnc,bmc->bnm", mixed, tokens)
        return self.head((scores @ tokens).mean(1))


@pytest.mark.parametrize("keyword", [False, True])
def test_a_layer_that_is_used_and_not_called_is_calibrated_and_rounded(keyword):
    torch.manual_seed(4)
    model, images = Indirect(keyword).eval().requires_grad_(False), torch.randn(4, 3, 16, 16)
    base = float_base(model, QuantSpec(), images[:1])
    assert torch.allclose(base(images), model(images), rtol=1e-4, atol=1e-5)
    assert [name for name, _ in readings(base)] == [
        f"read_products.sites.{product}.{factor}" for product in (0, 1) for factor in (0, 1)
    ]
    ranges = calibrate(base, [images])
    assert "qkv" in ranges.limits
    network = assemble(base, QuantSpec(), ranges)
    assert hasattr(network.qkv, "weight_grid")
    assert hasattr(network.qkv, "input_quantizer")
    assert 0 < float((network(images) - model(images)).abs().max()) < 0.1 * float(model(images).abs().max())


def test_networks_without_attention_are_left_as_they_are():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert lead_through(model.eval(), torch.zeros(1, 3, 8, 8)) is False
    assert readings(model) == []


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_inside_leaves_no_mode_behind(vit, error):
    def fail(_module, _inputs):
        raise error

    model, images = copy.deepcopy(vit[0]), vit[1]
    lead_through(model, images[:1])
    handle = model.blocks[0].attn.proj.register_forward_pre_hook(fail)
    with pytest.raises(error):
        model(images)
    assert torch.overrides._get_current_function_mode() is None
    handle.remove()
    assert torch.allclose(model(images), vit[0](images), atol=1e-5)


def test_what_hooks_multiply_is_none_of_the_products(vit):
    model, images = copy.deepcopy(vit[0]), vit[1]
    lead_through(model, images[:1])
    model.blocks[0].attn.qkv.register_forward_pre_hook(lambda _module, inputs: (inputs[0] @ torch.eye(24),))
    assert torch.allclose(model(images), vit[0](images), atol=1e-5)


def test_weights_of_a_transformer_can_be_learned(vit):
    model, images = vit
    spec = QuantSpec(weight_bits=4, rounding="gptq")
    base = float_base(model, spec, images[:1])
    ranges = calibrate(base, [images])
    learned = learn(base, spec, ranges, lambda: iter([images]), lambda count: images[:count])
    assert {name for name, _ in learned.items()} >= {"blocks.0.attn.qkv", "blocks.1.mlp.fc2", "head"}
    errors = [float((assemble(base, spec, ranges, given)(images) - model(images)).norm()) for given in (None, learned)]
    assert errors[1] < errors[0]


def test_torchs_attention_apart_computes_what_it_computed_together():
    torch.manual_seed(5)
    fused = nn.MultiheadAttention(12, 3, batch_first=True).eval()
    nn.init.normal_(fused.in_proj_bias)
    tokens, others = torch.randn(2, 7, 12), torch.randn(2, 5, 12)
    apart = SeparateAttention(fused)
    assert torch.allclose(
        apart(tokens, tokens, tokens, need_weights=False)[0], fused(tokens, tokens, tokens)[0], atol=1e-6
    )
    assert torch.allclose(
        apart(tokens, others, others, need_weights=False)[0], fused(tokens, others, others)[0], atol=1e-6
    )
    model = torchvision.models.VisionTransformer(32, 16, 1, 2, 8, 16, num_classes=3).eval()
    before = model(images := torch.randn(1, 3, 32, 32))
    separate(model)
    assert not any(isinstance(module, nn.MultiheadAttention) for module in model.modules())
    assert torch.allclose(model(images), before, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    some_networks(
        of=("torchvision:swin_t", "torchvision:swin_v2_t", "timm:beit_base_patch16_224", "timm:xcit_nano_12_p16_224")
    ),
)
def test_every_layer_that_is_not_called_is_reached(name):
    entry = networks.spec(name)
    model, _ = build(entry, networks.resolve(entry, "untrained"))
    side = entry.weights[0].preprocessing.crop
    example = torch.rand(1, 3, side, side)
    base = float_base(model, QuantSpec(), example, entry.layer)
    network = assemble(base, QuantSpec(), calibrate(base, [example]))
    assert torch.nn.functional.cosine_similarity(network(example), model(example)).item() > 0.99


def test_products_of_attention_are_counted_with_the_layer_before_them(vit):
    """Of each block: queries by keys and weights by values, 5 tokens, 3 heads of 8."""
    model, images = vit
    quant = QuantSpec(weight_bits=4, act_bits=8)
    layers = layer_costs(float_base(model, quant, images[:1]), images[:1])
    each = 2 * 5 * 5 * 24
    assert {layer.name: layer.products for layer in layers if layer.products} == {
        "blocks.0.attn.qkv": each,
        "blocks.1.attn.qkv": each,
    }
    weights = sum(layer.macs for layer in layers)
    found = cost(layers, quant, 0)
    assert found.macs == weights + 2 * each
    assert found.bops == weights * 4 * 8 + 2 * each * 8 * 8
    assert found.float_bops == found.macs * 32 * 32
