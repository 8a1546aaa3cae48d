"""The widgets that say how a network is quantized, and the words for it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from quantviz.layerwise.bits_file import read_bits, weights_of
from quantviz.specs import (
    CALIBRATED,
    DEVIATIONS,
    MAX_BITS,
    MIN_BITS,
    PAPER,
    PRESETS,
    RANGE_METHODS,
    ROUNDINGS,
    QuantSpec,
    UsageError,
    spec_of,
)
from quantviz.ui import guarded
from quantviz.ui.links import Linked
from quantviz.ui.once import slow_words
from quantviz.ui.plain import code

BITS: Final = tuple(str(bits) for bits in range(MIN_BITS, MAX_BITS + 1))
IN_FLOAT: Final = "none"
CHOSEN: Final = "chosen"
_SAME = "as the scheme says"
_PRESETS = {
    "naive": "what a first attempt does: one scale for a whole tensor, activations symmetric",
    "standard": "what toolkits do: one scale a channel, activations affine, min-max ranges",
    "best": "the best that minutes can buy: MSE ranges, GPTQ, scales and biases learned by distillation",
}
_DETAILS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "scheme": ("Weight grid", "weight_grid", ("symmetric", "affine")),
    "granularity": ("Weight scales", "weight_scales", ("per_channel", "per_tensor")),
    "weight_ranges": ("Weight ranges", "weight_ranges", ("minmax", "mse")),
    "act_scheme": ("Activation grid", "act_grid", ("affine", "symmetric")),
    "ranges": ("Activation ranges", "ranges", RANGE_METHODS),
    "rounding": ("Rounding of the weights", "rounding", ROUNDINGS),
}
DETAIL_KEYS: Final = {field: key for field, (_, key, _) in _DETAILS.items()}
"""Field of ``QuantSpec`` -> the key of its widget, which is its name in the address."""

_PROTOCOLS = {
    CALIBRATED: "eval mode, batch norm folded, ranges calibrated and then frozen",
    PAPER: "the published code of arXiv 2403.09939, with all seven of its deviations",
    CHOSEN: "the calibrated protocol with the deviations that you switch on",
}
# A method that is not here goes by its own name.
_RANGES = {
    "minmax": "min-max",
    "moving_average": "moving-average",
    "percentile": "percentile",
    "mse": "MSE-optimal",
    "entropy": "entropy-optimal",
}
_ROUNDINGS = {
    "nearest": "rounded to nearest",
    "gptq": "rounded by GPTQ",
    "distilled": "rounded by GPTQ, scales and biases learned from the float network",
}


def choose_quantization(
    linked: Linked, model: str, *, protocols: bool = True, basic: DeltaGenerator | None = None
) -> QuantSpec:
    """Draw the widgets of the quantization and return it; a bits file in use takes the place of bits and scheme.

    Args:
        linked: the values of the address.
        model: name of the architecture that is quantized.
        protocols: with the choice of a protocol; else it is the calibrated one.
        basic: where the two bit-widths stand; None: with the rest.
    """
    st.subheader("Quantization", divider="gray")
    with basic or st.container():
        from_file = _bits_in_use(model)
        weight, act = _bits(linked, disabled=from_file is not None)
    taken = from_file is not None
    if weight == act == IN_FLOAT:
        raise UsageError("Neither weights nor activations have bits; choose bits for one of them.")
    quant = spec_of(_scheme(linked, taken), *(None if bits == IN_FLOAT else int(bits) for bits in (weight, act)))
    with st.popover("Details", width="stretch") if basic else st.expander("Details"):
        quant = _details(linked, quant, taken)
    quant = quant if from_file is None else from_file
    if slow := slow_words(quant):
        st.caption(f":material/hourglass_top: {slow}")
    return replace(quant, protocol=_protocol(linked)) if protocols else quant


def scheme_words(quant: QuantSpec) -> str:
    """Return how weights and activations are quantized, deviations of the protocol included."""
    return f"weights {_weights(quant)}; {_activations(quant)}"


def protocol_name(quant: QuantSpec) -> str:
    """Return what the protocol is called on the page."""
    if quant.protocol in (CALIBRATED, PAPER):
        return "the calibrated protocol" if quant.protocol == CALIBRATED else "the paper's protocol"
    count = len(quant.deviations)
    return f"the calibrated protocol with {count} of the paper's {len(DEVIATIONS)} deviations"


def _bits(linked: Linked, *, disabled: bool) -> tuple[str, str]:
    left, right = st.columns(2)
    weight = left.select_slider(
        "Weight bits",
        (*BITS, IN_FLOAT),
        "8",
        key="weight_bits",
        bind="query-params",
        help="none: activations only, weights stay in float.",
        disabled=disabled,
    )
    linked.check("weight_bits", weight)
    act = right.select_slider(
        "Activation bits",
        (*BITS, IN_FLOAT),
        "8",
        key="act_bits",
        bind="query-params",
        help="none: weight-only, activations stay in float.",
        disabled=disabled,
    )
    linked.check("act_bits", act)
    return weight, act


def _ranges(method: str) -> str:
    return _RANGES.get(method, method.replace("_", " "))


def keep_bits(name: str, data: bytes) -> None:
    """Use a bits file on every page of this session from now on."""
    st.session_state["kept_bits"] = (name, data)


def kept_bits() -> str:
    """Return the name of the bits file in use, or ""."""
    return str(st.session_state.get("kept_bits", ("", b""))[0])


def choose_bits_file() -> None:
    """Draw the widget that takes a bits file; ``choose_quantization`` shows the one in use."""

    def keep() -> None:
        if (file := st.session_state.get("bits_upload")) is not None:
            keep_bits(file.name, file.getvalue())

    st.subheader("Bits of single layers", divider="gray")
    st.file_uploader(
        "A bits file",
        type=["json"],
        key="bits_upload",
        max_upload_size=1,
        on_change=keep,
        help="As the Layers page and `quantviz search` write them. It is used on Compare and on Layers.",
    )


def _scheme(linked: Linked, disabled: bool) -> str:
    name = str(
        st.selectbox("Scheme", PRESETS, PRESETS.index("standard"), key="scheme", bind="query-params", disabled=disabled)
    )
    linked.check("scheme", name)
    st.caption(_PRESETS[name])
    return name


def _details(linked: Linked, quant: QuantSpec, disabled: bool) -> QuantSpec:
    changed: dict[str, Any] = {}
    for field, (label, key, options) in _DETAILS.items():
        value = st.selectbox(label, (_SAME, *options), key=key, bind="query-params", disabled=disabled)
        linked.check(key, value)
        if value != _SAME:
            changed[field] = value
    for field, label, told in (
        ("equalize", "Cross-layer equalization", "Shifts scale between successive layers before anything is measured."),
        ("bias_correction", "Bias correction", "Takes each channel's mean error out of the biases."),
    ):
        if st.toggle(label, key=field, bind="query-params", help=told, disabled=disabled):
            changed[field] = True
    return replace(quant, **changed)


def _protocol(linked: Linked) -> str:
    name = str(st.selectbox("Protocol", list(_PROTOCOLS), key="protocol", bind="query-params"))
    linked.check("protocol", name)
    st.caption(_PROTOCOLS[name])
    if name != CHOSEN:
        return name
    switches = st.multiselect(
        "Deviations", list(DEVIATIONS), key="deviations", bind="query-params", placeholder="Choose deviations"
    )
    for switch in switches:
        st.caption(f"**{switch.replace('_', ' ')}**: {DEVIATIONS[switch]}")
    return "+".join([CALIBRATED, *switches])


def _bits_in_use(model: str) -> QuantSpec | None:
    """Show the bits file in use and return what it holds; None where there is none that can be used."""
    if not kept_bits():
        return None
    name, data = st.session_state["kept_bits"]
    with suppress(UsageError):  # told below
        found_for = weights_of(data, name)
        told = f" (found for the weights {code(found_for[0])})" if found_for else ""
        st.markdown(f":material/tune: Bits of single layers from {code(name)}{told}, in place of bits and scheme")
    st.button("Remove the bits file", on_click=lambda: st.session_state.pop("kept_bits", None), key="remove_bits")
    with guarded():
        return read_bits(data, name, model)
    return None


def _weights(quant: QuantSpec) -> str:
    if quant.weight_bits is None and not any(bits.weight_bits for bits in quant.layer_bits):
        return "in float32 (activations only)"
    if "coarse_grids" in quant.deviations:
        return "symmetric per-tensor on the full signed range, moving-average ranges"
    granularity = quant.granularity.replace("_", "-")
    words = f"{quant.scheme} {granularity}, {_ranges(quant.weight_ranges)} ranges, {_ROUNDINGS[quant.rounding]}"
    if quant.equalize:
        words += ", after cross-layer equalization"
    return words + (", biases corrected" if quant.bias_correction else "")


def _activations(quant: QuantSpec) -> str:
    if quant.act_bits is None and not any(bits.act_bits for bits in quant.layer_bits):
        return "activations in float32 (weight-only)"
    coarse, online = "coarse_grids" in quant.deviations, "online_ranges" in quant.deviations
    scheme = "affine" if coarse else quant.act_scheme
    ranges = "moving-average ranges of the test images" if online else f"frozen {_ranges(quant.ranges)} ranges"
    if not online and quant.headroom != 1:
        ranges += f", widened by {quant.headroom:g}"
    one_less = " on half of the range (one bit less)" if coarse else ""
    return f"activations {scheme} per-tensor{one_less} with {ranges}"
