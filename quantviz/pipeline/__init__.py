"""Compare one image: the only room that knows every step, and the only one that touches the store."""

from quantviz.pipeline.compare import SPECTRAL_RESIDUAL, CompareRequest, Workbench
from quantviz.pipeline.listing import target_layers
from quantviz.pipeline.report import arrays, npz_bytes, report

__all__ = ["SPECTRAL_RESIDUAL", "CompareRequest", "Workbench", "arrays", "npz_bytes", "report", "target_layers"]
