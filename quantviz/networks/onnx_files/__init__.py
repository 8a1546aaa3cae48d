"""ONNX files of the user's: read, described, matched with each other, and run.

Importing this package does not import torch, onnx or onnxruntime.
"""

from quantviz.networks.onnx_files.alike import target_like
from quantviz.networks.onnx_files.describe import describe, describe_pair
from quantviz.networks.onnx_files.matching import TensorMatch
from quantviz.networks.onnx_files.opened import Opened, open_file
from quantviz.networks.onnx_files.pairs import FilePair, pair_of
from quantviz.networks.onnx_files.targets import RULE, Target

__all__ = [
    "RULE",
    "FilePair",
    "Opened",
    "Target",
    "TensorMatch",
    "describe",
    "describe_pair",
    "open_file",
    "pair_of",
    "target_like",
]
