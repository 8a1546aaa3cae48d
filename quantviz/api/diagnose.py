"""Which tensor did it, why and what mends it: ``quantviz.diagnose`` and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantviz import figures
from quantviz.api.bench import workbench
from quantviz.api.files import write_file
from quantviz.api.inputs import Picture, sample_of
from quantviz.api.onnx import FileOptions
from quantviz.api.table import PictureOptions
from quantviz.comparison import card_of
from quantviz.comparison.files_request import FilesRequest, files_of_card
from quantviz.layerwise.diagnosis.exports import export
from quantviz.layerwise.diagnosis.files import diagnose_files
from quantviz.layerwise.diagnosis.output import csv_of, html_of, report_diagnosis
from quantviz.layerwise.diagnosis.run import diagnose as diagnose_simulation
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
    """

    diagnosis: Diagnosis

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

    def to_dict(self, *, by_channel: bool = False) -> dict[str, Any]:
        """Return what ``quantviz diagnose --json`` writes."""
        return report_diagnosis(self.diagnosis, by_channel=by_channel)

    def export(self, tool: str, path: str | Path) -> Path:
        """Write what another tool reads, and return where.

        Args:
            tool: ``"onnxruntime"``, ``"nncf"``, ``"aimet"`` or ``"model-explorer"``.
            path: of the file.

        Raises:
            UsageError: the tool is unknown, or the file cannot be written.
        """
        write_file(Path(path), export(self.diagnosis, tool))
        return Path(path)

    def save(self, path: str | Path) -> Path:
        """Write a page for a browser (``.html``) or the tensors as a table (``.csv``), and return where.

        Raises:
            UsageError: the name ends in neither, or the file cannot be written.
        """
        place = Path(path)
        if place.suffix not in (".html", ".csv"):
            raise UsageError(f"A diagnosis is saved as .html or .csv, not as {place.name!r}; change the ending.")
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


def diagnose_network(pictures: Sequence[ImageSample], options: PictureOptions, by_channel: bool) -> DiagnosisResult:
    """Diagnose a network that quantviz rounds, or the files of a card; raises as ``quantviz.diagnose``."""
    _check_crop(options.crop)
    card = card_of(options.named)
    if card is not None and card.float_file is not None:
        return _of_files(files_of_card(card, options.layer), pictures, options.progress, by_channel)
    request = options.request(options.quant()[0])
    progress = options.progress or no_progress
    found = diagnose_simulation(workbench(options.cache), request, pictures, progress, by_channel=by_channel)
    return DiagnosisResult(found)


def diagnose_onnx(pictures: Sequence[ImageSample], options: FileOptions, by_channel: bool) -> DiagnosisResult:
    """Diagnose a pair of ONNX files; raises as ``quantviz.diagnose``."""
    _check_crop(options.crop)
    return _of_files(options.files(), pictures, options.progress, by_channel)


def _check_crop(crop: str) -> None:
    if Crop.of_words(crop) != Crop():
        raise UsageError(f"Crop {crop!r} is of one comparison; a diagnosis sees pictures' centres. Leave it out.")


def _of_files(
    files: FilesRequest, pictures: Sequence[ImageSample], progress: Progress | None, by_channel: bool
) -> DiagnosisResult:
    if len(files.quantized) != 1:
        files = replace(files, quantized=files.quantized[:1])
    (found,) = diagnose_files(files, pictures, progress or no_progress, by_channel=by_channel).values()
    return DiagnosisResult(found)
