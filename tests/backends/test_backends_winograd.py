"""Float networks on ncnn: every kind of layer, whole networks, and what cannot be translated."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from networks_support import some_networks
from torch import nn
from torch.nn import functional

from quantviz import cam, images, networks
from quantviz.backends import FrontModule, NcnnSession, NotSplittableError, Split, check_front, exported, outputs_before
from quantviz.backends.winograd import translated
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.quantize import float_base
from quantviz.specs import CamSpec, QuantSpec
from quantviz.store import TensorStore

IMAGE = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 3, 37, 50)).astype(np.float32))
SQUEEZE = "squeezenet1_1"


class Everything(nn.Module):
    """One layer of each kind that is translated, in forms that tell height from width and one end from the other."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, (3, 5), stride=(2, 1), padding=(1, 2))
        self.winograd = nn.Conv2d(16, 24, 3, padding=1)
        self.spread = nn.Conv2d(24, 16, (3, 2), dilation=(1, 2), bias=False)
        self.grouped = nn.Conv2d(16, 32, 3, groups=4, padding=1)
        self.depthwise = nn.Conv2d(32, 32, 3, groups=32, padding=1)
        self.norm = nn.BatchNorm2d(32)

    def forward(self, image):
        first = functional.relu(self.first(functional.pad(image, (0, 1, 0, 2))))
        second = functional.max_pool2d(self.winograd(first).clamp(-0.2, 0.5), (2, 3), ceil_mode=True)
        third = functional.relu6(self.spread(second)) + self.spread(second)
        fourth = self.grouped(third)
        fifth = self.depthwise(fourth) * torch.sigmoid(fourth)
        sixth = functional.relu(self.norm(fifth))
        seventh = torch.cat([sixth, fourth.clamp_min(0.1)], 1)
        return functional.avg_pool2d(functional.max_pool2d(seventh, 3, 1, 1), 2, padding=1)


def classifier(body, channels):
    """Return a network that ends with two classes; its target layer is "0"."""
    return (
        nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2)).eval().requires_grad_(False)
    )


@pytest.fixture(scope="module")
def everything():
    torch.manual_seed(0)
    network = classifier(Everything(), 64)
    norm = network[0].norm
    for values, low, high in ((norm.running_mean, -0.3, 0.3), (norm.running_var, 0.1, 2), (norm.weight, -1, 1)):
        values.uniform_(low, high)
    norm.bias.uniform_(-1, 1)
    return network


def session_of(network, layer, image=IMAGE):
    """Return a network's part up to a layer on ncnn and in torch, and its outputs."""
    outputs = outputs_before(network, layer, image)
    return NcnnSession(exported(network, outputs, image)), FrontModule(network, outputs).eval(), outputs


def error(found, expected):
    return max(
        float((first - second).abs().max() / second.abs().max()) for first, second in zip(found, expected, strict=True)
    )


def test_every_kind_of_layer_gives_what_torch_gives(everything):
    session, front, _ = session_of(everything, "0")
    with torch.no_grad():
        assert error(session(IMAGE), front(IMAGE)) < 1e-5
        batch = torch.cat([IMAGE, IMAGE.flip(3), 2 * IMAGE])
        assert error(session(batch), front(batch)) < 1e-5


def test_threads_share_a_session(everything):
    session, front, _ = session_of(everything, "0")
    pictures = [IMAGE * scale for scale in (0.5, 1, 2, 3)] * 5
    with torch.no_grad():
        expected = [front(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(session, pictures))
    assert max(error(first, second) for first, second in zip(found, expected, strict=True)) < 1e-5


@pytest.mark.parametrize(
    "name",
    some_networks(
        "squeezenet1_1",
        of=("vgg16", "resnet50", "densenet121", "mobilenet_v2", "squeezenet1_1", "efficientnet_lite0"),
    ),
)
def test_the_float_map_of_a_network_is_that_of_torch(float_model, name):
    model = float_model(name)
    layer = networks.spec(name).layer
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32))
    base = float_base(model, QuantSpec(), image, layer)
    session, front, outputs = session_of(base, layer, image)
    with torch.no_grad():
        assert error(session(image), front(image)) < 1e-4
    parted = Split(base, layer, outputs, session)
    found = cam.explain(parted, image, CamSpec("gradcam++", parted.layer), 3)
    expected = cam.explain(base, image, CamSpec("gradcam++", layer), 3)
    assert found.heatmap.degenerate == expected.heatmap.degenerate
    np.testing.assert_allclose(found.heatmap.values, expected.heatmap.values, atol=1e-3)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-4, atol=1e-4 * np.abs(expected.logits).max())


def test_a_network_with_other_nodes_is_refused_in_one_sentence():
    network = classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU()), 4)
    model = exported(network, outputs_before(network, "0", IMAGE), IMAGE)
    told = r"^ncnn cannot run this network: node '.*' \(\w+\) has no translation\.$"
    with pytest.raises(NotSplittableError, match=told):
        translated(model)


def test_what_differs_from_torch_is_refused(everything):
    _, front, _ = session_of(everything, "0")
    with pytest.raises(NotSplittableError, match=r"^ncnn differs from torch by 1 of the activation's range\.$"):
        check_front(lambda image: [2 * value for value in front(image)], front, IMAGE, "ncnn")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with TensorStore(tmp_path_factory.mktemp("ncnn")) as store:
        yield Workbench(store)


@pytest.mark.slow
def test_a_comparison_takes_the_float_map_from_ncnn(bench):
    request = CompareRequest(SQUEEZE, "untrained", backend="ncnn", saliency=None)
    found = bench.compare(request, images.bundled("coffee"))
    by_torch = bench.compare(CompareRequest(SQUEEZE, "untrained", saliency=None), images.bundled("coffee"))
    assert found.backend == "ncnn"
    assert found.backend_note == ""
    first, second = found.reference, by_torch.reference
    np.testing.assert_allclose(first.heatmap.values, second.heatmap.values, atol=1e-3)
    # Its rounding is its own: this is not torch's map from the cache.
    assert not np.array_equal(first.heatmap.values, second.heatmap.values)
    np.testing.assert_array_equal(found.quantized.heatmap.values, by_torch.quantized.heatmap.values)
    again = bench.compare(request, images.bundled("coffee"))
    np.testing.assert_array_equal(again.reference.heatmap.values, first.heatmap.values)


@pytest.mark.slow
def test_a_network_that_ncnn_cannot_run_is_computed_in_torch_and_says_so(bench):
    request = CompareRequest("efficientnet_b0", "untrained", backend="ncnn", saliency=None)
    found = bench.compare(request, images.bundled("coffee"))
    assert found.backend == "torch"
    assert found.backend_note.startswith("ncnn cannot run this network: node ")
    assert found.backend_note.endswith("has no translation. The float map is computed in torch.")


@pytest.mark.slow
def test_the_command_line_names_the_engine(run, bench):
    options = ["--model", SQUEEZE, "--weights", "untrained", "--backend", "ncnn", "--deployed"]
    status, told, complaint = run("compare", "coffee", *options)
    assert (status, complaint) == (0, "")
    assert "float (ncnn)" in told
    assert "deployed (onnxruntime)" in told
