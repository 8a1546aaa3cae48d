"""The notebooks, and the lines of Python in README and in the documentation, run as they stand."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from quantviz import images

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
# What each notebook must have printed or shown.
SHOWN = {
    "compare": ("strainer", "W4A8: CC 0.7", "figure.png"),
    "two_modules": ("float against W3", "Sequential says"),
    "study": ("efficientnet_lite0: top-1 changed in 2.0% of the pictures", "n02808440_bathtub.JPEG"),
}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@each_notebook
def test_a_notebook_is_committed_without_results(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@each_notebook
def test_a_notebook_runs(path, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("QUANTVIZ_CACHE", str(cache))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(tmp_path))
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "\n".join(output.get("text") or output.data.get("text/plain", "") for output in outputs)
    assert [part for part in SHOWN[path.stem] if part not in text] == []
    assert any("<img" in output.get("data", {}).get("text/html", "") for output in outputs) or path.stem == "study"


def lines_of(page):
    """Return the Python that a page shows: its python blocks, or in README the lines that are set in."""
    text = page.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    return "".join(blocks) or textwrap.dedent("".join(re.findall(r"^    (?:import|qv\.).*\n", text, re.M)))


@pytest.mark.parametrize("page", ["README.md", pytest.param("docs/howto/python.md", marks=pytest.mark.slow)])
def test_the_lines_of_python_run(page, cache, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(images.bundled_path("coffee").read_bytes())
    code = lines_of(ROOT / page)
    assert "qv.compare" in code
    environment = os.environ | {"QUANTVIZ_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
