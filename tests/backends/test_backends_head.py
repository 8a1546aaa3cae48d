"""Networks of which the backend gives all logits, and torch differentiates the explained class alone."""

import gc
import threading
import weakref

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks_support import some_networks
from onnx import numpy_helper
from torch import nn

from quantviz import cam, networks
from quantviz.backends import (
    FrontModule,
    HeadedSplit,
    Session,
    Split,
    by_ncnn,
    exported,
    head_of,
    on_integers,
    outputs_before,
)
from quantviz.backends.export import parted
from quantviz.cam import KeptFeatures, explain, explain_batch, explain_many, one_thread
from quantviz.comparison.declared import integer_layers, target_grid
from quantviz.quantize import assemble, calibrate, float_base
from quantviz.specs import CAM_METHODS, CamSpec, QuantSpec, UsageError

SMALL = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32))
HEADED = [name for name in networks.MODELS if name != "vgg16"]


def headed(network, layer, image=SMALL):
    """Return a network parted at a layer, its front in torch."""
    outputs = outputs_before(network, layer, image)
    head = head_of(network, layer, outputs, image)
    return HeadedSplit(network, layer, outputs, FrontModule(network, outputs, logits=True).eval(), head)


@pytest.fixture(scope="module")
def pairs(float_model):
    """Return a function from a model's name to its float and its W8A8 network, for its own target layer."""

    def made(name):
        base = float_base(float_model(name), QuantSpec(), SMALL, networks.spec(name).layer)
        inputs = torch.cat([SMALL, SMALL.flip(3), 0.5 * SMALL])
        return base, assemble(base, QuantSpec(8, 8), calibrate(base, [inputs]))

    return made


def same(first, second, atol):
    np.testing.assert_allclose(first.heatmap.values, second.heatmap.values, atol=atol)
    assert first.class_index == second.class_index
    assert first.heatmap.degenerate == second.heatmap.degenerate


@pytest.mark.parametrize("name", some_networks("squeezenet1_1", "efficientnet_lite0", "mobilenet_v2"))
def test_the_head_is_the_layer_that_makes_the_logits(float_model, name):
    network, layer = float_model(name), networks.spec(name).layer
    head = head_of(network, layer, outputs_before(network, layer, SMALL), SMALL)
    assert head == (
        networks.spec(name).head if name in HEADED else None
    )  # VGG16 has three linear layers behind its target


@pytest.mark.parametrize("name", some_networks("squeezenet1_1", "efficientnet_lite0", "resnet50", of=HEADED))
def test_a_map_is_that_of_the_whole_network(pairs, name):
    for network in pairs(name):
        layer = networks.spec(name).layer
        split = headed(network, layer)
        for index in (None, 7):
            with one_thread():  # on some processors two threads, which a split network does not take, give other bits
                whole = explain(network, SMALL, CamSpec("gradcam++", layer), index)
                found = explain(split, SMALL, CamSpec("gradcam++", split.layer), index)
            same(found, whole, 1e-5)
            assert not whole.heatmap.degenerate
            assert found.probabilities.tobytes() == whole.probabilities.tobytes()  # the front's are the network's


@pytest.mark.parametrize("method", [method for method in CAM_METHODS if method != "scorecam"])
def test_every_method_gives_the_map_of_the_whole_network(pairs, method):
    network = pairs("squeezenet1_1")[1]
    split = headed(network, "features.12")
    whole = explain(network, SMALL, CamSpec(method, "features.12"), 3)
    same(explain(split, SMALL, CamSpec(method, split.layer), 3), whole, 1e-5)


def test_ablation_compares_logits_of_one_source(pairs):
    # A backend whose logits are off by more than most channels matter must not move AblationCAM's map.
    network = pairs("squeezenet1_1")[0]
    outputs = outputs_before(network, "features.12", SMALL)
    front = FrontModule(network, outputs, logits=True).eval()
    off = HeadedSplit(
        network, "features.12", outputs, lambda image: [*front(image)[:-1], front(image)[-1] * 1.001], "classifier.1"
    )
    whole = explain(network, SMALL, CamSpec("ablationcam", "features.12"), 3)
    same(explain(off, SMALL, CamSpec("ablationcam", off.layer), 3), whole, 1e-4)


def test_images_of_a_batch_explain_each_its_own_class(pairs):
    network = pairs("mobilenet_v2")[0]
    split, images = headed(network, "features.18"), torch.cat([SMALL, SMALL.flip(3), -SMALL])
    found = explain_batch(split, images, CamSpec("gradcam++", split.layer), [3, 900, 3])
    for image, index, each in zip(images, (3, 900, 3), found, strict=True):
        same(each, explain(network, image[None], CamSpec("gradcam++", "features.18"), index), 1e-4)


