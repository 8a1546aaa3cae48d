"""Figures of real comparisons: what they hold, that nothing is cut off, and that they are the same each time."""

import base64
import io
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from quantviz import figures, images
from quantviz.comparison import CompareRequest, Workbench
from quantviz.figures.data.words import percent, wrapped
from quantviz.figures.print.maps import _draw, _number
from quantviz.specs import Heatmap, NetworkMap, QuantSpec, UsageError
from quantviz.store import TensorStore

CASES = {
    "W8A8": {},
    "W3A3": {"quant": QuantSpec(3, 3)},
    "class 0": {"target": 0},
    "own": {"quant": QuantSpec(3, 3), "target": "own"},
    "no saliency": {"saliency": None},
    "untrained": {"model": "squeezenet1_1", "weights": "untrained"},
}
EVERY = pytest.mark.parametrize("case", [*CASES, "flat saliency", "no evidence"])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    bench = Workbench(TensorStore(tmp_path_factory.mktemp("store")))
    chelsea = images.bundled("chelsea")
    few = tmp_path_factory.mktemp("few") / "few pictures"  # calibrating with all of the bundled ones takes long
    few.mkdir()
    for name in ("coffee", "china"):
        path = images.bundled_path(name)
        shutil.copy(path, few / path.name)
    found = {name: bench.compare(CompareRequest(calibration=few, **choice), chelsea) for name, choice in CASES.items()}
    flat = io.BytesIO()
    Image.new("L", (chelsea.rgb.shape[1], chelsea.rgb.shape[0]), 90).save(flat, "PNG")
    request = CompareRequest(calibration=few, saliency=flat.getvalue(), saliency_name="flat.png")
    found["flat saliency"] = bench.compare(request, chelsea)
    found["no evidence"] = _without_evidence(found["W8A8"])
    return found


def _without_evidence(comparison, reason="no positive evidence for the class at this layer"):
    blank = Heatmap(np.zeros(comparison.crop.shape[:2]), reason)
    return replace(comparison, quantized=replace(comparison.quantized, heatmap=blank))


def _traces(figure):
    """Return the heat traces by panel number."""
    return {int(trace.xaxis[1:] or 1): trace for trace in figure.data}


def _texts(figure):
    """Return the annotations' texts by panel number: the title first."""
    texts = {}
    for note in figure.layout.annotations:
        number = int(note.xref.removesuffix(" domain")[1:] or 1)
        texts.setdefault(number, []).append(re.sub(r"(<br>| )+", " ", note.text).strip())
    return texts


def _pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


# The maps


@pytest.mark.parametrize(("case", "order"), [("W8A8", "osfqd"), ("no saliency", "ofqd")])
def test_panels_come_in_reading_order_with_the_pixels_values(compared, case, order):
    comparison = compared[case]
    figure = figures.maps_figure(comparison, opacity=0.4)
    first, second = comparison.reference.heatmap.values, comparison.quantized.heatmap.values
    expected = {"f": first, "q": second, "d": second - first}
    if comparison.saliency:
        expected["s"] = comparison.saliency.heatmap.values
    traces = _traces(figure)
    assert sorted(traces) == list(range(2, len(order) + 1))
    for number, trace in traces.items():
        values = expected[order[number - 1]]
        assert trace.z.dtype == np.float32
        np.testing.assert_array_equal(trace.z, values[np.ix_(trace.y, trace.x)])
        assert trace.opacity == 0.4
        for pixels in (trace.x, trace.y):
            assert (pixels[0], pixels[-1]) == (0, 223)
            assert 1 <= np.diff(pixels).min() <= np.diff(pixels).max() <= 2


def test_maps_share_one_scale_and_the_difference_has_its_own(compared):
    figure = figures.maps_figure(compared["W8A8"], opacity=0.5)
    assert [trace.coloraxis for trace in figure.data] == ["coloraxis"] * 3 + ["coloraxis2"]
    shared, own = figure.layout.coloraxis, figure.layout.coloraxis2
    assert (shared.cmin, shared.cmax) == (0, 1)
    assert own.cmin == -own.cmax
    assert [colour for _, colour in own.colorscale][::2] == [figures.COLOURS["float"], figures.COLOURS["quantized"]]


@pytest.mark.parametrize(
    ("largest", "limit"), [(0.0, "0.05"), (0.004, "0.05"), (0.0501, "0.10"), (0.19, "0.20"), (0.3, "0.50"), (1, "1.00")]
)
def test_the_differences_limit_is_rounded_up_and_told(compared, largest, limit):
    comparison = compared["W8A8"]
    values = np.zeros((224, 224), np.float32)
    values[60, 40] = largest
    maps = [replace(comparison.reference, heatmap=Heatmap(heat)) for heat in (values, np.zeros_like(values))]
    figure = figures.maps_figure(replace(comparison, reference=maps[0], quantized=maps[1]), opacity=0.5)
    assert f"difference, ±{limit}" in _texts(figure)[5][0]
    assert figure.layout.coloraxis2.cmax == float(limit)
    assert figure.data[-1].z.min() == -np.float32(largest)


