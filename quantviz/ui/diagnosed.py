"""What the Diagnose page diagnoses: a network that quantviz rounds, the files of a card, or two uploaded files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from quantviz.comparison import CompareRequest
from quantviz.comparison.files import pairs_of
from quantviz.comparison.files_request import FilesRequest, files_of_card
from quantviz.comparison.sandbox import UploadedFiles
from quantviz.layerwise.diagnosis.asked import Answer, Asked, ask_files, ask_network
from quantviz.layerwise.diagnosis.drift import tensor_settings, with_drift
from quantviz.layerwise.diagnosis.files_drift import FileDrifts, with_file_drift
from quantviz.layerwise.diagnosis.run import diagnose
from quantviz.layerwise.diagnosis.sandbox import compare_uploaded, diagnose_uploaded
from quantviz.layerwise.diagnosis.specs import Diagnosis, TensorFigures
from quantviz.layerwise.drift import layers_of
from quantviz.networks.card import Card
from quantviz.specs import Comparison, ImageSample, Progress, no_progress
from quantviz.ui import workbench
from quantviz.ui.yours import sandbox

PICTURES_FOR_A_REMEDY = 2
"""A remedy is measured on pictures that it was not chosen on."""


class Diagnosed(Protocol):
    """A quantized network and pictures, with what can be asked of them."""

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what decides every answer, beside what is asked."""
        ...

    @property
    def what(self) -> str:
        """Return what is compared, in a few words."""
        ...

    @property
    def samples(self) -> Sequence[ImageSample]:
        """Return the pictures."""
        ...

    def diagnosis(self, progress: Progress) -> Diagnosis:
        """Return the figures of every tensor, and the causes."""
        ...

    def with_drift(self, found: Diagnosis, most: int, progress: Progress) -> Diagnosis:
        """Return the diagnosis with what the worst tensors do to the maps."""
        ...

    def tried(self, remedy: str, progress: Progress) -> Answer:
        """Return what a remedy does, ``"TENSOR=REMEDY"``."""
        ...

    def alone(self, entry: TensorFigures) -> Callable[[Progress], Comparison] | None:
        """Return what makes the maps with this tensor alone quantized; None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Rounded:
    """A network that quantviz rounds.

    Attributes:
        request: model, weights, quantization and map.
        samples: the pictures.
    """

    request: CompareRequest
    samples: Sequence[ImageSample]

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what decides every answer, beside what is asked."""
        return "rounded", self.request, _ids(self.samples)

    @property
    def what(self) -> str:
        """Return what is compared, in a few words."""
        return f"every weight and layer input in float and at {self.request.quant.label}"

    def diagnosis(self, progress: Progress) -> Diagnosis:
        """Return the figures of every tensor, and the causes."""
        return diagnose(workbench(), self.request, self.samples, progress, by_channel=True)

    def with_drift(self, found: Diagnosis, most: int, progress: Progress) -> Diagnosis:
        """Return the diagnosis with what the worst tensors do to the maps."""
        return with_drift(workbench(), self.request, found, self.samples, progress, most=most)

    def tried(self, remedy: str, progress: Progress) -> Answer:
        """Return what a remedy does, ``"TENSOR=REMEDY"``."""
        return ask_network(workbench(), self.request, self.samples, Asked(remedy=remedy), progress)

    def alone(self, entry: TensorFigures) -> Callable[[Progress], Comparison] | None:
        """Return what makes the maps with this tensor alone quantized; None where there is none."""
        bench, request = workbench(), self.request
        layers, _ = layers_of(bench, bench.subject(request), request.quant, no_progress)
        names = [layer.name for layer in layers]
        if entry.site.layer not in names or entry.site.bits is None or entry.site.role == "bias":
            return None
        quant, _ = tensor_settings(request.quant, names, entry.site.layer, entry.site.role)
        return lambda progress: bench.compare(replace(request, quant=quant, saliency=None), self.samples[0], progress)


