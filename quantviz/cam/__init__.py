"""Class activation maps, and how faithful they are to their models; the only importer of pytorch-grad-cam."""

from quantviz.cam.faithfulness import FAITHFULNESS, FaithfulnessMetric, faithfulness
from quantviz.cam.maps import Explanation, explain, explain_batch, explain_many, lock_of

__all__ = [
    "FAITHFULNESS",
    "Explanation",
    "FaithfulnessMetric",
    "explain",
    "explain_batch",
    "explain_many",
    "faithfulness",
    "lock_of",
]
