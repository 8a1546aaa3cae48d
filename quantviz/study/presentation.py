"""A presentation: saved views in a small TOML file, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

from quantviz.networks.toml_lines import content_of, line_of, text_of
from quantviz.specs import UsageError
from quantviz.study.shipped import SHIPPED

Show = Literal["text", "maps", "drift", "accuracy", "ranking", "table1", "triangle", "gap"]

SHOWS: Final = get_args(Show)
"""What a slide can show beside its words."""

SHIPPED_FILE: Final = SHIPPED / "presentation.toml"
"""The presentation that quantviz comes with."""

_MOST_SLIDES = 200


@dataclass(frozen=True, slots=True)
class Slide:
    """One view.

    Attributes:
        title: in large letters.
        text: a sentence or two in Markdown, or "".
        show: what else.
        study: name of a study that comes with quantviz, or the path of one's folder.
        networks: those that are shown; all of the study if empty. Of ``"maps"`` and ``"gap"`` the first one counts.
        bits: labels of bit-widths, ``"W4A4"``; all of the study if empty.
        protocols: those that are shown; all of the study if empty.
        picture: of ``"maps"``, the file's name without its ending.
        metric: of ``"drift"``: drift, cc, sim or kld; of ``"table1"``: cc, sim or kld; of ``"accuracy"``: accuracy,
            change or flips.
    """

    title: str
    text: str = ""
    show: Show = "text"
    study: str = "imagenet-200"
    networks: tuple[str, ...] = ()
    bits: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    picture: str = ""
    metric: str = ""


@dataclass(frozen=True, slots=True)
class Presentation:
    """Slides in their order, one at least, and what they are called."""

    title: str
    slides: tuple[Slide, ...]


_LISTS = ("networks", "bits", "protocols")
_METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "drift": ("drift", "cc", "sim", "kld"),
    "table1": ("cc", "sim", "kld"),
    "accuracy": ("accuracy", "change", "flips"),
}


def read_presentation(path: Path) -> Presentation:
    """Return what a file says.

    Args:
        path: of a TOML file with ``title`` and an array of tables ``slides``, whose keys are those of ``Slide``.

    Raises:
        UsageError: the file cannot be read, or something in it is wrong; the sentence names the line.
    """
    text = text_of(path, "Presentation")
    content = content_of(text, path.name, "Presentation")
    return _Reader(path.name, text).presentation(content)


@dataclass(frozen=True, slots=True)
class _Reader:
    name: str
    text: str

    def presentation(self, content: Mapping[str, Any]) -> Presentation:
        for key in content:
            if key not in ("title", "slides"):
                raise self.error((key,), f"key {key!r} is unknown; use title and slides")
        slides = content.get("slides")
        if not isinstance(slides, list) or not slides or not all(isinstance(one, dict) for one in slides):
            raise self.error(("slides",), "there is no slide; add one that begins with [[slides]]")
        if len(slides) > _MOST_SLIDES:
            raise self.error(("slides",), f"{len(slides)} slides are more than {_MOST_SLIDES}; leave some out")
        title = content.get("title", "quantviz")
        if not isinstance(title, str):
            raise self.error(("title",), f"title {title!r} is no text; put it in quotes")
        return Presentation(title, tuple(self.slide(at, one) for at, one in enumerate(slides)))

    def slide(self, at: int, entries: Mapping[str, Any]) -> Slide:
        known = [field.name for field in fields(Slide)]
        values: dict[str, Any] = {}
        for key, value in entries.items():
            place = ("slides", at, key)
            if key not in known:
                raise self.error(place, f"key {key!r} is unknown; use {', '.join(known)}")
            if key in _LISTS:
                if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                    raise self.error(place, f'{key} {value!r} is no list of texts; write ["W8A8", "W4A4"] say')
                values[key] = tuple(value)
            elif isinstance(value, str):
                values[key] = value
            else:
                raise self.error(place, f"{key} {value!r} is no text; put it in quotes")
        if not values.get("title"):
            raise self.error(("slides", at), f"slide {at + 1} has no title; give it one")
        if (show := values.get("show", "text")) not in SHOWS:
            raise self.error(("slides", at, "show"), f"show {show!r} is unknown; use one of {', '.join(SHOWS)}")
        if (metric := values.get("metric", "")) and metric not in _METRICS.get(show, ()):
            fit = ", ".join(_METRICS.get(show, ())) or "none"
            raise self.error(("slides", at, "metric"), f"metric {metric!r} does not fit {show!r}; use {fit}")
        if show == "maps" and not values.get("picture"):
            raise self.error(("slides", at), f'slide {at + 1} shows maps of no picture; add picture = "flower" say')
        return Slide(**values)

    def error(self, place: tuple[str | int, ...], words: str) -> UsageError:
        line = line_of(self.text, place)
        where = "" if line is None else f", line {line}"
        return UsageError(f"Presentation {self.name!r}{where}: {words}.")