def test_titles_tell_the_class_explained_and_each_models_own_probability(compared):
    comparison = compared["W3A3"]
    own = {entry.label: entry.probability for entry in comparison.quantized.predictions}
    texts = _texts(figures.maps_figure(comparison, opacity=0.5))
    top = comparison.reference.predictions[0]
    assert texts[3] == [f"<b>float</b> {top.label} {percent(top.probability)}"]
    told = percent(own[top.label]) if top.label in own else ", below top-5"
    assert texts[4][0].replace(" ,", ",") == f"<b>W3A3</b> {top.label} {told}".replace(" ,", ",")
    texts = _texts(figures.maps_figure(compared["class 0"], opacity=0.5))
    assert [texts[number] for number in (3, 4)] == [
        [f"<b>{name}</b> class 0, below top-5"] for name in ("float", "W8A8")
    ]


@pytest.mark.parametrize(
    ("probability", "told"),
    [(0.393, "39 %"), (0.0421, "4.2 %"), (0.0999, "10 %"), (0.0001, "<0.1 %"), (0.9973, "99.7 %"), (1.0, ">99.9 %")],
)
def test_percentages_never_claim_none_or_all(probability, told):
    assert percent(probability) == told


def test_hovering_tells_pixel_and_value(compared):
    templates = [trace.hovertemplate for trace in figures.maps_figure(compared["W8A8"], opacity=0.5).data]
    assert templates[1] == "x %{x}, y %{y}<br>float %{z:.2f}<extra></extra>"
    assert templates[3] == "x %{x}, y %{y}<br>difference %{z:+.3f}<extra></extra>"


@pytest.mark.parametrize("case", ["W8A8", "no saliency"])
def test_panels_zoom_together_on_square_pixels_over_the_crop(compared, case):
    comparison = compared[case]
    layout = figures.maps_figure(comparison, opacity=0.5).layout
    count = len(layout.images)
    for number in range(1, count + 1):
        suffix = "" if number == 1 else str(number)
        x, y = layout[f"xaxis{suffix}"], layout[f"yaxis{suffix}"]
        assert (x.range, y.range) == ((-0.5, 223.5), (223.5, -0.5))
        assert y.scaleanchor == f"x{suffix}"
        assert (x.matches, y.matches) == ((None, None) if number == 1 else ("x", "y"))
        picture = layout.images[number - 1]
        assert (picture.xref, picture.yref, picture.x, picture.y) == (f"x{suffix}", f"y{suffix}", -0.5, -0.5)
        assert (picture.sizex, picture.sizey, picture.layer) == (224, 224, "below")
    np.testing.assert_array_equal(_pixels(layout.images[0].source), comparison.crop)
    luma = np.asarray(Image.fromarray(comparison.crop).convert("L"), np.float32)
    for picture in layout.images[1:]:
        assert np.abs(_pixels(picture.source) - luma).mean() < 2


def test_a_figure_is_light_enough_to_send_at_each_turn_of_a_knob(compared, noise_picture):
    comparison = compared["W3A3"]
    assert len(figures.maps_figure(comparison, opacity=0.5).to_json()) < 600_000
    hardest = replace(comparison, crop=noise_picture(1, 224, 224))
    assert len(figures.maps_figure(hardest, opacity=0.5).to_json()) < 800_000
    assert len(figures.predictions_figure(comparison).to_json()) < 20_000


@pytest.mark.parametrize(
    ("case", "blank", "reason"),
    [
        ("no evidence", {4, 5}, "no evidence: no positive evidence for the class at this layer"),
        ("flat saliency", {2}, "no evidence: "),
    ],
)
def test_a_map_without_evidence_gives_way_to_the_reason(compared, case, blank, reason):
    figure = figures.maps_figure(compared[case], opacity=0.5)
    assert set(_traces(figure)) == {2, 3, 4, 5} - blank
    texts = _texts(figure)
    assert {number for number, notes in texts.items() if len(notes) == 2} == blank
    assert texts[min(blank)][1].startswith(reason)
    assert bool(figure.layout.coloraxis2.showscale) == (5 not in blank)
    assert len(figure.layout.images) == 5


