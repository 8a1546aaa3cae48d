"""The Study page's deployed int8: its agreement with its simulation, and the time of a map by each path."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from quantviz import figures
from quantviz.comparison import CompareRequest
from quantviz.comparison.loaded import Subject
from quantviz.report.tables import metric_title, study_tables
from quantviz.report.times import times_table
from quantviz.specs import DEPLOYED, QuantSpec, QuantvizError, scheme_name
from quantviz.study.specs.plan import STUDY_METRICS
from quantviz.study.times import kept_times, measure_apart, measured_apart, measuring, untimed
from quantviz.ui import visible_progress, workbench
from quantviz.ui.charts import Files, show_chart
from quantviz.ui.choices import segments
from quantviz.ui.plain import plain
from quantviz.ui.study import Opened
from quantviz.ui.study_tables import show_table

_AT_WORK = ":material/hourglass_top:"
_FILTERED = ":material/filter_alt_off:"


def show_deployed(opened: Opened) -> None:
    """Show how the deployed networks of a study agree with the simulated ones, and the times of their maps."""
    table = next((entry for entry in study_tables(opened.view.summary) if entry.name == DEPLOYED), None)
    if table is None:
        st.info("The filters at the left leave the deployed protocol out; widen them.", icon=_FILTERED)
    else:
        show_table(table, DEPLOYED)
        st.caption(
            "The simulation rounds to the same integers in float; on integer kernels what it leaves in float is "
            "rounded too. The deployed map is in the place of the ground truth: KLD is of the simulated map."
        )
        _spread(opened)
    st.subheader("Milliseconds on this machine", anchor=False)
    _times(opened)


def exported(requests: Sequence[CompareRequest]) -> bool:
    """Tell whether the networks of some requests are exported to ONNX; start the first missing export.

    The export runs in a separate process; the page runs again when it is done.

    Args:
        requests: with ``deployed``; others need no export.

    Raises:
        QuantvizError: an export failed.
    """
    bench = workbench()
    folder = bench.store.info().directory.parent
    for request in requests:
        if not request.deployed:
            continue
        with visible_progress() as progress:
            subject = bench.subject(request, progress)
        if bench.backends.ready(subject, request.quant):
            continue
        command = ["prepare", "--model", request.model, "--scheme", scheme_name(request.quant), "--cache", str(folder)]
        command += ["--weights", request.weights] if request.weights else []
        command += ["--layer", request.cam.layer] if request.cam.layer else []
        if bench.backends.export_apart(subject, request.quant, command):
            st.fragment(_wait_for_export, run_every=1)(subject, request.quant)
            return False
    return True


def _wait_for_export(subject: Subject, quant: QuantSpec) -> None:
    st.info(f"{subject.spec.name} is being exported to ONNX; some seconds.", icon=_AT_WORK)
    if not workbench().backends.at_work(subject, quant):
        st.rerun()


def _spread(opened: Opened) -> None:
    metric = segments("Score", STUDY_METRICS, "simulated", "cc", metric_title)
    chart = figures.distribution_chart(
        opened.view.table, "simulated_v_deployed", metric, DEPLOYED, chosen=opened.view.chosen
    )
    show_chart(
        figures.distribution_figure(chart),
        "simulated_spread",
        heading=f"How {metric_title(metric)} of deployed and simulated maps is spread",
        caption="A box is the middle half of the pictures, its line the median; whiskers reach to the furthest picture "
        "within 1.5 times the box's height. The diamond is the mean.",
        files=Files(
            opened.stem(f"deployed-{metric}"),
            partial(figures.distribution_csv, [chart]),
            partial(figures.distribution_print, [chart], opened.plan),
        ),
    )


def _times(opened: Opened) -> None:
    """Show the times measured on this machine, and offer to measure them."""
    plan, bench = opened.plan, workbench()
    if reason := untimed(plan):
        st.info(reason, icon=":material/timer_off:")
        return
    if measuring(opened.path):
        st.fragment(_wait, run_every=1)(opened.path)
        return
    try:
        measured_apart(opened.path)
    except QuantvizError as error:
        st.error(plain(error), icon=":material/error:")
    times = kept_times(bench.store, plan)
    if times:
        show_table(times_table(plan, times), DEPLOYED)
    st.caption(
        "Medians of a few runs in turn on a bundled photograph, in a process of its own; kept in the cache, not in the "
        "study. ONNX Runtime runs the network, torch differentiates what follows the target layer. Where other "
        "programs were running, compare the ratios, not the times."
    )
    if st.button("Measure again" if times else "Measure on this machine", key="measure", icon=":material/timer:"):
        measure_apart(opened.path, bench.store.info().directory.parent)
        st.rerun()


def _wait(study: Path) -> None:
    st.info("The maps of every model are being timed; some seconds a model.", icon=_AT_WORK)
    if not measuring(study):
        st.rerun()
