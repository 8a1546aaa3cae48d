"""What users supply to a comparison: saliency maps, calibration pictures, weights."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import comparison_support
import numpy as np
import pytest
import torch
import torchvision
from comparison_support import SAMPLE, SQUEEZENET, bits, write_picture
from PIL import Image
from safetensors.torch import save_file

from quantviz import images, networks
from quantviz.comparison import CompareRequest, Workbench, arrays, comparison_data
from quantviz.comparison.calibration import MAX_IMAGES, calibration_set
from quantviz.specs import ImageError, QuantSpec, UsageError

store, shared, forwards, folder = (
    comparison_support.store,
    comparison_support.shared,
    comparison_support.forwards,
    comparison_support.folder,
)


# -- saliency that the user supplies


@pytest.mark.parametrize(
    "size",
    [
        (300, 451),
        pytest.param((224, 224), marks=pytest.mark.slow),
        pytest.param((600, 902), marks=pytest.mark.slow),
    ],
    ids=["image size", "crop size", "twice"],
)
@pytest.mark.parametrize("kind", ["npy", "png", "bytes"])
def test_a_supplied_map_is_aligned_with_the_crop(shared, tmp_path, size, kind):
    rows = np.linspace(0, 255, size[0])[:, None].repeat(size[1], 1)
    path = tmp_path / f"rows.{'npy' if kind == 'npy' else 'png'}"
    if kind == "npy":
        np.save(path, rows)
    else:
        Image.fromarray(rows.astype(np.uint8)).save(path)
    source = path.read_bytes() if kind == "bytes" else path
    found = shared.compare(replace(SQUEEZENET, saliency=source, saliency_name="mine"), SAMPLE)
    assert (found.saliency.source, found.saliency.predicted) == ("mine", False)
    expected = np.linspace(0, 1, 224)[:, None].repeat(224, 1)
    np.testing.assert_allclose(found.saliency.heatmap.values, expected, atol=0.01)
    assert found.scores["float_v_saliency"].cc is not None


def test_a_map_of_another_aspect_ratio_is_refused_before_anything_is_computed(shared, tmp_path, forwards):
    np.save(tmp_path / "wide.npy", np.random.default_rng(0).random((100, 300)))
    with pytest.raises(ImageError, match="300 x 100"):
        shared.compare(replace(SQUEEZENET, saliency=tmp_path / "wide.npy", quant=QuantSpec(5, 3)), SAMPLE)
    assert forwards == []


def test_a_map_without_evidence_is_flagged_and_not_scored(shared, tmp_path):
    np.save(tmp_path / "flat.npy", np.ones((224, 224)))
    found = shared.compare(replace(SQUEEZENET, saliency=tmp_path / "flat.npy"), SAMPLE)
    assert set(found.degenerate) == {"saliency"}
    assert found.scores["float_v_saliency"].sim is None
    assert found.scores["quantized_v_float"].sim is not None


def test_without_saliency_only_the_two_networks_are_scored(shared):
    found = shared.compare(replace(SQUEEZENET, saliency=None), SAMPLE)
    assert found.saliency is None
    assert set(found.scores) == {"quantized_v_float"}
    assert comparison_data(found)["scores"]["float_v_saliency"] is None
    assert "saliency" not in arrays(found)


# -- calibration


def test_the_bundled_calibration_set_has_five_inputs_a_photograph():
    found = calibration_set(None)
    preprocessing = networks.spec("efficientnet_lite0").weights[0].preprocessing
    inputs = list(found.inputs(preprocessing))
    assert found.ref.images == len(inputs) == 5 * len(images.BUNDLED)
    assert {values.shape for values in inputs} == {(1, 3, 224, 224)}
    assert len({values.tobytes() for values in inputs}) == len(inputs)
    assert all((values == again).all() for values, again in zip(inputs, found.inputs(preprocessing), strict=True))


def test_a_folder_of_pictures_calibrates(shared, folder, monkeypatch):
    found = shared.compare(replace(SQUEEZENET, calibration=folder, quant=QuantSpec(4, 4)), SAMPLE)
    assert (found.calibration.source, found.calibration.images) == ("pictures", 3)
    default = shared.compare(replace(SQUEEZENET, quant=QuantSpec(4, 4)), SAMPLE)
    assert bits(found)["quantized"] != bits(default)["quantized"]
    assert bits(found)["float"] == bits(default)["float"]
    monkeypatch.chdir(folder)
    assert calibration_set(Path()).ref == found.calibration


def test_of_a_large_folder_evenly_spaced_pictures_are_taken(tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (32, 32)).save(picture, "PNG")
    for index in range(2 * MAX_IMAGES):
        (tmp_path / f"{index:04d}.png").write_bytes(picture.getvalue())
    found = calibration_set(tmp_path)
    assert [file.name for file in found.files] == [f"{2 * index:04d}.png" for index in range(MAX_IMAGES)]
    assert found.notes == (
        f"Of {2 * MAX_IMAGES} calibration pictures {MAX_IMAGES} are taken, evenly spaced.",
        f"{MAX_IMAGES - 1} calibration pictures repeat another ('0002.png' is '0000.png'); each file counts.",
    )


def test_what_of_a_calibration_folder_counts_twice_or_not_at_all_is_told(shared, folder):
    assert shared.compare(replace(SQUEEZENET, calibration=folder), SAMPLE).notes == ()
    (folder / "again").mkdir()
    shutil.copy(folder / "1.png", folder / "again" / "1.png")
    (folder / "other.heic").write_bytes(b"x")
    told = shared.compare(replace(SQUEEZENET, calibration=folder), SAMPLE).notes
    assert told[0] == "1 calibration picture repeats another ('again/1.png' is '1.png'); each file counts."
    assert told[1].startswith("Calibration: 1 picture is left out")
    assert len(told) == 2


def test_a_corrupt_calibration_picture_is_named(shared, folder):
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"1\.png"):
        shared.compare(replace(SQUEEZENET, calibration=folder), SAMPLE)
    (folder / "1.png").write_bytes(whole)
    assert shared.compare(replace(SQUEEZENET, calibration=folder), SAMPLE).calibration.images == 3


def test_an_empty_calibration_folder_is_refused(shared, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no image file"):
        shared.compare(replace(SQUEEZENET, calibration=tmp_path / "empty"), SAMPLE)


def test_a_calibration_picture_that_changes_meanwhile_is_refused(folder, noise_picture):
    found = calibration_set(folder)
    write_picture(folder / "2.png", noise_picture(8))
    with pytest.raises(ImageError, match=r"2\.png changed"):
        list(found.inputs(networks.spec("squeezenet1_1").weights[0].preprocessing))


# -- weights


def test_untrained_weights_are_labelled(shared):
    found = shared.compare(SQUEEZENET, SAMPLE)
    assert (found.weights.source, found.weights.name, found.weights.trained) == ("untrained", "untrained", False)
    assert len(found.weights.sha256) == 64
    assert comparison_data(found)["weights"]["trained"] is False


def test_a_users_checkpoint_with_ten_classes(store, tmp_path):
    torch.manual_seed(2)
    path = tmp_path / "fine_tuned.safetensors"
    save_file(torchvision.models.squeezenet1_1(num_classes=10).state_dict(), path)
    bench, request_ = Workbench(store), CompareRequest("squeezenet1_1", str(path))
    for cached in (False, True):
        found = bench.compare(replace(request_, target=9), SAMPLE)
        assert found.cached is cached
        assert (found.weights.source, found.weights.name, found.weights.classes) == ("file", path.name, 10)
        assert found.reference.predictions[0].label == f"class {found.reference.predictions[0].index}"
        assert comparison_data(found)["weights"]["classes"] == 10
    with pytest.raises(UsageError, match="classes 0 to 9"):
        bench.compare(replace(request_, target=10), SAMPLE)
