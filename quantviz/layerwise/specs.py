"""What is known of a network layer by layer: costs, drift, noise floor, and the search over bit-widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from quantviz.specs.cost import Cost, LayerCost
from quantviz.specs.quantization import LayerBits, QuantSpec
from quantviz.specs.settings import CalibrationRef, CamSpec, WeightsRef


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a changed network is from the float network, over a set of images.

    Attributes:
        cam: mean of ``cams``, over the images that have one; None where there is none. 0 is no drift.
        cams: 1 - CC of the two maps of each image, both of the float network's top-1 class, in the images' order; 1
            where the changed map has lost all evidence; None where the float map carries none.
        kl: mean Kullback-Leibler divergence of the class probabilities from the float network's, in nats.
        sqnr: signal-to-quantization-noise ratio of the logits in decibels, 10 log10(sum f^2 / sum (f - q)^2); None
            where there is no difference at all.
        flips: part of the images whose top-1 class changed, 0 to 1.
        accuracy: part of the images whose top-1 is the label, or None where no image has one.
    """

    cam: float | None
    cams: tuple[float | None, ...]
    kl: float
    sqnr: float | None
    flips: float
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Drift that is not quantization: between twins that a user would call the same.

    Attributes:
        grey: float against float, with every pixel of the picture moved by at most one grey level.
        shift: float against float, with the crop moved by one pixel, compared where both crops overlap.
        calibration: quantized against quantized, each calibrated on one half of the calibration images; None where
            ranges are not calibrated.
    """

    grey: Drift
    shift: Drift
    calibration: Drift | None

    @property
    def floor(self) -> float | None:
        """The greater of the float twins' mean map drifts: what drift is shown as a multiple of."""
        drifts = [twin.cam for twin in (self.grey, self.shift) if twin.cam is not None]
        return max(drifts) if drifts else None

    @property
    def floors(self) -> tuple[float | None, ...]:
        """The greater of the float twins' map drifts of each image, in the images' order; None where there is none."""
        pairs = zip(self.grey.cams, self.shift.cams, strict=True)
        return tuple(max((one for one in pair if one is not None), default=None) for pair in pairs)


@dataclass(frozen=True, slots=True)
class LayerDrift:
    """What one layer does to the maps.

    Attributes:
        cost: the layer.
        depth: its place in the order of execution, from 0.
        alone: drift when it alone is quantized.
        all_but: drift when every layer but it is quantized.
    """

    cost: LayerCost
    depth: int
    alone: Drift
    all_but: Drift


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """A network's layers by what their quantization does to maps and logits.

    Attributes:
        model: name of the architecture.
        weights: which weights.
        quant: the quantization whose layers are switched on one at a time.
        calibration: what the activation ranges come from.
        cam: method and target layer.
        images: (sha256, name) of each image.
        layers: in order of execution.
        network: drift with every layer quantized.
        floor: drift that is not quantization.
        cost: of the whole network at these bits.
        labelled: number of images with a known class.
    """

    model: str
    weights: WeightsRef
    quant: QuantSpec
    calibration: CalibrationRef
    cam: CamSpec
    images: tuple[tuple[str, str], ...]
    layers: tuple[LayerDrift, ...]
    network: Drift
    floor: NoiseFloor
    cost: Cost
    labelled: int = 0

    @property
    def ranked(self) -> tuple[LayerDrift, ...]:
        """The layers, the one that alone moves the maps most first."""
        return tuple(sorted(self.layers, key=lambda layer: -(layer.alone.cam or 0.0)))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One assignment of bit-widths to layers, and what it does.

    Attributes:
        name: ``"W4A8"`` for a uniform one, ``"mixed"`` for one that the search found.
        bits: of every layer.
        cost: size, MACs and bit operations.
        searched: drift on the images that the search saw.
        held_out: drift on images that it did not see, or None where there are none.
    """

    name: str
    bits: tuple[LayerBits, ...]
    cost: Cost
    searched: Drift
    held_out: Drift | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Bit-widths found under budgets.

    Attributes:
        model: name of the architecture.
        weights: which weights.
        quant: the scheme that the candidates share.
        calibration: what the activation ranges come from.
        cam: method and target layer.
        max_drift: greatest mean map drift allowed on the searched images.
        max_flips: greatest part of flipped labels allowed, or None.
        searched: (sha256, name) of each image that was searched on.
        held_out: (sha256, name) of each image that was not.
        found: the smallest candidate within the budgets, or None where there is none.
        front: mixed candidates, smallest first, none beaten in size and drift by another.
        uniform: the same bits for every layer, fewest first.
        float_accuracy: of the float network on the held-out images, or None where they have no labels.
    """

    model: str
    weights: WeightsRef
    quant: QuantSpec
    calibration: CalibrationRef
    cam: CamSpec
    max_drift: float
    max_flips: float | None
    searched: tuple[tuple[str, str], ...]
    held_out: tuple[tuple[str, str], ...]
    found: Candidate | None
    front: tuple[Candidate, ...]
    uniform: tuple[Candidate, ...]
    float_accuracy: float | None


