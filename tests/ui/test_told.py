"""What the page and the log say of the unexpected, and how long steps took."""

import json
import logging
import re

from streamlit.testing.v1 import AppTest

from quantviz.ui.observed import JsonLines


def _fails():
    from quantviz.ui import guarded

    with guarded():
        raise ZeroDivisionError("a secret of the machine")


def test_an_unexpected_error_has_a_number_that_the_log_has_too(caplog):
    with caplog.at_level(logging.ERROR):
        app = AppTest.from_function(_fails, default_timeout=120).run()
    (error,) = app.error
    number = re.search(r"`([0-9a-f]{8})`", error.value)[1]
    assert "secret" not in error.value
    record = next(record for record in caplog.records if number in record.getMessage())
    line = json.loads(JsonLines().format(record))
    assert (line["error"], line["level"]) == (number, "ERROR")
    assert "ZeroDivisionError: a secret of the machine" in line["traceback"]
    assert line["time"].endswith("+00:00")


def _steps():
    from quantviz.ui import show_steps, visible_progress

    with visible_progress() as progress:
        progress("Reading [it](http://a.example)", 0.5)
        progress("Writing", 1.0)
    show_steps()


def test_the_steps_are_shown_where_the_address_asks_for_them():
    app = AppTest.from_function(_steps, default_timeout=120)
    assert not app.run().table
    app.query_params["timings"] = "1"
    (table,) = app.run().table
    assert [row.replace("\\", "") for row in table.value["step"]][:1] == ["Reading [it](http://a.example)"]
    assert list(table.value["step"])[1] == "Writing"
    assert all(float(seconds) >= 0 for seconds in table.value["seconds"])
