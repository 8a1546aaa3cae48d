"""Photographs that come along, folders of pictures, and maps that users supply."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images_support import encode, outcome
from PIL import Image

from quantviz import images
from quantviz.specs import ImageError, UsageError

RNG = np.random.default_rng(7)
NOISE = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)


# --- bundled photographs and folders


@pytest.mark.parametrize("name", images.BUNDLED)
def test_bundled_photographs_load(name):
    sample = images.bundled(name)
    assert sample.name == name
    assert sample.id == hashlib.sha256(images.bundled_path(name).read_bytes()).hexdigest()
    assert min(sample.rgb.shape[:2]) >= 256
    assert sample.rgb.std() > 20
    assert bool(sample.notes) == (name == "rocket")  # which is in Adobe RGB


def test_unknown_photograph_is_refused_with_the_names():
    with pytest.raises(UsageError, match="'lena' is not bundled; use one of astronaut, chelsea"):
        images.bundled("lena")


def test_photograph_of_a_missing_package_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "sklearn", raising=False)
    with pytest.raises(ImageError, match="'china' is missing because package 'sklearn'"):
        images.bundled("china")


def test_room_does_not_import_torch_or_the_packages_with_photographs(imported):
    code = "from quantviz import images; [images.bundled_path(name) for name in images.BUNDLED]"
    assert imported(code, "torch", "torchvision", "skimage", "sklearn", "matplotlib", "numpy") == ["numpy"]


def test_folder_lists_images_in_order(tmp_path):
    for name in ["b.PNG", "a/z.jpeg", "a.jpg", "notes.txt", ".hidden.png", ".git/x.png", "a/deep/y.tif"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in images.folder(tmp_path)]
    assert names == ["a.jpg", "a/deep/y.tif", "a/z.jpeg", "b.PNG"]
    assert len(images.folder(tmp_path, limit=2)) == 2


def test_links_to_folders_are_followed_once(tmp_path):
    for name in ("data/n01440764/1.jpg", "elsewhere/2.jpg", "elsewhere/deep/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    data = tmp_path / "data"
    (data / "a_copy").symlink_to(data / "n01440764")  # a folder goes by its own name
    (data / "n01496331").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(data)
    names = [path.relative_to(data).as_posix() for path in images.folder(data)]
    assert names == ["n01440764/1.jpg", "n01496331/2.jpg", "n01496331/deep/3.jpg"]


def test_a_folder_that_cannot_be_read_or_a_link_that_leads_nowhere_is_told(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(folder):  # as root may read everything
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refusing)
        with pytest.raises(ImageError, match=r"closed cannot be read \(Permission denied\), and its pictures would be"):
            images.folder(tmp_path)
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ImageError, match="lost leads nowhere"):
        images.folder(tmp_path)


def test_folder_errors(tmp_path):
    with pytest.raises(ImageError, match="holds no image file"):
        images.folder(tmp_path)
    with pytest.raises(ImageError, match="does not exist"):
        images.folder(tmp_path / "gone")
    (tmp_path / "x.png").touch()
    with pytest.raises(ImageError, match="is not a folder"):
        images.folder(tmp_path / "x.png")
    with pytest.raises(UsageError, match="limit of 0"):
        images.folder(tmp_path, limit=0)


# --- supplied maps


def array_file(values, **options):
    buffer = io.BytesIO()
    np.save(buffer, values, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", ["?", "u1", ">i2", "u8", "f2", "<f4", ">f8", "g"])
def test_array_maps_keep_their_values(dtype):
    values = (RNG.random((7, 9)) * 100).astype(dtype)
    got = images.read_map(array_file(values))
    assert got.dtype == np.float64
    assert np.array_equal(got, values.astype(np.float64))
    assert np.array_equal(images.read_map(array_file(np.asfortranarray(values))), got)


def test_array_written_by_python_2_is_read_in_silence(recwarn):
    warnings.simplefilter("always")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 3L), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + np.arange(6.0).tobytes()
    assert np.array_equal(images.read_map(data), np.arange(6.0).reshape(2, 3))
    assert not recwarn.list


def test_image_maps_keep_their_raw_levels():
    levels = RNG.integers(0, 65536, (20, 24)).astype(np.uint16)
    assert np.array_equal(images.read_map(encode(levels, "PNG")), levels)
    assert np.array_equal(images.read_map(encode(levels, "TIFF")), levels)
    eight = (levels >> 8).astype(np.uint8)
    for form in ("PNG", "TIFF", "BMP", "GIF"):
        assert np.array_equal(images.read_map(encode(eight, form)), eight)
    real = RNG.random((20, 24), dtype=np.float32)
    assert np.array_equal(images.read_map(encode(real, "TIFF")), real)
    assert np.array_equal(images.read_map(encode(eight > 128, "PNG")), eight > 128)
    assert np.array_equal(images.read_map(encode(np.dstack([eight] * 3), "PNG")), eight)
    assert images.read_map(encode(np.dstack([eight] * 3), "JPEG")).shape == (20, 24)
    assert images.read_map(encode(eight[:7, :7], "PNG")).shape == (7, 7)


def test_map_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    levels = RNG.integers(0, 256, (20, 24), dtype=np.uint8)
    assert np.array_equal(images.read_map(encode(levels, "PNG", exif=exif.tobytes())), levels[::-1].T)


def map_refused(source):
    with pytest.raises(ImageError) as caught:
        images.read_map(source, name="m")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_maps_that_are_refused(tmp_path):
    assert "colour image" in map_refused(encode(NOISE, "PNG"))
    assert "partly transparent" in map_refused(encode(np.zeros((20, 20, 4), np.uint8), "PNG"))
    assert "shape (2, 3, 4)" in map_refused(array_file(np.zeros((2, 3, 4))))
    assert "shape (0, 4)" in map_refused(array_file(np.zeros((0, 4))))
    assert "complex128" in map_refused(array_file(np.zeros((4, 4), complex)))
    assert "NaN or infinity" in map_refused(array_file(np.array([[1.0, np.nan]])))
    assert "NaN or infinity" in map_refused(array_file(np.array([[1, 10]], "g") ** 4000))
    assert "type object" in map_refused(array_file(np.array([[{}]]), allow_pickle=True))
    assert "shorter than its shape" in map_refused(array_file(np.zeros((9, 9)))[:-8])
    assert "damaged" in map_refused(array_file(np.zeros((9, 9)))[:40])
    assert "does not exist" in map_refused(tmp_path / "gone.npy")
    huge = array_file(np.zeros((1, 1))).replace(b"(1, 1), }    ", b"(10**5, 1)}   ")
    assert "damaged" in map_refused(huge)
    lying = array_file(np.zeros((1, 1))).replace(b"(1, 1), }              ", b"(1000000, 1000000), }  ")
    assert "shorter than its shape (1000000, 1000000)" in map_refused(lying)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 140), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutated_arrays_give_a_map_or_an_image_error(changes):
    data = bytearray(array_file(np.ones((4, 5), np.float32)))
    for at, value in changes:
        data[at] = value
    assert isinstance(outcome(images.read_map, bytes(data)), np.ndarray | str)
