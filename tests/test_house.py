"""The direction of imports between the rooms of the package, and the size of files and functions."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STEPS = {
    "networks",
    "images",
    "quantize",
    "cam",
    "saliency",
    "scores",
    "store",
    "truth",
    "statistics",
    "backends",
    "networks.onnx_files",
}
VALUES = {"specs", "layerwise.specs", "layerwise.diagnosis.specs", "study.specs", "bench.specs"}
FACES = {
    "comparison",
    "layerwise",
    "layerwise.diagnosis",
    "study",
    "study.sweep",
    "report",
    "bench",
    "guard",
    *VALUES,
    *STEPS - {"quantize", "cam"},
    "networks.onnx_files",
}
# Room -> the rooms that it may import. A step knows no other step; tasks know steps and the tasks before them.
MAY_IMPORT = {
    "specs": set(),
    "confined": {"specs"},
    **{room: {"specs"} for room in STEPS},
    "images": {"specs", "confined"},
    "networks.onnx_files": {"specs", "networks"},
    "comparison": {"specs", "confined", *STEPS},
    "layerwise.specs": {"specs"},
    "layerwise": {"specs", "layerwise.specs", "comparison", *STEPS},
    "layerwise.diagnosis.specs": {"specs"},
    "layerwise.diagnosis": {
        *("specs", "confined", "layerwise.diagnosis.specs", "layerwise.specs", "layerwise", "comparison"),
        *STEPS,
    },
    "study.specs": {"specs"},
    "study": {*VALUES, "comparison", *STEPS},
    "study.sweep": {"specs", "study.specs", "study", "comparison", *STEPS},
    "guard": {*VALUES, "layerwise", "study", "study.sweep", "comparison", *STEPS},
    "report": {*VALUES, "layerwise", "study"},
    "bench.specs": {"specs"},
    "bench": {*VALUES, "comparison", "layerwise.diagnosis", "study", "study.sweep", *STEPS},
    "figures.data": VALUES,
    "figures.interactive": {*VALUES, "figures.data"},
    "figures.print": {*VALUES, "figures.data"},
    "figures.inline": {"figures.data"},
    "figures": {"specs", "figures.inline", "figures.data", "figures.interactive", "figures.print"},
    "ui": {"figures", *FACES},
    "api": {"figures", "figures.data", "figures.print", *FACES},
    "cli": {"figures", "figures.print", "api", *FACES},
    "__init__": {"specs", "api"},
    "__main__": {"cli", "networks"},
    "pages": {"ui", "comparison"},
    "app": {"ui"},
}
# Modules of a study that stand above running one: they may import it, and it may not import them.
ABOVE_SWEEP = {"quantviz.study.replay", "quantviz.study.times"}
# Library -> the only rooms that may import it.
ONLY_IN = {
    "pytorch_grad_cam": {"cam"},
    "streamlit": {"app", "pages", "ui"},
    "diskcache": {"store"},
    "pyarrow": {"study"},
    "cattrs": {"comparison"},
    "ray": {"study.sweep"},
    "torch": {
        "networks",
        "networks.onnx_files",
        "quantize",
        "cam",
        "backends",
        "comparison",
        "layerwise",
        "layerwise.diagnosis",
        "study",
        "study.sweep",
        "bench",
        "api",
    },
    "onnx": {"backends", "networks.onnx_files"},
    "onnxscript": {"backends"},
    "ncnn": {"backends"},
    "onnxruntime": {"backends", "networks.onnx_files", "saliency"},
    "torchvision": {"networks"},
    "timm": {"networks"},
    "statsmodels": {"statistics"},
    "py_sod_metrics": {"scores"},
    "matplotlib": {"figures.print"},
    "jinja2": {"report", "api"},
    "plotly": {"figures.interactive", "api"},
}
MOST_FILE_LINES, MOST_FUNCTION_LINES = 400, 45


def room_of(path):
    place = path.relative_to(ROOT)
    names = [name.removesuffix(".py") for name in place.parts]
    if names[0] != "quantviz":
        return names[0]
    return room_of_name(".".join(names).removesuffix(".__init__") if len(names) > 2 else ".".join(names))


def room_of_name(name):
    """Return the room of a dotted name below quantviz: of the longest of its beginnings that is one."""
    parts = name.split(".")[1:]
    beginnings = [".".join(parts[:length]) for length in (3, 2)]
    return next((inner for inner in beginnings if inner in MAY_IMPORT), parts[0])


SOURCES = sorted(
    path
    for path in (*ROOT.glob("app.py"), *ROOT.glob("pages/**/*.py"), *ROOT.glob("quantviz/**/*.py"))
    if "__pycache__" not in path.parts
)
ROOMS = {room_of(path) for path in SOURCES}


@cache
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


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in SOURCES}


def imported_modules(path):
    """Yield the modules of ours that a file imports, lazily or for typing too."""
    for name in imported(path):
        found = name if name in MODULES else name.rpartition(".")[0]
        if found in MODULES and found != "quantviz":
            yield found


def wrong_imports(path):
    """Return what a file imports against the rules."""
    room, wrong = room_of(path), []
    allowed = {room} | MAY_IMPORT.get(room, set())
    if module_of(path) in ABOVE_SWEEP:
        allowed |= {"study.sweep"}
    for name in imported(path):
        library, *rest = name.split(".")
        if library == "quantviz" and rest:
            other = room_of_name(name)
            upwards = room == "study.sweep" and any(f"{name}.".startswith(f"{above}.") for above in ABOVE_SWEEP)
            if (other in ROOMS and other not in allowed) or upwards:
                wrong.append(name)
            private = [part for part in rest if part.startswith("_") and not part.endswith("__")]
            if private and other != room:
                wrong.append(name)
        if room not in ONLY_IN.get(library, {room}):
            wrong.append(name)
        if room == "specs" and library not in {"numpy", "quantviz", *sys.stdlib_module_names}:
            wrong.append(name)
    return wrong


def circles(graph):
    """Return the groups of modules that import each other, directly or by way of others."""
    order, low, stack, found = {}, {}, [], []

    def visit(module):
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in graph[module]:
            if other not in order:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            at = stack.index(module)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for module in graph:
        if module not in order:
            visit(module)
    return found


def test_no_modules_import_each_other():
    graph = {module: set(imported_modules(path)) - {module} for module, path in MODULES.items()}
    assert circles(graph) == []
    assert sum(map(len, graph.values())) > 500  # were imports overlooked, there would be no circle either


def test_a_circle_is_found_however_long_it_is():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_imports_go_one_way():
    wrong = {str(path.relative_to(ROOT)): wrong_imports(path) for path in SOURCES}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_tasks_are_found_to_import_every_step():
    # Were imports overlooked, the test above would pass for want of any.
    tasks = {"comparison", "layerwise", "study", "study.sweep"}
    names = [name for path in SOURCES if room_of(path) in tasks for name in imported(path)]
    assert {room_of_name(name) for name in names if name.startswith("quantviz.")} >= STEPS


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("quantviz/cam.py", "from quantviz.quantize import quantize"),
        ("quantviz/cam.py", "from quantviz import networks"),
        ("quantviz/cam.py", "def later():\n    import quantviz.comparison.workbench"),
        ("quantviz/store/_rows.py", "from .. import cam"),
        ("quantviz/store/_rows.py", "from ..networks import table"),
        ("quantviz/comparison/workbench.py", "from quantviz.study.folder import StudyFolder"),
        ("quantviz/comparison/workbench.py", "from quantviz.store._rows import Rows"),
        ("quantviz/comparison/protocols.py", "from quantviz.layerwise.drift import answer"),
        ("quantviz/comparison/workbench.py", "from quantviz.quantize import _hooks"),
        ("quantviz/comparison/workbench.py", "from quantviz.quantize import _fold_all"),
        ("quantviz/layerwise/specs.py", "from quantviz.comparison import Workbench"),
        ("quantviz/layerwise/search.py", "from quantviz.study.summary import summary"),
        ("quantviz/study/sweep/run.py", "from quantviz.study.replay import replay"),
        ("quantviz/study/sweep/run.py", "from quantviz.study import times"),
        ("quantviz/study/summary.py", "from quantviz.study.sweep.run import sweep"),
        ("quantviz/study/summary.py", "from quantviz.report.tables import csv_bytes"),
        ("quantviz/study/sweep/run.py", "import pyarrow.parquet as pq"),
        ("quantviz/specs.py", "import torch"),
        ("quantviz/figures.py", "import streamlit as st"),
        ("quantviz/figures/interactive/study.py", "from quantviz.study.summary import summary"),
        ("quantviz/figures/interactive/study.py", "from quantviz.figures.print.page import WIDTH"),
        ("quantviz/figures/data/study.py", "import plotly.graph_objects as go"),
        ("quantviz/comparison/workbench.py", "from pytorch_grad_cam import GradCAM"),
        ("quantviz/comparison/workbench.py", "from quantviz.figures import overlay"),
        ("quantviz/cli/compare.py", "from quantviz.cam import explain"),
        ("pages/compare.py", "from quantviz import store"),
        ("app.py", "from quantviz.comparison import Workbench"),
    ],
)
def test_an_import_against_the_direction_is_found(monkeypatch, place, line):
    monkeypatch.setattr(sys.modules[__name__], "tree_of", lambda _path: ast.parse(line))
    assert wrong_imports(ROOT / place)


def test_files_stay_short():
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: count for path, count in lines.items() if count > MOST_FILE_LINES} == {}


def lines_of(path, node):
    """Return a function's lines; in Python's front door without the docstring, which is the reference there."""
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    is_reference = room_of(path) == "api" and ast.get_docstring(node) is not None
    return lines - (first.end_lineno - first.lineno + 1) if is_reference else lines


def test_functions_stay_short():
    long = [
        f"{path.relative_to(ROOT)}: {node.name} has {lines_of(path, node)} lines"
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(path, node) > MOST_FUNCTION_LINES
    ]
    assert long == []
