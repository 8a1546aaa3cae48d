"""Charts of single pictures and classes, and every chart's numbers as CSV."""

import csv
import io

import numpy as np
import pytest

from quantviz import figures
from quantviz.study.filters import ranking
from quantviz.study.shipped import shipped_studies
from quantviz.study.summary import summary
from quantviz.study.table import study_table

FORMS = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}


@pytest.fixture(scope="module")
def study():
    return shipped_studies()["imagenet-200"]


@pytest.fixture(scope="module")
def table(study):
    return study_table(study)


@pytest.fixture(scope="module")
def cells(study):
    return summary(study).cells


def lines(data):
    return list(csv.DictReader(io.StringIO(data.decode())))


@pytest.fixture(scope="module")
def cloud():
    drift = np.array([0.5, np.nan, 0.0, 0.1])
    return figures.picture_cloud(
        np.array([0.9, 0.8, 0.7, 0.6]), drift, np.array([1.0, 0, 0, 0]), np.array([True] * 3 + [False]), 0.01
    )


def test_a_cloud_has_the_chosen_pictures_with_a_drift(cloud):
    assert cloud.indices.tolist() == [0, 2]
    assert cloud.drift.tolist() == [0.5, 1e-6]  # no drift at all is drawn where no eye sees one
    figure = figures.cloud_figure(cloud)
    assert sorted(int(place) for trace in figure.data for place in trace.customdata) == [0, 2]
    assert [line["picture"] for line in lines(figures.cloud_csv(cloud))] == ["0", "2"]


def test_a_matrix_keeps_the_classes_that_get_most():
    changes = [((place, f"c{place}"), (100 + place % 30, f"t{place % 30}"), 1) for place in range(60)]
    changes.insert(0, ((99, "many"), (129, "last"), 7))
    matrix = figures.class_matrix(changes)
    assert len(matrix.rows) <= figures.MOST_CLASSES
    assert len(matrix.columns) <= figures.MOST_CLASSES
    assert matrix.columns[0] == (129, "last")
    assert sum(count for _, _, count in matrix.marks) + matrix.left_out == 67
    figure = figures.matrix_figure(matrix)
    assert [99, 129] in [list(pair) for pair in figure.data[0].customdata]
    assert sum(int(line["pictures"]) for line in lines(figures.matrix_csv(matrix))) == 67 - matrix.left_out


def test_points_of_lines_name_their_cells_and_the_floor_is_a_band(cells):
    chart = figures.drift_chart(cells, floor=0.02)
    figure = figures.drift_figure(chart)
    named = [tuple(point) for trace in figure.data if trace.customdata is not None for point in trace.customdata]
    assert sorted(named) == sorted((cell.model, cell.setting, cell.protocol) for cell in cells)
    assert figure.layout.shapes[0].y1 == 0.02
    assert figures.drift_chart(cells, "cc", floor=0.02).band is None
    rows = lines(figures.line_csv(chart))
    assert len(rows) == len(cells)
    assert "x_value" not in rows[0]
    assert "x_value" in lines(figures.line_csv(figures.accuracy_chart(cells)))[0]


def test_boxes_and_ranks_are_taken_away_as_numbers(table):
    chart = figures.distribution_chart(table, "quantized_v_float", "cc", "calibrated")
    rows = lines(figures.distribution_csv([chart]))
    assert len(rows) == 15
    assert all(float(row["quartile_1"]) <= float(row["median"]) <= float(row["quartile_3"]) for row in rows)
    ranked = figures.ranking_chart(ranking(table, "W8A8", "calibrated", resampled=False))
    assert [float(row["rank_1"]) >= 0 for row in lines(figures.rank_csv(ranked))] == [True] * 3


@pytest.mark.parametrize("form", FORMS)
def test_each_is_a_figure_for_a_paper_with_the_same_bytes_each_time(form, cells, table, cloud):
    plan = table.plan
    row = figures.ClassRow(1, "<b>goldfish</b>", figures.Span(0.2, 0.1, 0.3), ("goldfish",))
    matrix = figures.class_matrix([((1, "a"), (2, "b"), 2)])
    chart = figures.drift_chart(cells, floor=0.02)
    for drawn in (
        lambda: figures.drift_print(chart, plan, form),
        lambda: figures.cloud_print(cloud, plan, form),
        lambda: figures.drops_print([row], plan, form),
        lambda: figures.matrix_print(matrix, plan, form),
    ):
        data = drawn()
        assert data.startswith(FORMS[form])
        assert data == drawn()
