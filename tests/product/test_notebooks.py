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
def test_a_notebook_is_committed_without_results_and_run_here(path):
    assert path.stem in SHOWN
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.fixture(scope="module")
def outputs(cache, tmp_path_factory):
    """Return what the cells of each notebook printed and showed, run in one kernel: importing PyTorch takes a while."""
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in NOTEBOOKS}
    whole = nbformat.v4.new_notebook()
    for name, notebook in notebooks.items():
        apart = f"%reset -f\n%cd -q {tmp_path_factory.mktemp(name)}"  # from what the one before has left
        whole.cells += [nbformat.v4.new_code_cell(apart), *notebook.cells]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTVIZ_CACHE", str(cache))
        NotebookClient(whole, timeout=600, kernel_name="python3", allow_errors=True).execute()
    return {
        name: [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        for name, notebook in notebooks.items()
    }


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_runs(name, outputs):
    assert [output for output in outputs[name] if output.output_type == "error"] == []
    text = "\n".join(output.get("text") or output.data.get("text/plain", "") for output in outputs[name])
    assert [part for part in SHOWN[name] if part not in text] == []
    assert any("<img" in output.get("data", {}).get("text/html", "") for output in outputs[name]) or name == "study"


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
