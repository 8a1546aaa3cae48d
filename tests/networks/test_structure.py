"""Which layers of a network give a grid, and which one is pooled: tokens, channels last, attention."""

import pytest
import timm
import torch
from networks_support import some_networks

from quantviz import networks
from quantviz.networks.build import build, layers
from quantviz.networks.structure import pooled_layer, structure_of
from quantviz.specs import LAYOUT, GridLayout, UsageError

CHOSEN = {
    "timm:vit_tiny_patch16_224": ("blocks.11.norm1", GridLayout("tokens", 14, 14, 1)),
    "timm:deit_tiny_distilled_patch16_224": ("blocks.11.norm1", GridLayout("tokens", 14, 14, 2)),
    "torchvision:vit_b_32": ("encoder.layers.encoder_layer_11.ln_1", GridLayout("tokens", 7, 7, 1)),
    "timm:swin_tiny_patch4_window7_224": ("norm", GridLayout("channels last", 7, 7)),
    "torchvision:swin_t": ("permute", None),
    "timm:convnext_atto": ("stages.3.blocks.1", None),
    "timm:levit_128s": ("stages.2.blocks.3", GridLayout("tokens", 4, 4)),
    "timm:cait_xxs24_224": ("blocks_token_only.1.norm1", GridLayout("tokens", 14, 14, 1)),
    "timm:hiera_tiny_224": ("blocks.11", GridLayout("tokens", 7, 7)),
    "timm:pit_ti_224": ("transformers.2.blocks.3.norm1", GridLayout("tokens", 7, 7, 1)),
}


@pytest.mark.parametrize(
    "name", some_networks("timm:vit_tiny_patch16_224", "torchvision:swin_t", "timm:levit_128s", of=tuple(CHOSEN))
)
def test_the_grid_that_the_logits_rest_on_is_the_default(name):
    entry = networks.spec(name)
    model, _ = build(entry, networks.resolve(entry, "untrained"))
    assert (entry.layer, getattr(model.get_submodule(entry.layer), LAYOUT, None)) == CHOSEN[name]
    assert entry.layer in {info.name for info in layers(entry)}


def test_what_only_looks_like_a_grid_is_none():
    # The keys of 12 heads, (3, 197, 64), and attention matrices (3, 197, 197); Swin's (7, 768) is 7 x 7 of 768.
    model = timm.create_model("vit_tiny_patch16_224", qk_norm=True).eval()
    for block in model.blocks:
        block.attn.fused_attn = False
    names = {name for grid in structure_of(model, torch.zeros(2, 3, 224, 224)).layers for name in grid.names}
    assert "blocks.11.norm1" in names
    assert not {"blocks.11.attn.k_norm", "blocks.11.attn.q_norm", "blocks.11.attn.attn_drop"} & names
    swin = {info.name: (info.channels, info.height, info.width) for info in layers(networks.spec("torchvision:swin_t"))}
    assert swin["norm"] == (768, 7, 7)
    assert all(height == width for _, height, width in swin.values())
    assert not any(name.endswith((".attn.softmax", ".attn.qkv")) for name in swin)


def test_a_class_token_alone_is_no_ground_for_a_later_layer():
    # Behind the last attention only the class token is read: the places of block 11's output are not.
    model = timm.create_model("vit_tiny_patch16_224").eval().requires_grad_(False)
    example = torch.rand(1, 3, 224, 224)
    structure = structure_of(model, example)
    assert structure.layers[-1].names[-1] == "norm"
    assert pooled_layer(model, example, structure).names == ("blocks.11.norm1",)


def test_heads_that_only_train_are_left_alone_and_said():
    entry = networks.spec("torchvision:googlenet")
    model, ref = build(entry, networks.resolve(entry, "untrained"))
    assert ref.note == "6 layers are left alone, which only training uses (in aux1, aux2)"
    assert entry.layer == "inception5b"
    assert model.training is False
    # Left as torchvision starts it, the signal would end at 1e-11, and no map could be made.
    with torch.no_grad():
        assert 0.01 < float(model(torch.randn(1, 3, 224, 224)).std()) < 100


def test_a_network_without_a_grid_says_so():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 5))
    with pytest.raises(UsageError, match="has no layer with a feature map"):
        pooled_layer(model, torch.zeros(1, 3, 16, 16))
