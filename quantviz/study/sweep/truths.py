"""What a study reads beside its networks: planned files, which must not change, and the user's ground truth."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from quantviz import images, scores
from quantviz.comparison.references import TruthSource
from quantviz.specs import GroundTruth, Heatmap, ImageError, ImageSample, Preprocessing, QuantvizError
from quantviz.study.specs.plan import StudyImage, StudyPlan, TruthFile


class Truths:
    """The user's ground truth of a study's pictures, and maps' scores against it.

    Args:
        plan: of the study.
        folder: of ground truth; ignored where the plan has none.
    """

    def __init__(self, plan: StudyPlan, folder: Path | None) -> None:
        self.truth, self.folder = plan.truth, folder or Path()
        files = () if plan.truth is None else plan.truth.files
        self.files = {image.path: file for image, file in zip(plan.images, files, strict=False) if file is not None}

    def read(self, sample: ImageSample, preprocessing: Preprocessing) -> GroundTruth | str | None:
        """Return a picture's ground truth in its crop's pixels, a sentence on why it cannot be used, or None.

        Raises:
            QuantvizError: the file is no longer the one that was planned, or can no longer be read.
        """
        file = self.files.get(sample.name)
        if file is None or self.truth is None:
            return None
        name = PurePosixPath(file.path).name
        try:
            data = planned_bytes(self.folder, file, "Ground truth")
            truth = TruthSource(data, name, self.truth.kind).read(sample, preprocessing)
        except ImageError as error:
            return str(error)
        if truth.kind == "map" and truth.values is not None:
            fault = scores.degenerate(truth.values)
            return f"{name} carries no evidence ({fault})." if fault else truth
        content = {"fixations": truth.points, "boxes": truth.boxes}.get(truth.kind, truth.values)
        empty = content is None or not content.size or (truth.kind == "mask" and not (content == 1).any())
        return f"{name}: {truth.notes[-1]}." if empty else truth

    def scores(self, side: str, heatmap: Heatmap | None, truth: GroundTruth | str | None) -> dict[str, float | None]:
        """Return the columns of one side's map: None where there is no map, no evidence or no ground truth."""
        if self.truth is None:
            return {}
        columns: dict[str, float | None] = dict.fromkeys(self.truth.metrics)
        if isinstance(truth, GroundTruth) and heatmap is not None and not heatmap.degenerate:
            measured = scores.measure(heatmap.values, truth, self.truth.metrics)
            columns |= {name: score.value for name, score in measured.items()}
        return {f"{side}_v_truth_{name}": value for name, value in columns.items()}


def planned_bytes(folder: Path, file: StudyImage | TruthFile, what: str) -> bytes:
    """Return the bytes of a file that a study was planned with.

    Args:
        folder: where it lies.
        file: its path there and its digest.
        what: the noun for messages.

    Raises:
        ImageError: it cannot be read, and could not when the study was planned.
        QuantvizError: it is no longer the one that was planned, or can no longer be read.
    """
    try:
        _, data = images.read_bytes(folder / file.path, file.path)
    except ImageError as error:
        if file.sha256:  # it could be read before; a broken disk or network is no property of the file
            raise QuantvizError(f"{error} The sweep stops here; repeat its command once that is mended.") from None
        raise ImageError(str(error).replace(str(folder / file.path), file.path)) from None
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise QuantvizError(f"{what} {file.path!r} changed since the study was planned; begin a new study.")
    return data
