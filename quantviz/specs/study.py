"""A study: what a sweep over many pictures is decided by, and what it finds of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any, Final

from quantviz.specs.basics import digest_of
from quantviz.specs.errors import UsageError
from quantviz.specs.quantization import QuantSpec
from quantviz.specs.settings import CalibrationRef, CamSpec, WeightsRef

COMPARISONS: Final = ("float_v_saliency", "quantized_v_saliency", "quantized_v_float")
STUDY_METRICS: Final = ("sim", "cc", "kld")
"""The scores of every comparison; a row's columns are named comparison_metric."""

_TOLD_APART = {
    "models": "models",
    "quants": "quantization",
    "protocols": "protocols",
    "cam": "CAM method",
    "limit": "limit",
    "seed": "seed",
    "calibration": "calibration pictures",
    "saliency": "saliency",
    "batch": "batch",
    "versions": "library versions",
    "computation": "version of the computation",
    "images": "pictures",
}


@dataclass(frozen=True, slots=True)
class StudyImage:
    """One picture of a study.

    Attributes:
        path: relative to the study's folder of pictures, with ``/``.
        sha256: of the file's bytes, in hex; "" where the file could not be read.
        label: ImageNet class index, or None where it is not known.
    """

    path: str
    sha256: str
    label: int | None


@dataclass(frozen=True, slots=True)
class StudyModel:
    """One network of a study: the architecture's name, its weights, and the layer that its maps are taken at."""

    name: str
    weights: WeightsRef
    layer: str


