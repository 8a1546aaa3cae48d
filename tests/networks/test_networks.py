"""The table of models, the seeded models, and what can be asked of a model's structure."""

import subprocess
import sys
import threading

import pytest
import timm
import torch
from networks_support import some_networks
from torchvision.models import get_model_weights

from quantviz.networks import DEFAULT_MODEL, MODELS, resolve, spec
from quantviz.networks.build import build, check_layer, labels, layers
from quantviz.specs import UsageError

PAPER = ["vgg16", "resnet50", "densenet121", "mobilenet_v2", "squeezenet1_1", "efficientnet_b0"]
PAPER_LAYERS = {
    "vgg16": lambda model: model.features[-2],
    "resnet50": lambda model: model.layer4[-1].conv3,
    "densenet121": lambda model: model.features[-2],
    "mobilenet_v2": lambda model: model.features[-1],
    "squeezenet1_1": lambda model: model.features[-1],
    "efficientnet_b0": lambda model: model.features[-1],
    "efficientnet_lite0": lambda model: model.bn2,
}


@pytest.fixture(scope="module")
def untrained():
    """Every model with its seeded weights, built once."""
    return {name: build(entry, resolve(entry, "untrained")) for name, entry in MODELS.items()}


def test_the_table_has_the_papers_models_and_the_embedded_default_first():
    assert list(MODELS) == ["efficientnet_lite0", *PAPER]
    assert DEFAULT_MODEL == "efficientnet_lite0"
    with pytest.raises(TypeError):
        MODELS["another"] = MODELS["vgg16"]


@pytest.mark.parametrize("name", PAPER)
def test_the_table_says_what_torchvisions_enums_say(name):
    published = {weights.name: weights for weights in spec(name).weights}
    theirs = {entry.name: entry for entry in get_model_weights(name) if entry.name.startswith("IMAGENET1K_V")}
    assert set(published) == set(theirs)
    assert spec(name).weights[0].name == "IMAGENET1K_V1"
    for key, entry in theirs.items():
        ours, transform = published[key], entry.transforms()
        assert entry.url == f"https://download.pytorch.org/models/{ours.file}"
        assert ours.file.endswith(f"-{ours.sha256}.pth")
        assert len(ours.sha256) == 8
        assert [ours.preprocessing.resize] == transform.resize_size
        assert [ours.preprocessing.crop] == transform.crop_size
        assert ours.preprocessing.interpolation == transform.interpolation.value
        assert list(ours.preprocessing.mean) == transform.mean
        assert list(ours.preprocessing.std) == transform.std
        assert transform.antialias is True
        assert spec(name).parameters == entry.meta["num_params"]


def test_the_default_models_preprocessing_is_timms():
    ours, theirs = spec(DEFAULT_MODEL).weights[0].preprocessing, timm.get_pretrained_cfg("tf_efficientnet_lite0")
    assert (ours.mean, ours.std, ours.interpolation) == (theirs.mean, theirs.std, theirs.interpolation)
    assert (3, ours.crop, ours.crop) == theirs.input_size
    assert ours.resize == int(ours.crop / theirs.crop_pct)


@pytest.mark.parametrize("name", some_networks("squeezenet1_1", "efficientnet_lite0", "mobilenet_v2"))
def test_the_default_layer_and_the_head_are_the_papers(name, untrained):
    model, _ = untrained[name]
    assert model.get_submodule(spec(name).layer) is PAPER_LAYERS[name](model)
    assert model.get_submodule(spec(name).head).weight.shape[0] == 1000
    assert sum(parameter.numel() for parameter in model.parameters()) == spec(name).parameters


def test_an_unknown_model_is_named_with_those_that_exist():
    with pytest.raises(UsageError, match=r"'Resnet5' is unknown; did you mean resnet50\?.*vgg16"):
        spec("Resnet5")
    with pytest.raises(UsageError, match=r"'zzz' is unknown; known models: efficientnet_lite0"):
        spec("zzz")


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_those_that_a_real_forward_shows(name, untrained):
    model, _ = untrained[name]
    shown, calls = {}, {}

    def keep(key):
        def hook(module, inputs, output):
            calls[key] = calls.get(key, 0) + 1
            shown[key] = output

        return hook

    handles = [module.register_forward_hook(keep(key)) for key, module in model.named_modules() if key]
    with torch.no_grad():
        model(torch.zeros(1, 3, 224, 224))
    for handle in handles:
        handle.remove()
    expected = {
        key: tuple(output.shape[1:])
        for key, output in shown.items()
        if calls[key] == 1 and isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1
    }
    found = layers(spec(name))
    assert {info.name: (info.channels, info.height, info.width) for info in found} == expected
    assert spec(name).layer in expected
    assert all(info.kind == type(model.get_submodule(info.name)).__name__ for info in found)
    assert found[0].height > found[-1].height or name == "vgg16"
    assert layers(spec(name)) is found


def test_a_module_that_is_called_thrice_is_no_layer():
    assert "layer1.0.relu" not in {info.name for info in layers(spec("resnet50"))}


def test_check_layer_passes_a_layer_and_explains_another():
    assert check_layer(spec("resnet50"), "layer3.0.conv1") == "layer3.0.conv1"
    with pytest.raises(UsageError, match=r"'layer4\.2\.conv9'.*layer4\.2\.conv3.*default is layer4\.2\.conv3"):
        check_layer(spec("resnet50"), "layer4.2.conv9")
    with pytest.raises(UsageError, match="'avgpool' of resnet50 is unknown or has no spatial output"):
        check_layer(spec("resnet50"), "avgpool")


@pytest.mark.parametrize("name", MODELS)
def test_untrained_models_are_ready_to_explain(name, untrained):
    model, ref = untrained[name]
    assert (ref.source, ref.name, ref.classes, ref.trained) == ("untrained", "untrained", 1000, False)
    assert len(ref.sha256) == 64
    assert not any(module.training or getattr(module, "inplace", False) for module in model.modules())
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in model.parameters())
    kept = {}
    handle = model.get_submodule(spec(name).layer).register_forward_hook(lambda m, i, output: kept.update(a=output))
    with torch.no_grad():
        model(torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)))
    handle.remove()
    # Far above the 1e-7 that pytorch-grad-cam adds to a map's range, or every map would be degenerate.
    assert 1e-3 < kept["a"].std() < 1e3


def test_untrained_weights_are_the_same_every_time_and_leave_the_generator_alone():
    entry = spec("squeezenet1_1")
    located = resolve(entry, "UNTRAINED")
    assert located.path is None
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    digests = {build(entry, located)[1].sha256}
    assert torch.equal(torch.rand(3), expected)
    found = []
    threads = [threading.Thread(target=lambda: found.append(build(entry, located)[1].sha256)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == set(found)
    assert len(found) == 4
    assert build(spec("mobilenet_v2"), resolve(spec("mobilenet_v2"), "untrained"))[1].sha256 not in digests


def test_labels():
    names = labels(1000)
    assert len(names) == 1000
    assert (names[0], names[967], names[985]) == ("tench", "espresso", "daisy")
    assert labels(3) == ("class 0", "class 1", "class 2")


def test_listing_and_finding_import_no_torch():
    code = (
        "import sys; from quantviz.networks import MODELS, resolve, weights_state\n"
        "assert [weights_state(entry) for entry in MODELS.values()][0] == 'bundled'\n"
        "assert resolve(MODELS['efficientnet_lite0']).ref.source == 'bundled'\n"
        "assert not {'torch', 'torchvision', 'timm', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
