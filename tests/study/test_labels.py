"""Labels of one's own data: by folders, by a table, by names, synsets and indices."""

import json

import pytest
import safetensors.torch
import torch
from own_data_support import CLASSES_OF, NAMES, own_network, own_pictures

from quantviz import images, networks
from quantviz.networks.build import build
from quantviz.networks.classes import ClassNames
from quantviz.specs import UsageError, spec_of
from quantviz.study.labels import class_folders, folder_labels, table_labels
from quantviz.study.planning import SweepRequest, plan_of


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return own_pictures(tmp_path_factory.mktemp("own") / "photos")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(own_network(tmp_path_factory.mktemp("net") / "own.safetensors"))


def labels_of(pictures, **changes):
    files = images.folder(pictures)
    return {file.relative_to(pictures).parts[0]: label for file, label in zip(files, changes["labels"], strict=True)}


def test_classes_are_found_by_name_synset_and_index():
    own = ClassNames(NAMES)
    assert [own.find(text) for text in ("tiger cat", "Tiger_Cat", "ROCKET", "2", "3", "cup", "")] == [
        *(0, 0, 2, 2),
        *(None, None, None),
    ]
    assert ClassNames(("7", "3")).find("3") == 1  # a name comes before an index
    assert ClassNames(("a b", "a_b")).find("A B") is None
    imagenet = ClassNames(())
    assert [imagenet.find(text) for text in ("n02123159", "282", "tiger cat")] == [282, 282, 282]


def test_folders_name_classes_and_the_others_are_told(pictures):
    found = folder_labels(pictures, images.folder(pictures), NAMES)
    assert labels_of(pictures, labels=found.classes) == {**CLASSES_OF, "loose.png": None}
    assert found.notes == ()
    fewer = folder_labels(pictures, images.folder(pictures), NAMES[:2])
    assert fewer.notes == ("No class is called as the folders 'Rocket'; their pictures have no label.",)
    (pictures / "Rocket" / "launch").mkdir()
    deeper = folder_labels(pictures, [pictures / "Rocket" / "launch" / "a.png"], NAMES)
    (pictures / "Rocket" / "launch").rmdir()
    assert deeper.classes == (2,)


def test_a_table_gives_labels_by_path_or_name(pictures, tmp_path):
    table, files = tmp_path / "labels.csv", images.folder(pictures)
    for text in ("File,Label\n", ""):
        table.write_text(text + "Rocket/2.png,tiger cat\n\n1.png,2\nloose.png,Cup Of Coffee\nabsent.png,0\n")
        found = table_labels(table, pictures, files, NAMES)
        expected = {"Tiger-Cat": None, "cup of coffee": 2, "Rocket": 0, "loose.png": 1}
        assert labels_of(pictures, labels=found.classes) == expected
        assert found.notes == (
            "The labels of 3 of 4 pictures are from labels.csv.",
            "1 of its rows name no picture that is swept over.",
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.png,tiger kat", r"line 1: class 'tiger kat' is unknown; 'tiger cat' is near, and an index up to 2"),
        ("1.png,0\n2.png,9", r"line 2: class '9' is unknown; the classes are 'tiger cat', 'cup_of coffee'"),
        ("1.png", "line 1: '1.png' has no label"),
        ("other.png,0", "name none of the pictures of .*; name them by their path in it, 'Rocket/2.png' say"),
        ("", "name none of the pictures"),
    ],
)
def test_a_wrong_table_is_refused_by_its_line(pictures, tmp_path, text, words):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UsageError, match=words):
        table_labels(tmp_path / "labels.csv", pictures, images.folder(pictures), NAMES)


def test_a_table_that_cannot_be_read_is_told(pictures, tmp_path):
    with pytest.raises(UsageError, match=r"none.csv' cannot be read \(No such file"):
        table_labels(tmp_path / "none.csv", pictures, images.folder(pictures), NAMES)


def plan_for(pictures, weights, **changes):
    quants = (spec_of("standard", 8, 8),)
    return plan_of(SweepRequest(pictures, ("squeezenet1_1",), quants, {"squeezenet1_1": weights}, **changes))


def test_a_plan_has_the_labels_and_names_of_ones_own_classes(pictures, weights, tmp_path):
    named = plan_for(pictures, weights, names=NAMES)
    assert named.classes == NAMES
    assert named.models[0].weights.classes == 3
    assert [image.label for image in named.images] == [2, 0, 1, None]
    assert named.notes == ()
    sorted_folders = plan_for(pictures, weights)
    assert sorted_folders.classes == class_folders(pictures) == ("Rocket", "Tiger-Cat", "cup of coffee")
    assert [image.label for image in sorted_folders.images] == [0, 1, 2, None]
    assert "as torchvision's ImageFolder counts them" in sorted_folders.notes[0]
    (tmp_path / "labels.csv").write_text("0.png,Rocket\n")
    table = plan_for(pictures, weights, names=NAMES, labels=tmp_path / "labels.csv")
    assert [image.label for image in table.images] == [None, 2, None, None]
    with pytest.raises(UsageError, match="2 class names were given, but squeezenet1_1 has 3; give a name for each"):
        plan_for(pictures, weights, names=NAMES[:2])


@pytest.mark.parametrize("form", ["class_to_idx.pth", "classes.safetensors"])
def test_a_checkpoint_names_its_classes(pictures, weights, tmp_path, form):
    tensors, path = safetensors.torch.load_file(weights), tmp_path / form
    if path.suffix == ".pth":
        named = {name: index for index, name in enumerate(NAMES)}
        torch.save({"state_dict": tensors, "class_to_idx": dict(sorted(named.items()))}, path)
    else:
        safetensors.torch.save_file(tensors, path, {"classes": json.dumps(NAMES), "format": "pt"})
    plan = plan_for(pictures, str(path))
    assert plan.classes == NAMES
    assert [image.label for image in plan.images] == [2, 0, 1, None]
    spec = networks.spec("squeezenet1_1")
    assert build(spec, networks.resolve(spec, str(path)))[1].names == NAMES


def test_labels_by_index_need_no_names(pictures, weights, tmp_path):
    (tmp_path / "labels.csv").write_text("0.png,2\n1.png,0\n")
    plan = plan_for(pictures, weights, labels=tmp_path / "labels.csv")
    assert plan.classes == ("class 0", "class 1", "class 2")
    assert [image.label for image in plan.images] == [None, 2, 0, None]


def test_folders_are_no_classes_of_a_network_that_has_another_number(pictures):
    plan = plan_for(pictures, "untrained")
    assert plan.classes == ()
    assert {image.label for image in plan.images} == {None}