@dataclass(frozen=True, slots=True)
class CommonShares:
    """An attribution over those pictures alone whose maps carry evidence under every subset of the switches.

    Attributes:
        images: how many pictures these are.
        calibrated: mean CC of quantized v float maps under the calibrated protocol.
        paper: the same with every switch on.
        share: switch -> its Shapley value; they sum to ``paper - calibrated``.
        intervals: switch -> ends of the 95 % interval of its share; {} where there are too few pictures.
    """

    images: int
    calibrated: float
    paper: float
    share: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Attribution:
    """The gap between the calibrated and the paper's protocol, shared among its switches.

    Attributes:
        model: name of the architecture.
        weights: which weights.
        quant: bit-widths and scheme, calibrated.
        cam: method and target layer.
        images: (sha256, name) of each image, in the order in which the observers saw them.
        calibrated: mean CC of quantized v float maps under the calibrated protocol.
        paper: the same with every switch on.
        share: switch -> its Shapley value, the mean change of CC when it is switched on over all orders; they sum to
            ``paper - calibrated``.
        alone: switch -> mean CC with only it on.
        subsets: switches joined by "+" ("" for none) -> mean CC of every subset that was measured.
        unscored: the same names -> names of the pictures that a mean leaves out, since a map carries no evidence; a
            mean over all pictures is absent.
        intervals: switch -> ends of the 95 % interval of its share over other pictures of the kind; {} where there are
            too few pictures.
        mean_intervals: name of a subset as in ``subsets`` -> ends of the 95 % interval of its mean CC; {} where there
            are too few pictures.
        common: the same of those pictures alone that every subset scores; None where there is none, or in files of
            before.
    """

    model: str
    weights: WeightsRef
    quant: QuantSpec
    cam: CamSpec
    images: tuple[tuple[str, str], ...]
    calibrated: float
    paper: float
    share: Mapping[str, float]
    alone: Mapping[str, float]
    subsets: Mapping[str, float]
    unscored: Mapping[str, tuple[str, ...]]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    mean_intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    common: CommonShares | None = None

    def scored(self, subset: str = "") -> int:
        """Return how many pictures a mean is over, by the name that ``subsets`` has it under."""
        return len(self.images) - len(self.unscored.get(subset, ()))


@dataclass(frozen=True, slots=True)
class RandomisedLayer:
    """What maps still have in common with the network's own once it is random from its end down to a layer.

    Attributes:
        name: dotted name of the last layer that was made random.
        reference: of each picture: Spearman's rank correlation of the float network's map with its own map before;
            None where a map carries no evidence, or cannot be made.
        quantized: the same of the quantized network and its own map before.
    """

    name: str
    reference: tuple[float | None, ...]
    quantized: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Randomisation:
    """A model parameter randomisation test of a float network and its quantized copy.

    Attributes:
        model: name of the architecture.
        weights: which weights.
        quant: how each network was quantized.
        calibration: what the activation ranges come from, anew for each random network.
        cam: method and target layer.
        seed: that random parameters are drawn by.
        images: (sha256, name) of each image.
        layers: from the network's end to its beginning.
    """

    model: str
    weights: WeightsRef
    quant: QuantSpec
    calibration: CalibrationRef
    cam: CamSpec
    seed: int
    images: tuple[tuple[str, str], ...]
    layers: tuple[RandomisedLayer, ...]
