"""The page "Your photographs": several pictures at several precisions, and which of these is safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final

import pandas as pd
import streamlit as st

from quantviz import figures, images
from quantviz.comparison import CompareRequest
from quantviz.layerwise.noise import noise_floor
from quantviz.layerwise.precision import Precision, precision_of, smallest_within
from quantviz.specs import Comparison, ImageError, ImageSample, Progress, QuantSpec, counted
from quantviz.ui import workbench, wrapping
from quantviz.ui.bit_widths import SLOW_METHODS, of_width, view_of
from quantviz.ui.choices import choose_limits
from quantviz.ui.controls import choose_request
from quantviz.ui.decoded import decoded
from quantviz.ui.from_study import scheme_query
from quantviz.ui.links import Linked
from quantviz.ui.plain import code, plain
from quantviz.ui.quantization import IN_FLOAT
from quantviz.ui.thumbnails import keep_upload, square_of
from quantviz.ui.turns import computing
from quantviz.ui.viewer import show_maps

_PHOTOGRAPH = "photograph"  # in an address of Compare: the digest of the picture that it opens
MOST: Final = 60
"""Pictures at once: beyond, a sweep on the Study page is the way."""

_BITS: Final = ("16", "8", "7", "6", "5", "4", "3", "2")
_USUAL: Final = ("8", "6", "5", "4")
_SHOWN: Final = 12
_BUNDLED: Final = f"the {len(images.BUNDLED)} photographs that come with quantviz"
_AT_ONCE: Final = "judge_at_once"


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Several pictures at several precisions.

    Attributes:
        rows: of each picture its comparisons with its noise floor, at the greatest precision first.
        floor: the mean drift of a change that nobody sees, or None.
    """

    rows: tuple[tuple[Comparison, ...], ...]
    floor: float | None

    def precisions(self) -> tuple[Precision, ...]:
        """Return what each precision does, the greatest first."""
        return tuple(precision_of(column, self.floor) for column in zip(*self.rows, strict=True))


def choose() -> tuple[CompareRequest, tuple[int, ...], list[ImageSample], tuple[str, ...]]:
    """Draw the widgets; return the request, the bit-widths, the pictures, and sentences about values not taken."""
    linked = Linked()
    with st.sidebar:
        request = choose_request(linked, protocols=False, targets=False)
        st.caption("The precisions on the right take the place of these bits; the rest of the scheme counts.")
    samples, refused = photographs_given()
    bits = st.pills(
        "Bits to test, of weights and activations",
        _BITS,
        selection_mode="multi",
        default=_USUAL,
        key="precisions",
        bind="query-params",
    )
    return request, tuple(sorted(map(int, bits), reverse=True)), samples, (*linked.ignored, *refused)


def photographs_given() -> tuple[list[ImageSample], list[str]]:
    """Draw the uploads; return the pictures, of now or from before on another page, and sentences about the others."""
    files = st.file_uploader(
        "Photographs",
        type=sorted(suffix.removeprefix(".") for suffix in images.SUFFIXES),
        accept_multiple_files=True,
        max_upload_size=images.MAX_BYTES >> 20,
        key="photographs",
        on_change=_forget,
    )
    with st.popover("Or a whole folder", icon=":material/folder_open:"):
        folder = st.file_uploader(
            "Folder of photographs",
            type=sorted(suffix.removeprefix(".") for suffix in images.SUFFIXES),
            accept_multiple_files="directory",
            max_upload_size=images.MAX_BYTES >> 20,
            key="photograph_folder",
            on_change=_forget,
        )
    st.caption(f"Up to {MOST} at once. They stay on this machine, are kept for this session only, and go with it.")
    return _read([(file.getvalue(), file.name) for file in (*files, *folder)] or _kept())


def show_first_state() -> None:
    """Say what the page is for, what to bring and what comes of it, and offer an example."""
    bring, limits, read = wrapping("first", "cards").columns(3, gap="medium")
    with bring.container(border=True, height="stretch"):
        st.markdown(
            "**1. Bring photographs**  \nDrop about twenty photographs, of what your network will see: with fewer, "
            "little can be said of all the others."
        )
    with limits.container(border=True, height="stretch"):
        st.markdown(
            "**2. Set your limits**  \nHow many labels may flip, and how far a map may drift, counted in changes that "
            "nobody sees."
        )
    with read.container(border=True, height="stretch"):
        st.markdown(
            "**3. Read the answer**  \nWhich is the smallest precision within your limits, and which photographs "
            "drift most, each a click from Compare."
        )
    st.button(
        f"Try it with {_BUNDLED}", on_click=_take_bundled, key="example_photographs", icon=":material/play_arrow:"
    )
    with st.container(horizontal=True, gap="small"):
        for name in images.BUNDLED:
            st.image(square_of(name, 192), width=96, alt=name)


