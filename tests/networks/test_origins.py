"""The classifiers of timm and torchvision by name."""

import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
import torchvision.models as library
from safetensors.torch import save_file
from torchvision.models import RegNet_Y_400MF_Weights

from quantviz import cam, networks
from quantviz.networks import torchvision_zoo
from quantviz.networks.build import build, made_for
from quantviz.networks.weights import LocatedWeights, weights_state
from quantviz.specs import CamSpec, ModelSpec, UsageError, WeightsRef, WeightsUnavailable


def test_a_name_of_timms_has_the_settings_of_its_default_weights():
    entry, theirs = networks.spec("timm:resnet18"), timm.get_pretrained_cfg("resnet18")
    ours = entry.weights[0]
    assert (ours.name, ours.source) == (theirs.tag, theirs.hf_hub_id)
    assert (ours.preprocessing.mean, ours.preprocessing.std) == (theirs.mean, theirs.std)
    assert (ours.preprocessing.crop, ours.preprocessing.interpolation) == (224, "bicubic")
    assert ours.preprocessing.resize == int(224 / theirs.crop_pct)
    assert (entry.layer, entry.head, entry.parameters) == ("layer4.1.act2", "fc", 11_689_512)


def test_a_tag_picks_the_weights_and_their_settings():
    entry = networks.spec("timm:resnet18.tv_in1k")
    assert entry.weights[0].name == "tv_in1k"
    assert entry.weights[0].preprocessing.interpolation == "bilinear"
    assert "a1_in1k" in [weights.name for weights in entry.weights[1:]]


def test_another_input_size_is_the_librarys():
    assert networks.spec("torchvision:inception_v3").weights[0].preprocessing.crop == 299
    assert networks.spec("timm:mobilenetv3_large_150d").weights[0].preprocessing.crop == 256


def test_a_name_of_torchvisions_has_what_the_enum_says():
    entry, theirs = networks.spec("torchvision:regnet_y_400mf"), RegNet_Y_400MF_Weights.IMAGENET1K_V1
    ours = entry.weights[0]
    assert theirs.url.endswith(f"/{ours.file}")
    assert ours.file.endswith(f"-{ours.sha256}.pth")
    assert entry.parameters == theirs.meta["num_params"]
    assert [ours.preprocessing.resize] == theirs.transforms().resize_size
    assert entry.layer == "trunk_output.block4.block4-5.activation"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet19", r"'resnet19' is not in timm; near names: resnet18, "),
        ("torchvision:resnet19", r"'resnet19' is not in torchvision; near names: resnet18, "),
        ("timm:resnet18.best", r"no weights 'best' of resnet18; use one of a1_in1k, a2_in1k"),
        (
            "tim:resnet18",
            r"'tim:resnet18' cannot be used: it cannot be imported: ModuleNotFoundError: No module named 'tim'",
        ),
        ("tim/resnet18", r"'tim/resnet18' is unknown; .*timm:NAME and torchvision:NAME"),
    ],
)
def test_a_name_that_cannot_be_used_is_one_sentence(name, message):
    with pytest.raises(UsageError, match=message):
        networks.spec(name)


def test_names_are_listed_by_pattern():
    names = [entry.name for entry in networks.listed("timm:*mobilenetv3*")]
    assert "timm:mobilenetv3_small_050" in names
    assert all("mobilenetv3" in name for name in names)
    (shuffle,) = networks.listed("torchvision:shufflenet_v2_x1_0")
    assert (shuffle.family, shuffle.parameters, shuffle.weights) == ("shufflenetv2", 2_278_604, ("IMAGENET1K_V1",))
    assert [entry.name for entry in networks.listed("*mobile*")] == ["mobilenet_v2"]
    assert networks.listed("timm:no such*") == []


