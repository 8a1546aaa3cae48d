"""Interactive charts as files: what stands in them, in every form, and as numbers."""

import csv
import io

import plotly.graph_objects as go
import pytest

from quantviz import figures
from quantviz.specs import UsageError
from quantviz.study.published import published_triangles, reproductions, shipped_attributions

STARTS = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}


def rows(figure):
    return list(csv.DictReader(io.StringIO(figures.drawn_csv(figure).decode())))


@pytest.mark.parametrize("form", STARTS)
def test_a_chart_is_drawn_in_every_form_and_twice_the_same(form):
    figure = figures.attribution_figure(shipped_attributions()[0])
    first = figures.drawn_print(figure, "The switches", form, "What they are.")
    assert first.startswith(STARTS[form])
    assert figures.drawn_print(figure, "The switches", form, "What they are.") == first


def test_a_drawing_holds_the_words_of_the_chart():
    figure = figures.triangle_figure(published_triangles())
    drawn = figures.drawn_print(figure, "Possible & published", "svg", "A caption.").decode()
    assert "A caption." in drawn
    for words in ("Possible &amp; published", "resnet50 int8", "mean SIM with the ground truth", "possible"):
        assert f"<!-- {words} -->" in drawn


def test_panels_scales_and_open_marks_are_drawn():
    figure = figures.agreement_figure(reproductions(), "cc")
    assert b"int8 / W8A8" in figures.drawn_print(figure, "Agreement", "svg")
    logarithmic = go.Figure(go.Scatter(x=[1, 2, 3], y=[1, None, 100], mode="lines+markers+text", text=["a", "b", "c"]))
    logarithmic.update_traces(marker_symbol="square-open", line_dash="dot", line_color="rgba(1,2,3,0.5)")
    logarithmic.update_yaxes(type="log", range=[0, 2], title="drift")
    logarithmic.add_hline(y=10)
    assert b"<!-- drift -->" in figures.drawn_print(logarithmic, "Lines", "svg")


def test_another_kind_of_trace_or_form_is_refused():
    with pytest.raises(ValueError, match="'pie'"):
        figures.drawn_print(go.Figure(go.Pie(values=[1])), "Pie")
    with pytest.raises(UsageError, match="'gif'"):
        figures.drawn_print(go.Figure(), "Nothing", "gif")


def test_numbers_of_bars_have_the_ends_of_their_intervals():
    one = shipped_attributions()[0]
    shares = figures.shown_shares(one)
    found = rows(figures.attribution_figure(one))
    assert {row["label"]: float(row["x"]) for row in found} == {
        name.replace("_", " "): share for name, share in shares.items()
    }
    for row in found:
        low, high = one.intervals[row["label"].replace(" ", "_")]
        assert float(row["x_low"]) == pytest.approx(low, abs=1e-3)
        assert float(row["x_high"]) == pytest.approx(high, abs=1e-3)


def test_numbers_of_bars_that_begin_elsewhere_are_their_ends():
    checks = published_triangles()
    found = [row for row in rows(figures.triangle_figure(checks)) if row["series"] == "possible"]
    assert [(float(row["x_low"]), float(row["x_high"])) for row in found] == [
        pytest.approx((check.low, check.high)) for check in checks
    ]


def test_numbers_name_the_panel_and_no_formula():
    found = rows(figures.agreement_figure(reproductions(), "cc"))
    assert {row["panel"] for row in found} == {"int16 / W16A16", "int8 / W8A8"}
    figure = go.Figure(go.Scatter(x=[1], y=[2], name="=1+1"))
    assert rows(figure)[0]["series"] != "=1+1"
