"""Class activation maps leave the model as it was, and say where there is no evidence."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from cam_support import TOLERANCE, tiny, unit

from quantviz.cam import explain
from quantviz.specs import CAM_METHODS, CamSpec, QuantvizError, UsageError

# -- what a call leaves alone


def state_of(model, image):
    """Return everything of a model that an explanation could disturb, output bits included."""
    with torch.no_grad():
        output = model(image).numpy().tobytes()
    modules = [(name, id(module), module.training) for name, module in model.named_modules()]
    hooks = [
        [len(getattr(module, kind)) for kind in vars(module) if kind.endswith("_hooks")] for module in model.modules()
    ]
    parameters = [
        (name, parameter.requires_grad, parameter.grad, parameter.numpy(force=True).tobytes())
        for name, parameter in model.named_parameters()
    ]
    return output, modules, hooks, parameters


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("method", CAM_METHODS)
def test_the_model_is_left_as_it_was(float_model, photograph, method, frozen):
    model, image = copy.deepcopy(float_model("squeezenet1_1")), photograph("squeezenet1_1")[..., :96, :96]
    if not frozen:
        for parameter in list(model.parameters())[::2]:
            parameter.requires_grad_(True)
    before = state_of(model, image)
    first = explain(model, image, CamSpec(method, "features.2"), 281)
    assert state_of(model, image) == before
    again = explain(model, image, CamSpec(method, "features.2"), 281)
    assert first.heatmap.values.tobytes() == again.heatmap.values.tobytes()


@pytest.mark.parametrize("method", CAM_METHODS)
def test_the_model_is_left_as_it_was_when_a_call_is_interrupted(float_model, photograph, method):
    model, image = copy.deepcopy(float_model("squeezenet1_1")), photograph("squeezenet1_1")[..., :96, :96]
    before = state_of(model, image)

    def interrupt(*_args):
        raise KeyboardInterrupt

    handle = model.classifier.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        explain(model, image, CamSpec(method, "features.2"), 281)
    handle.remove()
    assert state_of(model, image) == before


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_progress_may_interrupt_the_long_methods_half_way(float_model, photograph, method):
    model, image = copy.deepcopy(float_model("squeezenet1_1")), photograph("squeezenet1_1")[..., :96, :96]
    before = state_of(model, image)

    def interrupt(_message, fraction, _phase=None):
        if fraction >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(model, image, CamSpec(method, "features.2"), 281, interrupt)
    assert state_of(model, image) == before


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_the_long_methods_report_to_the_callback_and_print_nothing(float_model, photograph, method, capfd):
    told = []
    explain(
        float_model("squeezenet1_1"),
        photograph("squeezenet1_1")[..., :96, :96],
        CamSpec(method, "features.2"),
        281,
        lambda message, fraction, _phase=None: told.append((message, fraction)),
    )
    fractions = [fraction for _, fraction in told]
    assert len(fractions) >= 2
    assert fractions == sorted(set(fractions))
    assert 0 <= fractions[0] < fractions[-1] <= 1
    assert capfd.readouterr() == ("", "")


# -- maps without evidence

RAMP = torch.arange(1.0, 37.0).reshape(1, 1, 6, 6) / 36


@pytest.mark.parametrize(
    ("method", "model", "image", "reason"),
    [
        ("gradcam", tiny(0.0), RAMP, "no positive evidence for the class"),
        ("gradcam++", tiny(0.0), RAMP, "no positive evidence for the class"),
        ("gradcam", tiny(-1.0), RAMP, "no positive evidence for the class"),
        ("gradcam++", tiny(-1.0), RAMP, "no positive evidence for the class"),
        ("layercam", tiny(-1.0), RAMP, "no positive evidence for the class"),
        ("eigencam", tiny(1.0), torch.ones(1, 1, 6, 6), "no positive evidence for the class"),
        ("gradcam", tiny(1.0), torch.ones(1, 1, 6, 6), "constant"),
        ("scorecam", tiny(1.0), torch.ones(1, 1, 6, 6), "constant"),
        ("hirescam", tiny(1e-9), RAMP, "evidence below the rounding of float32"),
        ("ablationcam", tiny(0.0), RAMP, "not finite"),  # the drop relative to a score of zero
    ],
)
def test_maps_without_evidence_are_flagged_and_zero(method, model, image, reason):
    found = explain(model, image, CamSpec(method, "features"), 0)
    assert found.heatmap.degenerate == found.native.degenerate == reason
    assert not found.heatmap.values.any()
    assert not found.native.values.any()
    assert found.heatmap.values.shape == (6, 6)


def test_a_little_evidence_is_still_evidence():
    found = explain(tiny(1e-3), RAMP, CamSpec("gradcam", "features"), 0)
    assert found.heatmap.degenerate == ""
    np.testing.assert_allclose(found.native.values, unit(RAMP[0, 0].numpy()), atol=TOLERANCE)


@pytest.mark.parametrize("method", CAM_METHODS)
@pytest.mark.parametrize("where", [{"weight": float("nan")}, {"weight": 1.0, "convolution": float("inf")}])
def test_logits_that_are_not_finite_are_refused(method, where):
    with pytest.raises(QuantvizError, match="not finite"):
        explain(tiny(**where), RAMP, CamSpec(method, "features"), 0)


# -- wrong requests


@pytest.mark.parametrize("method", CAM_METHODS)
def test_a_class_that_does_not_exist_is_refused(method):
    with pytest.raises(UsageError, match=r"Class 2 does not exist; .* classes 0 to 1\."):
        explain(tiny(1.0), RAMP, CamSpec(method, "features"), 2)
    with pytest.raises(UsageError, match="Class -1 is negative"):
        explain(tiny(1.0), RAMP, CamSpec(method, "features"), -1)


@pytest.mark.parametrize("layer", ["nowhere", "features..x", "", None])
def test_a_layer_that_does_not_exist_is_refused(layer):
    with pytest.raises(UsageError, match="does not exist in this model"):
        explain(tiny(1.0), RAMP, CamSpec("gradcam", layer))


@pytest.mark.parametrize("layer", ["flat", "head"])
def test_a_layer_without_a_feature_map_is_refused_and_leaves_no_hook(layer):
    model = tiny(1.0)
    before = state_of(model, RAMP)
    with pytest.raises(UsageError, match="no feature map"):
        explain(model, RAMP, CamSpec("gradcam", layer))
    assert state_of(model, RAMP) == before


def test_without_a_class_the_models_own_top_1_is_explained(float_model, photograph):
    model, image = float_model("efficientnet_lite0"), photograph("efficientnet_lite0")
    found = explain(model, image, CamSpec("gradcam", "bn2"))
    with torch.no_grad():
        probabilities = model(image)[0].softmax(0).numpy()
    assert found.class_index == probabilities.argmax()
    np.testing.assert_array_equal(found.probabilities, probabilities)


# -- threads


@pytest.mark.slow
def test_eight_threads_over_two_models_give_the_serial_maps(float_model, photograph):
    layers = {
        "efficientnet_lite0": ("bn2", "blocks.4", "conv_stem"),
        "squeezenet1_1": ("features.12", "features.9", "features.2"),
    }
    methods = ("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "eigencam", "eigengradcam")
    jobs = [
        (name, layer, method, picture)
        for place, picture in enumerate(("chelsea", "coffee", "rocket"))
        for method in methods
        for name, layer in ((name, choices[place]) for name, choices in layers.items())
    ]
    jobs += [(name, choices[2], "ablationcam", "rocket") for name, choices in layers.items()]
    start = threading.Barrier(8)

    def run(job):
        name, layer, method, picture = job
        image = photograph(name, picture)[..., 48:176, 48:176]
        found = explain(float_model(name), image, CamSpec(method, layer), 281)
        return found.heatmap.values.tobytes() + found.native.values.tobytes() + found.probabilities.tobytes()

    serial = [run(job) for job in jobs]
    with ThreadPoolExecutor(8, initializer=start.wait) as pool:
        assert list(pool.map(run, jobs)) == serial
