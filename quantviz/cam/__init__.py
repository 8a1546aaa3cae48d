"""Class activation maps, and how faithful they are to their models, by pytorch-grad-cam; its only importer."""

from quantviz.cam.faithfulness import FAITHFULNESS, FaithfulnessMetric, faithfulness
from quantviz.cam.maps import Explanation, explain, lock_of

__all__ = ["FAITHFULNESS", "Explanation", "FaithfulnessMetric", "explain", "faithfulness", "lock_of"]
