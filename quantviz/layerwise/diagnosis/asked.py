"""All that is asked of one diagnosis at once: figures and causes, drift, and a remedy that is tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantviz.comparison.files import pairs_of
from quantviz.comparison.files_request import FilesRequest
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.diagnosis.drift import with_drift
from quantviz.layerwise.diagnosis.remedies import Trial, try_remedy
from quantviz.layerwise.diagnosis.run import diagnose
from quantviz.layerwise.diagnosis.specs import Diagnosis
from quantviz.specs import ImageSample, Progress, no_progress

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked beside the figures of every tensor.

    Attributes:
        drifts: of how many of the worst tensors the maps' drift is measured; 0 for all, None for none.
        remedy: what to try: ``"TENSOR"`` (by its cause's remedy), ``"TENSOR=REMEDY"`` or ``"auto"``; None for nothing.
        by_channel: with the SQNR of each channel of activations.
        method: of the maps of ONNX files, one of ``CAM_METHODS``; a request has its own.
    """

    drifts: int | None = None
    remedy: str | None = None
    by_channel: bool = False
    method: str = "gradcam++"

    @property
    def tensor(self) -> str | None:
        """The tensor to mend; None for the one of the most severe cause."""
        name = (self.remedy or "").partition("=")[0]
        return None if name in ("", AUTO) else name

    @property
    def mend(self) -> str | None:
        """The remedy's name; None for the cause's own."""
        return (self.remedy or "").partition("=")[2] or None


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What was found.

    Attributes:
        diagnoses: one, or one for each quantized file, in the order of the request.
        trial: what the remedy did, where one was to be tried.
        mended: the mended ONNX file; None of a network that quantviz rounds, and where nothing was tried.
    """

    diagnoses: tuple[Diagnosis, ...]
    trial: Trial | None = None
    mended: bytes | None = None


def ask_network(
    bench: Workbench,
    request: CompareRequest,
    samples: Sequence[ImageSample],
    asked: Asked,
    progress: Progress = no_progress,
) -> Answer:
    """Diagnose a network that quantviz rounds.

    Args:
        bench: with the models and the store.
        request: model, weights, quantization and calibration pictures.
        samples: the pictures, at least one; at least two where a remedy is to be tried.
        asked: what is asked beside the figures.
        progress: reports what is being done.

    Raises:
        UsageError: as ``diagnose``, ``with_drift`` and ``try_remedy``.
    """
    trial = None
    if asked.remedy is not None:
        found, trial = try_remedy(bench, request, samples, asked.tensor, asked.mend, progress)
    else:
        found = diagnose(bench, request, samples, progress, by_channel=asked.by_channel)
    if asked.drifts is not None:
        found = with_drift(bench, request, found, samples, progress, most=asked.drifts or None)
    return Answer((found,), trial)


def ask_files(
    bench: Workbench,
    files: FilesRequest,
    samples: Sequence[ImageSample],
    asked: Asked,
    progress: Progress = no_progress,
) -> Answer:
    """Diagnose quantized ONNX files beside their float file.

    Args:
        bench: whose store keeps the drifts.
        files: the files; one quantized file where a remedy is to be tried.
        samples: the pictures, at least one; at least two where a remedy is to be tried.
        asked: what is asked beside the figures.
        progress: reports what is being done.

    Raises:
        CheckpointError: a file cannot be used.
        UsageError: as ``diagnose_files``, ``with_file_drift`` and ``try_file_remedy``.
    """
    from quantviz.layerwise.diagnosis.files import diagnose_files
    from quantviz.layerwise.diagnosis.files_drift import FileDrifts, with_file_drift
    from quantviz.layerwise.diagnosis.files_remedies import try_file_remedy

    trial = mended = None
    if asked.remedy is not None:
        made = try_file_remedy(
            files, samples, asked.tensor, asked.mend, progress, method=asked.method, store=bench.store
        )
        found, trial, mended = {made.diagnosis.network: made.diagnosis}, made.trial, made.model
    else:
        found = diagnose_files(files, samples, progress, by_channel=asked.by_channel)
    if asked.drifts is not None:
        pairs = pairs_of(files)
        for name, diagnosis in found.items():
            drifts = FileDrifts(files, name, pairs[name], tuple(samples), asked.method, bench.store)
            found[name] = with_file_drift(drifts, diagnosis, progress, most=asked.drifts or None)
    return Answer(tuple(found.values()), trial, mended)