def test_what_comes_behind_the_target_runs_for_one_class_alone(pairs):
    network = pairs("squeezenet1_1")[0]
    split, sizes = headed(network, "features.12"), []
    handle = network.get_submodule("classifier.1").register_forward_hook(
        lambda module, _inputs, output: sizes.append((len(module.weight), output.shape[1]))
    )
    explain(split, SMALL, CamSpec("gradcam++", split.layer), 3)
    handle.remove()
    assert sizes[-1] == (1, 1)
    assert network.classifier[1].weight.shape[0] == 1000
    with torch.no_grad():
        assert torch.equal(split(SMALL), network(SMALL))  # and as a module it is what Split is


class Tail(nn.Module):
    """A network of a convolution, a pooling and what else is given."""

    def __init__(self, *behind):
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3)
        self.behind = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *behind)

    def forward(self, image):
        return self.behind(self.body(image))


@pytest.mark.parametrize(
    ("behind", "head"),
    [
        ([nn.Linear(6, 9)], "behind.2"),
        ([nn.Linear(6, 9, bias=False), nn.Tanh()], "behind.2"),
        ([nn.Linear(6, 9), nn.Softmax(1)], None),  # a probability depends on all logits
        ([nn.Linear(6, 9), nn.BatchNorm1d(9)], None),
        ([nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 9)], None),
        ([], None),
    ],
)
def test_a_network_without_such_a_head_is_parted_as_before(behind, head):
    torch.manual_seed(0)
    network = Tail(*behind).eval().requires_grad_(False)
    outputs = outputs_before(network, "body", SMALL)
    assert head_of(network, "body", outputs, SMALL) == head


def test_another_class_of_a_kept_picture_runs_the_front_no_second_time(pairs):
    network = pairs("mobilenet_v2")[0]
    outputs, runs = outputs_before(network, "features.18", SMALL), []
    front = FrontModule(network, outputs, logits=True).eval()
    split = HeadedSplit(
        network, "features.18", outputs, lambda image: (runs.append(1), front(image))[1], "classifier.1"
    )
    kept, spec = KeptFeatures(), CamSpec("gradcam++", split.layer)
    found = [explain(split, SMALL, spec, index, kept=kept) for index in (1, 2, None, 1)]
    assert len(runs) == 1
    for index, each in zip((1, 2, None, 1), found, strict=True):
        alone = explain(split, SMALL, spec, index)
        assert each.heatmap.values.tobytes() == alone.heatmap.values.tobytes()
    assert kept.nbytes > 1280 * 2 * 2 * (4 + 8 + 8)  # activation, and both in float64
    gone = weakref.ref(split)
    del split
    gc.collect()
    assert gone() is None


