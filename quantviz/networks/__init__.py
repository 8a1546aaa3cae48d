"""The table of models: weights, preprocessing, target layers.

Importing this package does not import torch, so that listings and cached views stay quick; what needs
torch is in :mod:`quantviz.networks.build`.
"""

from quantviz.networks.classes import class_names, synset_class
from quantviz.networks.network import Network
from quantviz.networks.table import DEFAULT_MODEL, MODELS, spec
from quantviz.networks.weights import LocatedWeights, WeightsState, fetch, resolve, weights_state

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "LocatedWeights",
    "Network",
    "WeightsState",
    "class_names",
    "fetch",
    "resolve",
    "spec",
    "synset_class",
    "weights_state",
]
