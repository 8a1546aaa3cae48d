"""Comparing by a network of quantviz's own table: what `quantviz compare` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from quantviz import networks
from quantviz.api.bench import workbench
from quantviz.api.inputs import Picture, sample_of
from quantviz.api.results import ComparisonResult
from quantviz.comparison import (
    SPECTRAL_RESIDUAL,
    CompareRequest,
    TruthSource,
    Workbench,
    card_of,
    compare_card,
    faithfulness,
    measure,
    metric_names,
    saliency_choice,
    truth_source,
)
from quantviz.layerwise.bits_file import quant_of_file
from quantviz.layerwise.drift import model_cost
from quantviz.layerwise.noise import with_floor
from quantviz.networks.classes import names_of_file
from quantviz.specs import (
    CALIBRATED,
    CamSpec,
    Crop,
    ImageSample,
    Progress,
    QuantSpec,
    RangeMethod,
    TruthKind,
    UsageError,
    no_progress,
    parse_bits,
    spec_of,
)

Bits: TypeAlias = str | int | tuple[int | None, int | None]


def compare_by(
    bench: Workbench,
    request: CompareRequest,
    sample: ImageSample,
    *,
    metrics: str | Sequence[str] | None = None,
    truth: TruthSource | None = None,
    faithful: bool = False,
    progress: Progress = no_progress,
) -> ComparisonResult:
    """Compare one picture, with all that was asked for beside it; the command line and ``compare_picture`` call this.

    Args:
        bench: with the networks and the store.
        request: what to compare by.
        sample: the picture.
        metrics: names of further metrics, or ``"all"``; None: none, unless there is a ``truth``.
        truth: the user's ground truth.
        faithful: also measure the faithfulness of both maps.
        progress: told what is being done.

    Raises:
        as ``Workbench.compare``, ``measure`` and ``faithfulness``.
    """
    names = metric_names(metrics)  # before anything is computed
    comparison = with_floor(bench, request, bench.compare(request, sample, progress), progress)
    wanted = metrics is not None or truth is not None
    return ComparisonResult(
        comparison,
        metrics=measure(bench, request, comparison, truth, names, progress) if wanted else (),
        faithfulness=faithfulness(bench, request, comparison, progress) if faithful else (),
        cost=model_cost(bench, request, progress) if request.quant.protocol == CALIBRATED else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOptions:
    """The options of comparing one picture by a network of the table; ``quantviz.compare`` says what each does."""

    model: str = networks.DEFAULT_MODEL
    card: str | Path | None = None
    weights: str | Path | None = None
    bits: Bits | None = None
    weight_bits: int | Literal["none"] | None = 8
    act_bits: int | Literal["none"] | None = 8
    scheme: str = "standard"
    ranges: RangeMethod | None = None
    protocol: str = CALIBRATED
    bits_file: str | Path | None = None
    cam: str = "gradcam++"
    layer: str | None = None
    classes: str | Path | None = None
    class_: Literal["float", "own"] | int = "float"
    calibration: str | Path | None = None
    saliency: str | Path | None = SPECTRAL_RESIDUAL
    metrics: str | Sequence[str] | None = None
    truth: str | Path | None = None
    truth_kind: TruthKind = "map"
    faithfulness: bool = False
    backend: Literal["torch", "onnxruntime", "ncnn"] = "torch"
    deployed: bool = False
    crop: str = "centre"
    cache: str | Path | None = None
    progress: Progress | None = None

    @property
    def named(self) -> str:
        """The model's name, or the card's path.

        Raises:
            UsageError: both are given.
        """
        if self.card is None:
            return self.model
        if self.model != networks.DEFAULT_MODEL:
            raise UsageError(f"Model {self.model!r} and card {str(self.card)!r} exclude each other; leave one out.")
        return str(Path(self.card).expanduser())

    @property
    def bits_are_given(self) -> bool:
        """Whether a quantization is asked for, which a card's variants give way to."""
        return self.bits is not None or self.bits_file is not None or (self.weight_bits, self.act_bits) != (8, 8)

    def quant(self) -> tuple[QuantSpec, str]:
        """Return the quantization, and a note where a bits file's bits were found for other weights.

        Raises:
            UsageError: options exclude each other, a value is unknown, or the bits file cannot be used.
        """
        weight_bits, act_bits = (None if bits == "none" else bits for bits in (self.weight_bits, self.act_bits))
        others = (weight_bits, act_bits) != (8, 8)
        if self.bits_file is not None:
            if self.bits is not None or others or self.scheme != "standard" or self.ranges is not None:
                raise UsageError(
                    f"Bits file {str(self.bits_file)!r} has scheme, ranges and bits of its own; leave bits, "
                    "weight_bits, act_bits, scheme and ranges out."
                )
            quant, note = quant_of_file(Path(self.bits_file), self.named, _text(self.weights))
            return replace(quant, protocol=self.protocol), note
        if self.bits is not None:
            if others:
                raise UsageError(f"Bits {self.bits!r} and weight_bits or act_bits exclude each other; leave one out.")
            weight_bits, act_bits = _widths(self.bits)
        return spec_of(self.scheme, weight_bits, act_bits, ranges=self.ranges, protocol=self.protocol), ""

    def request(self, quant: QuantSpec) -> CompareRequest:
        """Return what to compare by.

        Raises:
            UsageError: a value is unknown.
        """
        return CompareRequest(
            self.named,
            _text(self.weights),
            quant,
            CamSpec(self.cam, self.layer),
            self.class_,
            None if self.calibration is None else Path(self.calibration),
            saliency_choice(self.saliency),
            backend=self.backend,
            deployed=self.deployed,
            names=() if self.classes is None else names_of_file(Path(self.classes)),
            crop=Crop.of_words(self.crop),
        )


def compare_picture(image: Picture, options: PictureOptions) -> ComparisonResult:
    """Compare one picture by a network of the table.

    Args:
        image: as ``sample_of`` takes it.
        options: what to compare by.

    Raises:
        as ``quantviz.compare``.
    """
    card = card_of(options.named)
    if card is None or card.float_file is None:
        networks.spec(options.named)
    quant, note = options.quant()
    request, sample = options.request(quant), sample_of(image)
    if card is not None and (card.float_file is not None or (card.variants and not options.bits_are_given)):
        bench, progress = workbench(options.cache), options.progress or no_progress
        classes = None if options.classes is None else Path(options.classes)
        first, *others = compare_card(bench, card, request, sample, progress, classes=classes).items()
        return ComparisonResult(first[1], others=dict(others))
    place = Path(image) if isinstance(image, str | Path) else None
    truth = None if options.truth is None else truth_source(Path(options.truth), options.truth_kind, place)
    result = compare_by(
        workbench(options.cache),
        request,
        sample,
        metrics=options.metrics,
        truth=truth,
        faithful=options.faithfulness,
        progress=options.progress or no_progress,
    )
    notes = (*result.comparison.notes, note) if note else result.comparison.notes
    return replace(result, comparison=replace(result.comparison, notes=notes))


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _widths(bits: Bits) -> tuple[int | None, int | None]:
    if not isinstance(bits, tuple):
        return parse_bits(str(bits))
    if len(bits) != 2:
        raise UsageError(f"Bits {bits!r} are unknown; give (weight bits, activation bits), (4, 8) say.")
    return bits
