"""How a study's figures for paper are written: their looks, their form, and what the file says of itself."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

from quantviz.figures.panels import DRAWING
from quantviz.specs import UsageError
from quantviz.study.specs.plan import StudyPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Form = Literal["svg", "png"]

FORMS: Final[tuple[Form, ...]] = ("svg", "png")
TEXT, SMALL = 7.0, 6.0
"""Sizes of letters, in points."""

_WIDTH, _DPI = 7.0, 300  # inches: both columns of the usual two-column page
_LOOKS: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same letters
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.4,
    "axes.formatter.use_mathtext": False,
    "svg.hashsalt": "quantviz",  # names of parts would be drawn at random without it
}


def saved(draw: Callable[[Figure], None], height: float, form: Form, plan: StudyPlan, facts: dict[str, Any]) -> bytes:
    """Draw a figure and return its file; the same drawing gives the same bytes.

    Args:
        draw: what draws on an empty figure.
        height: in inches; the width is 7.
        form: of the file; a PNG has 300 dots an inch.
        plan: of the study, whose settings go into the file's description.
        facts: what the figure shows, for the description too.

    Raises:
        UsageError: the form is unknown.
    """
    if form not in FORMS:
        raise UsageError(f"Form {form!r} is unknown; use one of {', '.join(FORMS)}.")
    import matplotlib
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    told = json.dumps(_described(plan) | facts, sort_keys=True)
    metadata = {"png": {"Software": None, "Description": told}, "svg": {"Date": None, "Description": told}}
    buffer = io.BytesIO()
    # The default style, because a user's own could ask for LaTeX or change the looks.
    with DRAWING, matplotlib.style.context("default"), matplotlib.rc_context(_LOOKS):
        figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        figure.savefig(buffer, format=form, dpi=_DPI, metadata=metadata[form])
    return buffer.getvalue()


def _described(plan: StudyPlan) -> dict[str, Any]:
    return {
        "study": plan.digest,
        "pictures": len(plan.images),
        "models": {model.name: [model.weights.name, model.weights.sha256, model.layer] for model in plan.models},
        "untrained": [model.name for model in plan.models if not model.weights.trained],
        "bits": [quant.label for quant in plan.quants],
        "protocols": list(plan.protocols),
        "cam": plan.cam.method,
        "saliency": plan.saliency,
        "calibration": [plan.calibration.source, plan.calibration.images, plan.calibration.sha256],
        "versions": dict(plan.versions),
    }
