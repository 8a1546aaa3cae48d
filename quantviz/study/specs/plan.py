"""A study's plan: everything that decides what a sweep over many pictures computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from typing import Any, Final, Literal

from quantviz.specs.basics import LATER, digest_of
from quantviz.specs.errors import UsageError
from quantviz.specs.metrics import TruthKind
from quantviz.specs.quantization import QuantSpec
from quantviz.specs.settings import CalibrationRef, CamSpec, WeightsRef
from quantviz.specs.text import counted
from quantviz.specs.variants import GIVEN, AnyVariant, FileVariant, Variant, variants_of

COMPARISONS: Final = ("float_v_saliency", "quantized_v_saliency", "quantized_v_float")
STUDY_METRICS: Final = ("sim", "cc", "kld")
"""The scores of every comparison; a row's columns are named comparison_metric."""

TRUTH_COMPARISONS: Final = ("float_v_truth", "quantized_v_truth")
"""With the user's ground truth, where there is one; their metrics are those of its kind."""

SIMULATION_COLUMNS: Final = (*(f"simulated_v_deployed_{metric}" for metric in STUDY_METRICS), "simulated_flipped")
"""The columns that compare a deployed network with its simulation."""

FAITHFUL_METRICS: Final = ("deletion", "insertion", "road")
"""How faithful each network's own map is to it, as ``cam.FAITHFULNESS`` has them."""

FAITHFUL_COLUMNS: Final = tuple(f"{side}_{metric}" for side in ("float", "quantized") for metric in FAITHFUL_METRICS)
"""The columns of a study whose maps' faithfulness is measured."""

BRIGHTNESS: Final = "brightness"
OBJECT_SHARE: Final = "object_share"
PROPERTY_COLUMNS: Final = (BRIGHTNESS, OBJECT_SHARE)
"""The columns on the pictures themselves; studies of before lack them."""

IMAGENET_CLASSES: Final = 1000

ONNX: Final = "onnx"
"""Origin of a network that is an ONNX file."""

_DECIDES = {
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
    "truth": "ground truth",
    "backend": "backend",
    "faithful": "faithfulness",
}
_SINCE = {"truth": None, "backend": "torch", "faithful": False}
"""What decides only where it is another value: what every study was before there was a choice."""


@dataclass(frozen=True, slots=True)
class StudyImage:
    """One picture of a study.

    Attributes:
        path: relative to the study's folder of pictures, with ``/``.
        sha256: of the file's bytes, in hex; "" where the file could not be read.
        label: its class's index among ``StudyPlan.classes``, or None where it is not known.
    """

    path: str
    sha256: str
    label: int | None


@dataclass(frozen=True, slots=True)
class StudyModel:
    """One network of a study.

    Attributes:
        name: what rows call it: the architecture's name, or that of a network card.
        weights: of the float network.
        layer: that its maps are taken at.
        origin: of a card: the model that it names, or ``ONNX``; "" of a network without a card.
        files: of a card: its quantized files.
    """

    name: str
    weights: WeightsRef
    layer: str
    origin: str = field(default="", metadata=LATER)
    files: tuple[FileVariant, ...] = field(default=(), metadata=LATER)

    @property
    def in_torch(self) -> bool:
        """True where the float network is a torch module, so that its quantization can be simulated."""
        return self.origin != ONNX


