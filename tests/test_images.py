"""Pictures and maps from untrusted files, and the crop's geometry. Every file is built here, byte by byte."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from quantviz import images
from quantviz.specs import ImageError, ImageSample, Preprocessing, UsageError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RNG = np.random.default_rng(7)
NOISE = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)


def prep(resize=256, crop=224, interpolation="bilinear"):
    return Preprocessing(resize, crop, interpolation, MEAN, STD)


def encode(picture, form, **options):
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, form, **options)
    return buffer.getvalue()


def png(width, height, depth, colour, rows, *chunks):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = b"".join(chunk(*extra) for extra in chunks) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def png_rows(samples, depth):
    """Filter-less PNG rows of integer samples (h, w * channels)."""
    if depth == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    bits = (samples[..., None] >> np.arange(depth)[::-1]) & 1
    return b"".join(b"\0" + np.packbits(row.reshape(-1)).tobytes() for row in bits.astype(np.uint8))


def tiff(width, height, bits, photometric, pixels, *more):
    """A little-endian TIFF of one uncompressed strip, its tags given as (tag, type, value)."""
    samples = 1
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, None)]
    tags += [(277, 3, samples), (278, 3, height), (279, 4, len(pixels)), *more]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", t, k, 1, start if v is None else v) for t, k, v in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + pixels


# --- what is taken


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF"])
def test_lossless_formats_give_their_pixels_and_no_note(form):
    data = encode(NOISE, form, **({"lossless": True} if form == "WEBP" else {}))
    sample = images.load(data, name="x")
    assert np.array_equal(sample.rgb, NOISE)
    assert (sample.id, sample.name, sample.notes) == (hashlib.sha256(data).hexdigest(), "x", ())
    assert sample.rgb.dtype == np.uint8
    assert not sample.rgb.flags.writeable


def test_path_gives_its_name_and_the_same_as_its_bytes(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(encode(NOISE, "JPEG"))
    sample, other = images.load(path), images.load(path.read_bytes())
    assert sample.name == "picture.jpg"
    assert sample.id == other.id
    assert np.array_equal(sample.rgb, other.rgb)


def test_digest_is_the_samples_id_and_meets_the_same_checks(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(encode(NOISE, "PNG"))
    assert images.digest(path) == images.digest(path.read_bytes()) == images.load(path).id
    with pytest.raises(ImageError, match="does not exist"):
        images.digest(tmp_path / "gone.npy")


def test_content_decides_the_format_not_the_suffix(tmp_path):
    path = tmp_path / "really.jpg"
    path.write_bytes(encode(NOISE, "PNG"))
    assert np.array_equal(images.load(path).rgb, NOISE)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_orientation_is_applied_exactly(form, tag):
    exif = Image.Exif()
    exif[0x0112] = tag
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode(NOISE, form, exif=exif.tobytes(), **options)
    sample = images.load(data)
    with Image.open(io.BytesIO(encode(NOISE, form, **options))) as plain:
        stored = np.asarray(plain.convert("RGB"))
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: stored[::-1].transpose(1, 0, 2),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: stored[:, ::-1].transpose(1, 0, 2),
    }[tag]
    assert np.array_equal(sample.rgb, upright)
    with Image.open(io.BytesIO(data)) as opened:
        assert np.array_equal(sample.rgb, np.asarray(ImageOps.exif_transpose(opened).convert("RGB")))
    assert ("turned upright by its orientation tag" in sample.notes) == (tag != 1)


JUNK = [b"", b"garbage!", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"]


@pytest.mark.parametrize("junk", [b"Exif\0\0" + junk for junk in JUNK])
def test_junk_exif_leaves_the_picture(junk):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.load(encode(NOISE, "PNG", exif=junk)).rgb.shape == NOISE.shape
        assert images.load(encode(NOISE, "JPEG", exif=junk)).rgb.shape == NOISE.shape


def test_alpha_is_composited_on_white():
    rgba = np.dstack([NOISE, RNG.integers(0, 256, NOISE.shape[:2], dtype=np.uint8)])
    alpha = rgba[..., 3:] / 255.0
    expected = NOISE * alpha + 255 * (1 - alpha)
    for form in ("PNG", "TIFF"):
        sample = images.load(encode(rgba, form))
        assert np.abs(sample.rgb - expected).max() <= 1.0
        assert sample.notes == ("transparency composited on white",)
    la = rgba[..., [0, 3]]
    expected = la[..., :1] * alpha + 255 * (1 - alpha)
    for form in ("PNG", "TIFF"):
        assert np.abs(images.load(encode(Image.fromarray(la, "LA"), form)).rgb - expected).max() <= 1.0


def test_opaque_alpha_changes_nothing_and_is_not_noted():
    sample = images.load(encode(np.dstack([NOISE, np.full(NOISE.shape[:2], 255, np.uint8)]), "PNG"))
    assert np.array_equal(sample.rgb, NOISE)
    assert sample.notes == ()


def test_premultiplied_grey_tiff():
    pixels = np.tile(np.array([50, 100], np.uint8), 20 * 20).tobytes()  # level 50 of at most 100
    tags = [(256, 3, 1, 20), (257, 3, 1, 20), (258, 3, 2, 8 | 8 << 16), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8 + 2 + 12 * 10 + 4), (277, 3, 1, 2), (278, 3, 1, 20), (279, 4, 1, 800), (338, 3, 1, 1)]
    data = (
        b"II*\0" + struct.pack("<IH", 8, 10) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4) + pixels
    )
    expected = 50 + 255 * (1 - 100 / 255)
    assert np.abs(images.load(data).rgb.astype(float) - expected).max() <= 1.5


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_palette_transparency(form):
    indices = np.arange(20 * 20, dtype=np.uint8).reshape(20, 20) % 3
    picture = Image.fromarray(indices, "P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    sample = images.load(encode(picture, form, transparency=1))
    colours = np.array([[255, 0, 0], [255, 255, 255], [0, 0, 255]], np.uint8)
    assert np.array_equal(sample.rgb, colours[indices])
    assert "transparency composited on white" in sample.notes


def test_palette_with_several_alphas():
    indices = np.arange(400, dtype=np.uint8).reshape(20, 20) % 2
    picture = Image.fromarray(indices, "P")
    picture.putpalette([255, 0, 0, 0, 0, 0])
    sample = images.load(encode(picture, "PNG", transparency=bytes([255, 51])))
    assert np.array_equal(sample.rgb, np.array([[255, 0, 0], [204, 204, 204]], np.uint8)[indices])


@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)])
def test_transparent_colour_of_png(depth, colour):
    channels = 3 if colour == 2 else 1
    full = 2**depth - 1
    low, clear = full // 3, full - 1 if depth > 1 else full
    levels = np.where(np.arange(20 * 20).reshape(20, 20) % 2, clear, low)
    rows = png_rows(np.repeat(levels, channels, axis=1), depth)
    key = struct.pack(f">{channels}H", *[clear] * channels)
    sample = images.load(png(20, 20, depth, colour, rows, (b"tRNS", key)))
    assert (sample.rgb[levels == clear] == 255).all()
    assert np.abs(sample.rgb[levels == low].astype(float) - low * 255 / full).max() <= 1.0


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_use_the_full_range(depth):
    levels = np.arange(20 * 24).reshape(20, 24) % 2**depth
    sample = images.load(png(24, 20, depth, 0, png_rows(levels, depth)))
    assert np.array_equal(sample.rgb[..., 0], levels * 255 // (2**depth - 1))


@pytest.mark.parametrize("kind", ["png", "tiff", "tiff big-endian", "tiff 32-bit"])
def test_16_bit_grey_is_scaled_by_its_full_range(kind):
    levels = np.linspace(0, 65535, 20 * 24).round().astype(np.uint16).reshape(20, 24)
    if kind == "png":
        data = encode(levels, "PNG")
    elif kind == "tiff":
        data = encode(levels, "TIFF")
    elif kind == "tiff 32-bit":
        data = encode(levels.astype(np.int32), "TIFF")
    else:
        data = encode(Image.frombytes("I;16B", (24, 20), levels.astype(">u2").tobytes()), "TIFF")
    sample = images.load(data)
    assert np.array_equal(sample.rgb, np.repeat(np.round(levels / 257.0).astype(np.uint8)[..., None], 3, axis=2))
    assert sample.notes == ("16-bit grey scaled to 8 bits",)


def test_16_bit_grey_whose_zero_is_white():
    levels = np.linspace(0, 65535, 400).round().astype("<u2").reshape(20, 20)
    sample = images.load(tiff(20, 20, 16, 0, levels.tobytes()))
    assert np.array_equal(sample.rgb[..., 0], np.round((65535 - levels) / 257.0).astype(np.uint8))


def test_12_bit_grey_is_scaled_by_its_full_range():
    levels = np.linspace(0, 4095, 400).round().astype(np.uint16).reshape(20, 20)
    bits = ((levels[..., None] >> np.arange(12)[::-1]) & 1).astype(np.uint8)
    sample = images.load(tiff(20, 20, 12, 1, np.packbits(bits.reshape(20, -1), axis=1).tobytes()))
    assert np.abs(sample.rgb[..., 0] - levels / 4095 * 255).max() <= 0.51


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_16_bit_colour_png_is_right_to_one_level(colour, channels):
    levels = RNG.integers(0, 65536, (20, 24, channels))
    if channels in (2, 4):
        levels[..., -1] = 65535
    sample = images.load(png(24, 20, 16, colour, png_rows(levels.reshape(20, -1), 16)))
    expected = levels[..., :3] if channels > 2 else levels[..., :1]
    assert np.abs(sample.rgb - expected / 257.0).max() <= 1.0
    assert sample.notes == ("16-bit colour reduced to 8 bits",)


def test_cmyk_jpeg_has_the_right_colours():
    inks = {
        (0, 0, 0, 0): (255, 255, 255),
        (255, 0, 0, 0): (0, 255, 255),
        (0, 255, 255, 0): (255, 0, 0),
        (0, 0, 0, 255): (0, 0, 0),
    }
    for ink, colour in inks.items():
        data = encode(Image.new("CMYK", (32, 32), ink), "JPEG", quality=95)
        assert b"Adobe" in data
        sample = images.load(data)
        assert np.abs(sample.rgb.astype(int) - colour).max() <= 2, ink
        assert sample.notes == ("converted from CMYK",)
    assert (images.load(encode(Image.new("CMYK", (32, 32), (255, 0, 0, 0)), "TIFF")).rgb == (0, 255, 255)).all()


def test_ycck_jpeg_has_the_right_colours():
    # Adobe stores inverted inks; with transform 2 those are Y, Cb, Cr of (255 - C, ...), and K as it is.
    red, green, blue, black = 200, 40, 90, 230
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    stored = (luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402, black)
    picture = Image.new("CMYK", (32, 32), tuple(255 - round(value) for value in stored))
    data = encode(picture, "JPEG", quality=100, subsampling=0)
    at = data.index(b"Adobe") + 11
    assert data[at] == 0
    sample = images.load(data[:at] + b"\x02" + data[at + 1 :])
    # The decoder turns R, G, B back into stored inks 255 - R, ...; an inverted ink c shows as light c * k / 255.
    expected = np.array([255 - red, 255 - green, 255 - blue]) * black / 255
    assert np.abs(sample.rgb - expected).max() <= 4


def test_lab_tiff_is_read_with_its_d50_white():
    rgb = np.array([[200, 30, 40], [60, 170, 90], [128, 128, 128], [220, 200, 60]])
    linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    to_xyz_d50 = np.array(
        [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
    )
    xyz = linear @ to_xyz_d50.T / [0.96422, 1.0, 0.82521]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    lab = np.stack([(116 * f[:, 1] - 16) * 2.55, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    stored = np.repeat(lab.round().astype(np.int16).astype(np.uint8)[None], 20, axis=0).repeat(6, axis=1)
    sample = images.load(encode(Image.frombytes("LAB", (24, 20), stored.tobytes()), "TIFF"))
    assert np.abs(sample.rgb[0, ::6].astype(int) - rgb).max() <= 6
    assert sample.notes == ("converted from LAB",)


@pytest.mark.parametrize("mode", ["1", "L", "P", "YCbCr"])
def test_other_modes_of_tiff(mode):
    picture = Image.fromarray(NOISE).convert(mode)
    sample = images.load(encode(picture, "TIFF"))
    assert np.array_equal(sample.rgb, np.asarray(picture.convert("RGB")))
    assert sample.notes == ()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_is_taken(form):
    frames = [Image.new("RGB", (40, 24), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    data = encode(
        frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
    )
    sample = images.load(data)
    assert (sample.rgb == (255, 0, 0)).all()
    assert sample.notes == ("first of several frames or pages taken",)


def test_damage_in_a_later_gif_frame_leaves_the_first():
    frames = [Image.fromarray(RNG.integers(0, 256, (24, 40), dtype=np.uint8)) for _ in range(3)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    sample = images.load(data[: len(data) - 700])
    assert np.array_equal(sample.rgb[..., 0], np.asarray(frames[0]))


def test_profile_that_is_not_srgb_is_noted():
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert images.load(encode(NOISE, "PNG", icc_profile=srgb)).notes == ()
    (note,) = images.load(encode(NOISE, "PNG", icc_profile=b"Adobe RGB" * 20)).notes
    assert note == "its colour profile was not applied, its values were taken as sRGB"


# --- what is refused


def refused(data, **options):
    with pytest.raises(ImageError) as caught:
        images.load(data, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(form, part):
    data = encode(RNG.integers(0, 256, (80, 90, 3), dtype=np.uint8), form)
    assert "x.img" in refused(data[: int(len(data) * part)], name="x.img")


def test_damage_inside_a_png_is_refused():
    data = bytearray(encode(RNG.integers(0, 256, (80, 90, 3), dtype=np.uint8), "PNG"))
    data[len(data) // 2] ^= 0xFF
    refused(bytes(data))


def test_tiff_with_compression_is_read_and_its_truncation_refused():
    data = encode(NOISE, "TIFF", compression="tiff_lzw")
    assert np.array_equal(images.load(data).rgb, NOISE)
    refused(data[: len(data) // 2])


SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='90' height='90'/>"


@pytest.mark.parametrize("data", [b"text in a file named .jpg", SVG, b"%PDF-1.7\n", b"\0" * 5000, b"\xff\xd8\xff"])
def test_what_is_no_image_is_refused(data, tmp_path):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(data)
    message = refused(path)
    assert message.startswith("holiday.jpg is ")
    assert "PNG, JPEG" in message


def test_other_formats_that_pillow_knows_are_refused():
    assert "not an image of a supported format" in refused(encode(NOISE, "PPM"))
    assert "not an image of a supported format" in refused(encode(NOISE, "TGA"))


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "none.png").touch()
    assert "none.png is empty (0 bytes)" in refused(tmp_path / "none.png")
    assert "empty" in refused(b"")


def test_huge_picture_is_refused_before_it_is_decoded():
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(12_001)) for _ in range(12_000)) + rows.flush()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 8, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    assert len(data) < 200_000
    assert "12000 x 12000 pixels, more than the 50 million allowed" in refused(data)


def test_more_pixels_than_pillow_opens_are_refused():
    assert "900000000 pixels, more than the 50 million" in refused(png(30_000, 30_000, 8, 0, b""))


def test_pillows_warnings_stay_off_standard_error(recwarn):
    warnings.simplefilter("always")
    refused(png(12_000, 12_000, 8, 0, b""))
    assert not recwarn.list
    warnings.warn("others still show", UserWarning, stackwith := 1)
    assert len(recwarn.list) == stackwith


def test_too_many_bytes_are_refused(tmp_path):
    path = tmp_path / "large.bmp"
    with open(path, "wb") as file:
        file.truncate(images.MAX_BYTES + 2**20)
    assert "large.bmp has 65.0 MiB, more than the 64 MiB allowed" in refused(path)
    assert "65.0 MiB" in refused(bytes(images.MAX_BYTES + 2**20))


def test_small_and_narrow_pictures_are_refused():
    assert "15 x 40 pixels" in refused(encode(Image.new("RGB", (15, 40)), "PNG"))
    assert images.load(encode(Image.new("RGB", (16, 16)), "PNG")).rgb.shape == (16, 16, 3)
    assert "16 x 801 pixels" in refused(encode(Image.new("RGB", (16, 801)), "PNG"))
    assert images.load(encode(Image.new("RGB", (16, 800)), "PNG")).rgb.shape == (800, 16, 3)


def test_values_without_a_range_are_refused():
    assert "floating-point" in refused(encode(np.zeros((20, 20), np.float32), "TIFF"))
    assert "from -1 to 70000" in refused(encode(np.tile(np.int32([-1, 70_000]), (20, 10)), "TIFF"))


def test_paths_that_cannot_be_read_are_refused(tmp_path):
    assert "does not exist" in refused(tmp_path / "gone.png")
    assert "is a folder" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path / ("x" * 300))
    assert "cannot be read" in refused(tmp_path / "a\0b")
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in refused(tmp_path / "pipe.png")
    locked = tmp_path / "locked.png"
    locked.write_bytes(encode(NOISE, "PNG"))
    locked.chmod(0)
    if os.geteuid() != 0:
        assert "Permission denied" in refused(locked)


SEEDS = [
    encode(NOISE, "PNG"),
    encode(NOISE, "JPEG"),
    encode(NOISE, "GIF"),
    encode(NOISE, "WEBP"),
    encode(NOISE, "TIFF"),
    encode(NOISE, "TIFF", compression="tiff_lzw"),
    encode(NOISE, "BMP"),
    encode(Image.new("CMYK", (20, 20)), "JPEG"),
    encode(Image.fromarray(NOISE), "GIF", save_all=True, append_images=[Image.new("RGB", (40, 24))]),
    encode(np.zeros((20, 20), np.uint16), "PNG"),
]


def outcome(read, data):
    """What was read, or the message of the ImageError that was raised; any other exception passes."""
    try:
        return read(data)
    except ImageError as error:
        return str(error)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_files_give_a_picture_or_an_image_error(data):
    seed = bytearray(data.draw(st.sampled_from(SEEDS)))
    # Headers decide most of what a parser does, so they are hit more often.
    place = st.one_of(st.integers(0, min(150, len(seed) - 1)), st.integers(0, len(seed) - 1))
    for at, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=8)):
        seed[at] = value
    if data.draw(st.booleans()):
        del seed[data.draw(place) :]
    assert isinstance(outcome(images.load, bytes(seed)), ImageSample | str)
    assert isinstance(outcome(images.read_map, bytes(seed)), np.ndarray | str)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data):
    for read in (images.load, images.read_map):
        with pytest.raises(ImageError):
            read(data)


def test_threads_give_the_same_as_one():
    expected = [images.load(data).rgb for data in SEEDS]
    wrong: list[str] = []

    def work():
        for _ in range(20):
            for data, rgb in zip(SEEDS, expected, strict=True):
                if not np.array_equal(images.load(data).rgb, rgb):
                    wrong.append("differs")
                try:
                    images.load(data[:30])
                    wrong.append("taken")
                except ImageError:
                    pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(warnings.filters) == len(set(warnings.filters))


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


def test_room_does_not_import_torch_or_the_packages_with_photographs():
    import subprocess

    code = (
        "import sys; from quantviz import images; [images.bundled_path(n) for n in images.BUNDLED];"
        "print(*{m.split('.')[0] for m in sys.modules} & {'torch', 'torchvision', 'skimage', 'sklearn', 'matplotlib'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_folder_lists_images_in_order(tmp_path):
    for name in ["b.PNG", "a/z.jpeg", "a.jpg", "notes.txt", ".hidden.png", ".git/x.png", "a/deep/y.tif"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in images.folder(tmp_path)]
    assert names == ["a.jpg", "a/deep/y.tif", "a/z.jpeg", "b.PNG"]
    assert len(images.folder(tmp_path, limit=2)) == 2


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


# --- geometry

SIZES = [(500, 375), (333, 500), (257, 255), (256, 256), (224, 224), (225, 231), (1023, 767)]
SIZES += [(16, 16), (17, 300), (801, 16), (97, 241)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (232, 224), (224, 224), (233, 181), (200, 224)])
def test_crop_equals_torchvision_bit_for_bit(size, interpolation, resize, crop):
    rgb = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    reference = Compose([Resize(resize, InterpolationMode(interpolation)), CenterCrop(crop)])
    expected = np.asarray(reference(Image.fromarray(rgb)))
    ours = images.crop(rgb, prep(resize, crop, interpolation))
    assert ours.dtype == np.uint8
    assert np.array_equal(ours, expected)


def test_normalize_equals_torchvision():
    rgb = RNG.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    expected = Compose([ToTensor(), Normalize(MEAN, STD)])(Image.fromarray(rgb))[None].numpy()
    ours = images.normalize(rgb, prep())
    assert ours.shape == (1, 3, 224, 224)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    assert np.abs(ours - expected).max() <= 1e-6
    assert torch.from_numpy(ours).shape == (1, 3, 224, 224)


@pytest.mark.parametrize("size", SIZES)
def test_map_lands_where_the_picture_lands(size):
    rgb = np.repeat(RNG.integers(0, 256, (*size, 1), dtype=np.uint8), 3, axis=2)
    values = images.crop_map(rgb[..., 0].astype(np.float64), size, prep())
    assert values.shape == (224, 224)
    assert values.dtype == np.float32
    assert np.abs(values - images.crop(rgb, prep())[..., 0]).max() <= 1.01  # the picture is rounded twice


def test_map_at_another_scale_covers_the_whole_picture():
    ramp = np.linspace(0, 1, 50)[None].repeat(40, axis=0)
    full = np.linspace(0, 1, 500)[None].repeat(400, axis=0)
    small, large = images.align_map(ramp, (400, 500), prep()), images.align_map(full, (400, 500), prep())
    assert np.abs(small - large).max() < 0.02


def test_map_of_the_crops_size_is_used_as_it_is():
    values = RNG.random((224, 224))
    assert np.array_equal(images.align_map(values, (375, 500), prep()), values.astype(np.float32))
    assert np.array_equal(images.align_map(values, (500, 500), prep()), values.astype(np.float32))
    of_picture = images.align_map(values, (224, 224), prep())
    assert np.array_equal(of_picture, images.crop_map(values, (224, 224), prep()))
    assert not np.array_equal(of_picture, values.astype(np.float32))


def test_map_of_another_shape_is_refused_with_both_sizes():
    with pytest.raises(ImageError, match=r"size 100 x 90 fits neither the image's 500 x 375 .* 224 x 224"):
        images.align_map(np.zeros((90, 100)), (375, 500), prep())
    images.align_map(np.zeros((300, 403)), (375, 500), prep())  # 0.75 % off
    with pytest.raises(ImageError):
        images.align_map(np.zeros((300, 405)), (375, 500), prep())


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e38, 1e300])
def test_map_of_extreme_magnitude_keeps_its_shape(scale):
    values = RNG.random((60, 80))
    got, plain = (images.crop_map(v, (60, 80), prep()) for v in (values * scale, values))
    assert np.isfinite(got).all()
    assert np.abs(got / got.max() - plain / plain.max()).max() < 1e-5


# --- masks, points and boxes in the crop

PLACES = [prep(), prep(232, 224, "bicubic"), prep(224, 224), prep(233, 181), prep(200, 224)]


def painted(size, box):
    """A black picture with one white box of whole pixels."""
    x0, y0, x1, y1 = box
    rgb = np.zeros((*size, 3), np.uint8)
    rgb[y0:y1, x0:x1] = 255
    return rgb


@pytest.mark.parametrize("size", [*SIZES[:7], (97, 241)])
@pytest.mark.parametrize("preprocessing", PLACES, ids=lambda p: f"{p.resize}-{p.crop}-{p.interpolation}")
def test_point_lands_where_its_pixel_is_painted(size, preprocessing):
    height, width = size
    radius = max(3, min(size) // 40)
    for fx, fy in [(0.5, 0.5), (0.4, 0.62), (0.31, 0.33), (0.66, 0.45)]:
        x, y = (int(n / 2 + (f - 0.5) * min(size)) for n, f in ((width, fx), (height, fy)))
        rgb = painted(size, (x - radius, y - radius, x + radius + 1, y + radius + 1))
        weights = images.crop(rgb, preprocessing)[..., 0].astype(np.float64)
        rows, columns = np.indices(weights.shape)
        seen = np.array([((columns + 0.5) * weights).sum(), ((rows + 0.5) * weights).sum()]) / weights.sum()
        points, outside = images.crop_points(np.array([[x + 0.5, y + 0.5]]), size, preprocessing)
        assert outside == 0
        assert np.abs(points[0] - seen).max() < 0.1


def test_points_outside_the_crop_or_the_picture_are_counted():
    # 500 x 375 is resized to 341 x 256, from which 58 columns and 16 rows go: x 85.04 to 413.49, y 23.44 to 351.56.
    points = np.array(
        [[85.1, 100], [84.9, 100], [413.4, 100], [413.6, 100], [200, 23], [200, 351.5], [-1, 50], [499, 374]]
    )
    inside, outside = images.crop_points(points, (375, 500), prep())
    assert (len(inside), outside) == (3, 5)
    assert np.allclose(inside[0], [85.1 * 341 / 500 - 58, 100 * 256 / 375 - 16])
    assert inside.min() >= 0
    assert inside.max() < 224
    # Where the crop is larger than the picture, what lies beside the picture is not in it either.
    inside, outside = images.crop_points(np.array([[-1.0, 5.0], [5.0, 5.0], [201.0, 5.0]]), (200, 200), prep(200, 224))
    assert inside.tolist() == [[17.0, 17.0]]
    assert outside == 2
    empty, outside = images.crop_points(np.empty((0, 2)), (375, 500), prep())
    assert (empty.shape, outside) == ((0, 2), 0)


@pytest.mark.parametrize("size", [*SIZES[:7], (97, 241)])
@pytest.mark.parametrize("preprocessing", PLACES, ids=lambda p: f"{p.resize}-{p.crop}-{p.interpolation}")
def test_box_and_mask_land_where_the_picture_shows_them(size, preprocessing):
    height, width = size
    for part in [(0.3, 0.35, 0.62, 0.7), (0.0, 0.2, 0.5, 0.9), (0.45, 0.0, 1.0, 0.4)]:
        box = [round(f * n) for f, n in zip(part, (width, height, width, height), strict=True)]
        rgb = painted(size, box)
        shown = images.crop(rgb, preprocessing)[..., 0] > 127
        boxes, dropped = images.crop_boxes(np.array([box], np.float64), size, preprocessing)
        assert dropped == 0
        rows, columns = shown.any(axis=1).nonzero()[0], shown.any(axis=0).nonzero()[0]
        edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.abs(boxes[0] - edges).max() <= 0.55  # a pixel is shown or not, the box's edge lies within it
        mask = images.crop_mask(rgb[..., 0], size, preprocessing)
        assert set(np.unique(mask)) == {0.0, 1.0}
        assert (mask != shown).mean() < 0.004  # single pixels along the edge, where area and filter may differ


def test_boxes_are_clipped_and_dropped():
    boxes = np.array([[0, 0, 500, 375], [0, 0, 86.4, 375], [0, 0, 88, 375], [450, 10, 490, 300], [-50, -50, 600, 600]])
    kept, dropped = images.crop_boxes(boxes, (375, 500), prep())
    assert dropped == 2  # under one pixel wide in the crop; wholly outside it
    assert kept[0].tolist() == kept[2].tolist() == [0.0, 0.0, 224.0, 224.0]
    assert np.allclose(kept[1], [0, 0, 88 * 341 / 500 - 58, 224])
    padded, dropped = images.crop_boxes(np.array([[-50.0, -50, 900, 900]]), (200, 200), prep(200, 224))
    assert padded.tolist() == [[12.0, 12.0, 212.0, 212.0]]
    assert images.crop_boxes(np.empty((0, 4)), (375, 500), prep())[0].shape == (0, 4)


def coverage(mask, preprocessing):
    """The share of each of the crop's pixels that a mask of the whole picture covers, as two matrix products."""
    (height, width), resize, side = mask.shape, preprocessing.resize, preprocessing.crop
    long = int(resize * max(mask.shape) / min(mask.shape))
    sizes = (resize, long) if height <= width else (long, resize)

    def overlaps(length, resized):
        start = round((resized - side) / 2) if resized >= side else -((side - resized) // 2)
        low = (np.arange(side) + start) * (length / resized)
        high = low + length / resized
        pixel = np.arange(length)
        shared = np.minimum(high[:, None], pixel + 1.0) - np.maximum(low[:, None], pixel)
        return shared.clip(0) * (resized / length)

    return overlaps(height, sizes[0]) @ mask @ overlaps(width, sizes[1]).T


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("preprocessing", PLACES, ids=lambda p: f"{p.resize}-{p.crop}-{p.interpolation}")
def test_mask_is_what_covers_half_of_a_pixel(size, preprocessing):
    mask = (RNG.random(size) < 0.5).astype(np.float64)
    share = coverage(mask, preprocessing)
    clear = np.abs(share - 0.5) > 1e-4
    got = images.crop_mask(mask * 255, size, preprocessing)
    assert got.dtype == np.float32
    assert np.array_equal(got[clear], (share >= 0.5)[clear])
    assert (got[np.abs(share - 0.5) < 1e-9] == 1.0).all()


def test_mask_at_another_scale_is_a_mask_of_the_whole_picture():
    y, x = np.mgrid[:750, :1000]
    large = (x - 480) ** 2 + (y - 400) ** 2 < 200**2
    small = images.crop_mask(large[::2, ::2], (375, 500), prep())
    assert (small != images.crop_mask(large, (375, 500), prep())).mean() < 0.01
    assert images.crop_mask(np.ones((9, 12)), (375, 500), prep()).all()
    assert not images.crop_mask(np.zeros((9, 12)), (375, 500), prep()).any()


def test_supplied_mask_is_judged_by_its_size():
    mask = RNG.random((224, 224)) < 0.5
    assert np.array_equal(images.align_mask(mask * 3.0, (375, 500), prep()), mask.astype(np.float32))
    assert not np.array_equal(images.align_mask(mask, (224, 224), prep()), mask)
    whole = RNG.random((375, 500)) < 0.5
    cut = images.align_mask(whole, (375, 500), prep())
    assert np.array_equal(cut, images.crop_mask(whole, (375, 500), prep()))
    with pytest.raises(ImageError, match=r"The mask's size 100 x 90 fits neither .* resize the mask"):
        images.align_mask(np.zeros((90, 100)), (375, 500), prep())


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
