"""Class activation maps, and how faithful they are to their models; the only importer of pytorch-grad-cam."""

from importlib import import_module
from typing import TYPE_CHECKING

from quantviz.cam.criteria import FAITHFULNESS, FaithfulnessMetric
from quantviz.cam.locked import Locked, lockable

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

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = found
        return found


__all__ = [
    "FAITHFULNESS",
    "Explanation",
    "FaithfulnessMetric",
    "KeptFeatures",
    "Locked",
    "explain",
    "explain_batch",
    "explain_each",
    "explain_many",
    "faithfulness",
    "gives_gradient",
    "lockable",
]
