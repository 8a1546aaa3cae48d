"""What this server was started with, and what its visitors may reach by words of theirs."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from quantviz.comparison.serving import Serving
from quantviz.specs import UsageError
from quantviz.specs.text import printable


@st.cache_resource(show_spinner=False)
def serving() -> Serving:
    """Return what whoever started this server allows."""
    return Serving.from_environment()


def visitors_path(words: str) -> Path:
    """Return the path that a visitor typed or that an address holds; the only way from a visitor's words to one.

    Raises:
        UsageError: the server is public, where no words of a visitor's are a path.
    """
    if serving().public:
        shown = printable(words)[:80]
        raise UsageError(
            f"{shown!r} is not offered: on a public server only what it was started with can be chosen; upload "
            "pictures instead, or run quantviz on your own machine."
        )
    try:
        return Path(words).expanduser()
    except RuntimeError:  # a ~user who does not exist
        return Path(words)


def reach() -> str:
    """Return what visitors can reach on this machine, in a few sentences; "" where nobody but its user can come."""
    offered = serving()
    if offered.public:
        limits = []
        if offered.session_bytes:
            limits.append(f"{offered.session_bytes >> 20} MiB of uploads at a time")
        if offered.seconds:
            limits.append(f"{offered.seconds} s for one computation")
        words = f" Limits: {', '.join(limits)}." if limits else ""
        return (
            "This is a public server. What you upload stays in memory, is seen in your session alone and goes with "
            f"it; maps of pictures, without the pictures, stay in a cache.{words}"
        )
    if offered.reachable:
        return (
            "Everybody who reaches this server can show pictures and studies from any folder that its account can "
            "read, and start sweeps there. `quantviz serve --public` closes that."
        )
    return ""


def show_reach() -> None:
    """Say on a page what visitors can reach."""
    if words := reach():
        st.caption(f":material/shield: {words}")
