"""Which studies there are, the one that is looked at, and its rows, read once a server."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from quantviz.specs import StoreError
from quantviz.store import default_directory
from quantviz.study.floor import FLOOR_FILE, StudyFloor, read_floor
from quantviz.study.grids import GRIDS_FILE, StudyGrids, read_grids
from quantviz.study.pictures import plan_of_study
from quantviz.study.shipped import shipped_studies
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.summary import StudySummary
from quantviz.study.specs.table import StudyTable
from quantviz.study.summary import summary
from quantviz.study.sweep.jobs import jobs
from quantviz.study.table import study_table
from quantviz.ui import workbench
from quantviz.ui.links import Linked
from quantviz.ui.serving import serving, visitors_path


def made_folder() -> Path:
    """Return the folder of the studies that are made here."""
    return default_directory() / "studies"


def finished_studies() -> dict[str, Path]:
    """Return name -> folder of the studies that quantviz comes with, then of those named at the start and made here.

    On a public server those made here are left out: whoever made them did not offer them.
    """
    folders = shipped_studies()
    for named in serving().studies:
        folders[named.name if named.name not in folders else f"{named.name} (offered)"] = named
    if serving().public:
        return folders
    for made in jobs(made_folder()):
        if made.state == "finished":
            folders[made.name if made.name not in folders else f"{made.name} (made here)"] = made.path
    return folders


def study_folder(name: str) -> Path:
    """Return the folder of a study by its name, or the path that the name is.

    Raises:
        UsageError: as ``visitors_path``.
    """
    return finished_studies().get(name) or visitors_path(name)


def choose_study(linked: Linked) -> tuple[str, Path] | None:
    """Draw the choice of a study and return its name and folder; None where there is none."""
    known = finished_studies()
    name = linked.select("Study", list(known), "study") if known else ""
    if serving().public:
        return (name, known[name]) if known else None
    typed = st.text_input(
        "Or a study's folder on this machine" if known else "A study's folder on this machine",
        key="study_path",
        bind="query-params",
        help="As `quantviz sweep` makes it. It takes the place of the study chosen above.",
    ).strip()
    if typed:
        return typed, visitors_path(typed)
    return (name, known[name]) if known else None


def plan_of(study: Path) -> StudyPlan:
    """Return a study's plan.

    Raises:
        UsageError: there is no study.
        StoreError: its plan cannot be read.
    """
    return _plan(str(study), _stamp(study / "plan.json"))


def table_of(study: Path) -> StudyTable:
    """Return the rows of a finished study.

    Raises:
        UsageError: there is no study, or it is not finished.
        StoreError: the study is damaged.
    """
    return _table(str(study), (*_stamp(study / "plan.json"), *_stamp(study / "results.parquet")))


def summary_of(study: Path) -> StudySummary:
    """Return the summary of a finished study; the first time it takes some seconds, later the store has it.

    Raises:
        UsageError: there is no study, or it is not finished.
        StoreError: the study is damaged.
    """
    return _summary(str(study), (*_stamp(study / "plan.json"), *_stamp(study / "results.parquet")))


def floor_of(study: Path, plan: StudyPlan) -> tuple[StudyFloor | None, str]:
    """Return a study's noise floor, None where it has none, and why it cannot be read, or ""."""
    try:
        return _floor(str(study), _stamp(study / FLOOR_FILE), plan.digest, plan), ""
    except StoreError as error:
        return None, str(error)


def grids_of(study: Path, plan: StudyPlan) -> tuple[StudyGrids | None, str]:
    """Return the maps that a study's folder keeps, None where it keeps none, and why they cannot be read, or ""."""
    try:
        return _grids(str(study), _stamp(study / GRIDS_FILE), plan.digest, plan), ""
    except StoreError as error:
        return None, str(error)


# As resources, which are shared as they are: they are read-only, and copying them takes longer than reading.
@st.cache_resource(show_spinner=False, max_entries=8)
def _plan(study: str, stamp: tuple[int, ...]) -> StudyPlan:
    return plan_of_study(Path(study))


@st.cache_resource(show_spinner="Reading the study", max_entries=3)
def _table(study: str, stamp: tuple[int, ...]) -> StudyTable:
    return study_table(Path(study))


@st.cache_resource(show_spinner="Summing up the study", max_entries=3)
def _summary(study: str, stamp: tuple[int, ...]) -> StudySummary:
    return summary(Path(study), store=workbench().store)


@st.cache_resource(show_spinner=False, max_entries=3)
def _grids(study: str, stamp: tuple[int, ...], digest: str, _plan: StudyPlan) -> StudyGrids | None:
    return read_grids(Path(study), _plan)


@st.cache_resource(show_spinner=False, max_entries=8)
def _floor(study: str, stamp: tuple[int, ...], digest: str, _plan: StudyPlan) -> StudyFloor | None:
    return read_floor(Path(study), _plan)


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes with a file's content; () where it cannot be seen: reading it then says why."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino
