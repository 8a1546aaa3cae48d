"""Choices of a few options, and counts in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st


def segments(
    label: str, options: Sequence[str], key: str, first: str = "", shown_as: Callable[[str], str] = str
) -> str:
    """Draw a choice of a few options that lives in the address, and return what is chosen.

    A single option is returned and not drawn: there is nothing to choose.

    Args:
        label: what is chosen.
        options: one or more.
        key: of the widget, and its name in the address.
        first: what is chosen at first, where it is an option; else the first one is.
        shown_as: makes the words of an option.
    """
    if len(options) == 1:
        return options[0]
    default = first if first in options else options[0]
    value = st.segmented_control(
        label, options, default=default, key=key, bind="query-params", required=True, format_func=shown_as
    )
    return str(value or default)


def chosen_one(
    label: str, options: Sequence[str], key: str, first: str = "", shown_as: Callable[[str], str] = str
) -> str:
    """Draw a choice of many options as ``segments`` does, as a list that opens."""
    if len(options) == 1:
        return options[0]
    index = options.index(first) if first in options else 0
    return str(st.selectbox(label, options, index, key=key, bind="query-params", format_func=shown_as))


def choose_limits() -> tuple[int, int]:
    """Draw the two limits by which a precision is safe; return the labels that may flip, in %, and the drift in floors.

    Both stand in the address, under the same names on every page that asks for them.
    """
    left, right = st.columns(2, gap="large")
    flips = left.slider(
        "Labels that may flip, by the upper end of the 95 % interval",
        0,
        100,
        40,
        5,
        format="%d %%",
        key="most_flips",
        bind="query-params",
    )
    multiple = right.slider(
        "Drift allowed, in changes that nobody sees",
        1,
        100,
        10,
        key="most_multiple",
        bind="query-params",
        help="The noise floor: how much the float network's own map moves when each pixel changes by one grey level, "
        "or the crop by one pixel.",
    )
    return flips, multiple
