"""Cross-layer equalization: the same function, evener channels."""

import pytest
import quantize_support
import torch
from networks_support import some_networks
from quantize_support import LITE, MOBILE, SQUEEZE
from torch import nn

from quantviz import networks
from quantviz.quantize import ChannelClip, equalizable, float_base
from quantviz.specs import QuantSpec, QuantvizError

base = quantize_support.base


PAIRS = {
    LITE: ("conv_stem", "blocks.0.0.conv_dw"),
    MOBILE: ("features.2.conv.0.0", "features.2.conv.1.0"),
    SQUEEZE: ("features.0", "features.3.squeeze"),
    "vgg16": ("features.2", "features.5"),
    "resnet50": ("layer1.0.conv1", "layer1.0.conv2"),
    "densenet121": ("features.denseblock1.denselayer1.conv1", "features.denseblock1.denselayer1.conv2"),
    "efficientnet_b0": ("features.1.0.block.2.0", "features.2.0.block.0.0"),
}
COUNTS = {
    LITE: 34, MOBILE: 36, SQUEEZE: 1, "vgg16": 12, "resnet50": 32, "densenet121": 58, "efficientnet_b0": 2
}  # fmt: skip


@pytest.mark.parametrize("name", some_networks(LITE, SQUEEZE, of=(LITE, MOBILE, SQUEEZE, "resnet50")))
def test_equalizing_keeps_the_networks_function_and_its_target(base, photograph, name):
    layer, image = networks.spec(name).layer, photograph(name, "rocket")
    found = base(name, True)
    assert [name for name, _ in found.named_modules()] == [name for name, _ in base(name).named_modules()]
    outputs = {}
    for key, network in (("before", base(name)), ("after", found)):
        handle = network.get_submodule(layer).register_forward_hook(
            lambda _m, _i, output, key=key: outputs.update({key: output.clone()})
        )
        with torch.no_grad():
            outputs[f"{key} logits"] = network(image)
        handle.remove()
    for what in ("", " logits"):
        expected = outputs[f"before{what}"]
        assert not torch.equal(outputs[f"after{what}"], expected) or name == "resnet50"
        torch.testing.assert_close(outputs[f"after{what}"], expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", some_networks(LITE, MOBILE, SQUEEZE, "resnet50", of=list(COUNTS)))
def test_pairs_are_convolutions_that_alone_read_each_other(base, photograph, name):
    pairs = equalizable(base(name), photograph(name), networks.spec(name).layer)
    assert len(pairs) == COUNTS[name]
    assert PAIRS[name] in [(pair.first, pair.second) for pair in pairs]
    assert len({pair.first for pair in pairs}) == len({pair.second for pair in pairs}) == len(pairs)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in base(name).modules())


def peaks(network, pair):
    """Return the greatest absolute weights that make each channel of a pair, and that read it."""
    first, second = network.get_submodule(pair.first), network.get_submodule(pair.second)
    grouped = second.weight.view(second.groups, -1, *second.weight.shape[1:])
    return first.weight.flatten(1).abs().amax(1), grouped.abs().amax((1, 3, 4)).flatten()


@pytest.mark.parametrize("name", [LITE, "resnet50"])
def test_equalized_channels_are_as_wide_on_both_sides(base, photograph, name):
    pairs = equalizable(base(name), photograph(name), networks.spec(name).layer)
    for pair in pairs:
        made, read = peaks(base(name, True), pair)
        alive = (made > 0) & (read > 0)
        torch.testing.assert_close(made[alive], read[alive], rtol=0.01, atol=0)
    made, read = peaks(base(name), pairs[0])
    assert not torch.allclose(made, read, rtol=0.1)


def test_relu6_is_clipped_channel_by_channel_as_before(base):
    clip = base(LITE, True).blocks[0][0].bn1.act
    assert isinstance(clip, ChannelClip)
    scale = 6 / clip.limit.double()
    assert float(scale.max()) > 2 * float(scale.min())
    values = torch.linspace(-8, 20, 29).expand(1, len(scale), 29)[..., None].contiguous()
    expected = nn.functional.relu6(values * scale) / scale
    torch.testing.assert_close(clip(values).double(), expected, rtol=1e-6, atol=0)


class Wired(nn.Module):
    """Two convolutions, and something about what is between them."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        between = {
            "silu": nn.SiLU(),
            "relu6": nn.ReLU6(inplace=True),
            "leaky": nn.LeakyReLU(),
            "in place": nn.ReLU(True),
        }
        self.between = between.get(kind, nn.ReLU())
        self.other = nn.Conv2d(4, 4, 1)

    def forward(self, values):
        values = self.first(values)
        if self.kind == "before":
            values += 1
        values = self.between(values)
        if self.kind == "function":
            values = values * 1
        if self.kind == "twice":
            return self.second(self.second(values))
        if self.kind == "shared relu6":
            return self.between(self.second(values))
        found = self.second(values)
        if self.kind == "skip":
            return found + values
        if self.kind == "list":
            return torch.cat([found, values])
        if self.kind == "another reader":
            return found + self.other(values)
        return found


@pytest.mark.parametrize(
    ("kind", "found"),
    [(kind, True) for kind in ("relu", "leaky", "relu6", "in place")]
    + [(kind, False) for kind in ("silu", "before", "function", "twice", "skip", "list", "another reader")],
)
def test_what_may_lie_between_two_convolutions(kind, found):
    torch.manual_seed(0)
    model, image = Wired(kind).eval().requires_grad_(False), torch.randn(1, 3, 4, 4)
    pairs = equalizable(model, image)
    assert [(pair.first, pair.second) for pair in pairs] == [("first", "second")] * found
    for keep in ("first", "between"):
        assert equalizable(model, image, keep) == []
    assert len(equalizable(model, image, "second")) == found


def test_an_equalization_that_changes_the_output_is_refused():
    class Hidden(nn.Module):
        """Reads what is between the convolutions by a way around torch's functions."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
            nn.init.constant_(self.second.weight, 9.0)

        def forward(self, values):
            between = self.first(values)
            found = self.second(between)
            with torch._C.DisableTorchFunction():
                return (found + between.mean()).flatten(1)

    torch.manual_seed(0)
    model, image = Hidden().eval().requires_grad_(False), torch.randn(1, 3, 4, 4)
    with pytest.raises(QuantvizError, match=r"^Cross-layer equalization changed the output by"):
        float_base(model, QuantSpec(equalize=True), image)
