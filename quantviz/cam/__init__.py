"""Class activation maps, and how faithful they are to their models; the only importer of pytorch-grad-cam."""

from typing import TYPE_CHECKING

from quantviz.cam.criteria import FAITHFULNESS, FaithfulnessMetric
from quantviz.cam.locked import Locked, lockable
from quantviz.cam.threads import cores, one_thread
from quantviz.specs.later import later

if TYPE_CHECKING:
    from quantviz.cam.kept import KeptFeatures
    from quantviz.cam.maps import Explanation, explain, explain_batch, explain_each, explain_many, gives_gradient
    from quantviz.cam.perturbation import faithfulness
else:
    # What needs torch is imported when it is first asked for; the words about the metrics do not need it.
    _HOMES = {
        "faithfulness": "perturbation",
        "KeptFeatures": "kept",
        **dict.fromkeys(("Explanation", "explain", "explain_batch", "explain_each", "explain_many"), "maps"),
        "gives_gradient": "maps",
    }

    __getattr__ = later(__name__, _HOMES)


__all__ = [
    "FAITHFULNESS",
    "Explanation",
    "FaithfulnessMetric",
    "KeptFeatures",
    "Locked",
    "cores",
    "explain",
    "explain_batch",
    "explain_each",
    "explain_many",
    "faithfulness",
    "gives_gradient",
    "lockable",
    "one_thread",
]