def test_untrained_weights_are_named_wherever_a_model_is(compared):
    comparison = compared["untrained"]
    texts = _texts(figures.maps_figure(comparison, opacity=0.5))
    assert all("UNTRAINED" in texts[number][0] for number in (3, 4))
    assert [bar.name for bar in figures.predictions_figure(comparison).data] == ["float UNTRAINED", "W8A8 UNTRAINED"]
    drawn = [text.get_text() for text in _draw(comparison, 100).texts]
    assert {"float UNTRAINED", "W8A8 UNTRAINED"} <= set(drawn)
    assert any("weights UNTRAINED" in text for text in drawn)


@EVERY
def test_the_pages_theme_decides_on_paper_and_text(compared, case):
    for figure in (figures.maps_figure(compared[case], opacity=0.5), figures.predictions_figure(compared[case])):
        layout = figure.layout
        assert (layout.paper_bgcolor, layout.plot_bgcolor) == ("rgba(0,0,0,0)", "rgba(0,0,0,0)")
        assert layout.font.color is None
        for note in layout.annotations:  # a text with its own colour brings its own background
            assert (note.font.color is None) == (note.bgcolor is None)


def test_names_of_files_are_shown_as_they_are(compared):
    comparison = compared["W8A8"]
    sample = replace(comparison.sample, name="<a href='x'>cat</a>\n$x$.png")
    note = figures.maps_figure(replace(comparison, sample=sample), opacity=0.5).layout.annotations[0]
    assert "<a" not in note.text
    assert "&lt;a" in note.text


@pytest.mark.parametrize("opacity", [-0.1, 1.5, float("nan")])
def test_an_opacity_out_of_range_is_refused(compared, opacity):
    with pytest.raises(UsageError, match=f"Opacity {opacity} is not a number from 0 to 1"):
        figures.maps_figure(compared["W8A8"], opacity=opacity)


# The predictions


@EVERY
def test_each_bar_is_a_prediction_and_a_missing_one_is_told(compared, case):
    comparison = compared[case]
    figure = figures.predictions_figure(comparison)
    labels = [label.replace("<br>", " ") for label in figure.layout.yaxis.ticktext]
    results = (comparison.reference, comparison.quantized)
    assert labels[:5] == [entry.label for entry in results[0].predictions]
    colours = [figures.COLOURS[name] for name in ("float", "quantized")]
    for bars, result, colour in zip(figure.data, results, colours, strict=True):
        assert {labels[round(y)]: x for x, y in zip(bars.x, bars.y, strict=True)} == {
            entry.label: entry.probability for entry in result.predictions
        }
        assert bars.marker.color == colour
    free = {(round(note.y), note.y > round(note.y)) for note in figure.layout.annotations}
    taken = {(round(y), y > round(y)) for bars in figure.data for y in bars.y}
    assert free | taken == {(row, below) for row in range(len(labels)) for below in (False, True)}
    assert not free & taken
    assert all("below top-5" in note.text for note in figure.layout.annotations)


def test_a_flip_leaves_places_free(compared):
    comparison = compared["W3A3"]
    assert comparison.flipped
    assert figures.predictions_figure(comparison).layout.annotations


# The paper's figure


@EVERY
def test_the_png_is_seven_inches_wide_and_tells_its_settings(compared, case):
    comparison = compared[case]
    with Image.open(io.BytesIO(figures.paper_png(comparison, dpi=120))) as picture:
        assert picture.width == 7 * 120
        assert picture.info["dpi"] == pytest.approx((120, 120), abs=0.1)
        assert set(picture.info) == {"dpi", "Description"}
        settings = json.loads(picture.info["Description"])
        pixels = np.asarray(picture.convert("RGB"))
    assert settings["weights"]["sha256"] == comparison.weights.sha256
    assert settings["quantization"]["weight_bits"] == comparison.quant.weight_bits
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (border == 255).all()


@EVERY
def test_no_text_of_the_png_is_small_cut_off_or_over_another(compared, case):
    figure = _draw(compared[case], 300)
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in figure.findobj(lambda item: hasattr(item, "get_text")) if text.get_text().strip()]
    texts = [text for text in texts if text.get_visible()]
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts]
    assert min(text.get_fontsize() for text in texts) >= 6
    width, height = canvas.get_width_height()
    for name, box in boxes:
        assert box.x0 >= 0, name
        assert box.y0 >= 0, name
        assert box.x1 <= width, name
        assert box.y1 <= height, name
    for number, (name, box) in enumerate(boxes):
        for other, its in boxes[number + 1 :]:
            wide = min(box.x1, its.x1) - max(box.x0, its.x0)
            high = min(box.y1, its.y1) - max(box.y0, its.y0)
            # descenders reach below the baseline: two of 25 pixels a line may touch
            assert wide <= 0 or high <= 3, (name, other)


