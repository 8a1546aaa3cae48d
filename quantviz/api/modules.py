"""Comparing and explaining torch modules in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from quantviz.api.inputs import Picture, is_tensor, sample_of
from quantviz.api.results import ComparisonResult, ExplanationResult
from quantviz.comparison import SPECTRAL_RESIDUAL, PairRequest, saliency_choice
from quantviz.comparison.modules import ModuleChoice, compare_modules, explain_module
from quantviz.specs import ImageSample, Progress, UsageError, no_progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    Layer = str | nn.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleOptions:
    """The options of modules in memory; ``quantviz.compare`` and ``quantviz.explain`` say what each does."""

    layer: Layer | tuple[Layer, Layer] | None = None
    preprocessing: object = None
    classes: Sequence[str] | Mapping[int, str] | None = None
    cam: str = "gradcam++"
    class_: Literal["float", "own"] | int = "float"
    saliency: str | Path | None = SPECTRAL_RESIDUAL
    name: str = ""
    label: str = "quantized"
    progress: Progress | None = None

    def choice(self) -> ModuleChoice:
        """Return what the modules do not say of themselves."""
        return ModuleChoice(self.layer, self.preprocessing, _names(self.classes), self.name, self.label)

    def request(self) -> PairRequest:
        """Return what to compare by.

        Raises:
            UsageError: a value is unknown.
        """
        return PairRequest(self.cam, self.class_, saliency_choice(self.saliency))


def compare_two(
    float_module: nn.Module, quantized_module: nn.Module, image: Picture | Tensor, options: ModuleOptions
) -> ComparisonResult:
    """Compare two modules in memory on one picture; raises as ``quantviz.compare``."""
    progress = options.progress or no_progress
    picture = _picture(image)
    return ComparisonResult(
        compare_modules(float_module, quantized_module, picture, options.choice(), options.request(), progress)
    )


def explain_one(module: nn.Module, image: Picture | Tensor, options: ModuleOptions) -> ExplanationResult:
    """Return the map of one module in memory of one picture; raises as ``quantviz.explain``."""
    progress = options.progress or no_progress
    return ExplanationResult(explain_module(module, _picture(image), options.choice(), options.request(), progress))


def _picture(image: Any) -> ImageSample | Tensor:
    if is_tensor(image):
        tensor: Tensor = image
        return tensor
    return sample_of(image)


def _names(classes: Sequence[str] | Mapping[int, str] | None) -> tuple[str, ...]:
    """Return class names in the order of the logits."""
    if classes is None:
        return ()
    if isinstance(classes, str):
        raise UsageError(f"Classes {classes!r} are one text; give a list of names, in the order of the logits.")
    if not isinstance(classes, Mapping):
        return tuple(map(str, classes))
    missing = [index for index in range(len(classes)) if index not in classes]
    if missing:
        raise UsageError(f"Class {missing[0]} has no name among {len(classes)}; name every class from 0 on.")
    return tuple(str(classes[index]) for index in range(len(classes)))
