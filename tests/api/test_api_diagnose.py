"""``quantviz.diagnose`` of a pair of ONNX files: a remedy is tried, and what it made can be taken along."""

import json

import onnx
import pytest
from onnx_support import quantized, saved, small

import quantviz as qv


def test_a_pair_of_files_is_diagnosed_and_mended(tmp_path):
    reference = saved(tmp_path, small())
    files = [quantized(reference, f"{name}.onnx", per_channel=flag) for name, flag in (("one", True), ("two", False))]
    pair = {"float_model": reference, "cache": tmp_path / "cache"}
    found = qv.diagnose(["coffee", "chelsea"], quantized_model=files, **pair)
    assert [found.diagnosis.network, *found.others] == ["one", "two"]
    weight = next(entry.name for entry in found.tensors if entry.site.role == "weight")
    result = qv.diagnose(["coffee", "chelsea"], quantized_model=files[0], remedy=f"{weight}=exclude", drift=1, **pair)
    assert result.diagnosis.kind == "files"
    assert (result.trial.tensor, result.trial.remedy, result.trial.held_out) == (weight, "exclude", 1)
    assert result.trial.before.sqnr_isolated is not None
    assert result.trial.after.sqnr_isolated is None
    report = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert report["trial"]["remedy"] == "exclude"
    mended = onnx.load(result.save(tmp_path / "mended.onnx"))
    given = onnx.load(files[0])
    assert len(mended.graph.node) < len(given.graph.node)
    assert sum(entry.drift is not None for entry in result.tensors) == 1
    assert result.plot_drift().layout.yaxis.title.text.startswith("map drift")
    with pytest.raises(qv.UsageError, match="No drift was measured"):
        found.plot_drift()
    with pytest.raises(qv.UsageError, match="a network that quantviz rounds"):
        result.export("bits", tmp_path / "bits.toml")
    with pytest.raises(qv.UsageError, match="no mended file"):
        qv.DiagnosisResult(result.diagnosis).save(tmp_path / "other.onnx")