def test_the_png_shows_the_scores_and_what_they_are_of(compared):
    comparison = compared["W3A3"]
    drawn = [text.get_text() for text in _draw(comparison, 100).texts]
    assert drawn.count("v saliency") == 2
    assert drawn.count("v float") == 1
    for marks in comparison.scores.values():
        for value in (marks.sim, marks.cc, marks.kld):
            assert f"{value:.3f}".replace("-", "−").replace("0.", ".", 1) in drawn
    foot = " ".join(drawn[-3:])
    top = comparison.reference.predictions[0]
    for told in ("efficientnet_lite0", "W3A3", "gradcam++ at bn2", f"{top.index} {top.label}", "224 × 224", "quantviz"):
        assert told in foot
    assert f"{comparison.calibration.images} inputs from few pictures" in foot


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, ".000"),
        (6e-5, "<.001"),
        (0.6057, ".606"),
        (-0.136, "−.136"),
        (0.99973, ">.999"),
        (1.0, "1.000"),
        (36.04, "36.040"),
    ],
)
def test_rounding_claims_no_perfect_agreement(value, told):
    assert _number(value) == told


def test_scores_of_a_map_without_evidence_are_dashes(compared):
    drawn = [text.get_text() for text in _draw(compared["flat saliency"], 100).texts]
    assert drawn.count("–") == 6


def test_the_same_comparison_gives_the_same_bytes(compared):
    comparison = compared["W8A8"]
    again = replace(comparison, seconds=99.0, cached=True)
    with ThreadPoolExecutor(4) as threads:
        several = set(threads.map(lambda each: figures.paper_png(each, dpi=80), [comparison, again] * 3))
    assert len(several) == 1
    assert several != {figures.paper_png(compared["W3A3"], dpi=80)}


def test_any_file_name_can_be_drawn(compared):
    comparison = compared["W8A8"]
    for name in ("a$b_{$.pth", "模型.pth", "line\nbreak\x00.pth", "long-" * 60 + ".pth"):
        weights = replace(comparison.weights, source="file", name=name)
        odd = replace(comparison, weights=weights, calibration=replace(comparison.calibration, source=name))
        assert figures.paper_png(odd, dpi=60).startswith(b"\x89PNG")
        widest = max(len(text.get_text()) for text in _draw(odd, 60).texts)
        assert widest <= 140


@pytest.mark.parametrize("dpi", [0, 49, 5000, float("nan")])
def test_a_resolution_out_of_range_is_refused(compared, dpi):
    with pytest.raises(UsageError, match=f"{dpi} dpi is not a number from 50 to 1200"):
        figures.paper_png(compared["W8A8"], dpi=dpi)


def test_figures_bring_neither_streamlit_nor_torch_nor_pyplot(imported):
    code = "import quantviz.figures, matplotlib.style, matplotlib.figure"
    assert imported(code, "streamlit", "torch", "matplotlib.pyplot", "matplotlib") == ["matplotlib"]


def test_a_number_stays_on_a_line_with_its_unit():
    assert wrapped("tiger cat 39 %", 12) == ["tiger cat", "39 %"]
    assert wrapped("tiger cat 39 %", 14) == ["tiger cat 39 %"]


# One network's map


def test_one_networks_map_is_drawn_without_a_difference(compared):
    found = compared["W8A8"]
    marks = {"map_v_saliency": found.scores["float_v_saliency"]}
    given = (found.model, found.weights, found.cam, "own", found.sample, found.crop, found.reference, found.saliency)
    shown = NetworkMap(*given, marks, seconds=0.1, versions=found.versions)
    figure = figures.maps_figure(shown, opacity=0.5)
    assert [texts[0].split("</b>")[0] for texts in _texts(figure).values()] == [
        "<b>original",
        "<b>saliency",
        "<b>efficientnet_lite0",
    ]
    assert "coloraxis2" not in figure.to_plotly_json()["layout"]
    settings = json.loads(Image.open(io.BytesIO(figures.paper_png(shown, dpi=72))).text["Description"])
    assert settings["class_index"] == found.reference.class_index
    assert settings["scores"].keys() == {"map_v_saliency"}


def test_panels_as_pixels_are_the_picture_the_maps_and_grey_where_there_is_no_evidence(compared):
    found = compared["W8A8"]
    pixels = {panel.kind: _pixels(uri) for panel, _, uri in figures.panel_pictures(found)}
    assert list(pixels) == ["original", "saliency", "float", "quantized", "difference"]
    assert (pixels["original"] == found.crop).all()
    red, _, blue = pixels["float"][found.reference.heatmap.values > 0.99].astype(int).mean(axis=0)
    assert red > blue + 50  # yellow, where viridis ends
    empty = {panel.kind: _pixels(uri) for panel, _, uri in figures.panel_pictures(compared["no evidence"])}
    assert (empty["quantized"] == empty["difference"]).all()
    assert (empty["quantized"] == empty["quantized"][..., :1]).all()