@dataclass(frozen=True, slots=True)
class Piece:
    """What is computed and kept as a whole: some pictures under one model and protocol, at every bit-width.

    Attributes:
        number: place among the pieces of the study, from 0.
        model: place of the model in the plan.
        protocol: as in ``QuantSpec``.
        start: first picture's place in the plan.
        stop: one beyond the last picture's.
    """

    number: int
    model: int
    protocol: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """Everything that decides a study, and (``dataset``, ``command``) how it was asked for.

    Attributes:
        models: the networks.
        quants: the bit-widths, each under the calibrated protocol.
        protocols: as in ``QuantSpec``; every model runs at every bit-width under each.
        cam: the CAM method; the layers are the models'.
        calibration: what activation ranges come from.
        saliency: what maps are compared with, the key of the prediction.
        images: the pictures in their order.
        limit: at most so many of the folder's pictures were taken, or None.
        seed: by which they were drawn, or None for evenly spaced ones.
        batch: pictures in a piece.
        versions: of quantviz and the libraries that decide results.
        computation: ``COMPUTATION_VERSION``.
        dataset: the folder of pictures as the user named it.
        command: the command line that makes this study, or "".
    """

    models: tuple[StudyModel, ...]
    quants: tuple[QuantSpec, ...]
    protocols: tuple[str, ...]
    cam: CamSpec
    calibration: CalibrationRef
    saliency: str
    images: tuple[StudyImage, ...]
    limit: int | None
    seed: int | None
    batch: int
    versions: Mapping[str, str]
    computation: int
    dataset: str = ""
    command: str = ""

    @property
    def digest(self) -> str:
        """The sha256 of all that decides the study: the same pictures elsewhere make the same study."""
        return digest_of({name: getattr(self, name) for name in _TOLD_APART})

    def quants_of(self, protocol: str) -> tuple[QuantSpec, ...]:
        """Return the bit-widths under a protocol."""
        return tuple(replace(quant, protocol=protocol) for quant in self.quants)

    @property
    def lanes(self) -> tuple[tuple[Piece, ...], ...]:
        """The pieces of each model and protocol, in the order in which they are computed."""
        count = ceil(len(self.images) / self.batch)
        lanes = []
        for model in range(len(self.models)):
            for place, protocol in enumerate(self.protocols):
                first = (model * len(self.protocols) + place) * count
                ends = [(at * self.batch, min((at + 1) * self.batch, len(self.images))) for at in range(count)]
                lanes.append(tuple(Piece(first + at, model, protocol, *end) for at, end in enumerate(ends)))
        return tuple(lanes)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All pieces, by number."""
        return tuple(piece for lane in self.lanes for piece in lane)

    def difference(self, other: StudyPlan) -> str:
        """Say in a few words what another plan has otherwise, or "" where both make the same study."""
        for field, name in _TOLD_APART.items():
            ours, theirs = getattr(self, field), getattr(other, field)
            if ours != theirs:
                return f"{name} {_told(field, ours, theirs)}, not {_told(field, theirs, ours)}"
        return ""


def _told(field: str, value: Any, other: Any) -> str:
    """Return a setting in a few words that tell it from another one."""
    if field == "images":
        return _told_images(value, other)
    if field == "calibration":
        return f"{value.source} ({value.images} inputs, sha256 {value.sha256[:8]})"
    if field == "cam":
        return str(value.method)
    if field == "versions":
        return ", ".join(f"{name} {value[name]}" for name in value if value[name] != other.get(name)) or "fewer"
    if field == "models":
        known = {(entry.name, entry.weights.sha256) for entry in other}
        unlike = [entry for entry in value if (entry.name, entry.weights.sha256) not in known] or value
        return ", ".join(f"{entry.name} ({entry.weights.name} {entry.weights.sha256[:8]})" for entry in unlike)
    if field == "quants":
        labels = [quant.label for quant in value]
        if labels != [quant.label for quant in other]:
            return ", ".join(labels)
        ours, theirs = next(pair for pair in zip(value, other, strict=True) if pair[0] != pair[1])
        twin = asdict(theirs)
        return " ".join(f"{name} {own}" for name, own in asdict(ours).items() if own != twin[name])
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _told_images(value: tuple[StudyImage, ...], other: tuple[StudyImage, ...]) -> str:
    if len(value) != len(other):
        return str(len(value))
    ours = next(mine for mine, theirs in zip(value, other, strict=True) if mine != theirs)
    return f"{ours.path!r} (sha256 {ours.sha256[:8] or 'unknown'}, label {ours.label})"


def parse_bits(text: str) -> tuple[int, int | None]:
    """Return (weight bits, activation bits) of a short name: ``"8"`` is W8A8, ``"W4"`` weight-only, ``"W4A8"`` itself.

    Raises:
        UsageError: the text is none of these; the widths themselves are judged by ``QuantSpec``.
    """
    word = text.strip().upper()
    weight, mark, act = word.removeprefix("W").partition("A")
    numbers = [part for part in (weight, act) if part.isascii() and part.isdigit() and len(part) < 4]
    bare = not word.startswith("W")
    if len(numbers) != 1 + bool(mark) or (bare and mark) or (mark and not act):
        raise UsageError(f"Bits {text!r} are unknown; use 8 for W8A8, W4 for weight-only, or W4A8, say.")
    if bare:
        return int(weight), int(weight)
    return int(weight), int(act) if mark else None


@dataclass(frozen=True, slots=True)
class StudyRow:
    """What one quantized network makes of one picture, beside the float network; None where there is no such thing.

    Attributes:
        index: the picture's place in the plan.
        sha256: the picture's.
        model: architecture.
        setting: the label of the bit-widths.
        scheme: words of ``spec_of``.
        protocol: as in ``QuantSpec``.
        float_class: class that the float map explains.
        quantized_class: class that the quantized map explains.
        float_top1: the float network's most probable class.
        float_probability: its softmax probability.
        quantized_top1: the quantized network's most probable class.
        quantized_probability: its softmax probability.
        label: the picture's class.
        float_correct: the float top-1 is the label.
        quantized_correct: the quantized top-1 is the label.
        flipped: the two top-1 classes differ.
        quantized_v_float_sim: agreement of the maps, as in ``Scores``, and so on for each comparison and metric.
        float_degenerate: why the float map carries no evidence, or "".
        quantized_degenerate: the same of the quantized map.
        saliency_degenerate: the same of the saliency.
        error: why there is no result, in one sentence, or "".
    """

    index: int
    sha256: str
    model: str
    setting: str
    scheme: str
    protocol: str
    float_class: int | None = None
    quantized_class: int | None = None
    float_top1: int | None = None
    float_probability: float | None = None
    quantized_top1: int | None = None
    quantized_probability: float | None = None
    label: int | None = None
    float_correct: bool | None = None
    quantized_correct: bool | None = None
    flipped: bool | None = None
    quantized_v_float_sim: float | None = None
    quantized_v_float_cc: float | None = None
    quantized_v_float_kld: float | None = None
    float_v_saliency_sim: float | None = None
    float_v_saliency_cc: float | None = None
    float_v_saliency_kld: float | None = None
    quantized_v_saliency_sim: float | None = None
    quantized_v_saliency_cc: float | None = None
    quantized_v_saliency_kld: float | None = None
    float_degenerate: str = ""
    quantized_degenerate: str = ""
    saliency_degenerate: str = ""
    error: str = ""
