"""The values every other room speaks in, and the error tree. Imports numpy only.

The error tree::

    QuantvizError            exit status 1
    ├── UsageError           exit status 2: the request itself is wrong
    │   ├── ImageError       a picture or map file that cannot be used
    │   └── CheckpointError  a weights file that cannot be used
    ├── WeightsUnavailable   weights are neither on disk nor reachable
    └── StoreError           the cache on disk cannot be used
"""

from quantviz.specs.basics import (
    COMPUTATION_VERSION,
    RGB,
    FloatMap,
    Phase,
    Progress,
    StoredRecord,
    digest_of,
    frozen,
    no_progress,
)
from quantviz.specs.cost import Cost, LayerCost
from quantviz.specs.errors import CheckpointError, ImageError, QuantvizError, StoreError, UsageError, WeightsUnavailable
from quantviz.specs.metrics import GroundTruth, Metric, MetricTable, Score, TruthKind
from quantviz.specs.quantization import (
    CALIBRATED,
    DEVIATIONS,
    MAX_BITS,
    MIN_BITS,
    PAPER,
    PRESETS,
    RANGE_METHODS,
    ROUNDINGS,
    SCHEME_WORDS,
    GivenQuant,
    Granularity,
    LayerBits,
    QuantSpec,
    RangeMethod,
    Rounding,
    Scheme,
    headroom,
    scheme_name,
    spec_of,
    with_layers,
)
from quantviz.specs.results import (
    CamResult,
    Comparison,
    Deployed,
    Heatmap,
    ImageSample,
    NetworkMap,
    Prediction,
    Saliency,
    Scores,
)
from quantviz.specs.settings import (
    CAM_METHODS,
    GRADIENT_FREE,
    CalibrationRef,
    CamSpec,
    ModelSpec,
    Preprocessing,
    PublishedWeights,
    WeightsRef,
)
from quantviz.specs.variants import DEPLOYED, PROTOCOLS, Variant, check_deployable, variants_of

__all__ = [
    "CALIBRATED",
    "CAM_METHODS",
    "COMPUTATION_VERSION",
    "DEPLOYED",
    "DEVIATIONS",
    "GRADIENT_FREE",
    "MAX_BITS",
    "MIN_BITS",
    "PAPER",
    "PRESETS",
    "PROTOCOLS",
    "RANGE_METHODS",
    "RGB",
    "ROUNDINGS",
    "SCHEME_WORDS",
    "CalibrationRef",
    "CamResult",
    "CamSpec",
    "CheckpointError",
    "Comparison",
    "Cost",
    "Deployed",
    "FloatMap",
    "GivenQuant",
    "Granularity",
    "GroundTruth",
    "Heatmap",
    "ImageError",
    "ImageSample",
    "LayerBits",
    "LayerCost",
    "Metric",
    "MetricTable",
    "ModelSpec",
    "NetworkMap",
    "Phase",
    "Prediction",
    "Preprocessing",
    "Progress",
    "PublishedWeights",
    "QuantSpec",
    "QuantvizError",
    "RangeMethod",
    "Rounding",
    "Saliency",
    "Scheme",
    "Score",
    "Scores",
    "StoreError",
    "StoredRecord",
    "TruthKind",
    "UsageError",
    "Variant",
    "WeightsRef",
    "WeightsUnavailable",
    "check_deployable",
    "digest_of",
    "frozen",
    "headroom",
    "no_progress",
    "scheme_name",
    "spec_of",
    "variants_of",
    "with_layers",
]
