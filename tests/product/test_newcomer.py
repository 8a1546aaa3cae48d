"""CONTRIBUTING's example diffs: they apply to the code as it is, and what they add can be used."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DIFFS = re.findall(r"^### (.+?)\n.*?^```diff\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
ROOMS = {
    "A CAM method": {"quantviz/cam", "quantviz/specs", "tests/cam"},
    "A metric": {"quantviz/scores", "tests/scores"},
    "A range method": {"quantviz/quantize", "quantviz/specs", "tests/quantize"},
    "A page": {"pages", "quantviz/ui", "tests/ui"},
}
USE = """\
import numpy as np, torch
from streamlit.testing.v1 import AppTest
from quantviz.cam import explain
from quantviz.networks import spec, resolve
from quantviz.networks.build import build
from quantviz.quantize import calibrate
from quantviz.specs import CamSpec, spec_of

network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
                              torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
print(explain(network, image, CamSpec("gradcam_elementwise", "1"), 0).native.values.shape)
quant = spec_of("standard", 8, 8, ranges="deviations")
print(quant.ranges, len(calibrate(network, [image], quant.ranges).limits))
page = AppTest.from_file("app.py", default_timeout=120).switch_page("pages/models.py").run()
assert not page.exception, page.exception
print(len(page.dataframe[0].value) > 5)
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """Return a copy of the sources with all four diffs applied."""
    copy = tmp_path_factory.mktemp("newcomer")
    for name in ("quantviz", "pages", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("app.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    for task, diff in DIFFS:
        command = ["git", "apply", "--unidiff-zero", "-C1", "-"]
        done = subprocess.run(command, cwd=copy, input=diff, text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"{task}: write CONTRIBUTING's diff anew.\n{done.stderr}"
    return copy


def run(folder, *command):
    environment = os.environ | {"PYTHONPATH": str(folder), "QUANTVIZ_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_task_is_done_in_one_room():
    assert [task for task, _ in DIFFS] == list(ROOMS)
    for task, diff in DIFFS:
        files = re.findall(r"^\+\+\+ b/(.+)$", diff, re.M)
        assert {str(Path(*Path(file).parts[:-1])) for file in files} == ROOMS[task]


def test_what_the_diffs_add_can_be_used(changed):
    assert run(changed, "-c", USE).splitlines() == ["(14, 14)", "deviations 2", "True"]


def test_the_metric_of_the_diff_scores_maps(changed):
    for name, value in (("a", np.eye(8)), ("b", np.eye(8) + 0.5)):
        np.save(changed / f"{name}.npy", value)
    assert '"cosine"' in run(changed, "-m", "quantviz", "score", "a.npy", "b.npy", "--metrics", "cosine", "--json", "-")


@pytest.mark.slow
def test_the_house_stands_with_the_diffs(changed):
    run(changed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_house.py")
