"""The choice of a network: our table's, those that the server offers, and any of timm and torchvision by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import streamlit as st

from quantviz import networks
from quantviz.networks.card import read_card
from quantviz.specs import ModelSpec, UsageError
from quantviz.ui import guarded
from quantviz.ui.links import Linked
from quantviz.ui.serving import serving

BY_NAME: Final = "another of timm or torchvision"
"""The choice that a name below it completes."""

UNTRAINED: Final = "untrained"

OF_CARD: Final = "of the card"
"""The choice among weights that stands for those that a card names."""

# Nothing else that a name can stand for: a factory would run code, a card would open files.
_NAME = re.compile(r"(timm|torchvision):[A-Za-z0-9_.]{1,100}")
_LARGEST = max(entry.parameters for entry in networks.MODELS.values())


def choose_model(linked: Linked) -> str:
    """Draw the choice of a network and return its name; where a typed name cannot be used, the default one.

    Args:
        linked: the values of the address.
    """
    offered, here = _offered(), models_at_hand()
    others = [name for name in networks.MODELS if name not in here]
    words = f"These run now: {', '.join((*here, *offered))}."
    if others:
        words += f" These are downloaded first: {', '.join(f'{name} ({download_words(name)})' for name in others)}."
    options = [*here, *others, *offered, BY_NAME]
    chosen = linked.select("Model", options, "model", index=options.index(networks.DEFAULT_MODEL), help=words)
    if chosen in others:
        st.caption(f":material/download: Its published weights are {download_words(chosen)} to download, once.")
    if chosen in offered:
        with guarded():  # a card, or a function's code, may have become wrong
            networks.spec(offered[chosen])
            return offered[chosen]
        return _meanwhile()
    if chosen != BY_NAME:
        return chosen
    typed = st.text_input(
        "Name",
        key="model_name",
        bind="query-params",
        placeholder="timm:resnet18",
        help="timm:NAME or torchvision:NAME; `quantviz models 'timm:*mobile*'` lists names. Weights are taken where "
        "this machine has them; else the network is untrained.",
    ).strip()
    with guarded():
        if typed:
            with st.spinner(f"Looking at {typed}" if _NAME.fullmatch(typed) else ""):
                return allowed(typed).name
        st.caption(f"Until a name is given, {networks.DEFAULT_MODEL} is shown.")
        return networks.DEFAULT_MODEL
    return _meanwhile()


def models_at_hand() -> tuple[str, ...]:
    """Return the networks of our table whose default weights are on this machine."""
    states = {name: networks.weights_state(spec) for name, spec in networks.MODELS.items()}
    return tuple(name for name, state in states.items() if state in ("bundled", "cached"))


def download_words(model: str) -> str:
    """Return how much the default weights of a network of our table take, which are float32: ``"528 MiB"``."""
    return f"{4 * networks.MODELS[model].parameters / 2**20:,.0f} MiB"


def _meanwhile() -> str:
    st.caption(f"Meanwhile, {networks.DEFAULT_MODEL} is shown.")
    return networks.DEFAULT_MODEL


def _offered() -> dict[str, str]:
    """Return what the server was started with: what visitors read -> the model's name."""
    cards = {path.name: str(path) for path in serving().cards if _names_model(path)}
    return cards | {name: name for name in serving().models}


def _names_model(path: Path) -> bool:
    """Tell whether a card names a model, whose bits can be chosen; a pair of files is for the page Your network."""
    try:
        return bool(read_card(path).model)
    except UsageError:  # which is told where it is chosen
        return True


def allowed(name: str) -> ModelSpec:
    """Return the entry of a network that a visitor named.

    Raises:
        UsageError: it is none of timm's or torchvision's, or larger than the largest of our table.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"Model {name!r} is not available here; give timm:NAME or torchvision:NAME.")
    spec = networks.spec(name)
    if spec.parameters > _LARGEST:
        raise UsageError(
            f"Model {name!r} has {spec.parameters / 1e6:,.0f} million parameters, and the dashboard takes "
            f"{_LARGEST / 1e6:,.0f} million; use `quantviz compare --model {name}`."
        )
    return spec


def weights_at_hand(model: str) -> dict[str, str]:
    """Return the weights of a network that visitors may choose -> where they are.

    Those of our table are fetched where they are missing; of other networks there is only what is on this machine.

    Args:
        model: name of the network.
    """
    spec = networks.spec(model)
    if spec.library == "module":
        return {weights.name: "as its function makes it" for weights in spec.weights}
    states = {weights.name: networks.weights_state(spec, weights.name) for weights in spec.weights}
    if model not in networks.MODELS:
        states = {name: state for name, state in states.items() if state in ("bundled", "cached")}
    known = {OF_CARD: Path(spec.chosen_weights).name} if spec.chosen_weights is not None else {}
    return {**known, **states, UNTRAINED: "random, a sanity control"}
