"""One picture's maps in the viewer: as they are asked for, and at every bit-width under the same scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import streamlit as st

from quantviz import figures, images
from quantviz.comparison import CompareRequest, Seen
from quantviz.layerwise.drift import model_cost
from quantviz.specs import Attention, CamResult, Comparison, Cost, GivenQuant, QuantSpec, QuantvizError, parse_bits
from quantviz.ui import workbench
from quantviz.ui.ahead import ahead
from quantviz.ui.crop import place_crop
from quantviz.ui.quantization import IN_FLOAT, protocol_name
from quantviz.ui.viewer import Frame, Layer, View, Whole, photo_of, show_maps

WIDTHS: Final = (16, 8, 7, 6, 5, 4, 3, 2)
SLOW_METHODS: Final = ("scorecam", "ablationcam")
_LOOK: Final = 1.0  # seconds between looks at what is computed in the background
_WHOLE: Final = 352  # pixels of the longer side of the small copy of a photograph


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A frame of the film strip.

    Attributes:
        request: what it is compared by.
        comparison: with its noise floor; None while it is being computed.
        cost: what the network takes, or None where that is not known.
    """

    request: CompareRequest
    comparison: Comparison | None
    cost: Cost | None = None


def show_stage(request: CompareRequest, comparison: Comparison, cost: Cost | None, *, link: bool) -> None:
    """Show the maps with their verdict, and the neighbouring bit-widths as soon as they are there.

    Args:
        request: of the page.
        comparison: what it gave, with its noise floor.
        cost: of the quantized network, or None.
        link: offer to copy the page's address.
    """
    chosen = Shown(request, comparison, cost)
    asked = _neighbours(request)
    frames = _frames(asked, chosen)
    missing = sorted(
        (one.request for one in frames if one.comparison is None),
        key=lambda one: abs(_width(one.quant) - _width(request.quant)),
    )
    work = ahead(missing, comparison.sample)

    def draw() -> None:
        if st.session_state.pop("viewer_chose", False):
            st.rerun()
        if work is not None:
            work.look()
            known = _frames(asked, chosen)
            if not work.running or all(one.comparison for one in known):
                st.rerun()
        else:
            known = frames
        failed = work.failed if work is not None else set()
        view = stage_view([one for one in known if one.request not in failed], chosen, link=link)
        show_maps(view, key="maps", chosen=_choose if len(view.frames) > 1 else None, placed=_place)

    st.fragment(draw, run_every=_LOOK if work is not None else None)()


def show_pair(comparison: Comparison) -> None:
    """Show the maps of two networks that were given as they are."""
    frames = [replace(_frame(comparison, None), name=_name(comparison))]
    show_maps(
        replace(_view(comparison, frames), explains=explained(comparison), whole=whole_of(comparison)), key="pair"
    )


def _width(quant: QuantSpec) -> int:
    """Return the bits of the weights, or of the activations where these alone are quantized."""
    return quant.weight_bits or quant.act_bits or 0


def of_width(request: CompareRequest, bits: int) -> CompareRequest:
    """Return the request at another bit-width, without what the film strip doesn't show.

    Args:
        request: any.
        bits: of the weights, and of the activations, where they are quantized.
    """
    old = request.quant
    quant = replace(
        old,
        weight_bits=None if old.weight_bits is None else bits,
        act_bits=None if old.act_bits is None else bits,
    )
    return replace(request, quant=quant, saliency=None, saliency_name="", backend="torch", deployed=False)


def view_of(comparisons: Sequence[Comparison], start: int = 0) -> View:
    """Return what the viewer shows of one picture's comparisons with several quantized networks.

    Args:
        comparisons: of one picture with one float network; one at least.
        start: place of the one that is shown first.
    """
    first = comparisons[0]
    return replace(_view(first, [_frame(one, None) for one in comparisons]), start=start)


def stage_view(frames: Sequence[Shown], chosen: Shown, *, link: bool = False) -> View:
    """Return what the viewer shows on Compare.

    Args:
        frames: of the film strip.
        chosen: the one that is shown first; it is among the frames.
        link: offer to copy the page's address.
    """
    comparison = chosen.comparison
    assert comparison is not None
    drawn = [_pending(one) if one.comparison is None else _frame(one.comparison, one.cost) for one in frames]
    layers = []
    if comparison.saliency is not None and not comparison.saliency.heatmap.degenerate:
        layers.append(Layer(f"saliency: {comparison.saliency.source}", comparison.saliency.heatmap.values))
    if comparison.deployed is not None and not comparison.deployed.result.heatmap.degenerate:
        layers.append(Layer("int8 deployed", comparison.deployed.result.heatmap.values, shown=True))
    return replace(
        _view(comparison, drawn),
        start=next(at for at, one in enumerate(frames) if one is chosen),
        explains=explained(comparison),
        whole=replace(whole_of(comparison), crop=_crop_words(chosen.request)),
        layers=tuple(layers),
        link=link,
    )


def explained(comparison: Comparison) -> str:
    """Return the class that the maps are of: what they explain is not always what a network says."""
    if comparison.cam.method == "eigencam":
        return "no class: EigenCAM shows where the layer is active"
    before, after = comparison.reference, comparison.quantized
    if before.class_index != after.class_index:
        return f"{_named(before, comparison)} (float) and {_named(after, comparison)} (quantized), each its own"
    rules = {"float": "what the float network says", "own": "what each network says"}
    return f"{_named(before, comparison)}: {rules.get(str(comparison.class_rule), 'the class you chose')}"