@dataclass(frozen=True, slots=True)
class TruthFile:
    """A picture's file of ground truth.

    Attributes:
        path: relative to the folder of ground truth, with ``/``.
        sha256: of the file's bytes, in hex; "" where it could not be read.
    """

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class StudyTruth:
    """The user's ground truth of a study's pictures.

    Attributes:
        kind: what the files hold.
        metrics: names from the table of metrics, those by which maps are scored against it.
        files: of each picture in the plan's order; None where it has none.
        folder: as the user named it; it decides nothing.
    """

    kind: TruthKind
    metrics: tuple[str, ...]
    files: tuple[TruthFile | None, ...]
    folder: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """The unit of computing and saving: some pictures under one model and protocol, at every bit-width.

    Attributes:
        number: place among the pieces of the study, from 0.
        model: place of the model in the plan.
        protocol: as in ``StudyPlan``.
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
    """Everything that decides a study, and (``dataset``, ``command``) how it was requested.

    Attributes:
        models: the networks.
        quants: the bit-widths, each under the calibrated protocol.
        protocols: names as ``variants_of`` takes them, or ``GIVEN`` for the files of the models.
        cam: the CAM method; the layers are the models'.
        calibration: what activation ranges come from.
        saliency: what maps are compared with, the key of the prediction.
        images: the pictures in their order.
        limit: at most so many of the folder's pictures were taken, or None.
        seed: by which they were drawn, or None for evenly spaced ones.
        batch: pictures in a piece.
        versions: of quantviz and the libraries that decide results; for deployed networks the kind of integer kernels
            too.
        computation: ``COMPUTATION_VERSION``.
        dataset: the folder of pictures as the user named it.
        command: the command line that makes this study, or "".
        shard: (i, n), i from 1 to n: the folder holds the i-th of n shares of the pieces; None: it holds all.
        truth: the user's ground truth, or None.
        notes: sentences on the pictures and the source of their labels, for the reader; they decide nothing.
        backend: what computes the networks but for their gradients, ``"torch"`` or ``"onnxruntime"``.
        faithful: whether the faithfulness of both networks' maps is measured.

    Raises:
        UsageError: a protocol is unknown, or integer kernels run none of the bit-widths that are to be deployed.
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
    shard: tuple[int, int] | None = None
    truth: StudyTruth | None = None
    notes: tuple[str, ...] = ()
    backend: Literal["torch", "onnxruntime"] = field(default="torch", metadata=LATER)
    faithful: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        for protocol in self.protocols:
            self.variants_of(protocol)

    @property
    def digest(self) -> str:
        """The sha256 of all that decides the study: the same pictures elsewhere make the same study."""
        decides = {name: getattr(self, name) for name in _DECIDES}
        decides = {name: value for name, value in decides.items() if name not in _SINCE or value != _SINCE[name]}
        if self.truth is not None:
            decides["truth"] = replace(self.truth, folder="")
        return digest_of(decides)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the labels count; () for ImageNet's 1,000."""
        return next((model.weights.names for model in self.models if model.weights.names), ())

    def counts_labels(self, model: StudyModel, classes: int) -> bool:
        """Tell whether a model, which has so many classes, has those that the labels count."""
        return model.weights.names == self.classes if self.classes else classes == IMAGENET_CLASSES

    @property
    def comparisons(self) -> dict[str, tuple[str, ...]]:
        """Names of the comparisons, those with the user's ground truth last -> names of their metrics."""
        metrics = dict.fromkeys(COMPARISONS, STUDY_METRICS)
        return metrics | ({} if self.truth is None else dict.fromkeys(TRUTH_COMPARISONS, self.truth.metrics))

    @property
    def truth_columns(self) -> tuple[str, ...]:
        """Names of the columns that compare maps with the user's ground truth, () without one."""
        metrics = () if self.truth is None else self.truth.metrics
        return tuple(f"{comparison}_{metric}" for comparison in TRUTH_COMPARISONS for metric in metrics)

    @property
    def simulation_columns(self) -> tuple[str, ...]:
        """``SIMULATION_COLUMNS``, or () in a study without a deployed network."""
        return SIMULATION_COLUMNS if self.deployed else ()

    @property
    def faithful_columns(self) -> tuple[str, ...]:
        """``FAITHFUL_COLUMNS``, or () in a study without them."""
        return FAITHFUL_COLUMNS if self.faithful else ()

    @property
    def property_columns(self) -> tuple[str, ...]:
        """Those of ``PROPERTY_COLUMNS`` that a sweep writes: an object's size where the ground truth bounds objects."""
        return PROPERTY_COLUMNS if self.truth and self.truth.kind in ("boxes", "mask") else (BRIGHTNESS,)

    @property
    def variants(self) -> tuple[AnyVariant, ...]:
        """The quantized networks beside the models, by protocol and bit-width."""
        return tuple(variant for protocol in self.protocols for variant in self.variants_of(protocol))

    @property
    def deployed(self) -> tuple[Variant, ...]:
        """Those of ``variants`` that are deployed forms of simulated networks."""
        return tuple(variant for variant in self.variants if isinstance(variant, Variant) and variant.deployed)

    @property
    def settings(self) -> tuple[str, ...]:
        """The labels of all variants, each once: what rows call settings."""
        return tuple(dict.fromkeys((*(quant.label for quant in self.quants), *(each.label for each in self.variants))))

    @property
    def setting_word(self) -> str:
        """What a reader calls a setting: ``"bit-width"``, or ``"variant"`` where networks are files."""
        return "variant" if GIVEN in self.protocols else "bit-width"

    @property
    def size(self) -> str:
        """How large the study is, in words: ``"10 pictures, 2 models, 3 bit-widths"``."""
        counts = ((self.images, "picture"), (self.models, "model"), (self.settings, self.setting_word))
        return ", ".join(counted(len(every), what) for every, what in counts)

    def variants_of(self, protocol: str) -> tuple[AnyVariant, ...]:
        """Return the variants that run under one of the study's protocols, by bit-width; files by model."""
        if protocol == GIVEN:
            return tuple(variant for model in self.models for variant in model.files)
        return variants_of(protocol, self.quants)

    def variants_at(self, model: int, protocol: str) -> tuple[AnyVariant, ...]:
        """Return the variants of one model, by its place, that run under a protocol; () where none does."""
        if protocol == GIVEN:
            return self.models[model].files
        return self.variants_of(protocol) if self.models[model].in_torch else ()

    def sequential(self, protocol: str) -> bool:
        """Tell whether a picture's rows under a protocol depend on the pictures before it."""
        return any(variant.sequential for variant in self.variants_of(protocol))

    @property
    def cells(self) -> tuple[tuple[str, str, str], ...]:
        """(model, label of the bit-width, protocol) of all that runs, by protocol, model and bit-width."""
        return tuple(
            (model.name, variant.label, protocol)
            for protocol in self.protocols
            for place, model in enumerate(self.models)
            for variant in self.variants_at(place, protocol)
        )

    def cell(self, name: tuple[str, str, str]) -> tuple[StudyModel, AnyVariant]:
        """Return the model and the variant of a cell.

        Args:
            name: one of ``cells``.

        Raises:
            UsageError: the study has no such cell.
        """
        for place, model in enumerate(self.models):
            variants = self.variants_at(place, name[2]) if model.name == name[0] and name[2] in self.protocols else ()
            for variant in variants:
                if variant.label == name[1]:
                    return model, variant
        raise UsageError(f"The study has no cell {' '.join(name)!r}; choose another.")

    @property
    def runs(self) -> tuple[tuple[Piece, ...], ...]:
        """The pieces of each model and protocol, in the order in which they are computed."""
        count = ceil(len(self.images) / self.batch)
        runs = []
        for model in range(len(self.models)):
            for place, protocol in enumerate(self.protocols):
                if not self.variants_at(model, protocol):
                    continue
                first = (model * len(self.protocols) + place) * count
                ends = [(at * self.batch, min((at + 1) * self.batch, len(self.images))) for at in range(count)]
                runs.append(tuple(Piece(first + at, model, protocol, *end) for at, end in enumerate(ends)))
        return tuple(runs)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All pieces, by number."""
        return tuple(piece for run in self.runs for piece in run)

    def difference(self, other: StudyPlan) -> str:
        """Return the first setting that differs from another plan's, in words; "" where both make the same study."""
        for setting, name in _DECIDES.items():
            ours, theirs = getattr(self, setting), getattr(other, setting)
            if ours != theirs:
                return f"{name} {_value_words(setting, ours, theirs)}, not {_value_words(setting, theirs, ours)}"
        return ""


