"""A study's evidence: the bundle, what is refused of others' bundles, and computing numbers again."""

import hashlib
import json
import os
import shutil
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import report_support
from cli_support import assert_refused
from PIL import Image
from report_support import HOSTILE, listed, make_bundle, packed
from study_support import synthetic_plan, synthetic_study

from quantviz import images, networks
from quantviz.specs import UsageError, spec_of
from quantviz.store import TensorStore
from quantviz.study.bundle import PARTS, bundle_bytes, opened
from quantviz.study.plan_file import plan_bytes, read_plan
from quantviz.study.planning import SweepRequest
from quantviz.study.replay import ReplayRequest, _numbers, replay
from quantviz.study.summary import summary
from quantviz.study.sweep.run import sweep
from quantviz.study.tables import read_notes, read_table, write_tables

study, found = report_support.study, report_support.found


@pytest.fixture(scope="module")
def parts(study):
    return make_bundle(study)


@pytest.fixture(scope="module")
def bundle(study, found, tmp_path_factory):
    file = tmp_path_factory.mktemp("bundle") / "bundle.zip"
    file.write_bytes(bundle_bytes(study, found))
    return file


def changed_results(study, parts, tmp_path, column, change, without=()):
    """Return the parts of a bundle one of whose columns was changed in every row, its digests made to fit."""
    path = tmp_path / "results.parquet"
    table = read_table(study / "results.parquet")
    place = table.schema.get_field_index(column)
    values = pa.array(change(table[column].to_numpy()), table.schema.field(place).type, from_pandas=True)
    notes = read_notes(study / "results.parquet")[0]
    table = table.set_column(place, table.schema.field(place), values).drop_columns(list(without))
    write_tables(path, [table], notes)
    return listed({**parts, "results.parquet": path.read_bytes()})


