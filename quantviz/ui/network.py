"""The choice of a network: our table's, those that the server offers, and any of timm and torchvision by its name."""

from __future__ import annotations

import re
from typing import Final

import streamlit as st

from quantviz import networks
from quantviz.specs import ModelSpec, UsageError
from quantviz.ui import guarded
from quantviz.ui.links import Linked

BY_NAME: Final = "another of timm or torchvision"
"""The choice that a name below it completes."""

# Nothing else that a name can stand for: a factory would run code, a card would open files.
_NAME = re.compile(r"(timm|torchvision):[A-Za-z0-9_.]{1,100}")
_LARGEST = max(entry.parameters for entry in networks.MODELS.values())


def choose_model(linked: Linked) -> str:
    """Draw the choice of a network and return its name; where a typed name cannot be used, the default one.

    Args:
        linked: the values of the address.
    """
    chosen = linked.select("Model", [*networks.MODELS, BY_NAME], "model", _family)
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
    st.caption(f"Meanwhile, {networks.DEFAULT_MODEL} is shown.")
    return networks.DEFAULT_MODEL


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


def weights_at_hand(spec: ModelSpec) -> list[str]:
    """Return the names of a network's weights that visitors may choose.

    Those of our table, which are fetched where they are missing; of other networks only what is on this machine.
    """
    names = [weights.name for weights in spec.weights]
    if spec.name in networks.MODELS:
        return names
    return [name for name in names if networks.weights_state(spec, name) in ("bundled", "cached")]


def _family(name: str) -> str:
    return "any classifier of these libraries" if name == BY_NAME else networks.spec(name).family