def test_one_architecture_with_one_set_of_weights_gives_one_map_by_either_name(tmp_path, photograph):
    file = tmp_path / "resnet18.safetensors"
    entries = [networks.spec(name) for name in ("timm:resnet18", "torchvision:resnet18")]
    first = build(entries[0], networks.resolve(entries[0], "untrained"))[0]
    save_file(first.state_dict(), file)
    image = photograph("squeezenet1_1")
    maps = []
    for entry in entries:
        model, _ = build(entry, networks.resolve(entry, str(file)))
        maps.append(cam.explain(model, image, CamSpec("gradcam++", entry.layer), 281).heatmap.values)
    assert maps[0].max() == 1
    assert maps[0] == pytest.approx(maps[1], abs=1e-6)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return Hugging Face's cache, empty, without a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_published_weights_are_read_from_the_librarys_cache(hub):
    entry = networks.spec("timm:mobilenetv3_small_050")
    assert weights_state(entry) == "downloadable"
    with pytest.raises(WeightsUnavailable, match=r"lamb_in1k weights .* \(HF_HUB_OFFLINE is set\).*model\.safetensors"):
        networks.resolve(entry)
    snapshot = hub / "models--timm--mobilenetv3_small_050.lamb_in1k" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    torch.manual_seed(5)
    theirs = timm.create_model("mobilenetv3_small_050").eval()
    save_file(theirs.state_dict(), snapshot / "model.safetensors")
    assert weights_state(entry) == "cached"
    model, ref = build(entry, networks.resolve(entry))
    assert (ref.source, ref.name, ref.classes) == ("hub", "lamb_in1k", 1000)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    image = torch.rand(1, 3, 224, 224)
    assert torch.equal(model(image), theirs(image))


def test_a_file_that_is_not_what_the_cache_calls_it_is_refused(hub):
    entry = networks.spec("timm:mobilenetv3_small_050")
    folder = hub / "models--timm--mobilenetv3_small_050.lamb_in1k"
    for place in ("blobs", "refs", "snapshots/abc"):
        (folder / place).mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    blob = folder / "blobs" / ("12345678" * 8)
    blob.write_bytes(b"something else")
    (folder / "snapshots" / "abc" / "model.safetensors").symlink_to(blob)
    with pytest.raises(WeightsUnavailable, match=r"is not the published lamb_in1k .* not 12345678; delete it"):
        networks.resolve(entry)
    shutil.rmtree(folder)


def test_an_architecture_without_published_weights_says_so():
    entry = networks.spec("timm:mobilenetv3_large_075")
    with pytest.raises(WeightsUnavailable, match="timm publishes no weights for the classes of mobilenetv3_large_075"):
        networks.resolve(entry)
    assert networks.resolve(entry, "untrained").ref.name == "untrained"


def test_every_published_name_of_torchvision_s_weights_can_be_given():
    """With its own preprocessing; SWAG's vision transformers are made for the size that they take."""
    for name in library.list_models(module=library):
        for weights in library.get_model_weights(name):
            entry = torchvision_zoo.published_of(weights)
            given = weights.transforms()
            assert entry.name == weights.name
            assert entry.preprocessing.size == (given.crop_size[0],) * 2
            assert (entry.preprocessing.mean, entry.preprocessing.std) == (tuple(given.mean), tuple(given.std))
    published = tuple(map(torchvision_zoo.published_of, library.get_model_weights("vit_b_16")))
    entry = ModelSpec("torchvision:vit_b_16", "", "torchvision", "vit_b_16", "", "heads.head", 0, published)
    for weights in published:
        for source, name in (("hub", weights.name), ("file", "copy.pth")):
            located = LocatedWeights(WeightsRef(source, name, "", weights.preprocessing), Path("nowhere"))
            with torch.device("meta"):
                model = torchvision_zoo.construct(made_for(entry, located), 1000)
            assert model.image_size == weights.preprocessing.size[0]
        assert model.encoder.pos_embedding.shape[1] == 1 + (model.image_size // 16) ** 2
