"""Sweeps over a few real pictures: what the rows say, and what is kept when a sweep is killed."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from study_support import BROKEN, CAT, LITE, SQUEEZE, labelled_pictures, one, rows_of
from sweep_support import files_of, sweeping, whole_study, words_of

from quantviz import images
from quantviz.comparison import CompareRequest, Workbench
from quantviz.comparison.protocols import finished
from quantviz.comparison.sequence import sequence
from quantviz.specs import Phase, QuantvizError, UsageError, spec_of
from quantviz.store import TensorStore
from quantviz.study.folder import StudyFolder
from quantviz.study.planning import SweepRequest
from quantviz.study.specs.plan import COMPARISONS, STUDY_METRICS
from quantviz.study.sweep.run import sweep


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return labelled_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def asked(pictures):
    """Return the request of the study that most tests look at: both protocols, two bit-widths, pieces of two."""
    quants = (spec_of("standard", 8, 8), spec_of("standard", 4, None))
    return SweepRequest(pictures, (SQUEEZE,), quants, {SQUEEZE: "untrained"}, ("calibrated", "paper"), batch=2)


@pytest.fixture(scope="module")
def study(asked, cache, tmp_path_factory):
    return whole_study(asked, tmp_path_factory.mktemp("studies") / "whole", cache)


@pytest.fixture(scope="module")
def trained(pictures, cache, tmp_path_factory):
    """Return a study of the bundled network."""
    request = SweepRequest(pictures, (LITE,), (spec_of("standard", 6, 6), spec_of("standard", 3, 8)))
    out = tmp_path_factory.mktemp("studies") / "trained"
    with TensorStore(cache / "tensors") as store:
        assert sweep(request, out, store).computed == 1
    return out


def test_rows_of_the_calibrated_protocol_are_those_of_single_comparisons(trained, pictures, tmp_path):
    rows = rows_of(trained)
    with TensorStore(tmp_path) as store:
        bench = Workbench(store)
        for path, label in ((f"{CAT}/1.png", 282), ("others/rocket.png", None)):
            sample = images.load(pictures / path)
            for quant in (spec_of("standard", 6, 6), spec_of("standard", 3, 8)):
                found = bench.compare(CompareRequest(LITE, quant=quant), sample)
                row = one(rows, sha256=sample.id, setting=quant.label)
                top, other = found.reference.predictions[0], found.quantized.predictions[0]
                assert (row["float_top1"], row["float_probability"]) == (top.index, top.probability)
                assert (row["quantized_top1"], row["quantized_probability"]) == (other.index, other.probability)
                assert row["float_class"] == row["quantized_class"] == found.reference.class_index
                assert row["flipped"] is found.flipped
                assert row["label"] == label
                assert row["float_correct"] == (None if label is None else top.index == label)
                assert row["quantized_correct"] == (None if label is None else other.index == label)
                for comparison in COMPARISONS:
                    for metric in STUDY_METRICS:
                        assert row[f"{comparison}_{metric}"] == getattr(found.scores[comparison], metric)
                assert (row["model"], row["scheme"], row["protocol"], row["error"]) == (
                    LITE,
                    "standard",
                    "calibrated",
                    "",
                )


def test_rows_of_the_papers_protocol_carry_the_observers_from_picture_to_picture(study, asked, pictures, tmp_path):
    plan = StudyFolder(study).plan()
    good = [place for place, image in enumerate(plan.images) if image.path != BROKEN]
    samples = [images.load(pictures / plan.images[place].path) for place in good]
    rows = [row for row in rows_of(study) if row["protocol"] == "paper"]
    with TensorStore(tmp_path) as store:
        for quant in (variant.quant for variant in plan.variants_of("paper")):
            request = CompareRequest(SQUEEZE, "untrained", quant)
            steps = sequence(Workbench(store), request, samples)
            for place, sample, step in zip(good, samples, steps, strict=True):
                row = one(rows, index=place, setting=quant.label)
                first, second = (finished(result, quant, sample.rgb.shape[:2]) for result in step.own)
                assert row["float_top1"] == first.predictions[0].index
                assert row["quantized_top1"] == row["quantized_class"] == second.predictions[0].index
                assert row["quantized_probability"] == second.predictions[0].probability
                assert row["quantized_degenerate"] == second.heatmap.degenerate
                if not (first.heatmap.degenerate or second.heatmap.degenerate):
                    cc = np.corrcoef(first.heatmap.values.ravel(), second.heatmap.values.ravel())[0, 1]
                    assert row["quantized_v_float_cc"] == pytest.approx(cc, abs=1e-5)


def test_a_bad_picture_has_rows_with_the_reason_and_the_sweep_goes_on(study, pictures):
    rows = rows_of(study)
    bad = [row for row in rows if row["error"]]
    plan = StudyFolder(study).plan()
    assert len(rows) == 6 * 2 * 2
    assert len(bad) == 4
    for row in bad:
        assert plan.images[row["index"]].path == BROKEN
        assert row["error"].startswith(f"{BROKEN} is")
        assert (row["float_top1"], row["flipped"], row["quantized_v_float_cc"]) == (None, None, None)
        assert row["label"] == 967
        assert str(pictures) not in row["error"]
    assert [row["index"] for row in rows if row["setting"] == "W8A8"] == [*range(6)] * 2


def test_a_file_that_cannot_be_opened_is_an_error_row_too(cache, tmp_path, pictures):
    folder = tmp_path / "few"
    folder.mkdir()
    (folder / "empty.png").write_bytes(b"")
    os.symlink("nowhere.png", folder / "gone.png")
    (folder / "good.png").write_bytes((pictures / CAT / "0.png").read_bytes())
    request = SweepRequest(folder, (SQUEEZE,), (spec_of("standard"),), {SQUEEZE: "untrained"})
    with TensorStore(cache / "tensors") as store:
        found = sweep(request, tmp_path / "study", store)
    assert [image.sha256 == "" for image in found.plan.images] == [True, True, False]
    told = [row["error"] for row in rows_of(tmp_path / "study")]
    assert told[0].startswith("empty.png is empty")
    assert told[1].startswith("gone.png does not exist")
    assert told[2] == ""


AGAIN = """
import sys
from pathlib import Path
from quantviz.cli import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


