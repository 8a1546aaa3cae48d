"""One picture at every bit-width, under the scheme that is chosen: its maps in the viewer, with a film strip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import streamlit as st

from quantviz import figures
from quantviz.comparison import CompareRequest
from quantviz.specs import CamResult, Comparison, ImageSample, Progress, QuantSpec
from quantviz.ui import workbench
from quantviz.ui.controls import SLOW_METHODS
from quantviz.ui.once import once
from quantviz.ui.viewer import Frame, View, photo_of, show_maps

WIDTHS: Final = (16, 8, 7, 6, 5, 4, 3, 2)


def show_bit_widths(request: CompareRequest, comparison: Comparison) -> None:
    """Show the picture's maps at every bit-width, or offer to compute them.

    Args:
        request: of the page; of its quantization the scheme counts, and whether activations are quantized.
        comparison: what the page shows already.
    """
    quant = request.quant
    if quant.deviations or quant.layer_bits or quant.learns or request.cam.method in SLOW_METHODS:
        return  # maps that hang on other pictures, bits of a file, or minutes for each bit-width
    st.subheader("Every bit-width")
    asked = [of_width(request, bits) for bits in WIDTHS]
    sample = comparison.sample
    comparisons = once(
        "bit-widths",
        (request.model, request.weights, request.cam, request.target, asked[0].quant, request.calibration, sample.id),
        lambda progress: _stored(asked, sample, progress),
        lambda progress: _computed(asked, sample, progress),
        "Show every bit-width",
        f"The same picture at {', '.join(map(str, WIDTHS[:-1]))} and {WIDTHS[-1]} bits, to play through. "
        "It takes some seconds the first time.",
    )
    if comparisons is not None:
        start = WIDTHS.index(quant.weight_bits) if quant.weight_bits in WIDTHS else 0
        measured = [replace(one, floor=comparison.floor) for one in comparisons]  # the picture's, at any bit-width
        show_maps(view_of(measured, start), key="bit-widths")


def of_width(request: CompareRequest, bits: int) -> CompareRequest:
    """Return the request at another bit-width, without what the film strip doesn't show.

    Args:
        request: any.
        bits: of the weights, and of the activations where they are quantized.
    """
    act_bits = None if request.quant.act_bits is None else bits
    quant = replace(request.quant, weight_bits=bits, act_bits=act_bits)
    return replace(request, quant=quant, saliency=None, backend="torch", deployed=False)


def view_of(comparisons: Sequence[Comparison], start: int = 0) -> View:
    """Return what the viewer shows of one picture's comparisons with several quantized networks.

    Args:
        comparisons: of one picture with one float network; one at least.
        start: place of the one that is shown first.
    """
    first = comparisons[0]
    before = first.reference.predictions[0]
    names = [comparison.quant.label for comparison in comparisons]
    return View(
        photo=photo_of(first.crop),
        size=first.crop.shape[:2],
        native=_native(first.reference),
        frames=tuple(_frame(comparison) for comparison in comparisons),
        sentence=(
            f"Where {first.model} looks in {first.sample.name}, which it takes for {before.label}: float and "
            f"{', '.join(names)}."
        ),
        problem=first.reference.native.degenerate,
        start=start,
    )


def _stored(asked: Sequence[CompareRequest], sample: ImageSample, progress: Progress) -> tuple[Comparison, ...] | None:
    found = []
    for request in asked:
        comparison = workbench().stored(request, sample, progress)
        if comparison is None:
            return None
        found.append(comparison)
    return tuple(found)


def _computed(asked: Sequence[CompareRequest], sample: ImageSample, progress: Progress) -> tuple[Comparison, ...]:
    found = []
    for done, request in enumerate(asked):
        progress(f"Comparing at {request.quant.label}", done / len(asked))
        found.append(workbench().compare(request, sample))
    return tuple(found)


def _frame(comparison: Comparison) -> Frame:
    after = comparison.quantized.predictions[0]
    before, quant = comparison.reference.predictions[0], comparison.quant
    called = f"{after.label} ({figures.percent(after.probability)})"
    return Frame(
        name=quant.label if isinstance(quant, QuantSpec) else quant.title,
        native=_native(comparison.quantized),
        cc=comparison.scores["quantized_v_float"].cc,
        words=f"it {comparison.verdict.sentence}",
        prediction=f"Label flip: {called} in place of {before.label}." if comparison.flipped else f"Both say {called}.",
        flipped=comparison.flipped,
        problem=comparison.quantized.native.degenerate,
    )


def _native(result: CamResult) -> list[list[float]] | None:
    return None if result.native.degenerate else result.native.values.tolist()
