"""Studies whose networks ONNX Runtime runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from study_support import SQUEEZE, synthetic_plan

from quantviz import images
from quantviz.comparison.workbench import Workbench
from quantviz.specs import DEPLOYED, PAPER, UsageError, spec_of
from quantviz.store import TensorStore
from quantviz.study.folder import StudyFolder
from quantviz.study.pictures import compare_request
from quantviz.study.plan_file import plan_bytes, read_plan
from quantviz.study.planning import SweepRequest
from quantviz.study.sweep.executor import Executor
from quantviz.study.sweep.run import sweep
from quantviz.study.tables import read_table

BITS = (spec_of("standard", 8, 8), spec_of("standard", 4, 12))


def test_a_plan_of_before_is_the_same_study_with_torch():
    plan = synthetic_plan(2)
    written = json.loads(plan_bytes(plan))
    assert "backend" not in written
    assert read_plan(plan_bytes(plan)).backend == "torch"
    other = replace(plan, backend="onnxruntime")
    assert read_plan(plan_bytes(other)) == other
    assert other.digest != plan.digest
    assert plan.difference(other) == "backend torch, not onnxruntime"


def test_what_a_backend_does_not_sweep_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"does not run protocol 'paper'; sweep calibrated and deployed with it"):
        SweepRequest(tmp_path, (SQUEEZE,), BITS, protocols=(PAPER,), backend="onnxruntime")
    with pytest.raises(UsageError, match="Backend 'ncnn' runs no sweep; use one of torch, onnxruntime"):
        SweepRequest(tmp_path, (SQUEEZE,), BITS, backend="ncnn")
    SweepRequest(tmp_path, (SQUEEZE,), BITS, protocols=(DEPLOYED,), backend="onnxruntime")


@pytest.mark.slow
def test_a_sweep_gives_the_same_bytes_for_any_number_of_workers_and_nearly_those_of_torch(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("chelsea", "coffee", "flower"):
        Image.fromarray(images.bundled(name).rgb[:240, :320]).save(pictures / f"{name}.png")
    request = SweepRequest(pictures, (SQUEEZE,), BITS, {SQUEEZE: "untrained"}, batch=1, backend="onnxruntime")
    tables = {}
    with TensorStore(tmp_path / "tensors") as store:
        for workers in (1, 2):
            sweep(request, tmp_path / f"fast{workers}", store, executor=Executor("local", workers))
            tables[workers] = Path(tmp_path / f"fast{workers}" / "results.parquet").read_bytes()
        sweep(replace(request, backend="torch"), tmp_path / "torch", store)
        plan = StudyFolder(tmp_path / "fast1").plan()
        found = Workbench(store).compare(
            compare_request(plan, (SQUEEZE, "W8A8", "calibrated")), images.load(pictures / "coffee.png")
        )
    assert tables[1] == tables[2]
    assert plan.backend == "onnxruntime"
    assert {"onnxruntime", "ONNX simulation"} <= plan.versions.keys()
    fast, torch = (read_table(tmp_path / name).column("quantized_v_float_cc").to_numpy() for name in ("fast1", "torch"))
    assert len(fast) == 6
    assert np.abs(fast - torch).max() < 0.01
    assert not np.array_equal(fast, torch)
    assert (found.backend, found.quantized_backend) == ("onnxruntime", "onnxruntime")
    assert found.scores["quantized_v_float"].cc in fast
