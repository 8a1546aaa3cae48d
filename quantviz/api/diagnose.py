"""Which tensor did it, why and what mends it: ``quantviz.diagnose`` and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantviz import figures
from quantviz.api.bench import workbench
from quantviz.api.files import write_file
from quantviz.api.inputs import Picture, sample_of
from quantviz.api.onnx import FileOptions
from quantviz.api.table import PictureOptions
from quantviz.comparison import CompareRequest, card_of
from quantviz.comparison.files_request import FilesRequest, files_of_card
from quantviz.layerwise.diagnosis.asked import Asked, ask_files, ask_network
from quantviz.layerwise.diagnosis.exports import export, mended_bits
from quantviz.layerwise.diagnosis.output import csv_of, html_of, report_diagnosis, report_trial
from quantviz.layerwise.diagnosis.remedies import Trial
from quantviz.layerwise.diagnosis.specs import Cause, Diagnosis, TensorFigures
from quantviz.layerwise.pictures import dataset
from quantviz.specs import Crop, ImageSample, Progress, UsageError, no_progress

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, slots=True)
class DiagnosisResult:
    """What rounding does to every tensor of a network, and what is wrong with which.

    Attributes:
        diagnosis: everything that was measured.
        trial: what a remedy did on pictures that it was not chosen on, where one was tried.
        mended: the ONNX file with that remedy; None of a network that quantviz rounds.
        others: the diagnoses of further quantized files, by their names.
        request: of a network that quantviz rounds, what it was rounded by.
    """

    diagnosis: Diagnosis
    trial: Trial | None = None
    mended: bytes | None = None
    others: Mapping[str, DiagnosisResult] = field(default_factory=dict)
    request: CompareRequest | None = None

    @property
    def tensors(self) -> tuple[TensorFigures, ...]:
        """Every weight, bias and activation, in the order of execution."""
        return self.diagnosis.tensors

    @property
    def ranking(self) -> tuple[str, ...]:
        """Names of the tensors, worst first."""
        return self.diagnosis.ranking

    @property
    def causes(self) -> tuple[Cause, ...]:
        """What is wrong with which tensor and what mends it, the most severe first."""
        return self.diagnosis.causes

    def plot(self, tensor: str = "") -> go.Figure:
        """Return SQNR over depth, or one tensor's histogram with its grid.

        Args:
            tensor: its name; "" for all tensors over depth.

        Raises:
            KeyError: there is no such tensor.
        """
        return (
            figures.tensor_figure(self.diagnosis.tensor(tensor)) if tensor else figures.tensors_figure(self.diagnosis)
        )

    def plot_drift(self) -> go.Figure:
        """Return each tensor's isolated SQNR against the drift of the maps when it alone is quantized.

        Raises:
            UsageError: no drift was measured.
        """
        if all(entry.drift is None for entry in self.tensors):
            raise UsageError("No drift was measured; give drift=10 to diagnose, for the 10 worst tensors.")
        return figures.disagreement_figure(self.diagnosis)

    def to_dict(self, *, by_channel: bool = False) -> dict[str, Any]:
        """Return what ``quantviz diagnose --json`` writes."""
        report = report_diagnosis(self.diagnosis, by_channel=by_channel)
        return report if self.trial is None else {**report, "trial": report_trial(self.trial)}

    def export(self, tool: str, path: str | Path) -> Path:
        """Write what another tool reads, and return where.

        Args:
            tool: of ``exports.EXPORTS``: ``"onnxruntime"``, ``"nncf"``, ``"aimet"``, ``"model-explorer"`` (isolated
                SQNR), ``"model-explorer-accumulated"``, ``"model-explorer-drift"``; or ``"bits"``, a bits file for
                quantviz.
            path: of the file.

        Raises:
            UsageError: the tool is unknown, a bits file is asked of ONNX files, or the file cannot be written.
        """
        request = self.request or CompareRequest()
        as_bits = tool == "bits"
        data = mended_bits(self.diagnosis, request.quant, request.model) if as_bits else export(self.diagnosis, tool)
        write_file(Path(path), data)
        return Path(path)

    def save(self, path: str | Path) -> Path:
        """Write a page for a browser (``.html``), the tensors (``.csv``) or the mended file (``.onnx``); return where.

        Raises:
            UsageError: the name ends in none of these, there is no mended file, or the file cannot be written.
        """
        place = Path(path)
        if place.suffix == ".onnx" and self.mended is not None:
            write_file(place, self.mended)
            return place
        if place.suffix == ".onnx":
            raise UsageError("There is no mended file; give diagnose two ONNX files and remedy='auto'.")
        if place.suffix not in (".html", ".csv"):
            raise UsageError(f"A diagnosis is saved as .html, .csv or .onnx, not as {place.name!r}; change the ending.")
        write_file(place, html_of([self.diagnosis]) if place.suffix == ".html" else csv_of(self.diagnosis))
        return place

    def __repr__(self) -> str:
        """Return the worst tensor and its cause."""
        worst = self.causes[0].sentence if self.causes else f"no rule finds anything wrong; worst {self.ranking[0]}"
        return f"<Diagnosis of {self.diagnosis.network}, {self.diagnosis.quantization}: {worst}>"


def diagnosed_pictures(given: Picture | Sequence[Picture]) -> list[ImageSample]:
    """Return the pictures of a folder, of a list, or one picture."""
    rows: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    found: list[ImageSample] = []
    for one in rows:
        is_folder = isinstance(one, str | Path) and Path(one).is_dir()
        found += dataset(Path(str(one))) if is_folder else [sample_of(one)]
    return found


def diagnose_network(pictures: Sequence[ImageSample], options: PictureOptions, asked: Asked) -> DiagnosisResult:
    """Diagnose a network that quantviz rounds, or the files of a card; raises as ``quantviz.diagnose``."""
    _check_crop(options.crop)
    asked = replace(asked, method=options.cam)
    card = card_of(options.named)
    if card is not None and card.float_file is not None:
        classes = None if options.classes is None else Path(options.classes)
        files = files_of_card(card, options.layer, classes)
        return _of_files(files, pictures, asked, options.cache, options.progress)
    request = options.request(options.quant()[0])
    answer = ask_network(workbench(options.cache), request, pictures, asked, options.progress or no_progress)
    return DiagnosisResult(answer.diagnoses[0], answer.trial, request=request)


def diagnose_onnx(pictures: Sequence[ImageSample], options: FileOptions, asked: Asked) -> DiagnosisResult:
    """Diagnose a pair of ONNX files; raises as ``quantviz.diagnose``."""
    _check_crop(options.crop)
    asked = replace(asked, method=options.cam)
    return _of_files(options.files(), pictures, asked, options.cache, options.progress)


def _check_crop(crop: str) -> None:
    if Crop.of_words(crop) != Crop():
        raise UsageError(f"Crop {crop!r} is of one comparison; a diagnosis sees pictures' centres. Leave it out.")


def _of_files(
    files: FilesRequest,
    pictures: Sequence[ImageSample],
    asked: Asked,
    cache: str | Path | None,
    progress: Progress | None,
) -> DiagnosisResult:
    answer = ask_files(workbench(cache), files, pictures, asked, progress or no_progress)
    first, *others = answer.diagnoses
    rest = {found.network: DiagnosisResult(found) for found in others}
    return DiagnosisResult(first, answer.trial, answer.mended, rest)
