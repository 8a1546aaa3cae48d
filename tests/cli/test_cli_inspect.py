"""The command inspect."""

import json

from onnx_support import LAST, quantized, saved, small


def test_inspect_shows_files_and_their_pair(run, tmp_path):
    reference = saved(tmp_path, small())
    other = quantized(reference, "int8.onnx")
    status, text, _ = run("inspect", reference, other)
    assert status == 0
    parts = ("float.onnx: opset 17, float, FP32", "int8.onnx: opset 17, QDQ, W8A8", "float32 NCHW, N x 3 x 48 x 48")
    assert all(part in text for part in (*parts, LAST, "default: the last spatial tensor before pooling"))
    assert "FINDING" not in text

    status, text, _ = run("inspect", reference, other, "--json", "-")
    told = json.loads(text)
    assert [entry["bits"] for entry in told["files"]] == ["FP32", "W8A8"]
    assert told["files"][1]["layers"]["default"] == LAST
    assert {"float": LAST, "quantized": LAST, "how": "by name", "same_shape": True} in told["pair"]["matches"]
    assert told["pair"]["findings"] == []


def test_inspect_refuses_what_it_cannot_read(run, tmp_path):
    status, _, error = run("inspect", tmp_path / "nothing.onnx")
    assert (status, error.count("\n")) == (2, 1)
    assert "does not exist" in error
    reference = saved(tmp_path, small())
    assert run("inspect", reference, reference, reference)[0] == 2
