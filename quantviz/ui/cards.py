"""Network cards that the server was started with: the choice of one, and the comparison of its variants."""

from __future__ import annotations

from typing import Final

import streamlit as st

from quantviz.comparison import CompareRequest, PairRequest
from quantviz.comparison.cards import compare_card
from quantviz.networks.card import Card, read_card
from quantviz.specs import CamSpec, Comparison, ImageSample, QuantvizError
from quantviz.ui import visible_progress, workbench
from quantviz.ui.links import Linked
from quantviz.ui.plain import plain
from quantviz.ui.serving import serving

UPLOADED: Final = "two files that you upload"
"""The choice that stands for no card."""


def choose_card(linked: Linked) -> Card | None:
    """Draw the choice of a card and return it; None where there is none, or where files are to be uploaded.

    Raises:
        UsageError: the card has become wrong since the server was started.
    """
    cards = {path.name: path for path in serving().cards}
    if not cards:
        return None
    chosen = linked.select("What is compared", [*cards, UPLOADED], "card")
    if chosen == UPLOADED:
        return None
    card = read_card(cards[chosen])
    variants = ", ".join(variant.name for variant in card.variants)
    st.caption(f"{plain(card.name)}, beside {plain(variants)}" if variants else plain(card.name))
    return card


def compared_variant(card: Card, request: PairRequest, sample: ImageSample) -> Comparison:
    """Compare the float network of a card with its variants, let one be chosen, and return that one's comparison.

    Raises:
        QuantvizError: the card has no variant; or as ``compare_card``.
    """
    if not card.variants:
        raise QuantvizError(f"Card {card.path.name!r} has no variants; add some, and reload the page.")
    wanted = CompareRequest(
        model=str(card.path),
        cam=CamSpec(request.method),
        target=request.target,
        saliency=request.saliency,
        saliency_name=request.saliency_name,
    )
    with visible_progress() as progress:
        comparisons = compare_card(workbench(), card, wanted, sample, progress)
    names = list(comparisons)
    if len(names) == 1:
        return comparisons[names[0]]
    chosen = st.segmented_control("Variant", names, default=names[0], key="variant", required=True)
    return comparisons[chosen or names[0]]
