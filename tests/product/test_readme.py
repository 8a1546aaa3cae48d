"""What README and the documentation promise: their links, their commands, and the numbers of the finding."""

import re
import shlex
from pathlib import Path

import click
import pandas as pd
import pytest

from quantviz.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts)])
SHIPPED = ROOT / "quantviz" / "studies" / "imagenet-200"
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def shown_commands(text):
    """Return the commands that a page shows: lines of its code that begin with quantviz, joined where they go on."""
    blocks = re.findall(r"^```(?!text)\w*\n(.*?)^```", text, re.M | re.S) + re.findall(r"^ {4}(.*\n)", text, re.M)
    lines = re.sub(r"\\\n\s*", " ", "".join(blocks)).splitlines()
    start = re.compile(r"(?:exec )?(?:RAY_AUTH_MODE=token )?(?:\.venv/bin/)?quantviz (.*)$")
    return [shlex.split(match[1], comments=True) for line in lines if (match := start.match(line))]


@each_page
def test_every_link_to_a_file_leads_to_one(page):
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@each_page
def test_every_command_that_is_shown_exists_with_its_options(page):
    for words in shown_commands(page.read_text()):
        command = cli
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            assert words[0] in command.commands, words
            command = command.commands[words.pop(0)]
        known = {name for option in command.params for name in option.opts} | {"--help", "-h"}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used - known == set(), (command.name, words)


def test_many_commands_are_found_to_be_shown():
    assert sum(len(shown_commands(page.read_text())) for page in PAGES) > 40


@pytest.fixture(scope="module")
def mean_cc():
    """Return the mean CC of quantized and float maps in the study that comes with quantviz: protocol, bits, model."""
    rows = pd.read_parquet(SHIPPED / "results.parquet")
    return rows.groupby(["protocol", "setting", "model"]).quantized_v_float_cc.mean()


def test_the_finding_is_that_of_the_study(mean_cc):
    page = (ROOT / "docs" / "index.md").read_text()
    models = ("efficientnet_lite0", "squeezenet1_1", "mobilenet_v2")
    for bits in ("W16A16", "W8A8", "W6A6", "W5A5", "W4A4"):
        numbers = " | ".join(f"{mean_cc['calibrated', bits, model]:.3f}" for model in models)
        assert f"| {bits}, calibrated | {numbers} |" in page
    paper = mean_cc["paper", "W8A8"]
    assert f"{paper.min():.2f} to {paper.max():.2f} at W8A8" in page
    eight, six, four = (mean_cc["calibrated", bits] for bits in ("W8A8", "W6A6", "W4A4"))
    told = " ".join((ROOT / "README.md").read_text().split())
    assert f"{eight.min():.3f}" == f"{eight.max():.3f}"
    assert f"is {eight.min():.3f}." in told
    assert f"{six.min():.2f} to {six.max():.2f}, at 4 bits {four.min():.2f} to {four.max():.2f}." in told


def test_readme_is_one_screen():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 50
