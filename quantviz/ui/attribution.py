"""How pages show an attribution: what each switch of the paper's protocol takes from the agreement of the maps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pandas as pd
import streamlit as st

from quantviz import figures
from quantviz.layerwise.intervals import RESAMPLES
from quantviz.layerwise.specs import Attribution
from quantviz.specs import DEVIATIONS, counted
from quantviz.ui.charts import show_chart
from quantviz.ui.choices import segments
from quantviz.ui.plain import plain

_INTERVALS: Final = (
    f"; a whisker is its 95 % interval over other pictures of the kind (bootstrap, {RESAMPLES:,} samples)"
)
_EVERY, _COMMON = "all pictures", "those scored every time"


def show_attribution_of(gap: Attribution) -> None:
    """Show the shares of the switches as bars from zero with their intervals, as a table, and what they leave out."""
    if not gap.weights.trained:
        st.warning("These weights are UNTRAINED (random): a sanity control, not a model.", icon=":material/casino:")
    st.markdown(
        f"### At {gap.quant.label}, {plain(gap.model)}'s mean CC with the float maps is {gap.calibrated:.3f} "
        f"calibrated and {gap.paper:.3f} under the paper's protocol; these seven switches make the difference."
    )
    st.markdown(_scored_words(gap))
    shown, pictures = gap, f"over {counted(len(gap.images), 'picture')}"
    if gap.common is not None and gap.common.intervals and gap.unscored:
        if segments("Shares over", [_EVERY, _COMMON], "shares_over") == _COMMON:
            shown, pictures = common_of(gap), f"over the {counted(gap.common.images, 'picture')} scored every time"
    show_chart(
        figures.attribution_figure(shown),
        "attribution",
        heading="What each switch takes from the agreement of the maps",
        caption=f"A bar is a switch's Shapley value: the mean change of CC {pictures} when it is switched on, over all "
        f"orders of switching{_INTERVALS if shown.intervals else ''}. CC has no unit: 1 is the same map. Weights "
        f"{plain(gap.weights.name)}"
        + (f" (sha256 {gap.weights.sha256[:12]})" if gap.weights.sha256 else "")
        + f"; {gap.cam.method} at {plain(str(gap.cam.layer))}.",
        stem=f"quantviz-switches-{gap.model}",
    )
    st.table(_steps(shown))


def common_of(gap: Attribution) -> Attribution:
    """Return an attribution of only those pictures that every combination of switches scores.

    Args:
        gap: with ``common``.
    """
    common = gap.common
    assert common is not None
    return replace(
        gap,
        calibrated=common.calibrated,
        paper=common.paper,
        share=common.share,
        intervals=common.intervals,
        alone={},
        subsets={},
        unscored={},
        mean_intervals={},
        common=None,
    )


def _scored_words(gap: Attribution) -> str:
    """Return over how many pictures the two means are, with their intervals."""
    every = "+".join(DEVIATIONS)
    count, parts = len(gap.images), []
    for subset, words in (("", "calibrated"), (every, "the paper's protocol")):
        ends = gap.mean_intervals.get(subset)
        interval = "" if ends is None else f", 95 % interval {ends[0]:.3f} to {ends[1]:.3f}"
        parts.append(f"{words}: {gap.scored(subset)} of {count} pictures have two maps with evidence{interval}")
    words = f"{parts[0].capitalize()}; {parts[1]}."
    if not gap.unscored:
        return words
    least = count - max(map(len, gap.unscored.values()))
    return (
        f"{words} A map without evidence has no CC, and each mean is over the rest (under one combination only "
        f"{least}), so that a share can hold some of that selection."
    )


def _steps(gap: Attribution) -> pd.DataFrame:
    lines: list[dict[str, Any]] = [_step("calibrated protocol", f"{gap.calibrated:.3f}")]
    for name, share in figures.shown_shares(gap).items():
        ends = gap.intervals.get(name)
        interval = "–" if ends is None else f"{_signed(ends[0])}\u00a0to\u00a0{_signed(ends[1])}"
        alone = f"{gap.alone[name]:.3f}".replace("-", "−") if name in gap.alone else "–"
        lines.append(_step(name.replace("_", " "), _signed(share), interval, alone, DEVIATIONS[name]))
    lines.append(_step("the paper's protocol", f"{gap.paper:.3f}", what="the sum of the above"))
    frame = pd.DataFrame(lines).set_index("step")
    return frame if gap.alone else frame.drop(columns="CC with it alone")


def _step(step: str, cc: str, interval: str = "", alone: str = "", what: str = "") -> dict[str, str]:
    return {"step": step, "CC": cc, "95 % interval": interval, "CC with it alone": alone, "what it does": what}


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
