"""How a network is quantized: schemes, presets, bits of single layers, and the protocol of the paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, Literal, get_args

from quantviz.specs.errors import UsageError

MIN_BITS, MAX_BITS = 2, 16

Scheme = Literal["symmetric", "affine"]
Granularity = Literal["per_channel", "per_tensor"]
RangeMethod = Literal["minmax", "moving_average", "percentile", "mse", "entropy"]
Rounding = Literal["nearest", "gptq", "distilled"]

RANGE_METHODS: Final[tuple[RangeMethod, ...]] = get_args(RangeMethod)
ROUNDINGS: Final[tuple[Rounding, ...]] = get_args(Rounding)

DEVIATIONS: Final = {
    "train_mode": "Both networks stay in train mode: batch norm uses the statistics of the one image, dropout and "
    "stochastic depth are active.",
    "output_quantizers": "No batch-norm folding; activations are quantized where torch's prepare_qat puts it, at the "
    "output of single modules, and neither the input picture nor additions, concatenations and products are.",
    "coarse_grids": "Weights per-tensor on the full signed range, activations on half of the range (reduce_range: one "
    "bit less).",
    "online_ranges": "No calibration: moving-average observers start at the first test image and go on with every one, "
    "so that results depend on the order.",
    "own_class": "Each map explains its own network's top-1 class, so that a change of label is mixed with a change of "
    "place.",
    "stretched_input": "The picture is resized to the input's square without a crop; its aspect ratio is lost.",
    "eight_bit_maps": "Maps are resized (bicubic) to the picture's size, min-max scaled without a guard, and saved "
    "with 8 bits.",
}
"""The steps in which the published code of arXiv 2403.09939 differs from the calibrated protocol."""

CALIBRATED, PAPER = "calibrated", "paper"


@dataclass(frozen=True, slots=True)
class LayerBits:
    """Bit-widths of one layer that differ from the network's.

    Attributes:
        name: the layer's dotted name.
        weight_bits: 2 to 16, or None: the weight stays in float.
        act_bits: of the layer's input; 2 to 16, or None: it stays in float.

    Raises:
        UsageError: a bit-width is out of range.
    """

    name: str
    weight_bits: int | None
    act_bits: int | None

    def __post_init__(self) -> None:
        _check_bits("weight", self.weight_bits)
        _check_bits("activation", self.act_bits)


@dataclass(frozen=True, slots=True)
class QuantSpec:
    """How a network is quantized.

    Attributes:
        weight_bits: 2 to 16, or None for activations only.
        act_bits: 2 to 16, or None for weight-only.
        scheme: of the weights: integers symmetric about 0 (narrow range, zero_point 0), or affine.
        granularity: of the weights: one scale for each output channel, or one for the tensor.
        act_scheme: of the activations, which are always per-tensor.
        ranges: how activation ranges are set from the calibration images.
        weight_ranges: ``"minmax"``, or ``"mse"``: the range that leaves the least squared rounding error.
        rounding: of the weights: to the nearest integer; GPTQ; or GPTQ with scales and
            biases learned by distillation from the float network.
        equalize: cross-layer equalization before anything is measured.
        bias_correction: take the mean error of each output channel out of the biases.
        protocol: ``"calibrated"``: eval mode, batch norm folded, ranges calibrated and then frozen; ``"paper"``: the
            published code, all of ``DEVIATIONS``; or ``"calibrated+NAME+NAME"`` with some of them.
        layer_bits: layers with bit-widths of their own, sorted by name; those that say what holds for all are dropped.

    Raises:
        UsageError: a value is unknown or out of range, a layer is named twice, or nothing at all is quantized.
    """

    weight_bits: int | None = 8
    act_bits: int | None = 8
    scheme: Scheme = "symmetric"
    granularity: Granularity = "per_channel"
    act_scheme: Scheme = "affine"
    ranges: RangeMethod = "minmax"
    weight_ranges: Literal["minmax", "mse"] = "minmax"
    rounding: Rounding = "nearest"
    equalize: bool = False
    bias_correction: bool = False
    protocol: str = CALIBRATED
    layer_bits: tuple[LayerBits, ...] = ()

    def __post_init__(self) -> None:
        _check_bits("weight", self.weight_bits)
        _check_bits("activation", self.act_bits)
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)!r} is unknown; use one of {', '.join(known)}.")
        object.__setattr__(self, "protocol", _canonical(self.protocol))
        ordered = tuple(sorted(self.layer_bits, key=lambda bits: bits.name))
        for before, after in pairwise(ordered):
            if before.name == after.name:
                raise UsageError(f"Layer {after.name!r} is given bit-widths twice; name it once.")
        own = tuple(bits for bits in ordered if (bits.weight_bits, bits.act_bits) != (self.weight_bits, self.act_bits))
        object.__setattr__(self, "layer_bits", own)
        if self.weight_bits is None and self.act_bits is None and not own:
            raise UsageError("Neither weights nor activations have bits; give bits such as W8A8, W8 or A8.")

    @property
    def deviations(self) -> frozenset[str]:
        """The names in ``DEVIATIONS`` that the protocol switches on."""
        if self.protocol == PAPER:
            return frozenset(DEVIATIONS)
        return frozenset(self.protocol.split("+")[1:])

    @property
    def learns(self) -> bool:
        """Whether weights or biases are learned from calibration images, and not just rounded to nearest."""
        return self.rounding != "nearest" or self.bias_correction

    def bits_of(self, layer: str) -> tuple[int | None, int | None]:
        """Return (weight bits, activation bits) of a layer; None stands for float."""
        for bits in self.layer_bits:
            if bits.name == layer:
                return bits.weight_bits, bits.act_bits
        return self.weight_bits, self.act_bits

    @property
    def headroom(self) -> float:
        """Factor by which the calibrated ranges of activations with ``act_bits`` are widened."""
        return headroom(self.act_bits)

    @property
    def label(self) -> str:
        """The field's short name: ``"W8A8"``, ``"W4"`` weight-only, ``"A8"`` activations only, ``"mixed W2-8A8"``."""
        if not self.layer_bits:
            return bits_label(self.weight_bits, self.act_bits)
        weights = {bits.weight_bits for bits in self.layer_bits} | {self.weight_bits}
        acts = {bits.act_bits for bits in self.layer_bits} | {self.act_bits}
        spans = f"W{_span(weights)}" if any(weights) else "", f"A{_span(acts)}" if any(acts) else ""
        return f"mixed {''.join(spans)}"

    @property
    def title(self) -> str:
        """The label with the weights' grid: ``"W8A8 symmetric per-channel"``."""
        return f"{self.label} {self.scheme} {self.granularity.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class GivenQuant:
    """What is known of a network that came to us quantized: a module in memory, a file.

    Attributes:
        label: what it is called beside the float network: ``"quantized"``, ``"int8 QDQ"``.
        details: JSON-able: what is known of how it was quantized, and what it is known by (its sha256, say).
    """

    label: str = "quantized"
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def deviations(self) -> frozenset[str]:
        """Deviations from the calibrated protocol: none, since no protocol of ours made it."""
        return frozenset()

    @property
    def title(self) -> str:
        """The label."""
        return self.label