def test_a_bundle_holds_everything_but_pictures_with_digests_that_fit(study, bundle, parts):
    assert bundle.read_bytes() == bundle_bytes(study, summary(study))
    assert set(parts) == {"MANIFEST", *PARTS}
    for line in parts["MANIFEST"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(parts[name]).hexdigest() == digest
    for name in ("plan.json", "results.parquet"):
        assert parts[name] == (study / name).read_bytes()
    plan = json.loads(parts["plan.json"])
    assert json.loads(parts["versions.json"]) == plan["versions"]
    assert plan["command"] in parts["README.txt"].decode()
    lines = parts["images.csv"].decode().splitlines()
    assert lines[0] == "path,sha256,label"
    assert lines[1:] == [
        f"{image['path']},{image['sha256']},{'' if image['label'] is None else image['label']}"
        for image in plan["images"]
    ]
    with zipfile.ZipFile(bundle) as file:
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_replay_finds_every_value_of_a_bundle_identical(bundle, run):
    code, out, err = run("replay", bundle, "--all")
    assert (code, err) == (0, "")
    assert "under the calibrated protocol: 4 of 4 pictures" in out
    assert "under the paper protocol: 4 of 4 pictures" in out
    assert out.splitlines()[-1] == "Every value is identical."
    assert sum(line.rstrip().endswith("identical") for line in out.splitlines()) == 29


def test_replay_takes_evenly_spaced_pictures_and_the_first_where_the_order_decides(study, run, tmp_path):
    """The pictures are moved to one folder under their names, the study's folder is the evidence."""
    plan = json.loads((study / "plan.json").read_text())
    for image in plan["images"]:
        shutil.copy(os.path.join(plan["dataset"], image["path"]), tmp_path)
    code, out, _ = run("replay", study, "--dataset", tmp_path, "--limit", 2, "--json", "-")
    told = json.loads(out)
    paths = [image["path"] for image in plan["images"]]
    assert code == 0
    assert told["agrees"]
    assert told["pictures"] == {"calibrated": [paths[0], paths[2]], "paper": paths[:2]}
    assert told["versions"] == {}
    assert {column["rows"] for column in told["columns"]} == {8}
    cc = next(column for column in told["columns"] if column["name"] == "quantized_v_float_cc")
    assert (cc["unlike"], cc["identical"], cc["largest"]) == (0, True, 0.0)


def test_numbers_and_classes_that_differ_are_found(study, parts, tmp_path, run):
    more = changed_results(study, parts, tmp_path, "quantized_v_float_cc", lambda values: values + 1e-4)
    bundle = packed(tmp_path / "a.zip", more)
    code, out, err = run("replay", bundle, "--limit", 2)  # the first is the file that is no picture
    assert code == 1
    assert err == "quantviz: 1 of 29 columns do not agree within 1e-06: quantized_v_float_cc.\n"
    assert any(line.split() == ["quantized_v_float_cc", "4", "0.0001"] for line in out.splitlines())
    # A study of before there was a brightness is compared without it.
    again = changed_results(study, parts, tmp_path, "float_top1", lambda values: values + 1, ["brightness"])
    found = replay(ReplayRequest(packed(tmp_path / "b.zip", again), limit=2))
    assert [column.name for column in found.columns if column.unlike] == ["float_top1"]
    assert len(found.columns) == 28
    assert not found.agrees


def test_a_tolerance_is_absolute_and_a_missing_value_never_agrees():
    first = np.array([0.5, np.nan, 1.0, np.nan])
    near = _numbers("cc", first, first + 1e-7, 1e-6)
    assert (near.rows, near.unlike, near.identical) == (4, 0, False)
    assert near.largest == pytest.approx(1e-7, rel=1e-3)
    assert _numbers("cc", first, first + 1e-7, 1e-8).unlike == 2
    assert _numbers("cc", first, np.array([0.5, 0.5, np.nan, np.nan]), 1.0).unlike == 2
    flags = _numbers("flipped", np.array([1.0, 0.0]), np.array([1.0, 1.0]), None)
    assert (flags.unlike, flags.largest) == (1, None)


def test_files_that_are_missing_or_others_are_named(bundle, run, tmp_path):
    assert_refused(run("replay", bundle, "--dataset", tmp_path / "absent"), "does not exist", "--dataset")
    (tmp_path / "rocket.png").write_bytes(b"other")
    (tmp_path / HOSTILE).write_bytes(b"other")
    told = run("replay", bundle, "--dataset", tmp_path)
    assert_refused(told, "4 of 4 files of the study are not in", "is another file", "is missing", "and 1 more")
    weights = tmp_path / "one.pth"
    weights.write_bytes(b"other")
    told = run("replay", bundle, "--weights", f"squeezenet1_1={weights}")
    assert_refused(told, "have the sha256", hashlib.sha256(b"other").hexdigest(), "--weights squeezenet1_1=FILE")
    assert_refused(run("replay", bundle, "--weights", "vgg16=untrained"), "'vgg16', which is not in the study")
    assert_refused(run("replay", bundle, "--calibration", tmp_path), "was calibrated on 'bundled photographs'")


def test_wrong_use_is_told_in_one_sentence(bundle, study, run, tmp_path):
    assert_refused(run("replay", bundle, "--all", "--limit", 2), "Both --all and --limit 2")
    assert_refused(run("replay", bundle, "--tolerance", "-1"), "Tolerance -1.0 is no number from 0 on")
    assert_refused(run("replay", bundle, "--json", tmp_path), "is a folder; name a file")
    assert_refused(run("replay", tmp_path / "absent"), "does not exist")
    assert_refused(run("replay", tmp_path), "There is no study")
    shutil.copytree(study, tmp_path / "study")
    (tmp_path / "study" / "results.parquet").unlink()
    assert_refused(run("replay", tmp_path / "study"), "is not finished", "repeat its command")
    with pytest.raises(UsageError, match="limit 0 is below 1"):
        ReplayRequest(bundle, limit=0)


def test_evidence_is_only_read_and_nothing_is_left_when_progress_raises(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    class Stop(Exception):
        pass

    def stop(message, fraction=None, _phase=None):
        if "images/s" in message or "Calibrating" in message:
            assert list(tmp_path.iterdir())
            raise Stop

    before = bundle.read_bytes()
    with pytest.raises(Stop):
        replay(ReplayRequest(bundle), progress=stop)
    assert list(tmp_path.iterdir()) == []
    assert bundle.read_bytes() == before


def _plan(parts, **changes):
    """Return parts whose plan was changed, its own digest too, as by one who wants to deceive."""
    plan = replace(read_plan(parts["plan.json"]), **changes)
    return listed({**parts, "plan.json": plan_bytes(plan)})


def _raw(parts, plan):
    return listed({**parts, "plan.json": plan})


HOSTILE_BUNDLES = {
    "a path to outside": (
        lambda parts: [*parts.items(), ("../evil.txt", b"x")],
        "holds '../evil.txt' which no bundle has",
    ),
    "an absolute path": (lambda parts: [*parts.items(), ("/tmp/evil", b"x")], "holds '/tmp/evil' which no bundle has"),
    "a foreign file": (lambda parts: [*parts.items(), ("run.sh", b"x")], "holds 'run.sh' which no bundle has"),
    "a part twice": (lambda parts: [*parts.items(), ("plan.json", b"x")], "holds 'plan.json' twice"),
    "a part less": (lambda parts: {k: v for k, v in parts.items() if k != "images.csv"}, "lacks 'images.csv'"),
    "another zip": (lambda parts: {"readme": b"x"}, "holds 'readme' which no bundle has"),
    "no zip entries": (lambda parts: {}, "lacks 'MANIFEST'"),
    "a changed part": (lambda parts: {**parts, "summary.csv": b"x"}, "summary.csv is not the file of its manifest"),
    "an odd manifest": (lambda parts: {**parts, "MANIFEST": b"x"}, "manifest of bundle"),
    "a bomb": (lambda parts: {**parts, "summary.csv": bytes(200 << 20)}, "would unpack to 210 MB"),
    "no plan": (lambda parts: _raw(parts, b"[]"), "cannot be used"),
    "a deep plan": (lambda parts: _raw(parts, b"[" * 200_000), "cannot be used"),
    "a changed plan": (
        lambda parts: _raw(parts, parts["plan.json"].replace(b'"limit": null', b'"limit": 3')),
        "its digest is another one",
    ),
    "other results": (lambda parts: _plan(parts, seed=3), "is not finished"),
    "an odd batch": (lambda parts: _plan(parts, batch=0), "cannot be used"),
}


@pytest.mark.parametrize("name", HOSTILE_BUNDLES)
def test_a_bundle_that_cannot_be_trusted_is_refused_in_one_sentence(name, parts, tmp_path, run, monkeypatch):
    make, told = HOSTILE_BUNDLES[name]
    (tmp_path / "inner").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a name that is twice in a zip file
        bundle = packed(tmp_path / "a.zip", make(parts))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "inner"))
    result = run("replay", bundle)
    assert_refused(result, told)
    assert "Traceback" not in result[2]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.zip"]


