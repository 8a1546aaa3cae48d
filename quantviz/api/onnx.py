"""Comparing ONNX files as they run when they are deployed: what `quantviz compare --float-model` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from quantviz.api.bench import workbench
from quantviz.api.inputs import Picture, sample_of
from quantviz.api.results import ComparisonResult
from quantviz.comparison import SPECTRAL_RESIDUAL, FilesRequest, PairRequest, compare_files, saliency_choice
from quantviz.specs import Crop, Progress, no_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """The options of comparing ONNX files; ``quantviz.compare`` says what each does."""

    float_model: str | Path
    quantized_model: str | Path | Sequence[str | Path] = ()
    layer: str | None = None
    input: str = ""
    classes: str | Path | None = None
    cam: str = "gradcam++"
    class_: Literal["float", "own"] | int = "float"
    saliency: str | Path | None = SPECTRAL_RESIDUAL
    crop: str = "centre"
    cache: str | Path | None = None
    progress: Progress | None = None

    def files(self) -> FilesRequest:
        """Return which files are compared.

        Raises:
            UsageError: no quantized file is named.
        """
        given = self.quantized_model
        quantized = (given,) if isinstance(given, str | Path) else tuple(given)
        classes = None if self.classes is None else Path(self.classes)
        return FilesRequest(Path(self.float_model), tuple(map(Path, quantized)), self.layer, self.input, classes)


def compare_onnx(image: Picture, options: FileOptions) -> ComparisonResult:
    """Compare a float ONNX file with quantized ones on one picture; raises as ``quantviz.compare``."""
    request = PairRequest(
        options.cam, options.class_, saliency_choice(options.saliency), crop=Crop.of_words(options.crop)
    )
    store = workbench(options.cache).store
    progress = options.progress or no_progress
    comparisons = compare_files(options.files(), sample_of(image), request, store=store, progress=progress)
    first, *others = comparisons.items()
    return ComparisonResult(first[1], others=dict(others))