def quantviz(*arguments, cache, code=AGAIN):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "QUANTVIZ_CACHE": str(cache)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_a_finished_study_is_not_computed_again_and_needs_no_torch(study, asked, cache):
    before = files_of(study)
    found = quantviz(*words_of(asked, study), cache=cache)
    assert (found.returncode, found.stderr) == (0, "False\n")
    assert "nothing to compute" in found.stdout
    assert files_of(study) == before
    found = quantviz("summary", study, cache=cache)
    assert (found.returncode, found.stderr) == (0, "False\n")
    assert "Protocol paper" in found.stdout


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"limit": 4}, "limit None, not 4"),
        ({"quants": (spec_of("standard"),)}, "quantization W8A8, W4, not W8A8"),
        ({"protocols": ("calibrated",)}, "protocols calibrated,paper, not calibrated"),
        ({"batch": 3}, "batch 2, not 3"),
    ],
)
def test_a_changed_setting_is_refused_and_nothing_is_touched(study, asked, tmp_path, change, told):
    before = files_of(study)
    with TensorStore(tmp_path) as store, pytest.raises(UsageError) as caught:
        sweep(replace(asked, **change), study, store)
    assert told in str(caught.value)
    assert str(caught.value).count(". ") == 0
    assert files_of(study) == before


def test_a_changed_picture_is_refused(study, asked, pictures, tmp_path):
    file = pictures / "others" / "rocket.png"
    data = file.read_bytes()
    try:
        Image.fromarray(images.bundled("china").rgb[:200, :200]).save(file)
        with TensorStore(tmp_path) as store, pytest.raises(UsageError, match=r"pictures 'others/rocket.png' \(sha256"):
            sweep(asked, study, store)
    finally:
        file.write_bytes(data)


def test_a_picture_that_changes_while_the_sweep_runs_ends_it(asked, pictures, cache, tmp_path):
    file = pictures / "others" / "rocket.png"
    data = file.read_bytes()

    def change(message, fraction, _phase=None):
        if message.startswith("Loading"):
            file.write_bytes((pictures / CAT / "0.png").read_bytes())

    try:
        told = "'others/rocket.png' changed since"
        with TensorStore(cache / "tensors") as store, pytest.raises(QuantvizError, match=told):
            sweep(asked, tmp_path / "study", store, change)
    finally:
        file.write_bytes(data)
    with pytest.raises(UsageError, match="is not finished"):
        StudyFolder(tmp_path / "study").results()