def _value_words(field: str, value: Any, other: Any) -> str:
    """Return the value of a setting in a few words that distinguish it from another value."""
    if field == "images":
        return _image_words(value, other)
    if field == "calibration":
        return f"{value.source} ({value.images} inputs, sha256 {value.sha256[:8]})"
    if field == "truth":
        count = 0 if value is None else sum(file is not None for file in value.files)
        return "none" if value is None else f"{value.kind} ({count} files, sha256 {digest_of(value.files)[:8]})"
    if field == "cam":
        return str(value.method)
    if field == "versions":
        return ", ".join(f"{name} {value[name]}" for name in value if value[name] != other.get(name)) or "fewer"
    if field == "models":
        return _model_words(value, other)
    if field == "quants":
        labels = [quant.label for quant in value]
        if labels != [quant.label for quant in other]:
            return ", ".join(labels)
        ours, theirs = next(pair for pair in zip(value, other, strict=True) if pair[0] != pair[1])
        twin = asdict(theirs)
        return " ".join(f"{name} {own}" for name, own in asdict(ours).items() if own != twin[name])
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _model_words(value: tuple[StudyModel, ...], other: tuple[StudyModel, ...]) -> str:
    known = {(entry.name, entry.weights.sha256): entry.layer for entry in other}
    moved = [entry for entry in value if known.get((entry.name, entry.weights.sha256)) not in (None, entry.layer)]
    if moved:
        return ", ".join(f"{entry.name} at layer {entry.layer}" for entry in moved)
    files = {entry.name: entry.files for entry in other}
    changed = [entry for entry in value if entry.files != files.get(entry.name, entry.files)]
    if changed:
        return "; ".join(f"{entry.name} with {_file_words(entry)}" for entry in changed)
    unlike = [entry for entry in value if (entry.name, entry.weights.sha256) not in known] or value
    return ", ".join(f"{entry.name} ({entry.weights.name} {entry.weights.sha256[:8]})" for entry in unlike)


def _file_words(model: StudyModel) -> str:
    return ", ".join(f"{file.label} ({file.file} {file.sha256[:8]})" for file in model.files) or "no file"


def _image_words(value: tuple[StudyImage, ...], other: tuple[StudyImage, ...]) -> str:
    if len(value) != len(other):
        return str(len(value))
    ours = next(mine for mine, theirs in zip(value, other, strict=True) if mine != theirs)
    return f"{ours.path!r} (sha256 {ours.sha256[:8] or 'unknown'}, label {ours.label})"
