"""Planted faults: the tensor is ranked first and the cause is named, in torch and in ONNX files."""

import os
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"
DATA = Path(os.environ.get("QUANTVIZ_REAL_DATA", Path(__file__).parents[2] / "../shared/data"))
NETWORKS = ("squeezenet1_1", "mobilenet_v2", "efficientnet_lite0")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"real weights and pictures are not at {DATA}")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return a function from what is planted to its rows."""
    sys.path.insert(0, str(TOOLS))
    try:
        import planted_faults
    finally:
        sys.path.remove(str(TOOLS))

    def rows(name, seeds, **limits):
        return list(planted_faults.cases(name, seeds, tmp_path_factory.mktemp("files"), **limits))

    return rows


def judged(rows):
    """Return the parts of the cases whose tensor is first and whose cause is named, and of sound networks claimed."""
    cases, sound = [row for row in rows if row["cause"]], [row for row in rows if not row["cause"]]
    first = sum(row["first"] == row["tensor"] for row in cases) / len(cases)
    named = sum(row["named"] == row["cause"] for row in cases) / len(cases)
    return first, named, sum(bool(row["claimed"]) for row in sound) / len(sound)


@needs_data
def test_each_cause_is_found_in_one_network(planted):
    assert judged(planted("squeezenet1_1", [20], kinds=("torch",), strengths=(1,), sound_sets=1)) == (1.0, 1.0, 0.0)


@needs_data
@pytest.mark.slow
def test_causes_are_found_in_every_network(planted):
    rows = [row for name in NETWORKS for row in planted(name, [20])]
    assert sum(bool(row["cause"]) for row in rows) == 180
    first, named, claimed = judged(rows)
    assert first >= 0.95
    assert named >= 0.9
    assert claimed <= 0.05
