"""Names from outside on the terminal, in tables and files: shown as they are, in any encoding, steering nothing."""

import csv
import io
import os
import subprocess
import sys

import pytest

from quantviz import images
from quantviz.cli.printed import Printed
from quantviz.cli.terminal import show, table_of
from quantviz.specs import csv_bytes, one_form
from quantviz.study.specs.row import StudyRow
from quantviz.study.tables import read_table, write_rows

HOSTILE = "\x1b]0;owned\x07\x1b[2J=1+1 [red]x[/red] caf\udce9 é ☃.png"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
def test_any_name_is_printed_in_any_encoding(encoding, monkeypatch):
    held = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", Printed(held))
    print(HOSTILE)
    table = table_of("name [b]", "x\x1b")
    table.add_row(HOSTILE, "[/]")
    show(table)
    sys.stdout.flush()
    text = held.buffer.getvalue().decode(encoding)
    assert not {"\x1b", "\x07"} & set(text)
    assert text.count("[red]x[/red]") == 2
    assert "[/]" in text
    assert "name [b]" in text
    assert text.count("caf\\udce9") == 2


@pytest.mark.parametrize(
    "settings", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}]
)
def test_a_command_tells_a_hostile_name_in_one_line(tmp_path, settings):
    place = os.path.join(os.fsencode(tmp_path), b"\x1b[31mcaf\xe9 [red] \xe2\x98\x83.png")
    with open(place, "wb") as file:
        file.write(b"no picture")
    ended = subprocess.run(
        [sys.executable, "-m", "quantviz", "compare", place],
        capture_output=True,
        env={**os.environ, **settings},
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == b""
    assert ended.stderr.count(b"\n") == 1
    assert b"\x1b" not in ended.stderr
    assert b"\\x1b[31mcaf\\udce9 [red]" in ended.stderr


def test_no_text_of_a_csv_file_is_a_formula():
    rows = [
        ["name", "drift"],
        *([text, -0.5] for text in ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "＝1", "a=1")),
    ]
    lines = csv_bytes(rows).decode()
    cells = [row[0] for row in csv.reader(io.StringIO(lines, newline=""))]
    assert [text[0] for text in cells[1:-1]] == ["'"] * 8
    assert ",-0.5\n" in lines
    assert "\na=1," in lines
    assert csv_bytes([[None, True, 1e-9, "caf\udce9"]]) == b",True,1e-09,caf\\udce9\n"


def test_a_study_keeps_a_reason_that_tells_a_name_of_any_bytes(tmp_path):
    row = StudyRow(0, "", "squeezenet1_1", "W8A8", "standard", "calibrated", error="caf\udce9.jpg is empty")
    write_rows(tmp_path / "rows.parquet", [row], {})
    assert read_table(tmp_path / "rows.parquet")["error"].to_pylist() == ["caf\\udce9.jpg is empty"]


def test_names_are_compared_in_one_normal_form(tmp_path):
    from quantviz.networks.classes import ClassNames
    from quantviz.study.labels import table_labels
    from quantviz.truth import pair

    composed, apart = "café", "cafe\u0301"
    assert composed != apart
    assert one_form(apart) == composed
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / f"{apart}.png").write_bytes(b"x")
    found = pair([tmp_path / f"{composed}.jpg"], tmp_path / "truth")
    assert len(found.pairs) == 1
    assert ClassNames([composed, "tea"]).find(apart) == 0
    (tmp_path / "labels.csv").write_text(f"file;label\n{apart}.jpg;tea\nelsewhere.jpg;tea\n")
    labels = table_labels(tmp_path / "labels.csv", tmp_path, [tmp_path / f"{composed}.jpg"], [composed, "tea"])
    assert labels.classes == (1,)
    assert "1 of its rows name no picture" in labels.notes[1]
    assert images.left_out(tmp_path) == ()