@dataclass(frozen=True, slots=True)
class OfCard:
    """An ONNX file of a card that the server was started with, beside the card's float file.

    Attributes:
        files: the float file and the quantized one.
        samples: the pictures.
        method: of the maps.
    """

    files: FilesRequest
    samples: Sequence[ImageSample]
    method: str

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what decides every answer, beside what is asked."""
        ((_, pair),) = pairs_of(self.files).items()
        digests = tuple(opened.file.sha256 for opened in (pair.reference, pair.quantized))
        return "card", digests, self.files.layer, repr(self.files.card), self.method, _ids(self.samples)

    @property
    def what(self) -> str:
        """Return what is compared, in a few words."""
        return f"every weight, bias and activation of {self.files.quantized[0].name} beside {self.files.reference.name}"

    def diagnosis(self, progress: Progress) -> Diagnosis:
        """Return the figures of every tensor, and the causes."""
        return self._asked(Asked(by_channel=True), progress).diagnoses[0]

    def with_drift(self, found: Diagnosis, most: int, progress: Progress) -> Diagnosis:
        """Return the diagnosis with what the worst tensors do to the maps."""
        return with_file_drift(self._drifts(), found, progress, most=most)

    def tried(self, remedy: str, progress: Progress) -> Answer:
        """Return what a remedy does, ``"TENSOR=REMEDY"``."""
        return self._asked(Asked(remedy=remedy), progress)

    def alone(self, entry: TensorFigures) -> Callable[[Progress], Comparison] | None:
        """Return what makes the maps with this tensor alone quantized; None where there is none."""
        drifts = self._drifts()
        if entry.name not in drifts.editor.names:
            return None
        return lambda progress: drifts.compared(entry.name, self.samples[0], progress)

    def _asked(self, asked: Asked, progress: Progress) -> Answer:
        return ask_files(workbench(), self.files, self.samples, replace(asked, method=self.method), progress)

    def _drifts(self) -> FileDrifts:
        ((name, pair),) = pairs_of(self.files).items()
        return FileDrifts(self.files, name, pair, tuple(self.samples), self.method, workbench().store)


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Two ONNX files that a visitor uploaded: only processes of their own open them.

    Attributes:
        files: the files.
        given: what tells them apart from other uploads.
        samples: the pictures.
        method: of the maps.
    """

    files: UploadedFiles
    given: tuple[Any, ...]
    samples: Sequence[ImageSample]
    method: str

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what decides every answer, beside what is asked."""
        return "uploaded", self.given, self.files.layer, self.files.input, self.method, _ids(self.samples)

    @property
    def what(self) -> str:
        """Return what is compared, in a few words."""
        return f"every weight, bias and activation of {self.files.quantized_name} beside {self.files.reference_name}"

    def diagnosis(self, progress: Progress) -> Diagnosis:
        """Return the figures of every tensor, and the causes."""
        return self._asked(Asked(), progress).diagnoses[0]

    def with_drift(self, found: Diagnosis, most: int, progress: Progress) -> Diagnosis:
        """Return the diagnosis with what the worst tensors do to the maps."""
        return self._asked(Asked(drifts=most), progress).diagnoses[0]

    def tried(self, remedy: str, progress: Progress) -> Answer:
        """Return what a remedy does, ``"TENSOR=REMEDY"``."""
        return self._asked(Asked(remedy=remedy), progress)

    def alone(self, entry: TensorFigures) -> Callable[[Progress], Comparison] | None:
        """Return what makes the maps with this tensor alone quantized; None where there is none."""
        if entry.site.bits is None:
            return None
        return lambda progress: compare_uploaded(
            sandbox(), self.files, self.samples[0], entry.name, self.method, progress=progress
        )

    def _asked(self, asked: Asked, progress: Progress) -> Answer:
        asked = replace(asked, method=self.method)
        return diagnose_uploaded(sandbox(), self.files, self.samples, asked, progress=progress)


def of_card(card: Card, variant: str, samples: Sequence[ImageSample], method: str) -> OfCard:
    """Return a variant of a card that names ONNX files.

    Raises:
        UsageError: as ``files_of_card``.
    """
    chosen = replace(card, variants=tuple(entry for entry in card.variants if entry.name == variant))
    return OfCard(files_of_card(chosen), samples, method)


def _ids(samples: Sequence[ImageSample]) -> tuple[tuple[str, int | None], ...]:
    return tuple((sample.id, sample.label) for sample in samples)