def _take_bundled() -> None:
    """Take the photographs that come with quantviz, and judge them at once."""
    _forget()
    for name in images.BUNDLED:
        path = images.bundled_path(name)
        _files()[images.bundled(name).id] = (path.read_bytes(), path.name)
    st.session_state[_AT_ONCE] = True


def judged(request: CompareRequest, bits: Sequence[int], samples: Sequence[ImageSample]) -> Judged | None:
    """Return the pictures at every precision, once they are asked for; None until then.

    Args:
        request: model, scheme and map.
        bits: the precisions, the greatest first.
        samples: the pictures.
    """
    if request.cam.method in SLOW_METHODS:
        st.info("This method takes one forward pass a channel; choose another for several pictures.")
        return None
    key = (request, tuple(bits), tuple(sample.id for sample in samples))
    results: dict[object, Judged] = st.session_state.setdefault("judged", {})
    if key in results:
        return results[key]
    place = st.empty()
    count = counted(len(samples), "photograph")
    at_once = st.session_state.pop(_AT_ONCE, False)
    asked = place.button(f"Test {count} at {counted(len(bits), 'precision')}", type="primary", key="judge")
    if not asked and not at_once:
        return None
    place.empty()
    with computing(long=True) as progress:
        results.clear()  # a session keeps one: the store has the maps of others
        results[key] = _computed(request, bits, samples, progress)
    st.toast(f"{count} judged. [See the answer](#the-answer)", icon=":material/done_all:", duration="long")
    return results[key]


def show_answer(result: Judged) -> Precision:
    """Show which precision is safe within limits that the visitor sets; return it, or the greatest where none is."""
    precisions = result.precisions()
    st.subheader("The answer", anchor="the-answer")
    flips, multiple = choose_limits()
    safe, words = smallest_within(precisions, flips / 100, multiple)
    (st.success if safe else st.warning)(f"**{words}**", icon=":material/verified:" if safe else ":material/warning:")
    st.table(_strip(precisions, flips / 100, multiple))
    if precisions[0].n < _SHOWN:
        st.caption(
            f"{precisions[0].n} photographs say little: without a single flip among them, up to "
            f"{precision_of(result.rows[0][:1] * precisions[0].n, None).flips_high:.0%} of all may flip. Add some."
        )
    return safe or precisions[0]


def show_gallery(request: CompareRequest, result: Judged, chosen: Precision) -> None:
    """Show the photographs at a precision, the one that drifts most first, and one of them at every precision.

    Args:
        request: model, scheme and map.
        result: from ``judged``.
        chosen: the precision that is shown first.
    """
    labels = [comparison.quant.label for comparison in result.rows[0]]
    label = st.segmented_control("Shown at", labels, default=chosen.label, key=f"shown_{chosen.label}", required=True)
    at = labels.index(str(label))
    order = sorted(range(len(result.rows)), key=lambda place: _drift(result.rows[place][at]), reverse=True)
    names = [result.rows[place][0].sample.name for place in order]
    opened = st.selectbox(
        "Open a photograph at every precision", range(len(order)), format_func=lambda place: names[place], key="opened"
    )
    show_maps(view_of(result.rows[order[opened]], at), key="photograph")
    for start in range(0, min(len(order), _SHOWN), 4):
        for column, place in zip(st.columns(4), order[start : min(start + 4, _SHOWN)], strict=False):
            with column:
                _tile(request, result.rows[place][at])
    if len(order) > _SHOWN:
        st.caption(f"The {_SHOWN} that drift most of {len(order)}; the others can be opened above.")


def _files() -> dict[str, tuple[bytes, str]]:
    """Return the session's photographs by their digest: bytes and name."""
    files: dict[str, tuple[bytes, str]] = st.session_state.setdefault("photograph_files", {})
    return files


def _forget() -> None:
    """Forget the photographs: others were chosen, or they were taken away."""
    _files().clear()


def _kept() -> list[tuple[bytes, str]]:
    """Return the session's photographs, where one comes back to the page, and say that they are still there."""
    kept = list(_files().values())
    if kept:
        left, right = st.columns([3, 1], vertical_alignment="center")
        own = {name for _, name in kept} != {images.bundled_path(name).name for name in images.BUNDLED}
        words = f"{counted(len(kept), 'photograph')}, uploaded before" if own else f"T{_BUNDLED[1:]}"
        left.markdown(f":material/photo_library: {words}")
        right.button("Remove", on_click=_forget, key="forget_photographs", icon=":material/close:", width="stretch")
    return kept


