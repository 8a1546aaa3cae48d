"""The part of a network before its CAM target on ONNX Runtime, in float32 or on integers; the rest of it in torch.

A gradient CAM needs the target's activation and the gradient of what follows it, so only the rest has to be
differentiable. The part before it, which is nearly all of the work, is exported to ONNX once.
"""

from quantviz.backends.export import IMAGE, Session, check_front, exported
from quantviz.backends.grids import ActivationGrid, IntegerLayer
from quantviz.backends.head import HeadedSplit, head_of
from quantviz.backends.integers import on_integers
from quantviz.backends.simulated import InputGrid, SimulatedLayer, rounded_inputs, simulated_model
from quantviz.backends.split import Front, FrontModule, NotSplittableError, Output, Split, outputs_before
from quantviz.backends.winograd import NcnnSession, by_ncnn

__all__ = [
    "IMAGE",
    "ActivationGrid",
    "Front",
    "FrontModule",
    "HeadedSplit",
    "InputGrid",
    "IntegerLayer",
    "NcnnSession",
    "NotSplittableError",
    "Output",
    "Session",
    "SimulatedLayer",
    "Split",
    "by_ncnn",
    "check_front",
    "exported",
    "head_of",
    "on_integers",
    "outputs_before",
    "rounded_inputs",
    "simulated_model",
]