def with_layers(spec: QuantSpec, layers: Sequence[LayerBits]) -> QuantSpec:
    """Return ``spec`` with every layer's bits told: the commonest become the network's, the others stay layers' own.

    Args:
        spec: scheme and protocol.
        layers: every quantized layer of the network.
    """
    pairs = [(bits.weight_bits, bits.act_bits) for bits in layers if bits.weight_bits is not None]
    weight_bits, act_bits = Counter(pairs).most_common(1)[0][0] if pairs else (spec.weight_bits, spec.act_bits)
    return replace(spec, weight_bits=weight_bits or spec.weight_bits, act_bits=act_bits, layer_bits=tuple(layers))


def bits_label(weight_bits: int | None, act_bits: int | None) -> str:
    """Return the short name of two bit-widths: ``"W4A8"``; ``"W4"``, weights alone; ``"A8"``, activations alone."""
    return (f"W{weight_bits}" if weight_bits else "") + (f"A{act_bits}" if act_bits else "")


def headroom(act_bits: int | None) -> float:
    """Return the factor by which calibrated activation ranges are widened: 2 from 12 bits on, else 1.

    A range from a few dozen images is exceeded by the odd image. Up to 8 bits a wider range costs more by its
    coarser grid than it saves; with 12 bits and more, saturation is the larger error by far, so one bit is
    spent on room for it (measured in the method page).
    """
    return 2.0 if act_bits is not None and act_bits >= 12 else 1.0


_PRESETS: dict[str, dict[str, Any]] = {
    "naive": {"granularity": "per_tensor", "act_scheme": "symmetric"},
    "standard": {},
    "best": {"ranges": "mse", "weight_ranges": "mse", "rounding": "distilled"},
}
PRESETS: Final = tuple(_PRESETS)
"""Names for whole schemes: what a first attempt does, what toolkits do, and the best that minutes can buy."""

