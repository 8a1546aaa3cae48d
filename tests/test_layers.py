"""The direction of imports between the rooms of the package, and the size of files and functions."""

import ast
import sys
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STEPS = {"zoo", "images", "quantize", "cam", "saliency", "scores", "store", "study", "truth", "statistics", "engine"}
# Room -> the rooms that it may import. A step knows no other step; only the pipeline knows them all.
MAY_IMPORT = {
    "specs": set(),
    **{room: {"specs"} for room in STEPS},
    "pipeline": {"specs", *STEPS},
    "figures": {"specs"},
    "ui": {"pipeline", "figures", "specs", "images", "zoo", "scores", "store", "saliency", "truth"},
    "cli": {"pipeline", "figures", "specs", "images", "zoo", "scores", "store", "saliency", "truth"},
    "__init__": set(),
    "__main__": {"cli"},
    "pages": {"ui", "pipeline", "figures"},
    "app": {"ui"},
}
# Library -> the only rooms that may import it.
ONLY_IN = {
    "pytorch_grad_cam": {"cam"},
    "streamlit": {"app", "pages", "ui"},
    "diskcache": {"store"},
    "pyarrow": {"study"},
    "torch": {"zoo", "quantize", "cam", "engine", "pipeline"},
    "onnx": {"engine"},
    "onnxruntime": {"engine", "saliency"},
    "torchvision": {"zoo"},
    "timm": {"zoo"},
}
MOST_FILE_LINES, MOST_FUNCTION_LINES = 400, 45


def room_of(path):
    place = path.relative_to(ROOT)
    return place.parts[1 if place.parts[0] == "quantviz" else 0].removesuffix(".py")


SOURCES = sorted(
    path
    for path in (*ROOT.glob("app.py"), *ROOT.glob("pages/**/*.py"), *ROOT.glob("quantviz/**/*.py"))
    if "__pycache__" not in path.parts
)
ROOMS = {room_of(path) for path in SOURCES}
each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


@lru_cache
def tree_of(path):
    return ast.parse(path.read_text(), str(path))


def imported(path):
    """Yield the dotted name of everything that a file imports, wherever in it the import stands."""
    package = [*path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def wrong_imports(path):
    """Return what a file imports against the rules."""
    room, wrong = room_of(path), []
    for name in imported(path):
        library, *rest = name.split(".")
        if library == "quantviz" and rest and rest[0] in ROOMS - {room} - MAY_IMPORT.get(room, set()):
            wrong.append(name)
        if room not in ONLY_IN.get(library, {room}):
            wrong.append(name)
        if room == "specs" and library not in {"numpy", "quantviz", *sys.stdlib_module_names}:
            wrong.append(name)
    return wrong


def test_the_table_knows_every_room_and_every_step_exists():
    assert set(MAY_IMPORT) >= ROOMS
    assert {"specs", "pipeline", "figures", "cli", *STEPS} <= ROOMS


@each_source
def test_imports_go_one_way(path):
    assert wrong_imports(path) == []


def test_the_pipeline_is_found_to_import_every_step():
    # Were imports overlooked, the test above would pass for want of any.
    names = [name for path in SOURCES if room_of(path) == "pipeline" for name in imported(path)]
    assert {name.split(".")[1] for name in names if name.startswith("quantviz.")} >= STEPS


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("quantviz/cam.py", "from quantviz.quantize import quantize"),
        ("quantviz/cam.py", "from quantviz import zoo"),
        ("quantviz/cam.py", "def later():\n    import quantviz.pipeline.compare"),
        ("quantviz/store/_rows.py", "from .. import cam"),
        ("quantviz/store/_rows.py", "from ..zoo import table"),
        ("quantviz/study/folder.py", "from quantviz.store import TensorStore"),
        ("quantviz/pipeline/summary.py", "import pyarrow.parquet as pq"),
        ("quantviz/specs.py", "import torch"),
        ("quantviz/figures.py", "import streamlit as st"),
        ("quantviz/pipeline/compare.py", "from pytorch_grad_cam import GradCAM"),
        ("quantviz/pipeline/compare.py", "from quantviz.figures import overlay"),
        ("quantviz/cli/compare.py", "from quantviz.cam import explain"),
        ("pages/compare.py", "from quantviz import store"),
        ("app.py", "from quantviz.pipeline import Workbench"),
    ],
)
def test_an_import_against_the_direction_is_found(monkeypatch, place, line):
    monkeypatch.setattr(sys.modules[__name__], "tree_of", lambda _path: ast.parse(line))
    assert wrong_imports(ROOT / place)


@each_source
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= MOST_FILE_LINES


@each_source
def test_functions_stay_short(path):
    long = [
        f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    assert long == []
