"""The noise floor of a study's pictures: drift of the float network's own map under changes that nobody sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quantviz.comparison.workbench import Workbench
from quantviz.guard.specs import Cell, Column
from quantviz.layerwise.noise import noise_floor
from quantviz.layerwise.pictures import MOST_PICTURES
from quantviz.layerwise.specs import Drift
from quantviz.specs import FileVariant, Progress, UsageError
from quantviz.store import TensorStore
from quantviz.study.pictures import compare_request, pictures_folder, study_picture
from quantviz.study.specs.plan import StudyPlan


def picture_floors(
    store: TensorStore, plan: StudyPlan, cell: Cell, places: Sequence[int], progress: Progress
) -> dict[str, Column]:
    """Return the drift of each picture's float map when its pixels move by one grey level, and its crop by a pixel.

    Args:
        store: where the floors are kept.
        plan: of the study; pictures, weights and cards are looked for where it and its command name them.
        cell: of the plan, in torch.
        places: of the pictures in the plan.
        progress: reports what is being done.

    Returns:
        ``"grey levels"`` and ``"shift"`` -> 1 - CC of the two maps, float64 (n,), NaN where a map carries no evidence.

    Raises:
        UsageError: the network is a file, there are too many pictures, or something of the study is not here.
        ImageError: a picture is missing, or is another one.
    """
    _, variant = plan.cell(cell)
    if isinstance(variant, FileVariant):
        raise UsageError(f"drift_over_floor needs a float network in torch, and {cell[0]} is of files; leave it out.")
    if len(places) > MOST_PICTURES:
        raise UsageError(
            f"drift_over_floor reads at most {MOST_PICTURES:,} pictures, not {len(places):,}; limit them by pictures."
        )
    folder = pictures_folder(plan)
    samples = [study_picture(plan, place, folder) for place in places]
    bench = Workbench(store, float_models=1, quantized_models=1)
    floor = noise_floor(bench, compare_request(plan, cell), samples, progress, calibration=False)
    return {"grey levels": _column(floor.grey), "shift": _column(floor.shift)}


def _column(drift: Drift) -> Column:
    return np.array([np.nan if one is None else one for one in drift.cams], dtype=np.float64)