def _read(files: Sequence[tuple[bytes, str]]) -> tuple[list[ImageSample], list[str]]:
    """Return the pictures among files, once each, and a sentence for each other file."""
    samples: dict[str, ImageSample] = {}
    refused = []
    _forget()
    for data, name in files[:MOST]:
        try:
            sample = decoded(data, name)
        except ImageError as error:
            refused.append(str(error))
            continue
        if sample.id in samples:
            refused.append(f"{sample.name} is the same picture as {samples[sample.id].name}; it counts once.")
        samples.setdefault(sample.id, sample)
        _files()[sample.id] = (data, name)
    if len(files) > MOST:
        refused.append(
            f"{len(files)} photographs were given, and the first {MOST} are taken; sweep over a folder of more."
        )
    return list(samples.values()), refused


def _computed(
    request: CompareRequest, bits: Sequence[int], samples: Sequence[ImageSample], progress: Progress
) -> Judged:
    bench, asked = workbench(), [of_width(request, width) for width in bits]
    started, rows = monotonic(), []
    for done, sample in enumerate(samples):
        left = "" if not done else f", {(monotonic() - started) / done * (len(samples) - done):.0f} s left"
        progress(f"Comparing {sample.name}, {done + 1} of {len(samples)}{left}", done / len(samples))
        rows.append(tuple(bench.compare(one, sample) for one in asked))
    floor = noise_floor(bench, replace(asked[0], target="float"), samples, progress, calibration=False)
    judged = (
        tuple(replace(comparison, floor=own) for comparison in row) for row, own in zip(rows, floor.floors, strict=True)
    )
    return Judged(tuple(judged), floor.floor)


def _strip(precisions: Sequence[Precision], most_flips: float, most_multiple: float) -> pd.DataFrame:
    rows = {
        one.label: {
            "within your limits": "yes" if one.within(most_flips, most_multiple) else "no",
            "labels that flip": f"{one.flips} of {one.n} (up to {one.flips_high:.0%})",
            "map drift, 1 − CC": "–" if one.drift is None else figures.number(one.drift),
            "in changes that nobody sees": "–" if one.multiple is None else f"{one.multiple:.1f}",
            "maps without evidence": str(one.unscored),
        }
        for one in precisions
    }
    return pd.DataFrame(rows).T


def _link_to_compare(request: CompareRequest, comparison: Comparison) -> None:
    """Draw a link to Compare with a photograph, as it was compared here; the session stays, and with it the file.

    Streamlit sets no value of an address that a widget of this page has, so that a button cannot lead there.
    """
    quant = comparison.quant
    assert isinstance(quant, QuantSpec)
    query: dict[str, str | list[str]] = {"model": request.model, "cam": request.cam.method}
    query |= {"weights": request.weights} if request.weights else {}
    query |= {"layer": request.cam.layer} if request.cam.layer else {}
    query |= {"weight_bits": str(quant.weight_bits or IN_FLOAT), "act_bits": str(quant.act_bits or IN_FLOAT)}
    query |= scheme_query(quant) | {_PHOTOGRAPH: comparison.sample.id}
    st.page_link("pages/compare.py", label="Open in Compare", icon=":material/compare:", query_params=query)


def take_photograph() -> None:
    """Let the picture that Compare was opened with, one of this session's photographs, be its own picture.

    A link to a photograph of another session, or of one that is gone, opens with the picture that Compare has.
    """
    wanted = st.query_params.get(_PHOTOGRAPH)
    if wanted is None:
        return
    del st.query_params[_PHOTOGRAPH]
    if wanted in _files():
        keep_upload(*_files()[wanted])


def _tile(request: CompareRequest, comparison: Comparison) -> None:
    shown = [
        (panel.name, picture)
        for panel, _, picture in figures.panel_pictures(comparison)
        if panel.kind in ("float", "quantized")
    ]
    for column, (name, picture) in zip(st.columns(2, gap="small"), shown, strict=True):
        column.image(picture, width="stretch", alt=f"{comparison.sample.name}, {name}")
    before, after = comparison.reference.predictions[0], comparison.quantized.predictions[0]
    sentence = comparison.verdict.sentence
    change = f"**{plain(before.label)} → {plain(after.label)}**" if comparison.flipped else plain(before.label)
    st.markdown(f"{change}  \n{sentence[0].upper()}{sentence[1:]}")
    st.caption(code(comparison.sample.name))
    _link_to_compare(request, comparison)


def _drift(comparison: Comparison) -> float:
    cc = comparison.scores["quantized_v_float"].cc
    return 2.0 if cc is None else 1 - cc
