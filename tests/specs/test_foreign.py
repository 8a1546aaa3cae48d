"""A file of another kind than wanted is named, with how to get the one that was meant, by every reader."""

import io
import zipfile

import numpy as np
import pytest
import torch

from quantviz import images
from quantviz.layerwise.bits_file import read_bits
from quantviz.networks.card import read_card
from quantviz.networks.checkpoint_file import tensors_of
from quantviz.networks.classes import names_of_file
from quantviz.networks.onnx_files import files
from quantviz.saliency.network import OnnxSaliency
from quantviz.specs import ImageError, QuantvizError, foreign
from quantviz.truth import read_boxes, read_fixations

PAGE = b"\xef\xbb\xbf\n<!doctype HTML>\n<html><head><title>404</title></head></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
DENIED = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'
MISSING = b'{"error":"Repository not found"}'


def saved(save, *arguments):
    held = io.BytesIO()
    save(held, *arguments)
    return held.getvalue()


def zipped(name):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr(name, b"")
    return held.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PAGE, "a web page"),
        (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x">', "a web page"),
        (b"<!-- moved --><html>", "a web page"),
        (POINTER, "a pointer of Git LFS"),
        (DENIED, "a server's error message in XML"),
        (MISSING, "a server's error message in JSON"),
        (b'{"a": 1}', "a JSON file"),
        (b"[[1, 2]]", "a JSON file"),
        (b"<?xml version='1.0'?><annotation/>", "an XML file"),
        (saved(np.save, np.zeros(3)), "a NumPy array (.npy)"),
        (saved(np.savez, np.zeros(3)), "an archive of NumPy arrays (.npz)"),
        (saved(lambda file: torch.save({"a": torch.zeros(1)}, file)), "a PyTorch checkpoint"),
        (zipped("photographs/a.jpg"), "an archive"),
        (b"\x1c\0\0\0TFL3\x14\0", "a TensorFlow Lite network"),
        (b"\x40\0\0\0\0\0\0\0{}", "a safetensors checkpoint"),
        (b"\x08\x08\x12\x07pytorch\x1a\x062.14.1:", "an ONNX file"),
        (b"\x08\n:z\n)\n\x01x", "an ONNX file"),
    ],
)
def test_what_a_file_is_shows_at_its_beginning(data, kind):
    assert foreign(data).kind == kind


def test_nothing_is_guessed():
    for data in (b"", b"x", b"image,x,y\n1,2,3\n", b"version 2\n", bytes(200), np.random.default_rng(1).bytes(400)):
        assert foreign(data) is None


READERS = {
    "a.jpg": images.load,
    "a.npy": images.read_map,
    "a.onnx": files.read,
    "saliency.onnx": OnnxSaliency,
    "a.safetensors": lambda path: tensors_of(path.read_bytes(), path.name, 1 << 20, "", [], []),
    "a.pth": lambda path: tensors_of(path.read_bytes(), path.name, 1 << 20, "", [], []),
    "a.csv": lambda path: read_boxes(path, (20, 30)),
    "a.xml": lambda path: read_boxes(path, (20, 30)),
    "a.mat": lambda path: read_fixations(path, (20, 30)),
    "classes.txt": names_of_file,
    "bits.json": lambda path: read_bits(path.read_bytes(), path.name, "squeezenet1_1"),
    "card.toml": read_card,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("data", "kind"), [(PAGE, "is a web page"), (POINTER, "is a pointer of Git LFS"), (DENIED, "is a server's error")]
)
def test_every_reader_names_a_page_and_a_pointer(tmp_path, name, data, kind):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(QuantvizError) as caught:
        READERS[name](path)
    told = str(caught.value)
    assert name in told
    assert kind in told
    assert "\n" not in told
    assert ("git lfs pull" if data is POINTER else "download the file itself") in told


def test_an_archive_of_arrays_is_no_mask(tmp_path):
    np.savez(tmp_path / "mask.npz", np.zeros((4, 5)))
    with pytest.raises(ImageError, match=r"is an archive of NumPy arrays \(\.npz\), not .*; save .* as an \.npy file"):
        images.read_map(tmp_path / "mask.npz")
