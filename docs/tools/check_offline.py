"""Refuse a built site that would fetch anything from elsewhere when it is viewed: ``check_offline.py FOLDER``."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

_ELSEWHERE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
_IN_CSS = re.compile(r"(?:url\(|@import\s)\s*[\"']?\s*((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)


class _Requests(HTMLParser):
    """Collect the addresses elsewhere that a page asks for by itself; a link that one clicks is no such address."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {"src", "srcset", "poster", "data"} | ({"href"} if tag in {"link", "image", "use"} else set())
        self.addresses += [value for name, value in attrs if name in names and value and _ELSEWHERE.match(value)]
        self.addresses += [found for name, value in attrs if name == "style" for found in _IN_CSS.findall(value or "")]
        self._style = tag == "style"

    def handle_data(self, data: str) -> None:
        if self._style:
            self.addresses += _IN_CSS.findall(data)


def requests_of(path: Path) -> list[str]:
    """Return the addresses elsewhere that a page or a style sheet asks for."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return _IN_CSS.findall(text)
    page = _Requests()
    page.feed(text)
    return page.addresses


def main(folder: Path) -> int:
    """Print what each file of the site asks for elsewhere; return 1 if anything does."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in {".html", ".css"})
    wrong = [(path, address) for path in files for address in requests_of(path)]
    for path, address in wrong:
        print(f"{path} asks for {address}: a page of this site fetches nothing from elsewhere.", file=sys.stderr)
    if not files:
        print(f"{folder} holds no page.", file=sys.stderr)
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