@pytest.mark.parametrize("path", ["../x.png", "a/../../x.png", "/etc/passwd", "", "a\\b.png", "a\0b.png", 3])
def test_a_plan_that_names_a_picture_outside_is_refused_although_its_results_fit(path, study, parts, tmp_path):
    images = json.loads(parts["plan.json"])["images"]
    changed = _plan(parts, images=[{**images[0], "path": path}, *images[1:]])
    results = tmp_path / "results.parquet"
    notes = {"plan": json.loads(changed["plan.json"])["digest"]}
    write_tables(results, [read_table(study / "results.parquet")], notes)
    bundle = packed(tmp_path / "a.zip", listed({**changed, "results.parquet": results.read_bytes()}))
    with pytest.raises(UsageError, match=r"is not inside a folder|cannot be used"):
        replay(ReplayRequest(bundle))


@pytest.mark.parametrize("cut", [0, 1, 100, 3000, -30])
def test_a_damaged_zip_is_refused(bundle, tmp_path, run, cut):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(bundle.read_bytes()[:cut])
    assert_refused(run("replay", broken), "cannot be read", "get it again")


def test_flipped_bytes_of_a_zip_never_end_in_a_traceback(bundle, tmp_path, run):
    data = bundle.read_bytes()
    random = np.random.default_rng(0)
    for turn in range(60):
        broken = bytearray(data)
        for place in random.integers(0, len(data), 4):
            broken[place] ^= int(random.integers(1, 256))
        file = tmp_path / f"{turn}.zip"
        file.write_bytes(broken)
        code, _, err = run("replay", file, "--dataset", tmp_path / "absent")
        assert code == 2
        assert err.count("\n") == 1
        assert "Unexpected" not in err


