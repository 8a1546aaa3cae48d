"""Known advisories of dependencies are answered, for the very versions that are locked."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
ANSWERED = tomllib.loads((ROOT / "tests" / "tools" / "advisories.toml").read_text())["advisory"]


def locked():
    """Return name -> version of every line of the lock files."""
    lines = [line for path in ROOT.glob("requirements*.lock") for line in path.read_text().splitlines()]
    return dict(found.groups() for line in lines if (found := re.match(r"([A-Za-z0-9_.-]+)==(\S+)", line)))


def test_each_answer_is_for_the_locked_version_and_names_tests_that_exist():
    versions = locked()
    assert ANSWERED
    for entry in ANSWERED:
        assert versions[entry["package"]] == entry["version"], f"answer {entry['id']} anew"
        assert version(entry["package"]) == entry["version"]
        assert re.fullmatch(r"CVE-\d{4}-\d{4,}|GHSA(-[0-9a-z]{4}){3}", entry["id"])
        assert len(entry["answer"]) > 40
        assert entry["tests"]
        assert all((ROOT / path).is_file() for path in entry["tests"])


def test_no_advisory_is_answered_twice_and_the_known_one_is_there():
    ids = [entry["id"] for entry in ANSWERED]
    assert len(ids) == len(set(ids))
    assert "CVE-2025-69872" in ids