def whole_of(comparison: Comparison) -> Whole:
    """Return the whole photograph with the part of it that the networks see."""
    seen = Seen.of(comparison.sample, comparison.weights.preprocessing)
    return Whole(
        photo=photo_of(images.thumbnail(comparison.sample.rgb, _WHOLE)),
        box=seen.box,
        words=seen.sentence,
        little=seen.little,
    )


def _neighbours(request: CompareRequest) -> list[CompareRequest]:
    """Return the requests of the film strip; none where each would take minutes, or hang on other pictures."""
    quant = request.quant
    if quant.deviations or quant.layer_bits or quant.learns or request.cam.method in SLOW_METHODS:
        return []
    return [of_width(request, bits) for bits in WIDTHS]


def _frames(asked: Sequence[CompareRequest], chosen: Shown) -> list[Shown]:
    """Return the film strip: what is asked for with what the store holds of it, and the chosen one in its place."""
    comparison, label = chosen.comparison, chosen.request.quant.label
    assert comparison is not None
    if label not in [one.quant.label for one in asked]:
        return [chosen, *(_found(one, comparison) for one in asked)]
    return [chosen if one.quant.label == label else _found(one, comparison) for one in asked]


def _found(request: CompareRequest, first: Comparison) -> Shown:
    """Return a frame from the session or the store."""
    kept: dict[tuple[CompareRequest, str], Shown] = st.session_state.setdefault("frames", {})
    key = (request, first.sample.id)
    if key not in kept:
        try:
            found = workbench().stored(request, first.sample)
        except QuantvizError:  # told when it is asked for
            found = None
        if found is None:
            return Shown(request, None)
        while len(kept) >= 64:
            del kept[next(iter(kept))]
        kept[key] = Shown(request, replace(found, floor=first.floor), model_cost(workbench(), request))
    return kept[key]


def _choose(name: str) -> None:
    """Set the page's bits to those of a frame that was chosen."""
    weight, act = parse_bits(name)
    st.session_state["weight_bits"], st.session_state["act_bits"] = str(weight or IN_FLOAT), str(act or IN_FLOAT)
    st.session_state["viewer_chose"] = True


def _place(told: Mapping[str, Any]) -> None:
    """Set the page's crop to what was chosen on the whole photograph."""
    place_crop(told)
    st.session_state["viewer_chose"] = True


def _crop_words(request: CompareRequest) -> str:
    """Return which crop the viewer shows as chosen; "" where there is none to choose."""
    if "stretched_input" in request.quant.deviations:
        return ""
    return request.crop.words if request.crop.words in ("centre", "fit") else "place"


def _view(first: Comparison, frames: Sequence[Frame]) -> View:
    before = first.reference.predictions[0]
    return View(
        photo=photo_of(first.crop),
        size=first.crop.shape[:2],
        native=_native(first.reference),
        frames=tuple(frames),
        sentence=(
            f"Maps of {first.model} on {first.sample.name}, which it takes for {before.label}: float and "
            f"{', '.join(frame.name for frame in frames)}."
        ),
        problem=first.reference.native.degenerate,
    )


def _frame(comparison: Comparison, cost: Cost | None) -> Frame:
    before, after = comparison.reference.predictions[0], comparison.quantized.predictions[0]
    was, now = (f"{one.label} ({figures.percent(one.probability)})" for one in (before, after))
    name, verdict = _name(comparison), comparison.verdict
    return Frame(
        name=name,
        native=_native(comparison.quantized),
        cc=comparison.scores["quantized_v_float"].cc,
        subject=f"At {name}{_protocol(comparison.quant)}, {comparison.model}",
        words=verdict.sentence,
        prediction=f"Label flip: {now} in place of {was}." if comparison.flipped else f"Both say {now}.",
        flipped=comparison.flipped,
        problem=comparison.quantized.native.degenerate,
        attention=verdict.attention,
        size="" if cost is None else size_words(cost),
    )


def _protocol(quant: QuantSpec | GivenQuant) -> str:
    return f" under {protocol_name(quant)}" if isinstance(quant, QuantSpec) and quant.deviations else ""


def _pending(shown: Shown) -> Frame:
    return Frame(
        name=shown.request.quant.label,
        native=None,
        cc=None,
        words="is being computed.",
        prediction="",
        flipped=False,
        attention=Attention.UNKNOWN,
        pending=True,
    )


def size_words(cost: Cost) -> str:
    """Return a network's size in a few words."""
    return f"{cost.bytes / 2**20:,.2f} MiB, {cost.bytes / cost.float_bytes:.0%} of float32's"


def _name(comparison: Comparison) -> str:
    return comparison.quant.label if isinstance(comparison.quant, QuantSpec) else comparison.quant.title


def _named(result: CamResult, comparison: Comparison) -> str:
    known = (*comparison.reference.predictions, *comparison.quantized.predictions)
    return next((one.label for one in known if one.index == result.class_index), f"class {result.class_index}")


def _native(result: CamResult) -> list[list[float]] | None:
    return None if result.native.degenerate else result.native.values.tolist()
