"""A long page of text: its contents at its side, its lines short enough for the eye to find back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import streamlit as st

_HEADING: Final = re.compile(r"^(#{1,4}) (.+)$", re.MULTILINE)
_FENCE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document.

    Attributes:
        level: of its heading, from 1.
        title: the heading, in Markdown.
        anchor: by which a link leads to it; unique in the document.
        text: what stands below the heading, up to the next one.
    """

    level: int
    title: str
    anchor: str
    text: str


def sections_of(markdown: str) -> tuple[Section, ...]:
    """Return the parts of a document that begins with a heading; a line of a code block is none."""
    fenced = [match.span() for match in _FENCE.finditer(markdown)]
    found = [
        match for match in _HEADING.finditer(markdown) if not any(start <= match.start() < end for start, end in fenced)
    ]
    ends = [*(match.start() for match in found[1:]), len(markdown)]
    sections: list[Section] = []
    taken: set[str] = set()
    for match, end in zip(found, ends, strict=True):
        words = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(`.*?`\)", "", match[2]).lower()).strip("-") or "part"
        anchor = next(name for name in (words, *(f"{words}-{at}" for at in range(2, 1000))) if name not in taken)
        taken.add(anchor)
        sections.append(Section(len(match[1]), match[2], anchor, markdown[match.end() : end].strip()))
    return tuple(sections)


def show_document(markdown: str, *, depth: int = 2) -> None:
    """Show a document with its contents.

    Args:
        markdown: its text; the first heading is the page's.
        depth: greatest level of a heading that the contents list.
    """
    first, *rest = sections_of(markdown)
    contents = "\n".join(_line(part) for part in rest if part.level <= depth)
    st.title(first.title, anchor=False)
    # Twice, of which the page's style shows one: folded on a narrow page, whose first screen it would fill.
    with st.container(key="contents-folded"), st.expander("On this page"):
        st.markdown(contents)
    aside, text = st.container(key="document").columns([1, 3], gap="large")
    with aside, st.container(key="contents"):
        st.markdown("**On this page**")
        st.markdown(contents)
    with text, st.container(key="prose-document"):
        st.markdown(first.text)
        for part in rest:
            _heading(part)
            if part.text:
                st.markdown(part.text)


def _line(part: Section) -> str:
    title = re.sub(r" ?\(`.*?`\)", "", part.title)
    return f"{'  ' * (part.level - 2)}- [{title}](#{part.anchor})"


def _heading(part: Section) -> None:
    draw = {1: st.title, 2: st.header, 3: st.subheader}.get(part.level)
    if draw is None:
        st.markdown(f"{'#' * part.level} {part.title}")
    else:
        draw(part.title, anchor=part.anchor)
