"""quantviz: when a network is quantized, does it still look at the same things?

``import quantviz as qv`` takes next to nothing: what is asked for is imported when it is asked for. The names in
``__all__`` are stable; everything else may change with any version.

Example:
    >>> import quantviz as qv
    >>> result = qv.compare("coffee", model="efficientnet_lite0", bits="W8A8")
    >>> figure = result.plot()
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantviz.api.check import CheckResult, check
    from quantviz.api.diagnose import DiagnosisResult
    from quantviz.api.functions import compare, diagnose, explain, list_models, open_study
    from quantviz.api.randomise import randomise
    from quantviz.api.results import ComparisonResult, ExplanationResult
    from quantviz.api.study import Study
    from quantviz.specs import (
        CheckpointError,
        ImageError,
        Prediction,
        Preprocessing,
        QuantvizError,
        Scores,
        StoreError,
        UsageError,
        WeightsUnavailable,
    )

__version__ = "0.2.0"

__all__ = [
    "CheckResult",
    "CheckpointError",
    "ComparisonResult",
    "DiagnosisResult",
    "ExplanationResult",
    "ImageError",
    "Prediction",
    "Preprocessing",
    "QuantvizError",
    "Scores",
    "StoreError",
    "Study",
    "UsageError",
    "WeightsUnavailable",
    "__version__",
    "check",
    "compare",
    "diagnose",
    "explain",
    "list_models",
    "open_study",
    "randomise",
]

_HOMES = {
    **dict.fromkeys(("compare", "diagnose", "explain", "list_models", "open_study"), "api.functions"),
    **dict.fromkeys(("ComparisonResult", "ExplanationResult"), "api.results"),
    **dict.fromkeys(("CheckResult", "check"), "api.check"),
    "DiagnosisResult": "api.diagnose",
    "Study": "api.study",
    "randomise": "api.randomise",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'specs')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__") and name not in __all__)]
