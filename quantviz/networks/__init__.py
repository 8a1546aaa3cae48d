"""Networks of any origin by name: weights, preprocessing, target layers.

Importing this package does not import torch, so that listings and cached views stay quick; what needs
torch is in :mod:`quantviz.networks.build`.
"""

from quantviz.networks.classes import class_names, synset_class
from quantviz.networks.listed import ListedModel
from quantviz.networks.network import Network
from quantviz.networks.origins import listed, spec
from quantviz.networks.permission import allow
from quantviz.networks.table import DEFAULT_MODEL, MODELS
from quantviz.networks.weights import LocatedWeights, WeightsState, fetch, hub_folder, resolve, weights_state

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "ListedModel",
    "LocatedWeights",
    "Network",
    "WeightsState",
    "allow",
    "class_names",
    "fetch",
    "hub_folder",
    "listed",
    "resolve",
    "spec",
    "synset_class",
    "weights_state",
]
