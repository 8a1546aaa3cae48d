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
    Progress,
    StoredRecord,
    digest_of,
    frozen,
    no_progress,
)
from quantviz.specs.errors import CheckpointError, ImageError, QuantvizError, StoreError, UsageError, WeightsUnavailable
from quantviz.specs.metrics import GroundTruth, Metric, MetricTable, Score, TruthKind
from quantviz.specs.results import CamResult, Comparison, Heatmap, ImageSample, Prediction, Saliency, Scores
from quantviz.specs.settings import (
    CAM_METHODS,
    MAX_BITS,
    MIN_BITS,
    CalibrationRef,
    CamSpec,
    ModelSpec,
    Preprocessing,
    PublishedWeights,
    QuantSpec,
    WeightsRef,
)

__all__ = [
    "CAM_METHODS",
    "COMPUTATION_VERSION",
    "MAX_BITS",
    "MIN_BITS",
    "RGB",
    "CalibrationRef",
    "CamResult",
    "CamSpec",
    "CheckpointError",
    "Comparison",
    "FloatMap",
    "GroundTruth",
    "Heatmap",
    "ImageError",
    "ImageSample",
    "Metric",
    "MetricTable",
    "ModelSpec",
    "Prediction",
    "Preprocessing",
    "Progress",
    "PublishedWeights",
    "QuantSpec",
    "QuantvizError",
    "Saliency",
    "Score",
    "Scores",
    "StoreError",
    "StoredRecord",
    "TruthKind",
    "UsageError",
    "WeightsRef",
    "WeightsUnavailable",
    "digest_of",
    "frozen",
    "no_progress",
]
