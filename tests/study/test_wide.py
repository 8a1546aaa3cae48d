"""What a whole data set shows of a quantized network."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from study_support import synthetic_plan, synthetic_study

from quantviz import statistics
from quantviz.report.wide import all_tables
from quantviz.specs import UsageError
from quantviz.statistics.ranking import DELONG, EXACT
from quantviz.study.summary import report_summary, summary
from quantviz.study.table import study_table
from quantviz.study.wide import dataset_wide


def test_the_area_is_that_of_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    scores, flags = rng.integers(0, 9, 300).astype(float), rng.random(300) < 0.3
    found = statistics.auroc(scores, flags)
    assert found.value == pytest.approx(roc_auc_score(flags, scores), abs=1e-12)
    assert (found.positives, found.negatives, found.method) == (int(flags.sum()), int((~flags).sum()), DELONG)
    mirrored = statistics.auroc(-scores, flags)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_the_variance_is_delongs():
    """Against the placement values, each counted by hand."""
    above, below = np.array([3.0, 5.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0, 0.0, 4.0])
    wins = (above[:, None] > below) + 0.5 * (above[:, None] == below)
    variance = wins.mean(1).var(ddof=1) / 4 + wins.mean(0).var(ddof=1) / 5
    area = wins.mean()
    found = statistics.auroc(np.concatenate([above, below]), np.repeat([1, 0], [4, 5]))
    assert found.value == pytest.approx(area)
    width = np.log(found.high / (1 - found.high)) - np.log(found.low / (1 - found.low))
    assert width == pytest.approx(2 * 1.959964 * np.sqrt(variance) / (area * (1 - area)), rel=1e-6)


def test_the_interval_covers_the_true_area():
    rng, hits = np.random.default_rng(1), 0
    for _ in range(300):
        found = statistics.auroc(
            np.concatenate([rng.normal(1, 1, 25), rng.normal(0, 1, 60)]), np.repeat([1, 0], [25, 60])
        )
        hits += found.low <= 0.7602 <= found.high  # Phi(1 / sqrt(2))
    assert 270 <= hits <= 296


def test_parted_groups_have_an_exact_end_and_single_ones_none():
    found = statistics.auroc([1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 1])
    assert (found.value, found.high, found.method) == (1, 1, EXACT)
    assert found.low == pytest.approx(0.025 ** (1 / 3))
    assert statistics.auroc([1, 2, 3], [0, 0, 1]).low is None
    assert statistics.auroc([1, 2, 3], [0, 0, 0]) is None
    with pytest.raises(UsageError, match="3 scores and 2 flags"):
        statistics.auroc([1, 2, 3], [0, 1])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a study of 400 pictures of 40 classes or so."""
    plan = synthetic_plan(400, models=("squeezenet1_1",), bits=("8", "4"))
    return synthetic_study(tmp_path_factory.mktemp("wide") / "study", plan)


def test_classes_and_changes_add_up_to_the_whole(study):
    whole = summary(study)
    cell = whole.cells[1]
    classes = cell.wide.classes
    assert sum(one.accuracy.count for one in classes) == cell.accuracy.count
    assert sum(one.float_accuracy.n for one in classes) == cell.float_accuracy.n
    drops = [one.drop for one in classes]
    assert drops == sorted(drops, reverse=True)
    low, high = statistics.wilson([classes[0].accuracy.count], [classes[0].accuracy.n])
    assert (classes[0].accuracy.low, classes[0].accuracy.high) == (low[0], high[0])
    prediction = cell.wide.prediction
    assert prediction.flipped == cell.flips.count
    assert 0.5 < prediction.low < prediction.auroc < prediction.high  # made so that drift goes with flips


def test_changes_name_their_pictures(study):
    table = study_table(study)
    columns = dict(table.columns)
    for name, value in (("float_top1", 282.0), ("quantized_top1", 967.0)):
        columns[name] = np.full_like(columns["flipped"], value)
    made = type(table)(table.plan, table.cells, columns, table.reasons)
    (change,) = dataset_wide(made, 1).changes
    flipped = np.flatnonzero(columns["flipped"][1] == 1)
    assert list(change.pictures) == [table.plan.images[at].path for at in flipped]
    assert (change.before, change.after) == ("tiger cat", "espresso")
    chosen = np.arange(400) == flipped[0]
    assert len(dataset_wide(made, 1, chosen).changes[0].pictures) == 1


def test_json_and_tables_have_them(study):
    whole = summary(study)
    data = json.loads(json.dumps(report_summary(whole)))
    wide = data["cells"][1]["wide"]
    assert wide["classes"][0]["accuracy"]["value"] == whole.cells[1].wide.classes[0].accuracy.value
    assert wide["prediction"]["auroc"] == whole.cells[1].wide.prediction.auroc
    tables = {table.name: table for table in all_tables(whole)}
    assert [row[2] for row in tables["prediction"].rows] == ["W8A8", "W4A4"]
    assert "DeLong" in tables["prediction"].title


def test_a_kept_summary_has_them(study, tmp_path):
    from quantviz.store import TensorStore

    with TensorStore(tmp_path / "tensors") as store:
        assert summary(study, store=store).cells == summary(study, store=store).cells == summary(study).cells
