"""How figures for paper are written: page, letters, file, and the description in the file of what it shows."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from quantviz.figures.data.style import DASHES, NETWORKS
from quantviz.specs import UsageError
from quantviz.study.specs.plan import StudyPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Form = Literal["svg", "png", "pdf"]

FORMS: Final[tuple[Form, ...]] = get_args(Form)
REPORTED: Final[tuple[Form, ...]] = ("svg", "png")
"""Those of a report's files: LaTeX takes a PDF of either."""

WIDTH: Final = 7.0
"""Inches: both columns of the usual two-column page."""

FONT: Final = "DejaVu Sans"
"""Comes with matplotlib, so that every machine draws the same letters."""

TEXT, SMALL = 7.0, 6.0
"""Sizes of letters, in points."""

GRID: Final = "#DDDDDD"

MARKERS: Final = dict(zip((symbol for _, symbol in NETWORKS), "osD^v*h", strict=True))
LINES: Final[dict[str, Any]] = dict(zip(DASHES, ("-", ":", "--", "-.", (0, (8, 3))), strict=True))
"""Plotly's names of symbols and dashes, in which the charts are -> matplotlib's."""

_DPI = 300
_DRAWING = threading.Lock()  # matplotlib promises nothing to concurrent threads, whatever they draw
LOOKS: Final[dict[Any, Any]] = {
    "font.family": FONT,
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
    "grid.color": GRID,
    "grid.linewidth": 0.4,
    "axes.formatter.use_mathtext": False,
    "svg.hashsalt": "quantviz",  # names of parts would be drawn at random without it
}


def file_bytes(
    make: Callable[[], Figure],
    dpi: float,
    form: Form = "png",
    *,
    looks: dict[Any, Any] | None = None,
    description: str | None = None,
) -> bytes:
    """Return a figure's file; the same figure gives the same bytes.

    Args:
        make: makes the figure; called while no other thread draws.
        dpi: dots an inch.
        form: of the file.
        looks: matplotlib's settings that differ from its default style.
        description: what the file says of itself, or None.
    """
    import matplotlib
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    metadata = _metadata(form, description)
    buffer = io.BytesIO()
    # The default style, because a user's own could ask for LaTeX or change the looks.
    with _DRAWING, matplotlib.style.context("default"), matplotlib.rc_context(looks):
        figure = make()
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format=form, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def _metadata(form: Form, description: str | None) -> dict[str, str | None]:
    """Return what a file says of itself, without date and program."""
    if form == "pdf":  # which has no description
        return {"Subject": description, "Creator": None, "Producer": None, "CreationDate": None}
    return {"Software" if form == "png" else "Date": None, "Description": description}


def check_form(form: str) -> None:
    """Refuse a form that no file is written in.

    Raises:
        UsageError: the form is unknown.
    """
    if form not in FORMS:
        raise UsageError(f"Form {form!r} is unknown; use one of {', '.join(FORMS)}.")


def study_page(
    draw: Callable[[Figure], None], height: float, form: Form, plan: StudyPlan, facts: Mapping[str, Any]
) -> bytes:
    """Draw a figure of a study and return its file.

    Args:
        draw: draws on an empty figure.
        height: in inches; the width is 7.
        form: of the file; a PNG has 300 dots an inch.
        plan: of the study; its settings go into the file's description.
        facts: what the figure shows, for the description too.

    Raises:
        UsageError: the form is unknown.
    """
    check_form(form)

    def make() -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH, height), dpi=_DPI, facecolor="white", layout="constrained")
        draw(figure)
        return figure

    description = json.dumps({**_settings(plan), **facts}, sort_keys=True)
    return file_bytes(make, _DPI, form, looks=LOOKS, description=description)


def _settings(plan: StudyPlan) -> dict[str, Any]:
    return {
        "study": plan.digest,
        "pictures": len(plan.images),
        "models": {model.name: [model.weights.name, model.weights.sha256, model.layer] for model in plan.models},
        "untrained": [model.name for model in plan.models if not model.weights.trained],
        "bits": list(plan.settings),
        "protocols": list(plan.protocols),
        "cam": plan.cam.method,
        "saliency": plan.saliency,
        "calibration": [plan.calibration.source, plan.calibration.images, plan.calibration.sha256],
        "versions": dict(plan.versions),
    }
