"""The commands models, score, pair and cache, as a user meets them."""

import json

import numpy as np
from cli_support import assert_refused
from PIL import Image


def test_models(run):
    code, out, err = run("models", "--json")
    assert (code, err) == (0, "")
    rows = {row["name"]: row for row in json.loads(out)}
    assert list(rows) == [
        "efficientnet_lite0", "vgg16", "resnet50", "densenet121", "mobilenet_v2", "squeezenet1_1", "efficientnet_b0",
    ]  # fmt: skip
    assert rows["efficientnet_lite0"]["weights_state"] == "bundled"
    assert rows["vgg16"]["weights_state"] == "downloadable"
    for row in rows.values():
        assert row["default_layer"] in [layer["name"] for layer in row["target_layers"]]
        assert row["input_size"] == [224, 224]
    code, out, _ = run("models")
    assert code == 0
    assert [name for name in rows if name not in out] == []
    assert "…" not in out


def test_score_table_resizes_and_flags(run, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.random((20, 30)))
    Image.fromarray((rng.random((40, 60)) * 255).astype(np.uint8)).save(tmp_path / "b.png")
    code, out, _ = run("score", tmp_path / "a.npy", tmp_path / "b.png")
    assert code == 0
    assert "resized" in out
    assert "60 x 40" in out
    np.save(tmp_path / "flat.npy", np.ones((40, 60)))
    code, out, _ = run("score", tmp_path / "flat.npy", tmp_path / "b.png", "--json", "-")
    assert code == 0
    found = json.loads(out)
    assert found["scores"] == {"sim": None, "cc": None, "kld": None}
    assert list(found["degenerate"]) == ["a"]
    np.save(tmp_path / "wide.npy", rng.random((10, 90)))
    assert_refused(run("score", tmp_path / "wide.npy", tmp_path / "b.png"), "90 x 10", "60 x 40")


def test_score_by_every_metric_and_kind_of_truth(run, tmp_path):
    rows, columns = np.mgrid[:60, :80]
    blob = np.exp(-((rows - 30) ** 2 + (columns - 50) ** 2) / 200)
    np.save(tmp_path / "map.npy", blob)
    Image.fromarray(((blob > 0.4) * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    (tmp_path / "points.csv").write_text("x,y\n50,30\n48,33\n")
    (tmp_path / "boxes.csv").write_text("x0,y0,x1,y1\n38,18,62,42\n")
    files = {"map": "map.npy", "mask": "mask.png", "fixations": "points.csv", "boxes": "boxes.csv"}
    for kind, file in files.items():
        code, out, err = run(
            "score", tmp_path / "map.npy", tmp_path / file, "--metrics", "all", "--truth", kind, "--json", "-"
        )
        assert (code, err) == (0, "")
        found = json.loads(out)
        assert found["truth"] == kind
        assert len(found["metrics"]) >= 5
        assert set(found["baselines"]) == {"centre Gaussian", "uniform"}
        assert ("scores" in found) == (kind == "map")
        code, out, _ = run("score", tmp_path / "map.npy", tmp_path / file, "--metrics", "all", "--truth", kind)
        assert code == 0
        assert "what it says" in out
    assert found["metrics"]["pointing_game"]["value"] == 1
    assert found["metrics"]["box_iou_max"]["value"] > found["baselines"]["centre Gaussian"]["box_iou_max"]["value"]
    assert_refused(
        run("score", tmp_path / "map.npy", tmp_path / "boxes.csv", "--truth", "boxes", "--metrics", "nss"), "'nss'"
    )
    assert_refused(run("score", tmp_path / "map.npy", tmp_path / "map.npy", "--metrics", "psnr"), "'psnr'")
    assert_refused(run("score", tmp_path / "map.npy", tmp_path / "points.csv", "--truth", "gaze"), "'gaze'")


def test_pair(run, tmp_path):
    pictures, truths = tmp_path / "pictures", tmp_path / "truths"
    pictures.mkdir()
    truths.mkdir()
    for stem in ("a", "b"):
        Image.new("RGB", (20, 20)).save(pictures / f"{stem}.png")
    for stem in ("b", "c"):
        (truths / f"{stem}.csv").write_text("x,y\n1,1\n")
    code, out, _ = run("pair", pictures, truths, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["pairs"] == [[str(pictures / "b.png"), str(truths / "b.csv")]]
    assert found["images_without_truth"] == [str(pictures / "a.png")]
    assert found["truths_without_image"] == [str(truths / "c.csv")]
    code, out, _ = run("pair", pictures, truths)
    assert code == 0
    assert "1 pairs" in out
    assert_refused(run("pair", tmp_path / "gone", truths), "gone")


def test_cache_commands(run, tmp_path):
    folder = tmp_path / "own"
    assert run("compare", "coffee", "--cache", folder, "--json", tmp_path / "r.json")[0] == 0
    code, out, _ = run("cache", "info", "--cache", folder)
    assert code == 0
    assert "healthy" in out
    code, out, _ = run("cache", "verify", "--cache", folder)
    assert code == 0
    assert "0 bad" in out
    victim = next(folder.rglob("*.val"))
    victim.write_bytes(b"damaged")
    code, out, err = run("cache", "verify", "--cache", folder)
    assert code == 1
    assert "1 bad" in out
    assert "--repair" in err
    assert run("cache", "verify", "--repair", "--cache", folder)[0] == 0
    assert run("cache", "verify", "--cache", folder)[0] == 0
    code, out, _ = run("cache", "clear", "--cache", folder)
    assert code == 0
    assert not list(folder.rglob("*.val"))
