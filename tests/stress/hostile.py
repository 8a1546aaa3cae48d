"""Files that strangers might send: generated, mutated and handmade; each a kind that says which reader takes it."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import scipy.io
from PIL import Image

File = tuple[str, bytes]
"""A kind, the key of a reader, and the bytes."""

_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def pictures(chance: random.Random, count: int, *, large: bool = True) -> Iterator[File]:
    """Yield pictures: the handmade ones first, unless they are not wanted, then mutated ones."""
    made = list(picture_bombs()) if large else [("map", pickled_npy())]
    yield from made[:count]
    seeds = [*_picture_seeds()]
    for _ in range(count - len(made)):
        yield chance.choice(("picture", "map")), mutated(chance, chance.choice(seeds), seeds)


def others(chance: random.Random, count: int, *, large: bool = True) -> Iterator[File]:
    """Yield other files, as ``pictures`` does."""
    made = [*traps(), *(other_bombs() if large else ())]
    yield from made[:count]
    seeds = list(_other_seeds())
    texts = [data for _, data in seeds]
    for _ in range(count - len(made)):
        kind, data = chance.choice(seeds)
        yield kind, mutated(chance, data, texts)


def mutated(chance: random.Random, data: bytes, seeds: list[bytes]) -> bytes:
    """Return bytes with some changes of the kinds that find mistakes in parsers; headers are hit more often."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        if len(changed) < 16:
            break
        top = min(160, len(changed) - 4) if chance.random() < 0.6 else len(changed) - 4
        at = chance.randrange(top)
        way = chance.randrange(7)
        if way == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif way == 1:
            value = chance.choice(_INTERESTING)
            changed[at : at + 4] = struct.pack(chance.choice(("<I", ">I")), value)
        elif way == 2:
            changed[at : at + 2] = struct.pack(chance.choice(("<H", ">H")), chance.choice(_INTERESTING) & 0xFFFF)
        elif way == 3:
            del changed[at : at + chance.randint(1, 64)]
        elif way == 4:
            changed[at:at] = changed[at : at + chance.randint(1, 200)] * chance.randint(1, 50)
        elif way == 5:
            other = chance.choice(seeds)
            start = chance.randrange(len(other))
            changed[at : at + 100] = other[start : start + 100]
        else:
            del changed[at:]
    return bytes(changed)


def _encoded(form: str, picture: Image.Image, **options: object) -> bytes:
    held = io.BytesIO()
    picture.save(held, form, **options)
    return held.getvalue()


def _picture_seeds() -> Iterator[bytes]:
    values = np.random.default_rng(1).integers(0, 255, (48, 64, 4), np.uint8)
    values[10:30, 10:40] = 200
    rgb = Image.fromarray(values[..., :3])
    for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK", "I;16"):
        picture = rgb.convert("L").convert("I;16") if mode == "I;16" else rgb.convert(mode)
        for form in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"):
            try:
                yield _encoded(form, picture)
            except (OSError, ValueError):  # a format that has no such mode
                continue
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "group4", "jpeg"):
        yield _encoded("TIFF", rgb.convert("1") if packing == "group4" else rgb, compression=packing)
    exif = rgb.getexif()
    exif[0x0112] = 6
    yield _encoded("JPEG", rgb, progressive=True, exif=exif)
    yield _encoded("WEBP", rgb, lossless=True)
    yield _encoded("GIF", rgb, save_all=True, append_images=[rgb.rotate(90)])
    yield _encoded("PNG", rgb, save_all=True, append_images=[rgb.rotate(90)])
    held = io.BytesIO()
    np.save(held, values[..., 0].astype(np.float32))
    yield held.getvalue()