def test_a_map_has_one_thread_and_others_keep_theirs(pairs):
    network = pairs("mobilenet_v2")[0]
    split, seen = headed(network, "features.18"), []
    before = torch.get_num_threads()
    torch.set_num_threads(2)

    def look(*_):
        other = []
        thread = threading.Thread(target=lambda: other.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        seen.append((torch.get_num_threads(), *other))

    handle = network.get_submodule("classifier.1").register_forward_hook(look)
    try:
        explain(split, SMALL, CamSpec("gradcam++", split.layer), 1)
        assert seen.pop() == (1, 2)
        assert torch.get_num_threads() == 2
        explain(network, SMALL, CamSpec("gradcam++", "features.18"), 1)
        assert seen.pop() == (1, 2)
    finally:
        handle.remove()
        torch.set_num_threads(before)


# -- exported


@pytest.fixture(scope="module", params=some_networks("squeezenet1_1", of=("squeezenet1_1", "mobilenet_v2", "resnet50")))
def export(request, pairs):
    """Return a model's name, its float and W8A8 network, its outputs and its export with logits."""
    base, simulated = pairs(request.param)
    outputs = outputs_before(base, networks.spec(request.param).layer, SMALL)
    return request.param, base, simulated, outputs, exported(base, outputs, SMALL, logits=True)


def test_the_export_gives_the_logits_too(export):
    name, base, _, outputs, data = export
    layer, batch = networks.spec(name).layer, torch.cat([SMALL, -SMALL])
    with torch.no_grad():
        expected = FrontModule(base, outputs, logits=True)(batch)
    for front in (Session(data), by_ncnn(data, logits=True)):
        for found, value in zip(front(batch), expected, strict=True):
            assert (found - value).abs().max() < 1e-4 * value.abs().max()
        split = HeadedSplit(base, layer, outputs, front, networks.spec(name).head)
        same(
            explain(split, SMALL, CamSpec("gradcam++", split.layer), 5),
            explain(base, SMALL, CamSpec("gradcam++", layer), 5),
            1e-3,
        )


def test_no_pooling_is_traced_as_arithmetic_on_shapes(export):
    kinds = {node.op_type for node in onnx.load_from_string(export[4]).graph.node}
    assert not kinds & {"Shape", "Range", "Gather", "Squeeze", "Unsqueeze"}


@pytest.fixture(scope="module")
def integers(export):
    """Return the export on integers with logits, and the one that ends at the target."""
    name, base, simulated, outputs, data = export
    target = target_grid(simulated, networks.spec(name).layer, SMALL)
    batches = [torch.cat([SMALL, SMALL.flip(3)]).numpy(), 0.5 * SMALL.numpy()]
    short = exported(base, outputs, SMALL)
    return tuple(on_integers(model, integer_layers(simulated), batches, target) for model in (data, short))


@pytest.mark.slow
def test_up_to_the_target_integers_are_what_they_are_without_the_logits(integers):
    *found, _ = Session(integers[0])(SMALL)
    expected = Session(integers[1])(SMALL)
    assert len(found) == len(expected)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_the_head_has_the_simulated_integers_and_an_integer_kernel(export, integers, tmp_path):
    name, _, simulated, _, _ = export
    head = networks.spec(name).head
    module, graph = simulated.get_submodule(head), onnx.load_from_string(integers[0]).graph
    constants = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    weight = constants[f"{head}.weight.integers"]
    weight = weight if weight.ndim == 4 else weight.T
    assert weight.dtype == np.int8
    assert np.array_equal(weight, module.weight_grid.integers(module.weight).numpy())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(integers[0], options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert not kinds & {"Conv", "FusedConv", "Gemm", "MatMul"}
    assert ("MatMulIntegerToFloat" in kinds) == (name != "squeezenet1_1")


def test_the_head_gives_what_the_simulated_one_gives_of_the_same_activation(export, integers):
    name, _, simulated, outputs, _ = export
    *values, logits = Session(integers[0])(SMALL)
    split = Split(simulated, networks.spec(name).layer, outputs, lambda _image: values)
    with torch.no_grad():
        expected = split(SMALL)
    # SqueezeNet's head is a convolution: what integer kernels give of it is on a grid of 256 levels, too. A mean that
    # lies between two levels may be rounded to either.
    limit = 0.02 if name == "squeezenet1_1" else 0.005
    assert float((logits - expected).abs().max() / expected.abs().max()) < limit


def test_a_linear_layer_on_integers_is_exact_but_for_float32(tmp_path):
    torch.manual_seed(0)
    network = Tail(nn.Linear(6, 9)).eval().requires_grad_(False)
    network.behind[2].bias.uniform_(-1, 1)
    simulated = assemble(network, QuantSpec(8, 8), calibrate(network, [SMALL]))
    outputs = outputs_before(network, "body", SMALL)
    data = exported(network, outputs, SMALL, logits=True)
    activation, logits = Session(on_integers(data, integer_layers(simulated), [SMALL.numpy()]))(SMALL)
    with torch.no_grad():
        torch.testing.assert_close(logits, simulated.behind(activation))


def test_an_export_falls_into_what_is_before_the_target_and_behind(export):
    front, rest = (onnx.load_from_string(part).graph for part in parted(export[4]))
    assert [entry.name for entry in front.output] == [entry.name for entry in rest.input]
    names = [{entry.name for entry in part.initializer} for part in (front, rest)]
    head = f"network.{networks.spec(export[0]).head}.weight"
    assert head not in names[0]
    assert head in names[1]


def test_many_maps_of_a_headed_network_come_from_one_pass(pairs):
    network = pairs("mobilenet_v2")[0]
    split = headed(network, "features.18")
    wanted = [
        (CamSpec(method, split.layer), index) for method in ("gradcam", "eigencam", "layercam") for index in (1, 9)
    ]
    for (spec, index), each in zip(wanted, explain_many(split, SMALL, wanted), strict=True):
        same(each, explain(split, SMALL, spec, index), 0)


def test_maps_made_at_the_same_time_are_those_made_in_turn(pairs):
    layer = networks.spec("squeezenet1_1").layer
    splits = [headed(network, layer) for network in pairs("squeezenet1_1")]
    wanted = [(split, CamSpec("gradcam++", split.layer)) for split in splits]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for index in (None, 7):
            found = cam.explain_each(wanted, SMALL, index)
            assert torch.get_num_threads() == 2
            for together, (split, spec) in zip(found, wanted, strict=True):
                alone = explain(split, SMALL, spec, index)
                assert together.class_index == alone.class_index
                same(together, alone, 1e-6)
    finally:
        torch.set_num_threads(before)


def test_an_error_of_one_map_is_told_and_holds_no_lock(pairs):
    layer = networks.spec("squeezenet1_1").layer
    base, simulated = pairs("squeezenet1_1")
    split = headed(simulated, layer)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for threads in (2, 1):
            torch.set_num_threads(threads)
            with pytest.raises(UsageError, match="Class 5000 does not exist"):
                cam.explain_each(
                    [(base, CamSpec("gradcam", layer)), (split, CamSpec("gradcam", split.layer))], SMALL, 5000
                )
            explain(split, SMALL, CamSpec("gradcam", split.layer), 3)  # nobody holds its lock
    finally:
        torch.set_num_threads(before)
