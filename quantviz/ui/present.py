"""The presentation: one saved view at a time, large, without controls; the arrow keys go on and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import streamlit as st

from quantviz import figures, images
from quantviz.specs import CALIBRATED, UsageError
from quantviz.study.filters import Filters, StudyView, picture_drift, ranking, study_view
from quantviz.study.pictures import pictures_folder, study_picture
from quantviz.study.presentation import SHIPPED_FILE, Presentation, Slide, read_presentation
from quantviz.study.published import published_triangles, reproductions, shipped_attributions
from quantviz.ui.charts import PLAIN
from quantviz.ui.plain import plain
from quantviz.ui.shell import PRESENTED
from quantviz.ui.studies import floor_of, grids_of, study_folder, summary_of, table_of

VARIABLE: Final = "QUANTVIZ_PRESENT"
"""Environment variable with the path of the file that the server presents."""

_HEIGHT: Final = 560
_LETTERS: Final = 20


def show_presentation() -> None:
    """Show the slide that the address names.

    Raises:
        UsageError: the presentation, or what a slide names, is not there.
    """
    presentation = _presentation()
    count = len(presentation.slides)
    st.html(f"<style>{PRESENTED.read_text(encoding='utf-8')}</style>")
    at = _place(count)
    slide = presentation.slides[at]
    st.title(slide.title, anchor=False)
    if slide.text:
        st.markdown(slide.text)
    if slide.show == "maps":
        _show_maps(slide)
    elif slide.show != "text":
        st.plotly_chart(_large(_figure(slide)), key=f"slide_{at}", config=PLAIN, alt=slide.title)
    st.caption(f"{at + 1} / {count}")
    with st.container(key="steps", horizontal=True):
        st.button("Back", key="slide_back", shortcut="Left", on_click=_go, args=(at - 1, count), disabled=at == 0)
        st.button("On", key="slide_on", shortcut="Right", on_click=_go, args=(at + 1, count), disabled=at == count - 1)


def _presentation() -> Presentation:
    path = Path(os.environ.get(VARIABLE) or SHIPPED_FILE)
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        stamp = 0
    return _read(str(path), stamp)


@st.cache_resource(show_spinner=False, max_entries=2)
def _read(path: str, stamp: int) -> Presentation:
    return read_presentation(Path(path))


def _place(count: int) -> int:
    """Return which slide the address names, from 0; the first one where it names none."""
    text = st.query_params.get("slide", "1")
    return min(max(int(text), 1), count) - 1 if text.isascii() and text.isdigit() and len(text) < 6 else 0


def _go(at: int, count: int) -> None:
    st.query_params["slide"] = str(min(max(at, 0), count - 1) + 1)


def _large(figure: Any) -> Any:
    """Return a figure with letters that are read from the last row."""
    figure.update_layout(height=_HEIGHT, font_size=_LETTERS, legend_font_size=_LETTERS, margin_t=88)
    figure.update_xaxes(title_font_size=_LETTERS, tickfont_size=_LETTERS)
    figure.update_yaxes(title_font_size=_LETTERS, tickfont_size=_LETTERS)
    figure.update_annotations(font_size=_LETTERS)
    figure.update_traces(marker_size=14, selector={"mode": "lines+markers"})
    return figure


def _figure(slide: Slide) -> Any:
    if slide.show == "triangle":
        return figures.triangle_figure(published_triangles())
    if slide.show == "gap":
        return figures.attribution_figure(_gap(slide))
    if slide.show == "table1":
        rows = reproductions(summary_of(study_folder(slide.study)))
        return figures.agreement_figure(rows, slide.metric or "cc")
    path = study_folder(slide.study)
    view = _view(slide, path)
    untrained = [model.name for model in view.table.plan.models if not model.weights.trained]
    if slide.show == "accuracy":
        measure: figures.AccuracyMeasure = slide.metric or "accuracy"  # type: ignore[assignment]
        return figures.accuracy_figure(figures.accuracy_chart(view.cells, measure, untrained=untrained))
    if slide.show == "ranking":
        cell = view.cells[0]
        ranked = ranking(view.table, cell.setting, cell.protocol, chosen=view.chosen)
        return figures.ranking_figure(figures.ranking_chart(ranked, untrained=untrained))
    floor, _ = floor_of(path, view.table.plan)
    known = [floor.mean(model.name) for model in view.summary.plan.models] if floor is not None else []
    highest = max((one for one in known if one), default=None)
    chart = figures.drift_chart(view.cells, slide.metric or "drift", untrained=untrained, floor=highest)
    return figures.drift_figure(chart)


def _view(slide: Slide, path: Path) -> StudyView:
    filters = Filters(slide.networks, slide.bits, slide.protocols)
    view = study_view(table_of(path), filters, summary_of(path))
    if not view.cells:
        raise UsageError(f"Slide {slide.title!r} names nothing that study {slide.study!r} has; mend its file.")
    return view


def _gap(slide: Slide) -> Any:
    shipped = {attribution.model: attribution for attribution in shipped_attributions()}
    name = next(iter(slide.networks or shipped))
    if name not in shipped:
        raise UsageError(f"Slide {slide.title!r} shows the gap of {name!r}; use one of {', '.join(shipped)}.")
    return shipped[name]


def _show_maps(slide: Slide) -> None:
    """Show a photograph and its maps side by side, from the maps that a study keeps."""
    path = study_folder(slide.study)
    table = table_of(path)
    plan = table.plan
    grids, _ = grids_of(path, plan)
    index = next((at for at, image in enumerate(plan.images) if Path(image.path).stem == slide.picture), None)
    network = slide.networks[0] if slide.networks else plan.models[0].name
    protocol = slide.protocols[0] if slide.protocols else CALIBRATED
    cells = [cell for cell in plan.cells if cell[0] == network and cell[2] == protocol]
    shown = [cell for label in slide.bits for cell in cells if cell[1] == label] if slide.bits else cells
    if grids is None or index is None or not shown:
        raise UsageError(f"Slide {slide.title!r} shows maps that study {slide.study!r} does not keep; mend its file.")
    model = next(entry for entry in plan.models if entry.name == network)
    crop = images.crop(study_picture(plan, index, pictures_folder(plan)).rgb, model.weights.preprocessing)
    columns = st.columns(len(shown) + 2)
    columns[0].image(crop, caption=Path(slide.picture).stem, width="stretch", alt=f"photograph {slide.picture}")
    for place, (column, cell) in enumerate(zip(columns[1:], [shown[0], *shown], strict=True)):
        pair = grids.pair(cell, index)
        if pair is None:
            raise UsageError(f"Slide {slide.title!r} shows {cell[1]}, of which study {slide.study!r} keeps no map.")
        drift = picture_drift(table, table.cells.index(cell), index)
        words = f"float: {drift.float_top1}" if not place else f"{cell[1]}: {drift.quantized_top1}"
        picture = figures.map_over(crop, pair[min(place, 1)])
        column.image(picture, caption=plain(words), width="stretch", alt=f"{slide.picture}, map of {words}")
