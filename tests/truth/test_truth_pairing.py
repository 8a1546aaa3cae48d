"""Which ground truth belongs to which picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantviz import truth
from quantviz.specs import ImageError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def relative(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_images_are_paired_by_stem(tmp_path):
    touch(tmp_path, "a.png", "deep/er/b.mat", "ILSVRC2012_val_00000001.xml", "Extra.CSV", ".hidden.png", "notes.md")
    pictures = [Path(name) for name in ("x/ILSVRC2012_val_00000001.JPEG", "b.jpg", "a.jpeg", "c.png", "a.jpeg")]
    found = truth.pair(pictures, tmp_path)
    assert [(image.name, file.relative_to(tmp_path).as_posix()) for image, file in found.pairs] == [
        ("a.jpeg", "a.png"),
        ("b.jpg", "deep/er/b.mat"),
        ("ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000001.xml"),
    ]
    assert found.images_without_truth == (Path("c.png"),)
    assert relative(found.truths_without_image, tmp_path) == ["Extra.CSV"]
    assert found.ambiguous == ()


def test_case_must_agree_where_it_can(tmp_path):
    touch(tmp_path, "a.png", "A.mat", "b.csv")
    found = truth.pair([Path("A.jpg"), Path("a.jpg"), Path("B.jpg")], tmp_path)
    assert [(image.name, file.name) for image, file in found.pairs] == [
        ("A.jpg", "A.mat"),
        ("B.jpg", "b.csv"),
        ("a.jpg", "a.png"),
    ]


def test_folders_decide_where_stems_repeat(tmp_path):
    touch(tmp_path, "Action/001.mat", "Indoor/001.mat", "Sketch/001.mat")
    pictures = [Path("stimuli/Action/001.jpg"), Path("stimuli/Indoor/001.jpg"), Path("stimuli/Art/001.jpg")]
    found = truth.pair(pictures[:2], tmp_path)
    assert [(i.parent.name, f.parent.name) for i, f in found.pairs] == [("Action", "Action"), ("Indoor", "Indoor")]
    assert relative(found.truths_without_image, tmp_path) == ["Sketch/001.mat"]
    found = truth.pair(pictures, tmp_path)
    assert len(found.pairs) == 2
    assert [(image, relative(files, tmp_path)) for image, files in found.ambiguous] == [
        (pictures[2], ["Sketch/001.mat"])
    ]
    assert found.truths_without_image == ()


def test_what_folders_do_not_tell_apart_is_ambiguous(tmp_path):
    touch(tmp_path, "001.png", "002.csv", "002.mat")
    pictures = [Path("a/001.jpg"), Path("b/001.jpg"), Path("c/002.jpg")]
    found = truth.pair(pictures, tmp_path)
    assert found.pairs == found.images_without_truth == found.truths_without_image == ()
    assert [(image, relative(files, tmp_path)) for image, files in found.ambiguous] == [
        (pictures[0], ["001.png"]),
        (pictures[1], ["001.png"]),
        (pictures[2], ["002.csv", "002.mat"]),
    ]


def test_folders_that_are_refused(tmp_path):
    for path, what in ((tmp_path / "gone", "does not exist"), (tmp_path, "holds no ground truth")):
        with pytest.raises(ImageError, match=what):
            truth.pair([Path("a.png")], path)
    touch(tmp_path, "a.png")
    with pytest.raises(ImageError, match="is not a folder"):
        truth.pair([Path("a.png")], tmp_path / "a.png")


def test_ten_thousand_images_are_paired_at_once(tmp_path, effort):
    names = [f"{i:05d}" for i in range(10_000)]
    for name in names[::10]:
        (tmp_path / f"{name}.png").touch()
    found = []
    assert effort(lambda: found.append(truth.pair([Path(f"{name}.jpg") for name in names], tmp_path))) < 60
    assert len(found[0].pairs) == 1000
