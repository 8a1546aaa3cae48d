"""Deployed int8 on the page: the network is exported in the background, and torch alone compares meanwhile."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from quantviz.comparison import CompareRequest
from quantviz.comparison.loaded import Subject
from quantviz.specs import QuantSpec, scheme_name
from quantviz.ui import visible_progress, workbench


def until_exported(request: CompareRequest) -> CompareRequest:
    """Return the request; while its network is not exported yet, one for torch alone.

    An export hooks every module of its process, and other sessions may be using networks in this one. So it runs in a
    separate process, and the page runs again when that is done.

    Args:
        request: of the page's widgets.

    Raises:
        QuantvizError: the export failed.
    """
    if not request.deployed:
        return request
    bench = workbench()
    with visible_progress() as progress:
        subject = bench.subject(request, progress)
    for quant in (QuantSpec(), request.quant):
        if bench.backends.ready(subject, quant):
            continue
        if bench.backends.export_apart(subject, quant, _command(request, quant)):
            _wait(subject, quant)
            return replace(request, backend="torch", deployed=False)
    return request


def _command(request: CompareRequest, quant: QuantSpec) -> list[str]:
    """Return the arguments of ``quantviz`` that export the network into this store."""
    command = ["prepare", "--model", request.model, "--scheme", scheme_name(quant)]
    command += ["--cache", str(workbench().store.info().directory.parent)]
    command += ["--layer", request.cam.layer] if request.cam.layer else []
    return command + (["--weights", request.weights] if request.weights else [])


@st.fragment(run_every=1)
def _wait(subject: Subject, quant: QuantSpec) -> None:
    st.info(
        "The network is being exported to ONNX, once for these weights and this layer; this takes some seconds. "
        "Until then, here is the comparison without deployed int8.",
        icon=":material/hourglass_top:",
    )
    if not workbench().backends.at_work(subject, quant):
        st.rerun()