_WORDS: dict[str, dict[str, Any]] = {
    "symmetric": {"scheme": "symmetric"},
    "affine": {"scheme": "affine"},
    "per_channel": {"granularity": "per_channel"},
    "per_tensor": {"granularity": "per_tensor"},
    "symmetric_activations": {"act_scheme": "symmetric"},
    "affine_activations": {"act_scheme": "affine"},
    "minmax_weights": {"weight_ranges": "minmax"},
    "mse_weights": {"weight_ranges": "mse"},
    **{name: {"rounding": name} for name in ROUNDINGS},
    "equalize": {"equalize": True},
    "bias_correction": {"bias_correction": True},
}
SCHEME_WORDS: Final = tuple(_WORDS)
"""What may follow a preset's name in ``spec_of``."""


def spec_of(
    scheme: str,
    weight_bits: int | None = 8,
    act_bits: int | None = 8,
    *,
    ranges: RangeMethod | None = None,
    protocol: str = CALIBRATED,
    layer_bits: tuple[LayerBits, ...] = (),
) -> QuantSpec:
    """Return the quantization that a scheme's words name.

    Args:
        scheme: a preset's name, words of ``SCHEME_WORDS``, or both, separated by commas: ``"best"``,
            ``"per_tensor,equalize"``, ``"standard,gptq,bias_correction"``. Without a preset, ``standard`` is meant.
        weight_bits: 2 to 16, or None for activations only.
        act_bits: 2 to 16, or None for weight-only.
        ranges: how activation ranges are set, or None for what the scheme says.
        protocol: as in ``QuantSpec``.
        layer_bits: as in ``QuantSpec``.

    Raises:
        UsageError: a word is unknown or a value is out of range.
    """
    found: dict[str, Any] = {}
    for place, word in enumerate(part.strip() for part in scheme.split(",")):
        chosen = _PRESETS.get(word) if place == 0 else None
        chosen = _WORDS.get(word) if chosen is None else chosen
        if chosen is None:
            raise UsageError(
                f"Scheme word {word!r} is unknown; begin with one of {', '.join(PRESETS)} and add any of "
                f"{', '.join(SCHEME_WORDS)}, separated by commas."
            )
        found |= chosen
    spec = QuantSpec(weight_bits, act_bits, **found, protocol=protocol, layer_bits=layer_bits)
    return spec if ranges is None else replace(spec, ranges=ranges)


def scheme_name(spec: QuantSpec) -> str:
    """Return the shortest words from which ``spec_of`` makes the scheme of ``spec`` (its ranges apart)."""
    fields = {name for settings in (*_PRESETS.values(), *_WORDS.values()) for name in settings} - {"ranges"}
    best: list[str] = []
    for preset in PRESETS:
        made = spec_of(preset)
        words = [preset]
        for name in sorted(fields):
            value = getattr(spec, name)
            if getattr(made, name) != value:
                words += [word for word, settings in _WORDS.items() if settings == {name: value}]
        settled = spec_of(",".join(words))
        fits = all(getattr(settled, name) == getattr(spec, name) for name in fields)
        if fits and (not best or (len(words), preset != "standard") < (len(best), best[0] != "standard")):
            best = words
    return ",".join(best)


_CHOICES: dict[str, tuple[Any, ...]] = {
    "scheme": get_args(Scheme),
    "granularity": get_args(Granularity),
    "act_scheme": get_args(Scheme),
    "ranges": RANGE_METHODS,
    "weight_ranges": ("minmax", "mse"),
    "rounding": ROUNDINGS,
    "equalize": (False, True),
    "bias_correction": (False, True),
}


def _canonical(protocol: str) -> str:
    """Return a protocol's one spelling: switches in the order of ``DEVIATIONS``, all of them as ``"paper"``."""
    if protocol in (CALIBRATED, PAPER):
        return protocol
    first, *names = protocol.split("+")
    unknown = [name for name in names if name not in DEVIATIONS]
    if first != CALIBRATED or unknown:
        raise UsageError(
            f"Protocol {protocol!r} is unknown; use calibrated, paper, or calibrated+NAME with names from "
            f"{', '.join(DEVIATIONS)}."
        )
    ordered = [name for name in DEVIATIONS if name in names]
    return PAPER if len(ordered) == len(DEVIATIONS) else "+".join([CALIBRATED, *ordered])


def _check_bits(what: str, bits: int | None) -> None:
    if bits is None:
        return
    if type(bits) is not int or not MIN_BITS <= bits <= MAX_BITS:
        raise UsageError(f"{what} bit-width {bits!r} is not a whole number from {MIN_BITS} to {MAX_BITS}.")


def _span(bits: set[int | None]) -> str:
    numbers = sorted(number for number in bits if number is not None)
    text = f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else "".join(map(str, numbers))
    return f"{text}/float" if None in bits and text else text or "float"
