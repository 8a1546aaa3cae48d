"""Readers of files that nobody checked hold to the table of limits, and say which limit was exceeded."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quantviz import networks
from quantviz.layerwise.bits_file import read_bits
from quantviz.networks import checkpoint_file
from quantviz.networks.card import parse_card
from quantviz.networks.toml_lines import line_of
from quantviz.specs import (
    CheckpointError,
    ImageError,
    QuantvizError,
    StoreError,
    UsageError,
    brief,
    limits,
    read_json,
    usable_path,
)
from quantviz.study.folder import StudyFolder
from quantviz.study.results import Results
from quantviz.study.shipped import shipped_studies
from quantviz.truth import read_fixations


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" * 33 + b"]" * 33, "nested deeper than 32"),
        (b"[" * 90_000, "nested deeper than 32"),
        (b'{"a": {"b": 1, "b": 2}}', "has 'b' twice"),
        (b"[NaN]", "NaN"),
        (b"[1e999]", "1e999"),
        (b"[-Infinity]", "-Infinity"),
        (b"[" + b"1" * 5000 + b"]", "digits"),
        (b"\xff\xfe", "UTF-8"),
        (b"[1", "no JSON"),
        (b" " * 1001, "1,001 bytes"),
    ],
)
def test_json_is_read_within_limits(data, words):
    with pytest.raises(ValueError, match=r".") as caught:
        read_json(data, most=100_000 if len(data) != 1001 else 1000)
    assert words in str(caught.value)


def test_json_within_limits_is_read():
    assert read_json(b"\xef\xbb\xbf" + b"[" * 32 + b"]" * 32, most=100) is not None
    assert read_json(b'{"a": [1, 2.5, null]}', most=100) == {"a": [1, 2.5, None]}


def test_a_bits_file_of_many_keys_is_judged_in_one_pass(monkeypatch):
    counted = []
    monkeypatch.setattr("quantviz.specs.json_text._once", lambda pairs: counted.append(len(pairs)) or dict(pairs))
    layers = ", ".join(f'"l{number}": 8' for number in range(60_000))
    with pytest.raises(UsageError, match="format"):
        read_bits(f'{{"layers": {{{layers}}}}}'.encode(), "many.json", "squeezenet1_1")
    assert counted == [60_000, 1]


def test_messages_keep_their_end_whatever_they_quote():
    told = str(QuantvizError(f"Layer {'x' * 900_000} is unknown; use conv1."))
    assert len(told) < 700
    assert told.endswith("is unknown; use conv1.")
    many = str(UsageError("Names: " + "word " * 100_000 + "; use conv1."))
    assert len(many) <= 4000
    assert many.endswith("use conv1.")
    path = "/" + "/".join(["folder"] * 80)
    assert brief(f"{path} does not exist.") == f"{path} does not exist."


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "x" * 256, "/".join(["folder"] * 700)])
def test_a_path_that_no_system_has_is_told(path):
    with pytest.raises(UsageError, match=r"no path can have|more than a file system takes"):
        usable_path(Path(path), "a folder")
    with pytest.raises(UsageError):
        StudyFolder(Path(path)).plan()


def test_a_nested_plan_is_refused(tmp_path):
    (tmp_path / "plan.json").write_bytes(b'{"format": 1, "models": ' + b"[" * 900 + b"]" * 900 + b"}")
    with pytest.raises(StoreError, match="nested deeper than 32"):
        StudyFolder(tmp_path).plan()
    (tmp_path / "progress.json").write_bytes(b"[" * 5000)
    assert StudyFolder(tmp_path).progress() is None


@pytest.mark.parametrize(
    ("column", "value"),
    [("quantized_v_float_cc", float("inf")), ("float_probability", 1.5), ("float_v_saliency_kld", float("nan"))],
)
def test_results_of_numbers_that_no_study_has_are_refused(tmp_path, column, value):
    shipped = next(iter(shipped_studies().values()))
    table = pq.read_table(shipped / "results.parquet")
    place = table.column_names.index(column)
    numbers = table[column].to_pylist()
    numbers[3] = value
    changed = table.set_column(place, table.schema.field(column), pa.array(numbers, pa.float64()))
    (tmp_path / "plan.json").write_bytes((shipped / "plan.json").read_bytes())
    pq.write_table(changed, tmp_path / "results.parquet")
    with pytest.raises(ValueError, match=column):
        Results(tmp_path / "results.parquet")
    folder = StudyFolder(tmp_path)
    with pytest.raises(StoreError, match="damaged"):
        folder.results()


def test_a_table_of_too_many_rows_is_refused():
    with pytest.raises(ImageError, match="more than 300,000 rows"):
        read_fixations(b"1,2\n" * (limits.TRUTH_ROWS + 1), (10, 10))


def weights(data, name="w.pth"):
    return checkpoint_file.tensors_of(data, name, 1 << 30, "", [], [])


def test_a_checkpoint_of_too_many_tensors_is_refused_before_any_is_made():
    entries = {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(20_001)}
    header = json.dumps(entries).encode()
    with pytest.raises(CheckpointError, match=r"20,001|20,002"):
        weights(len(header).to_bytes(8, "little") + header, "w.safetensors")


def test_a_checkpoint_with_an_endless_pickle_is_refused():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"N0" * (limits.CHECKPOINT_PICKLE // 2 + 1))
    with pytest.raises(CheckpointError, match="described in"):
        weights(held.getvalue())


def test_a_bare_pickle_is_read_for_a_bounded_number_of_steps(monkeypatch):
    monkeypatch.setattr(limits, "CHECKPOINT_STEPS", 1000)
    with pytest.raises(CheckpointError, match="more values than any checkpoint"):
        weights(b"\x80\x02" + b"N" * 2000 + b".")
    with pytest.raises(CheckpointError, match="cannot be read"):
        weights(pickle.dumps([None] * 3))


def test_a_nested_card_is_refused(tmp_path):
    with pytest.raises(UsageError, match="nested deeper than 16"):
        parse_card("x = " + "[" * 5000 + "]" * 5000, tmp_path / "net.toml")


def test_looking_for_a_line_in_a_long_statement_ends():
    text = 'model = """\n' + "a\n" * 200_000 + '"""\nlast = 1\n'
    assert line_of(text, ("last",)) is None
    assert line_of('model = """\na\n"""\nlast = 1\n', ("last",)) == 4


def test_the_models_of_the_table_are_within_the_limits():
    assert max(spec.parameters for spec in networks.MODELS.values()) * 4 < 1 << 30
    assert all(row.files and row.size and row.content and row.where for row in limits.LIMITS)
