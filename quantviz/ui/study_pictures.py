"""The Study page's pictures: the worst and the median ones of a cell, and the grid of one picture's maps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from PIL import Image, ImageOps

from quantviz import figures, images
from quantviz.specs import ImageError, UsageError, Variant
from quantviz.study.filters import PictureDrift, extremes, picture_drift
from quantviz.study.pictures import PACKAGED, compare_request, picture_grid, pictures_folder, study_picture
from quantviz.ui import visible_progress, workbench, wrapping
from quantviz.ui.charts import PLAIN
from quantviz.ui.from_study import compare_address
from quantviz.ui.plain import code, plain
from quantviz.ui.serving import serving, visitors_path
from quantviz.ui.studies import finished_studies
from quantviz.ui.study import Cell, Opened, choose_cell

_COUNT = 4
_GALLERY = "photographs"  # the shipped study whose pictures come with installed packages
_THUMBNAIL = 256  # pixels a side


def show_pictures(opened: Opened) -> None:
    """Show the pictures of a cell whose maps drift most and those in the middle, and the grid of a chosen one."""
    cell = choose_cell(opened)
    elsewhere, folder = _folder(opened)
    for which, words in (("worst", "The largest drift"), ("median", "The median drift")):
        st.subheader(words, anchor=False)
        drifts = extremes(opened.view, cell, which, _COUNT)  # type: ignore[arg-type]
        if not drifts:
            st.info("No picture here has a drift; widen the filters.", icon=":material/filter_alt_off:")
            continue
        _cards(opened, cell, drifts, elsewhere, folder, which)
    _grid(opened, cell, elsewhere, folder)


def show_cards(opened: Opened, cell: Cell, drifts: Sequence[PictureDrift], key: str) -> None:
    """Show some pictures of a cell, with their numbers and ways to their maps.

    Args:
        opened: the study.
        cell: of the study.
        drifts: the pictures, in the order in which they are shown.
        key: of this place on the page.
    """
    elsewhere, folder = None, None
    try:
        elsewhere = typed_folder()
        folder = pictures_folder(opened.plan, elsewhere)
    except (ImageError, UsageError):
        folder = None
        st.caption("Only numbers are shown without the study's pictures; the tab *Pictures* says how to name them.")
    _cards(opened, cell, drifts, elsewhere, folder, key)


def typed_folder() -> Path | None:
    """Return the folder of pictures that the address names, or None."""
    typed = st.query_params.get("pictures", "").strip()
    return visitors_path(typed) if typed and not serving().public else None


def _cards(
    opened: Opened, cell: Cell, drifts: Sequence[PictureDrift], elsewhere: Path | None, folder: Path | None, key: str
) -> None:
    for start in range(0, len(drifts), _COUNT):
        columns = wrapping(f"{key}-{start}", "cards").columns(_COUNT)
        for column, drift in zip(columns, drifts[start : start + _COUNT], strict=False):
            with column:
                _card(opened, cell, drift, elsewhere, folder, key)


def _folder(opened: Opened) -> tuple[Path | None, Path | None]:
    """Return the folder that the user names, and the one that holds the pictures; None for a missing one."""
    plan = opened.plan
    place = st.empty()
    typed = ""
    here = plan.dataset == PACKAGED or Path(plan.dataset).is_dir()
    if not serving().public and (not here or st.query_params.get("pictures")):
        typed = st.text_input(
            "Where the study's pictures are on this machine",
            key="pictures",
            bind="query-params",
            help="Each is known by its sha256, so that another one is not taken for it.",
        ).strip()
    elsewhere = visitors_path(typed) if typed else None
    try:
        return elsewhere, pictures_folder(plan, elsewhere)
    except ImageError as error:
        place.warning(plain(error), icon=":material/folder_off:")
        if _GALLERY in finished_studies() and opened.name != _GALLERY:
            st.markdown(
                f"The study [{_GALLERY}](./study?study={_GALLERY}&part=Pictures) has pictures that everyone has: "
                "they come with installed packages, and quantviz comes with their maps."
            )
        return elsewhere, None


def _card(
    opened: Opened, cell: Cell, drift: PictureDrift, elsewhere: Path | None, folder: Path | None, which: str
) -> None:
    """Show a picture with its results in the study, and links to its maps."""
    if folder is not None:
        try:
            _show_picture(opened, cell, folder, drift.index)
        except ImageError as error:
            st.caption(f":material/broken_image: {plain(error)}")
    before, after = (
        figures.percent(part).replace(" ", "\N{NO-BREAK SPACE}")
        for part in (drift.float_probability, drift.quantized_probability)
    )
    change = f"**{plain(drift.float_top1)}** {before} → "
    change += after if drift.quantized_top1 == drift.float_top1 else f"**{plain(drift.quantized_top1)}** {after}"
    label = f"  \nis {plain(drift.label)}" if drift.label else ""
    st.markdown(f"drift **{figures.number(drift.drift)}**  \n{change}{label}")
    st.caption(code(drift.path))

    def choose() -> None:
        st.session_state["picture"] = drift.index
        # Asked for in the same step: a click on another button before the page has run would bring the old number back.
        st.session_state["grid_asked"] = _asked(opened, cell, folder, drift.index)

    st.button("All its maps", key=f"grid_{which}_{drift.index}", on_click=choose, icon=":material/grid_view:")
    _link(opened, cell, drift.index, elsewhere, f"{which}_{drift.index}")


def _show_picture(opened: Opened, cell: Cell, folder: Path, index: int) -> None:
    """Show a picture, or its float and quantized map where the study keeps them."""
    image = opened.plan.images[index]
    pair = opened.grids.pair(cell, index) if opened.grids is not None else None
    if pair is None:
        st.image(_thumbnail(opened, str(folder), index, image.sha256), width="stretch", alt=image.path)
        return
    for column, name, side in zip(st.columns(2, gap="small"), ("float", cell[1]), (0, 1), strict=True):
        picture = _map_thumbnail(opened, str(folder), index, image.sha256, cell, side)
        column.image(picture, width="stretch", caption=name, alt=f"{image.path}, map of {name}")


def _link(opened: Opened, cell: Cell, index: int, elsewhere: Path | None, key: str) -> None:
    # A link of its own, not one of the app's: within a session the Compare page's widgets keep what they were set to.
    address = compare_address(opened.name, opened.plan, cell, index, elsewhere)
    if not address:
        return
    st.link_button("Compare", address, key=f"compare_{key}", icon=":material/compare:", type="tertiary")


def _grid(opened: Opened, cell: Cell, elsewhere: Path | None, folder: Path | None) -> None:
    """Show one picture under every model and bit-width that the filters leave, after a click."""
    plan, table = opened.plan, opened.view.table
    st.subheader(f"One picture, every model and {plan.setting_word}", anchor=False)
    index = int(
        st.number_input(
            "Picture",
            0,
            len(plan.images) - 1,
            key="picture",
            bind="query-params",
            help="Its place in the study, from 0; *All its maps* above sets it and computes its maps.",
        )
    )
    cells = _cells(opened, cell[2])
    shown = picture_drift(table, table.cells.index(cell), index)
    st.markdown(code(shown.path) + (f", {plain(shown.label)}" if shown.label else ""))
    if folder is None:
        st.info("Without the study's pictures no map can be computed.", icon=":material/folder_off:")
        return
    asked = _asked(opened, cell, folder, index)
    place = st.empty()
    if st.session_state.get("grid_asked") != asked:
        with place.container():
            st.caption(
                f"{len(cells)} pairs of maps; the first time each network is loaded and calibrated: some seconds."
            )
            if not st.button("Compute the maps", key="start_grid", type="primary", icon=":material/play_arrow:"):
                return
    place.empty()
    st.session_state["grid_asked"] = asked
    simulated = [entry for entry in cells if isinstance(plan.cell(entry)[1], Variant)]
    from quantviz.ui.study_deployed import exported  # here, as no other part of the page needs it

    if not exported([compare_request(plan, entry) for entry in simulated]):
        return
    with visible_progress() as progress:
        rows = picture_grid(workbench(), plan, index, folder, cells, progress)
    st.plotly_chart(figures.grid_figure(rows), key="grid", config=PLAIN)
    if plan.sequential(cell[2]):
        st.caption(
            "Under this protocol the observers go on from picture to picture in a sweep; here they start at this one, "
            "so that the maps are not quite those of the study."
        )
    _link(opened, cell, index, elsewhere, "grid")


def _cells(opened: Opened, protocol: str) -> list[Cell]:
    return [(entry.model, entry.setting, entry.protocol) for entry in opened.view.cells if entry.protocol == protocol]


def _asked(opened: Opened, cell: Cell, folder: Path | None, index: int) -> tuple[object, ...]:
    """Return what identifies a grid: while it stays the same, no further click is needed."""
    return opened.path, index, tuple(_cells(opened, cell[2])), folder


@st.cache_data(show_spinner=False, max_entries=128)
def _thumbnail(_opened: Opened, folder: str, index: int, sha256: str) -> bytes:
    """Return the middle of a picture as a small JPEG.

    Raises:
        ImageError: the file is missing, cannot be used, or is not the study's.
    """
    sample = study_picture(_opened.plan, index, Path(folder))
    buffer = io.BytesIO()
    ImageOps.fit(Image.fromarray(sample.rgb), (_THUMBNAIL, _THUMBNAIL)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@st.cache_data(show_spinner=False, max_entries=256)
def _map_thumbnail(_opened: Opened, folder: str, index: int, sha256: str, cell: Cell, side: int) -> bytes:
    """Return the float (0) or the quantized (1) map over what the network saw, as a small JPEG.

    Raises:
        ImageError: as ``_thumbnail``.
    """
    plan = _opened.plan
    assert _opened.grids is not None
    pair = _opened.grids.pair(cell, index)
    assert pair is not None
    model = next(entry for entry in plan.models if entry.name == cell[0])
    crop = images.crop(study_picture(plan, index, Path(folder)).rgb, model.weights.preprocessing)
    buffer = io.BytesIO()
    Image.fromarray(figures.map_over(crop, pair[side])).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