def picture_bombs() -> Iterator[File]:
    """Yield small files that take much, one of each kind that was found."""
    big = Image.new("RGB", (7000, 7000), (9, 80, 7))
    yield "picture", _encoded("WEBP", big, lossless=True)
    yield "picture", _encoded("PNG", big, compress_level=9)
    yield "picture", _encoded("GIF", big.convert("P"))
    yield "picture", _encoded("TIFF", big, compression="tiff_adobe_deflate")
    yield "picture", _encoded("JPEG", big, quality=10)
    yield "map", _encoded("PNG", Image.new("I;16", (3900, 4000)))
    small = Image.new("RGB", (1000, 1000))
    data = _encoded("JPEG", small, progressive=True)
    last = data.rindex(b"\xff\xda")
    yield "picture", data[:last] + data[last:-2] * 2000 + data[-2:]
    data = _encoded("JPEG", big.resize((5000, 5000)), progressive=True)
    last = data.rindex(b"\xff\xda")
    yield "picture", data[:last] + data[last:-2] * 2000 + data[-2:]
    yield "picture", b"\xff\xd8" + b"\xff" * (60 << 20) + data[2:]
    yield "picture", data[:-2] + b"\xff" * (60 << 20) + data[-2:]
    yield "picture", b"\xff\xd8" + b"\xff\xfe\0\2" * (14 << 20) + data[2:]
    png = _encoded("PNG", small)
    chunk = struct.pack(">I", 0) + b"teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    yield "picture", png[:33] + chunk * 5_000_000 + png[33:]
    text = zlib.compress(b"A" * (60 << 20))
    packed = b"zTXt" + b"Comment\0\0" + text
    yield "picture", png[:33] + struct.pack(">I", len(packed) - 4) + packed + bytes(4) + png[33:]
    gif = _encoded("GIF", small.convert("P"))
    head = 13 + (3 << ((gif[10] & 7) + 1) if gif[10] & 0x80 else 0)
    yield "picture", gif[:head] + b"\x21\xfe" + b"\x01a" * 20_000_000 + b"\0" + gif[head:]
    yield "picture", gif[:head] + b"\x21\xfe\x01a\0" * 10_000_000 + gif[head:]
    body = b"\x01\x02" * 25_000_000 + b"\0\1"
    info = struct.pack("<IiiHHIIiiII", 40, 5000, 5000, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 54 + 1024
    yield "picture", b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + bytes(1024) + body
    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(held, {"descr": "<f8", "fortran_order": False, "shape": (1 << 30, 1 << 30)})
    yield "map", held.getvalue()
    yield "map", pickled_npy()


class Executed:
    """Its unpickling would leave a mark."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Return what unpickling would call."""
        return exec, ("open('executed', 'w').close()",)


def pickled_npy() -> bytes:
    """Return an .npy file of an object whose unpickling would leave a mark."""
    held = io.BytesIO()
    np.save(held, np.array([Executed()], dtype=object), allow_pickle=True)
    return held.getvalue()


def _other_seeds() -> Iterator[File]:
    yield "fixations", b"x,y,image\n10.5,20,cat.jpg\n30,40,cat.jpg\n50,60,cat.jpg\n"
    yield "fixations", b"10;20\n30,5;40\n"
    yield "boxes", b"x0,y0,x1,y1\n10,20,100,200\n5,6,70,80\n"
    yield "boxes", b"ImageId,PredictionString\ncat,n01440764 111 108 407 359\n"
    box = "<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>100</xmax><ymax>200</ymax></bndbox>"
    xml = f"<annotation><folder>VOC</folder><object><name>n01440764</name>{box}</object></annotation>".encode()
    yield "boxes", xml
    yield "synset", xml
    held = io.BytesIO()
    scipy.io.savemat(held, {"fixations": np.array([[10.0, 20.0], [30.0, 40.0]])}, do_compression=True)
    yield "fixations", held.getvalue()
    held = io.BytesIO()
    scipy.io.savemat(held, {"gaze": np.array([(np.ones((3, 2)),)], dtype=[("fixations", "O")])})
    yield "fixations", held.getvalue()
    bits = {"format": "quantviz bits 1", "model": "squeezenet1_1", "scheme": "standard", "ranges": "minmax"}
    yield "bits", json.dumps({**bits, "default": "W8A8", "layers": {"features.0": "W4A8"}}).encode()
    yield "attribution", json.dumps({"model": "squeezenet1_1", "share": {"a": 1.0}, "paper": 0.5}).encode()
    yield (
        "card",
        b'name = "mine"\nmodel = "squeezenet1_1"\n[input]\norder = "BGR"\n[[variants]]\nname = "W4"\nbits = "W4A8"\n',
    )
    yield "labels", b"file,label\ncat.jpg,0\ndog.jpg,1\n"
    yield "classes", b"cat\ndog\n"
    yield "weights", safetensors_of({"a": [2, 2], "b": [3]})
    yield "weights", torch_archive()
    yield "weights", b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s."
    yield "plan", shipped("plan.json")
    yield "rows", shipped("results.parquet")
    yield "bundle", small_bundle()


def safetensors_of(shapes: dict[str, list[int]]) -> bytes:
    """Return a safetensors file of zeros."""
    at, header = 0, {}
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(at)


def torch_archive() -> bytes:
    """Return a small checkpoint as ``torch.save`` writes it."""
    import torch

    held = io.BytesIO()
    torch.save({"state_dict": {"a": torch.ones(2, 2), "b": torch.zeros(3)}}, held)
    return held.getvalue()


def shipped(name: str) -> bytes:
    """Return a file of the study that comes with quantviz."""
    from quantviz.study.shipped import shipped_studies

    return (next(iter(shipped_studies().values())) / name).read_bytes()


def small_bundle() -> bytes:
    """Return a zip file with the parts of a bundle, none of them whole."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("MANIFEST", "README.txt", "plan.json", "versions.json", "images.csv", "results.parquet"):
            file.writestr(name, b"x" * 100)
        file.writestr("summary.json", b"{}")
        file.writestr("summary.csv", b"a\n")
    return held.getvalue()


def traps() -> Iterator[File]:
    """Yield small files that reach for more than themselves, or would have something run."""
    laughs = b"".join(b'<!ENTITY e%d "&e%d;&e%d;">' % (n + 1, n, n) for n in range(40))
    yield "boxes", b'<!DOCTYPE a [<!ENTITY e0 "ha">' + laughs + b"]><annotation>&e40;</annotation>"
    yield "boxes", b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;</annotation>'
    yield "weights", pickle.dumps(Executed())
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle.dumps(Executed()))
        file.writestr("archive/version", b"3\n")
    yield "weights", held.getvalue()
    yield "card", b'model = "squeezenet1_1"\nweights = "/etc/passwd"\n'
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("../../outside", "/tmp/outside", "plan.json"):
            file.writestr(name, b"x")
    yield "bundle", held.getvalue()


def other_bombs() -> Iterator[File]:
    """Yield other files that take much, one of each kind that was found."""
    yield "bits", json.dumps({"layers": {f"layer.{number}": 8 for number in range(50_000)}}).encode()[: 1 << 20]
    yield "bits", b"[" * (1 << 20)
    yield "bits", b'{"format": "quantviz bits 1", "default": 1e999}'
    yield "bits", b"1" * (1 << 20)
    yield "fixations", b"x,y\n" + b"1,2\n" * 4_000_000
    yield "fixations", b"x,y\n" + b"1.5,2.5\n" * 299_000
    yield "fixations", b'x,y\n"' + b"1" * (15 << 20)
    yield "fixations", b",".join([b"x"] * 3_000_000)
    yield "boxes", b"x0,y0,x1,y1\n" + b"1,2,30,40\n" * 299_000
    yield "boxes", b"<a>" * 300_000
    yield "boxes", b"<annotation>" + b"<object/>" * 110_000 + b"</annotation>"
    mat = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    packed = zlib.compress(bytes(200 << 20), 9)
    yield "fixations", mat + struct.pack("<II", 15, len(packed)) + packed
    cell = struct.pack("<IIIIII", 6, 8, 1, 0, 5, 8) + struct.pack("<ii", 1, 400_000) + struct.pack("<IIII", 1, 1, 97, 0)
    body = cell + struct.pack("<II", 14, 0) * 400_000
    yield "fixations", mat + struct.pack("<II", 14, len(body)) + body
    yield "weights", safetensors_of({f"t{number}": [0] for number in range(300_000)})
    yield "weights", b"\x80\x02" + b"N0" * (20 << 20) + b"N."
    yield "weights", b"\x80\x02" + b"]" * (4 << 20) + b"."
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"]" * (60 << 20))
    yield "weights", held.getvalue()
    yield "card", b"x = " + b"[" * 100_000
    yield "card", b'x = """' + b"\n" * 500_000 + b'"""\nmodel = 1\n'
    yield "card", b"".join(b"[a%d]\n" % number for number in range(60_000))
    yield "labels", b"file,label\n" + b"cat.jpg,0\n" * 400_000
    yield "classes", b"a\n" * (1 << 20)
    yield "plan", b'{"format": 1, "models": ' + b"[" * 900 + b"]" * 900 + b"}"
    yield "plan", b"{" * (1 << 20)
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("MANIFEST", "README.txt", "plan.json", "versions.json", "images.csv", "summary.json"):
            file.writestr(name, bytes(100 << 20))
        file.writestr("results.parquet", b"PAR1")
        file.writestr("summary.csv", b"")
    yield "bundle", held.getvalue()
