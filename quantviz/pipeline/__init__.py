"""Compare one image: the only room that knows every step, and the only one that touches the store."""

from quantviz.pipeline.attribution import attribution, rounded_shares
from quantviz.pipeline.bits_file import bits_bytes, read_bits, weights_of
from quantviz.pipeline.compare import CompareRequest, Workbench
from quantviz.pipeline.dataset import dataset
from quantviz.pipeline.deploy import ENGINES, check_deployable
from quantviz.pipeline.drift import learns, model_cost
from quantviz.pipeline.faithful import FaithfulnessRow, describe_faithfulness, faithfulness
from quantviz.pipeline.listing import target_layers
from quantviz.pipeline.measure import BASELINES, measure, measure_map
from quantviz.pipeline.noise import noise_floor
from quantviz.pipeline.report import (
    arrays,
    deployed_words,
    npz_bytes,
    report,
    report_attribution,
    report_layers,
    report_tables,
)
from quantviz.pipeline.search import candidate_quant, search
from quantviz.pipeline.sensitivity import only_layer, sensitivity
from quantviz.pipeline.sources import SPECTRAL_RESIDUAL, TRUTH_KINDS, TruthSource, read_truth, truth_source

__all__ = [
    "BASELINES",
    "ENGINES",
    "SPECTRAL_RESIDUAL",
    "TRUTH_KINDS",
    "CompareRequest",
    "FaithfulnessRow",
    "TruthSource",
    "Workbench",
    "arrays",
    "attribution",
    "bits_bytes",
    "candidate_quant",
    "check_deployable",
    "dataset",
    "deployed_words",
    "describe_faithfulness",
    "faithfulness",
    "learns",
    "measure",
    "measure_map",
    "model_cost",
    "noise_floor",
    "npz_bytes",
    "only_layer",
    "read_bits",
    "read_truth",
    "report",
    "report_attribution",
    "report_layers",
    "report_tables",
    "rounded_shares",
    "search",
    "sensitivity",
    "target_layers",
    "truth_source",
    "weights_of",
]
