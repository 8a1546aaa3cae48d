"""The tools that the documentation is built with: each finds what it is there to find."""

import importlib.util
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "docs" / "tools"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Documented:
    """A class with a public method and a property."""

    def plain(self):
        """Do nothing."""

    @property
    def bare(self):
        return 0

    def _private(self):
        return 0


def test_a_public_name_without_a_docstring_is_found():
    def function():
        return 0

    module = SimpleNamespace(__all__=["Documented", "function", "__version__"], Documented=Documented)
    module.function, module.__version__ = function, "1"
    assert tool("site_parts").undocumented(module) == ["Documented.bare", "function"]


@pytest.mark.parametrize(
    ("name", "text", "addresses"),
    [
        ("a.html", "<a href='https://example.org/'>text</a><img src='local.png'><script src='x.js'></script>", []),
        ("a.html", "<script src='https://example.org/x.js'></script>", ["https://example.org/x.js"]),
        ("a.html", "<link rel=stylesheet href='//example.org/x.css'>", ["//example.org/x.css"]),
        ("a.html", "<img srcset='http://example.org/x.png 2x'>", ["http://example.org/x.png 2x"]),
        ("a.html", "<style>b { background: url('https://example.org/x.png') }</style>", ["https://example.org/x.png"]),
        ("a.css", "@import 'https://example.org/x.css';", ["https://example.org/x.css"]),
        ("a.css", "b { background: url(data:image/png;base64,AA) } /* https://example.org/ */", []),
    ],
)
def test_what_a_page_would_fetch_from_elsewhere_is_found(tmp_path, name, text, addresses):
    (tmp_path / name).write_text(text)
    check = tool("check_offline")
    assert check.requests_of(tmp_path / name) == addresses
    assert check.main(tmp_path) == bool(addresses)


def test_the_list_of_licences_is_that_of_the_lock_files():
    licences = tool("write_licences")
    try:
        page = licences.page()
    except PackageNotFoundError as error:
        pytest.skip(f"{error.name} of the lock files is not installed here")
    assert licences.PAGE.read_text() == page, "write it anew: python docs/tools/write_licences.py"


def test_a_licence_that_nobody_has_looked_at_is_refused():
    licences = tool("write_licences")
    assert licences.remark_on("somebody", "MIT") == ""
    for licence in ("GPL-3.0-only", "LGPLv2+", "Mozilla Public License 2.0", "LicenseRef-Somebody-Proprietary"):
        with pytest.raises(ValueError, match="somebody is under"):
            licences.remark_on("somebody", licence)
