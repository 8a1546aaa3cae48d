"""From a request to a plan: which pictures, their labels by the layout of their folders, layers and ground truth."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from study_support import LITE, SQUEEZE, labelled_pictures

from quantviz import images, networks
from quantviz.specs import ImageError, UsageError, spec_of
from quantviz.study.layouts import labels_of, pictures_of
from quantviz.study.planning import SweepRequest, plan_of
from quantviz.truth import devkit_numbers, devkit_synsets, localized_synsets, object_synset

CAT, TENCH, GOLDFISH = "n02123159", "n01440764", "n01443537"  # 282, 0, 1
VALIDATION = "ILSVRC2012_val_{:08d}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return labelled_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def asked(pictures):
    return SweepRequest(pictures, (SQUEEZE,), (spec_of("standard"),), {SQUEEZE: "untrained"})


def test_pictures_are_sorted_before_they_are_limited(asked):
    every = [image.path for image in plan_of(asked).images]
    assert every == sorted(every)
    assert len(every) == 6
    few = [image.path for image in plan_of(replace(asked, limit=3)).images]
    assert few == [every[0], every[2], every[4]]
    drawn = [tuple(image.path for image in plan_of(replace(asked, limit=3, seed=seed)).images) for seed in range(8)]
    assert all(list(paths) == sorted(paths) and len(set(paths)) == 3 and set(paths) <= set(every) for paths in drawn)
    assert len(set(drawn)) > 1
    assert drawn[0] == tuple(image.path for image in plan_of(replace(asked, limit=3, seed=0)).images)
    assert [image.path for image in plan_of(replace(asked, limit=99, seed=1)).images] == every


def test_a_request_for_nothing_or_twice_the_same_is_refused(asked):
    for change, told in (
        ({"models": ()}, "No model is given"),
        ({"models": (LITE, LITE)}, f"Model '{LITE}' is given twice"),
        ({"quants": (spec_of("standard"), spec_of("best"))}, "Bit-width 'W8A8' is given twice"),
        ({"protocols": ("paper", "paper")}, "Protocol 'paper' is given twice"),
        ({"protocols": ("careful",)}, "Protocol 'careful' is unknown"),
        ({"weights": {LITE: "untrained"}}, f"'{LITE}', which is not swept; its models are {SQUEEZE}"),
        ({"limit": 0}, "limit 0 is below 1"),
        ({"batch": 0}, "batch 0 is below 1"),
        ({"seed": -1}, "seed -1 is below 0"),
    ):
        with pytest.raises(UsageError) as caught:
            replace(asked, **change)
        assert told in str(caught.value)


def annotation(*synsets):
    objects = "".join(f"<object><name>{synset}</name></object>" for synset in synsets)
    return f"<annotation>{objects}</annotation>"


@pytest.fixture
def tree(tmp_path):
    """Return the top of an ILSVRC tree of four validation pictures, two training pictures, and no labels yet."""
    for place in ("val", f"train/{CAT}", f"train/{TENCH}", "test"):
        (tmp_path / "ILSVRC/Data/CLS-LOC" / place).mkdir(parents=True)
    data = io.BytesIO()
    Image.fromarray(images.bundled("chelsea").rgb[:60, :80]).save(data, "JPEG")
    for number in range(1, 5):
        name = VALIDATION.format(number)
        (tmp_path / "ILSVRC/Data/CLS-LOC/val" / f"{name}.JPEG").write_bytes(data.getvalue() + b"\0" * number)
    for synset in (CAT, TENCH):
        (tmp_path / "ILSVRC/Data/CLS-LOC/train" / synset / f"{synset}_7.JPEG").write_bytes(data.getvalue())
    return tmp_path


def annotate(tree, *synsets):
    folder = tree / "ILSVRC/Annotations/CLS-LOC/val"
    folder.mkdir(parents=True)
    for number, found in enumerate(synsets, 1):
        (folder / f"{VALIDATION.format(number)}.xml").write_text(annotation(*found))


def planned(asked, dataset):
    plan = plan_of(replace(asked, dataset=dataset))
    return plan, {Path(image.path).name: image.label for image in plan.images}


@pytest.mark.parametrize("place", ["", "ILSVRC", "ILSVRC/Data/CLS-LOC/val"])
def test_the_ilsvrc_tree_has_its_labels_from_the_annotations(asked, tree, place):
    annotate(tree, [CAT], [TENCH, TENCH], [CAT, TENCH], ["n00000001"])
    plan, labels = planned(asked, tree / place)
    # The third shows two classes, and the fourth's is none of the thousand.
    assert labels == {f"{VALIDATION.format(at)}.JPEG": label for at, label in enumerate([282, 0, None, None], 1)}
    assert all((tree / place / image.path).is_file() for image in plan.images)
    assert "The labels of 3 pictures are from Annotations/CLS-LOC/val." in plan.notes


def test_pictures_of_the_tree_are_those_of_one_part(tree, pictures):
    assert {path.parent.name for path in pictures_of(tree)} == {"val"}
    train = tree / "ILSVRC/Data/CLS-LOC/train"
    assert labels_of(pictures_of(train)).classes == (0, 282)
    assert labels_of(pictures_of(train)).notes == ()
    assert pictures_of(pictures) == images.folder(pictures)


def test_the_localisation_table_comes_before_the_annotations(tree):
    annotate(tree, [CAT], [CAT], [CAT], [CAT])
    lines = [
        "ImageId,PredictionString",
        f"{VALIDATION.format(1)},{TENCH} 1 2 3 4 ",
        f"{VALIDATION.format(2)},{TENCH} 1 2 3 4 {GOLDFISH} 5 6 7 8 ",
    ]
    (tree / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
    found = labels_of(pictures_of(tree))
    assert found.classes == (0, 282, 282, 282)
    assert found.notes[0] == "The labels of 1 picture are from LOC_val_solution.csv."
    (tree / "LOC_val_solution.csv").write_text("picture,class\n1,2\n")
    found = labels_of(pictures_of(tree))
    assert found.classes == (282,) * 4
    assert found.notes[0].startswith("Labels are not taken from LOC_val_solution.csv: LOC_val_solution.csv has columns")


def meta(numbers):
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object)]
    rows = [(np.uint16(number), synset, "some words") for number, synset in numbers.items()]
    data = io.BytesIO()
    scipy.io.savemat(data, {"synsets": np.array(rows, kinds).reshape(-1, 1)}, do_compression=True)
    return data.getvalue()


def test_the_devkits_numbers_are_used_only_with_what_they_mean(tree):
    kit = tree / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("490\n361\n171\n822\n")
    found = labels_of(pictures_of(tree))
    assert found.classes == (None,) * 4
    (note,) = found.notes
    assert note.startswith("Labels are not taken from ILSVRC2012_validation_ground_truth.txt, whose numbers follow")
    assert "neither meta.mat nor map_clsloc.txt" in note
    (kit / "map_clsloc.txt").write_text(f"{TENCH} 490 tench\n{CAT} 171 tiger_cat\nnonsense\n")
    assert labels_of(pictures_of(tree)).classes == (0, None, 282, None)
    (kit / "meta.mat").write_bytes(meta({490: CAT, 361: GOLDFISH, 171: TENCH, 1200: "n00001740"}))
    found = labels_of(pictures_of(tree))
    assert found.classes == (282, 1, 0, None)
    assert found.notes[0].endswith("are from ILSVRC2012_validation_ground_truth.txt and meta.mat.")
    (kit / "meta.mat").write_bytes(b"MATLAB no")
    assert "meta.mat" in labels_of(pictures_of(tree)).notes[0]
    assert labels_of(pictures_of(tree)).classes == (None,) * 4


def test_annotations_that_cannot_be_used_are_told_and_cost_their_label_only(tree):
    annotate(tree, [CAT], [TENCH])
    folder = tree / "ILSVRC/Annotations/CLS-LOC/val"
    (folder / f"{VALIDATION.format(1)}.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>')
    found = labels_of(pictures_of(tree))
    assert found.classes == (None, 0, None, None)
    assert "declares a document type or entities" in found.notes[0]
    assert found.notes[1] == "3 of the validation pictures have no label there."


def test_other_pictures_near_annotations_get_no_label_of_theirs(tree, tmp_path):
    annotate(tree, [CAT], [CAT], [CAT], [CAT])
    folder = tree / "ILSVRC/Data/CLS-LOC/test"
    (folder / "ILSVRC2012_test_00000001.JPEG").write_bytes(b"never opened")
    assert labels_of([folder / "ILSVRC2012_test_00000001.JPEG"]).classes == (None,)


def test_what_is_no_annotation_is_refused(tmp_path):
    file = tmp_path / "file.txt"
    for function, text, told in (
        (devkit_numbers, "1\ntwo\n", "'two' where a class number is needed"),
        (devkit_numbers, "1\n-2\n", "'-2' where a class number is needed"),
        (devkit_synsets, "only words\n", "does not tell the synsets"),
        (localized_synsets, "a,b\n", "has columns 'a, b', not ImageId, PredictionString"),
        (object_synset, "no xml", "is no readable XML"),
    ):
        file.write_text(text)
        with pytest.raises(ImageError, match=told):
            function(file)
    assert object_synset(annotation("../etc").encode(), "a.xml") == ""


def test_a_layer_is_each_models_own(asked):
    both = replace(asked, models=(SQUEEZE, LITE))
    layers = {model.name: model.layer for model in plan_of(replace(both, layers={SQUEEZE: "features.9"})).models}
    assert layers == {SQUEEZE: "features.9", LITE: networks.spec(LITE).layer}
    plan = plan_of(asked)
    other = plan_of(replace(asked, layers={SQUEEZE: "features.9"}))
    assert plan.digest != other.digest
    assert (
        plan.difference(other) == f"models {SQUEEZE} at layer {plan.models[0].layer}, not {SQUEEZE} at layer features.9"
    )


def test_a_layer_that_a_model_lacks_is_refused(asked):
    with pytest.raises(UsageError, match=f"Layer 'blocks.2' of {SQUEEZE} is unknown"):
        plan_of(replace(asked, layers={SQUEEZE: "blocks.2"}))
    with pytest.raises(UsageError, match="A layer is given for 'vgg16', which is not swept"):
        replace(asked, layers={"vgg16": "features.28"})


def test_a_plan_without_ground_truth_is_the_one_it_was_before_there_was_any(asked):
    plan = plan_of(asked)
    assert plan.truth is None
    assert plan.truth_columns == ()
    assert list(plan.comparisons) == ["float_v_saliency", "quantized_v_saliency", "quantized_v_float"]
    assert replace(plan, notes=("a note",)).digest == plan.digest


def test_ground_truth_is_paired_by_stem_and_decides_the_study(asked, tmp_path):
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "flower.csv").write_text("x,y\n1,2\n")
    (truth / "cup.csv").write_text("x,y\n3,4\n")
    request = replace(asked, truth=truth, truth_kind="fixations")
    plan = plan_of(request)
    files = {image.path: file for image, file in zip(plan.images, plan.truth.files, strict=True)}
    assert {path: file.path for path, file in files.items() if file} == {
        "n07920052/cup.png": "cup.csv",
        "others/flower.png": "flower.csv",
    }
    assert {"nss", "auc_judd", "information_gain"} <= set(plan.truth.metrics)
    assert "auc_shuffled" not in plan.truth.metrics  # needs other pictures' fixations
    assert "sim" not in plan.truth.metrics
    assert plan_of(asked).difference(plan).startswith("ground truth none, not fixations (2 files, sha256 ")
    assert replace(plan, truth=replace(plan.truth, folder="elsewhere")).digest == plan.digest
    (truth / "cup.csv").write_text("x,y\n3,5\n")
    assert plan_of(request).digest != plan.digest


def test_ground_truth_of_no_picture_or_of_several_files_is_refused(asked, tmp_path):
    truth = tmp_path / "truth"
    (truth / "a").mkdir(parents=True)
    request = replace(asked, truth=truth, truth_kind="boxes")
    with pytest.raises(ImageError, match="holds no ground truth"):
        plan_of(request)
    (truth / "else.xml").write_text("<a/>")
    with pytest.raises(ImageError, match="holds no file with a picture's stem"):
        plan_of(request)
    (truth / "cup.xml").write_text("<a/>")
    (truth / "a" / "cup.xml").write_text("<a/>")
    with pytest.raises(UsageError, match=r"cup.png' has several files of ground truth \("):
        plan_of(request)
    with pytest.raises(ImageError, match="does not exist; give the path of a folder of ground truth"):
        plan_of(replace(request, truth=tmp_path / "absent"))


def test_pictures_that_repeat_another_are_told_and_count(asked, tmp_path):
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(images.bundled_path("astronaut").read_bytes())
    (tmp_path / "3.png").write_bytes(images.bundled_path("coffee").read_bytes())
    plan = plan_of(replace(asked, dataset=tmp_path))
    assert len(plan.images) == 3
    assert plan.notes == ("1 picture repeats another ('2.png' is '1.png'); each file counts.",)
