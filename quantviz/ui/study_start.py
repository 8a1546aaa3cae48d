"""The Study page's sweeps: start one, watch those that run, cancel and resume them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import streamlit as st

from quantviz import networks
from quantviz.specs import CALIBRATED, PRESETS, PROTOCOLS, UsageError
from quantviz.study.sweep.jobs import SweepJob, SweepOrder, cancel, forget, jobs, resume, start
from quantviz.ui import guarded
from quantviz.ui.serving import serving, visitors_path
from quantviz.ui.studies import made_folder

_BITS: Final = ("16", "8", "6", "5", "4", "W8", "W4", "W4A8")
_STATES: Final = {
    "stopped": ":material/pause_circle: interrupted",
    "failed": ":material/error: ended without a result",
}


def show_sweeps() -> None:
    """Show every unfinished sweep, and update by itself; nothing on a public server, where nobody can start one."""
    if serving().public:
        return
    known = _unfinished()
    busy = any(job.state in ("starting", "running") for job in known)
    st.session_state["sweeps_shown"] = {job.path for job in known}
    # Seldom where nothing runs, so that a sweep which someone else starts is still seen.
    st.fragment(_watch, run_every=1 if busy else 5)()


def show_form(*, open_at_first: bool) -> None:
    """Draw the form that starts a sweep.

    Args:
        open_at_first: the form is open at first, as there is no study to look at.
    """
    if serving().public:
        st.caption(
            ":material/shield: Sweeps over folders are for your own machine, by `quantviz sweep`. Here, *Your "
            "photographs* tests up to 60 uploaded pictures at several precisions."
        )
        return
    with st.expander("Start a sweep", icon=":material/play_arrow:", expanded=open_at_first), guarded():
        st.markdown(
            "Compares the float and the quantized networks on every picture of a folder. It runs in a process of its "
            "own, which goes on when this page is closed; whatever ends it, it can be resumed."
        )
        with st.form("sweep", border=False):
            order = _order()
            asked = st.form_submit_button("Start", type="primary", key="start_sweep")
        if asked:
            start(made_folder(), order())
            st.rerun()


def _order() -> Callable[[], SweepOrder]:
    """Draw the form's widgets; return a function that makes the order, or raises UsageError."""
    left, right = st.columns([3, 2])
    dataset = left.text_input(
        "Folder of pictures on this machine",
        key="sweep_dataset",
        help="Its pictures and those of the folders in it; a folder named as an ImageNet class (n02123045) gives the "
        "class.",
    ).strip()
    name = right.text_input("Name of the study", key="sweep_name").strip()
    models = _models()
    left, middle, right = st.columns([3, 2, 2])
    bits = left.multiselect(
        "Bit-widths",
        _BITS,
        ["16", "8", "4"],
        key="sweep_bits",
        accept_new_options=True,
        help="8 is W8A8, W4 weight-only, W4A8 itself; others can be typed.",
    )
    protocols = middle.multiselect(
        "Protocols",
        PROTOCOLS,
        [CALIBRATED],
        key="sweep_protocols",
        help="deployed: W8A8 on integer kernels beside its simulation, which needs 8 among the bit-widths.",
    )
    limit = right.number_input("At most so many pictures", 1, None, None, key="sweep_limit", placeholder="all")
    left, right = st.columns([2, 3])
    scheme = left.selectbox("Scheme", PRESETS, PRESETS.index("standard"), key="sweep_scheme")
    weights = right.text_input(
        "Weights of your own, or none",
        key="sweep_weights",
        placeholder="squeezenet1_1=/models/squeezenet.pth vgg16=untrained",
        help="MODEL=FILE or MODEL=untrained, parted by spaces. For others the published weights are taken.",
    )

    fields = {**models, "bits": tuple(bits), "protocols": tuple(protocols), "scheme": scheme}
    return lambda: _made(name, dataset, weights, limit=None if limit is None else int(limit), **fields)


def _models() -> dict[str, tuple[Any, ...]]:
    """Draw the choice of networks; return the models' names and the cards' paths."""
    offered = {path.name: path for path in serving().cards}
    chosen = st.multiselect(
        "Models",
        [*networks.MODELS, *offered],
        ["efficientnet_lite0"],
        key="sweep_models",
        help="Network cards that this server was started with are among them. Bit-widths, scheme and protocols are not "
        "of a card's ONNX files, which run as they are.",
    )
    cards = tuple(offered[name] for name in chosen if name in offered)
    return {"models": tuple(name for name in chosen if name not in offered), "cards": cards}


def _made(name: str, dataset: str, weights: str, **fields: Any) -> SweepOrder:
    if not dataset:
        raise UsageError("No folder of pictures is given; name one.")
    return SweepOrder(name, visitors_path(dataset).absolute(), weights=_weights(weights), **fields)


def _weights(text: str) -> dict[str, str]:
    choices = {}
    for entry in text.split():
        model, mark, choice = entry.partition("=")
        if not model or not mark or not choice:
            raise UsageError(f"Weights {entry!r} name no model; write MODEL=FILE, vgg16=untrained say.")
        choices[model] = choice
    return choices


def _unfinished() -> list[SweepJob]:
    return [job for job in jobs(made_folder()) if job.state != "finished"]


def _watch() -> None:
    """Show the sweeps; a fragment, so that the page around it stays as it is."""
    known = _unfinished()
    shown = {job.path for job in known}
    if shown != st.session_state.get("sweeps_shown"):
        st.session_state["sweeps_shown"] = shown
        st.rerun()  # one has ended or begun: the page has another study to offer, or the form is in use
    for job in known:
        with st.container(border=True), guarded():
            _show(job)


def _show(job: SweepJob) -> None:
    words, button = st.columns([5, 1], vertical_alignment="center")
    with words:
        _progress(job)
    with button:
        if job.state in ("starting", "running"):
            if st.button("Cancel", key=f"cancel_{job.name}", icon=":material/stop:", width="stretch"):
                cancel(job.path)
        elif (job.path / "plan.json").exists():
            if st.button("Resume", key=f"resume_{job.name}", icon=":material/play_arrow:", width="stretch"):
                resume(job.path)
                st.rerun()
        elif st.button("Dismiss", key=f"forget_{job.name}", icon=":material/close:", width="stretch"):
            forget(job.path)
            st.rerun()


def _progress(job: SweepJob) -> None:
    if job.state == "starting":
        st.progress(0.0, text=f"**{job.name}**: starting …")
        return
    progress = job.progress
    if progress is None:
        st.markdown(f"**{job.name}**: {_STATES.get(job.state, job.state)}")
        if job.message:
            st.caption(job.message)
        return
    parts = [progress.what]
    if progress.rate is not None:
        parts.append(f"{progress.rate:.1f} images/s")
    if progress.seconds_left is not None:
        parts.append(f"{duration(progress.seconds_left)} left")
    done = progress.images_done / progress.images if progress.images else 0.0
    count = f"{progress.images_done:,} of {progress.images:,}, each picture once a model and protocol"
    st.progress(min(done, 1.0), text=f"**{job.name}**: {' · '.join(part for part in parts if part)}")
    st.caption(count)


def duration(seconds: float) -> str:
    """Return a time in seconds, minutes or hours."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(round(seconds), 0)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
