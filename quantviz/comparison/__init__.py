"""Compare one image: the only room that knows every step, and the only one that touches the store."""

from quantviz.comparison.cards import card_of, compare_card
from quantviz.comparison.choices import metric_names, saliency_choice
from quantviz.comparison.deploy import BACKENDS
from quantviz.comparison.faithfulness import (
    FaithfulnessRow,
    describe_faithfulness,
    faithfulness,
    stored_faithfulness,
)
from quantviz.comparison.files import compare_files
from quantviz.comparison.files_request import FilesRequest
from quantviz.comparison.listing import target_layers
from quantviz.comparison.metrics import BASELINES, measure, measure_map, measure_pair
from quantviz.comparison.output import arrays, comparison_data, deployed_words, npz_bytes, result_data, tables_data
from quantviz.comparison.pair import PairRequest, compare_pair, explain_network
from quantviz.comparison.preprocessing_check import KnownPicture, PreprocessingCheck, check_preprocessing
from quantviz.comparison.references import SPECTRAL_RESIDUAL, TRUTH_KINDS, TruthSource, read_truth, truth_source
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.seen import Seen
from quantviz.comparison.workbench import Workbench

__all__ = [
    "BACKENDS",
    "BASELINES",
    "SPECTRAL_RESIDUAL",
    "TRUTH_KINDS",
    "CompareRequest",
    "FaithfulnessRow",
    "FilesRequest",
    "KnownPicture",
    "PairRequest",
    "PreprocessingCheck",
    "Seen",
    "TruthSource",
    "Workbench",
    "arrays",
    "card_of",
    "check_preprocessing",
    "compare_card",
    "compare_files",
    "compare_pair",
    "comparison_data",
    "deployed_words",
    "describe_faithfulness",
    "explain_network",
    "faithfulness",
    "measure",
    "measure_map",
    "measure_pair",
    "metric_names",
    "npz_bytes",
    "read_truth",
    "result_data",
    "saliency_choice",
    "stored_faithfulness",
    "tables_data",
    "target_layers",
    "truth_source",
]
