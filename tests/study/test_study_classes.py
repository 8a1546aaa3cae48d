"""Classes of a study: their drops against plain counts, and which became which."""

import numpy as np
import pytest
from study_support import synthetic_plan

from quantviz.study.classes import became, class_drops, pictures_of
from quantviz.study.specs.table import StudyTable

NAN = float("nan")
LABELS = [0, 0, 0, 1, 1, 2, NAN]
FLOAT_TOP1 = [0, 0, 5, 1, 1, 2, 3]
QUANTIZED_TOP1 = [0, 7, 5, 7, 1, 7, 4]


@pytest.fixture(scope="module")
def table():
    plan = synthetic_plan(len(LABELS), models=("vgg16",), bits=("4",))
    label, before, after = (np.array([values], np.float64) for values in (LABELS, FLOAT_TOP1, QUANTIZED_TOP1))
    known = ~np.isnan(label)
    columns = {
        "label": label,
        "float_top1": before,
        "quantized_top1": after,
        "float_correct": np.where(known, before == label, NAN),
        "quantized_correct": np.where(known, after == label, NAN),
        "flipped": (before != after).astype(float),
    }
    return StudyTable(plan, plan.cells, columns)


def test_drops_are_of_classes_with_two_pictures_the_greatest_first(table):
    drops = class_drops(table, 0)
    assert [(one.index, one.n, one.float_correct, one.quantized_correct) for one in drops] == [
        (1, 2, 2, 1),
        (0, 3, 2, 1),
    ]
    assert [one.drop for one in drops] == pytest.approx([1 / 2, 1 / 3])
    assert all(one.low <= one.drop <= one.high for one in drops)
    assert drops[1].name == "tench"


def test_what_became_what_names_its_pictures(table):
    changes = became(table, 0)
    assert [(one.before, one.after, one.pictures) for one in changes] == [
        (0, 7, (1,)),
        (1, 7, (3,)),
        (2, 7, (5,)),
        (3, 4, (6,)),
    ]
    assert changes[0].names == ("tench", "cock")


def test_only_chosen_pictures_count(table):
    chosen = np.array([[True, True, True, False, False, True, False]])
    assert [one.index for one in class_drops(table, 0, chosen)] == [0]
    assert [one.before for one in became(table, 0, chosen)] == [0, 2]
    assert pictures_of(table, 0, 1, chosen) == ()
    assert pictures_of(table, 0, 0) == (1, 0, 2)  # the one whose class changed comes first