def test_a_picture_that_can_no_longer_be_read_stops_the_sweep_and_is_not_recorded(asked, pictures, cache, tmp_path):
    file, away = pictures / "others" / "rocket.png", tmp_path / "rocket.png"

    def lose(message, fraction, _phase=None):
        if message.startswith("Loading") and file.exists():
            file.rename(away)

    try:
        told = r"does not exist.*repeat its command"
        with TensorStore(cache / "tensors") as store, pytest.raises(QuantvizError, match=told):
            sweep(asked, tmp_path / "study", store, lose)
    finally:
        away.rename(file)
    with TensorStore(cache / "tensors") as store:
        sweep(asked, tmp_path / "study", store)
    assert not [row for row in rows_of(tmp_path / "study") if row["error"] and row["index"] == 5]


def test_what_the_papers_protocol_does_not_define_is_refused_before_anything_is_written(asked, cache, tmp_path):
    request = replace(asked, quants=(spec_of("equalize"),))
    with TensorStore(cache / "tensors") as store, pytest.raises(UsageError, match="Equalization is not defined"):
        sweep(request, tmp_path / "study", store)
    assert not (tmp_path / "study" / "plan.json").exists()


def written(out):
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in out.glob("pieces/*.parquet")}


def assert_same_study(found, whole):
    """Check that two studies differ in nothing but the command that is on record: one made in this process has none."""
    found, whole = files_of(found), files_of(whole)
    assert set(found) == set(whole)
    assert [name for name in whole if whole[name] != found[name]] == ["plan.json"]


@pytest.mark.parametrize("kills", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_sweep_killed_at_random_moments_ends_with_the_same_files(study, asked, tmp_path, kills):
    out, chance = tmp_path / "killed", random.Random(5)
    unit, killed = 0.0, 0  # the seconds that it takes to load, calibrate and compute a piece
    for number in range(40):
        # From just after the start to well into the pieces that are left, however fast the machine is.
        more, part = ((1, 0.1), (0, 0.4))[number % 2]
        before = written(out)
        with sweeping(asked, out, tmp_path / "cache") as process:
            started = time.monotonic()
            while len(written(out)) < len(before) + more and process.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.random() * unit * part)
            unit = unit or time.monotonic() - started
            process.kill()
            process.wait()
            killed += process.returncode == -signal.SIGKILL
        assert before.items() <= written(out).items()  # what was committed is neither lost nor computed again
        if killed == kills:
            break
        if (out / "results.parquet").exists():  # a busy machine may let the kill come too late
            assert_same_study(out, study)
            out = tmp_path / f"killed after {number}"
    assert killed == kills
    with sweeping(asked, out, tmp_path / "cache") as process:
        _, complaint = process.communicate(timeout=300)
    assert (process.returncode, complaint) == (0, "")
    assert_same_study(out, study)


def test_progress_tells_rate_and_time_left_and_never_goes_back(asked, cache, tmp_path):
    told = []
    with TensorStore(cache / "tensors") as store:
        sweep(replace(asked, protocols=("calibrated",)), tmp_path, store, lambda *words: told.append(words))
    steps = [(message, part) for message, part, phase in told if phase is Phase.SWEEPING]
    assert all(message.startswith(f"{SQUEEZE}, calibrated") for message, _ in steps)
    assert len(steps) == 6
    assert [part for _, part in steps] == sorted(part for _, part in steps)
    assert steps[-1][1] == 1
    assert all("images/s" in message and message.endswith("left") for message, _ in steps[1:])


def test_whatever_progress_raises_ends_a_sweep_that_can_go_on(study, asked, cache, tmp_path):
    def stop(message, part, _phase=None):
        if message.startswith(f"{SQUEEZE}, paper") and part > 0.7:
            raise KeyboardInterrupt

    with TensorStore(cache / "tensors") as store:
        with pytest.raises(KeyboardInterrupt):
            sweep(asked, tmp_path / "study", store, stop)
        rest = sweep(asked, tmp_path / "study", store).computed
    assert rest == 2  # of the paper's three pieces, one was committed
    assert files_of(tmp_path / "study") == files_of(study)


def test_the_number_of_threads_does_not_matter_and_is_left_as_it_was(trained, pictures, tmp_path):
    plan, threads = StudyFolder(trained).plan(), torch.get_num_threads()
    request = SweepRequest(pictures, (LITE,), plan.quants)
    torch.set_num_threads(3)
    try:
        with TensorStore(tmp_path / "cache") as store:
            sweep(request, tmp_path / "study", store)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert files_of(tmp_path / "study") == files_of(trained)