def test_ground_truth_and_layers_are_those_of_the_study(tmp_path):
    dataset, truth = tmp_path / "pictures", tmp_path / "truth"
    for folder in (dataset, truth):
        (folder / "one").mkdir(parents=True)
    for name in ("chelsea", "coffee", "rocket"):
        Image.fromarray(images.bundled(name).rgb[:200, :260]).save(dataset / "one" / f"{name}.png")
    for name in ("chelsea", "rocket"):
        Image.fromarray(images.bundled(name).rgb[:200, :260, 1]).save(truth / "one" / f"{name}.png")
    request = SweepRequest(
        dataset=dataset,
        models=("squeezenet1_1",),
        quants=(spec_of("standard", 4, 4),),
        weights={"squeezenet1_1": "untrained"},
        layers={"squeezenet1_1": "features.9"},
        truth=truth,
    )
    with TensorStore(tmp_path / "tensors") as store:
        sweep(request, tmp_path / "study", store)
        bundle = tmp_path / "a.zip"
        bundle.write_bytes(bundle_bytes(tmp_path / "study", summary(tmp_path / "study")))
        truth.rename(tmp_path / "moved")
        with pytest.raises(UsageError, match="by --truth"):
            replay(ReplayRequest(bundle), store)
        found = replay(ReplayRequest(bundle, truth=tmp_path / "moved"), store)
    checks = {column.name: column for column in found.columns}
    assert checks["quantized_v_truth_cc"].identical
    assert checks["quantized_v_truth_cc"].rows == 3
    assert "truth_error" in checks
    assert found.agrees


def test_names_of_any_bytes_are_bundled_and_found_again(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    names = ["=1+1.png", os.fsdecode(b"caf\xe9.png"), "\x1b[31mred.png"]
    for name, photo in zip(names, ("coffee", "rocket", "chelsea"), strict=True):
        Image.fromarray(images.bundled(photo).rgb).save(pictures / name)
    asked = SweepRequest(pictures, ("squeezenet1_1",), (spec_of("standard"),), {"squeezenet1_1": "untrained"})
    with TensorStore(tmp_path / "store") as store:
        sweep(asked, tmp_path / "study", store)
        bundle = tmp_path / "bundle.zip"
        bundle.write_bytes(bundle_bytes(tmp_path / "study", summary(tmp_path / "study")))
        again = replay(ReplayRequest(bundle, dataset=pictures), store)
    assert again.agrees
    with zipfile.ZipFile(bundle) as file:
        lines = file.read("images.csv").decode().splitlines()
        assert rb"caf\udce9.png" in file.read("plan.json")
    assert [line.split(",")[0] for line in lines[1:]] == ["\x1b[31mred.png", "'=1+1.png", r"caf\udce9.png"]


@pytest.mark.parametrize("name", ["os:getcwd", "net.toml"])
def test_a_bundle_has_no_code_run_and_no_file_of_ones_own_read(name, tmp_path, monkeypatch):
    study = synthetic_study(tmp_path / "study", synthetic_plan(3, models=(name,), bits=("8",)))
    (tmp_path / "bundle.zip").write_bytes(bundle_bytes(study, summary(study)))
    monkeypatch.setattr(networks, "spec", lambda name: pytest.fail(f"{name} was looked up"))
    with pytest.raises(UsageError, match=f"its model '{name}' is code or a file of yours, which a bundle may not name"):
        with opened(tmp_path / "bundle.zip"):
            pass
