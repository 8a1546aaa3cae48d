"""The Dockerfile, as far as it can be judged without Docker: what it copies is there, and it starts as it says."""

import re
import tomllib
from pathlib import Path

import pytest

from quantviz.cli.serve import checked_base, presented_by, serve_command
from quantviz.specs import UsageError
from quantviz.study.presentation import SHIPPED_FILE

ROOT = Path(__file__).parents[2]
KNOWN = set("FROM WORKDIR COPY RUN ARG ENV USER VOLUME EXPOSE HEALTHCHECK ENTRYPOINT".split())


def steps():
    """Return (instruction, arguments) of each step, lines that go on put together."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def test_every_step_is_one_and_what_is_copied_is_there():
    ignored = (ROOT / ".dockerignore").read_text().split()
    for name, words in steps():
        assert name in KNOWN
        if name == "COPY" and "--from" not in words:
            for source in words.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored


def test_it_installs_the_locked_versions_with_torch_first_and_runs_without_rights():
    lines = [f"{name} {words}" for name, words in steps()]
    locked = (ROOT / "requirements.lock").read_text()
    assert re.search(r"^torch==", locked, re.MULTILINE)
    assert re.search(r"^torchvision==", locked, re.MULTILINE)
    install = next(line for line in lines if "requirements.lock)" in line)
    assert install.index("TORCH_INDEX_URL") < install.index("--requirement")
    assert "USER visitor" in lines
    assert any(line.startswith("HEALTHCHECK") and "/_stcore/health" in line for line in lines)
    written = next(line for line in lines if line.startswith("ENV"))
    assert all(value.startswith(("/cache", "/tmp", "1")) for value in re.findall(r"=(\S+)", written))


def test_the_entry_point_and_the_spaces_port_are_the_commands():
    entry = next(words for name, words in steps() if name == "ENTRYPOINT")
    assert entry.startswith('["quantviz", "serve", "--address"')
    options = {option for parameter in serve_command.params for option in parameter.opts}
    assert {"--address", "--base-path", "--present"} <= options
    port = next(parameter.default for parameter in serve_command.params if parameter.name == "port")
    head = (ROOT / "deploy" / "space" / "README.md").read_text().split("---")[1]
    assert f"app_port: {port}" in head
    assert "sdk: docker" in head
    assert any(name == "EXPOSE" and words == str(port) for name, words in steps())


def test_the_server_gets_the_pages_own_theme_in_both_kinds():
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"]
    assert {"light", "dark"} <= set(theme)
    for kind in ("light", "dark"):
        colours = theme[kind]
        assert contrast(colours["textColor"], colours["backgroundColor"]) >= 7
        for ground in ("backgroundColor", "secondaryBackgroundColor"):
            assert contrast(colours["linkColor"], colours[ground]) >= 4.5
            assert contrast(colours["primaryColor"], colours[ground]) >= 4.5
    assert theme["chartSequentialColors"][0] == "#440154"  # viridis, and never a rainbow


def contrast(first, second):
    """Return the contrast of two colours by WCAG 2.2."""

    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("given", "taken"), [("", ""), ("/a/", "a"), ("tools/quant-viz", "tools/quant-viz")])
def test_a_base_path_is_taken_without_slashes_around_it(given, taken):
    assert checked_base(given) == taken


@pytest.mark.parametrize("given", ["a//b", "a b", "../x", "a?b", "é"])
def test_what_is_no_path_is_refused(given):
    with pytest.raises(UsageError, match="is no path of a page"):
        checked_base(given)


def test_a_presentation_is_checked_when_the_server_starts(tmp_path):
    assert presented_by(None) == {}
    assert presented_by(SHIPPED_FILE) == {"QUANTVIZ_PRESENT": str(SHIPPED_FILE)}
    (tmp_path / "bad.toml").write_text("slides = 3")
    with pytest.raises(UsageError, match="no slide"):
        presented_by(tmp_path / "bad.toml")
