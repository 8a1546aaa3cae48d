"""Compare one image: the only room that knows every step, and the only one that touches the store."""

from quantviz.pipeline.compare import CompareRequest, Workbench
from quantviz.pipeline.faithful import FaithfulnessRow, describe_faithfulness, faithfulness
from quantviz.pipeline.listing import target_layers
from quantviz.pipeline.measure import BASELINES, measure, measure_map
from quantviz.pipeline.report import arrays, npz_bytes, report, report_tables
from quantviz.pipeline.sources import SPECTRAL_RESIDUAL, TRUTH_KINDS, TruthSource, read_truth, truth_source

__all__ = [
    "BASELINES",
    "SPECTRAL_RESIDUAL",
    "TRUTH_KINDS",
    "CompareRequest",
    "FaithfulnessRow",
    "TruthSource",
    "Workbench",
    "arrays",
    "describe_faithfulness",
    "faithfulness",
    "measure",
    "measure_map",
    "npz_bytes",
    "read_truth",
    "report",
    "report_tables",
    "target_layers",
    "truth_source",
]
