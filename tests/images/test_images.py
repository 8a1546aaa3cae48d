"""Which pictures are taken, and that they come out as they should."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings

import numpy as np
import pytest
from images_support import encode, png
from PIL import Image, ImageOps

from quantviz import images
from quantviz.specs import ImageError

RNG = np.random.default_rng(7)
NOISE = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)


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
