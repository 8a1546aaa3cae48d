"""Settings added later leave the digests of what was made before them as they were."""

from dataclasses import replace

from quantviz.specs import Preprocessing, WeightsRef, digest_of, plain

USUAL = Preprocessing(256, 224, "bilinear", (0.5,) * 3, (0.25,) * 3)


def test_later_settings_change_a_digest_only_where_they_are_used():
    before = {
        "source": "file",
        "name": "a.pth",
        "sha256": "ab",
        "preprocessing": {
            "resize": 256,
            "crop": 224,
            "interpolation": "bilinear",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
            "fit": "crop",
        },
        "classes": 1000,
        "note": "",
    }
    ref = WeightsRef("file", "a.pth", "ab", USUAL)
    assert plain(ref) == before
    assert digest_of(ref) == digest_of(before)
    others = [replace(ref, names=("cat",))]
    others += [
        replace(ref, preprocessing=replace(USUAL, **change)) for change in ({"order": "BGR"}, {"range": "0-255"})
    ]
    assert len({digest_of(entry) for entry in (ref, *others)}) == 4
