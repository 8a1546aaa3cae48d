"""Cascading randomisation: do the maps of a float network and of its quantized copy rest on what was learned?"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from quantviz import images
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.drift import answer, resolved
from quantviz.layerwise.specs import Randomisation, RandomisedLayer
from quantviz.specs import (
    CamSpec,
    FloatMap,
    ImageSample,
    Phase,
    Progress,
    QuantSpec,
    QuantvizError,
    UsageError,
    no_progress,
    scheme_name,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quantviz.cam import Locked
    from quantviz.comparison.loaded import Subject

SEED = 42
"""Quantus's own default."""


def randomise(
    bench: Workbench,
    request: CompareRequest,
    samples: Sequence[ImageSample],
    progress: Progress = no_progress,
    *,
    seed: int = SEED,
) -> Randomisation:
    """Make a network random layer by layer from its end, and compare its maps with those from before.

    Source: the cascading model parameter randomisation test of Adebayo et al., "Sanity checks for saliency maps",
    NeurIPS 2018, arXiv 1810.03292. Layers, order and draws are those of Quantus's ``MPRT`` (layer order ``top_down``):
    every module with ``reset_parameters``, the last one first, each after ``torch.manual_seed(seed + 1)``; the
    similarity is Spearman's rank correlation of the maps' pixels. A map that stays as it was does not depend on what
    the network learned. The quantized copy is quantized anew from each random network, with ranges calibrated for it;
    so both tests ask the same question.

    Args:
        bench: with the models and the store.
        request: model, weights, map, quantization and calibration pictures.
        samples: the pictures, at least one.
        progress: reports what is being done; whatever it raises ends the call.
        seed: of the random parameters.

    Raises:
        UsageError: there is no picture; rounding is learned; or as ``sensitivity``.
    """
    if not samples:
        raise UsageError("No picture is given; name one or more.")
    if request.quant.learns:
        raise UsageError(
            f"Scheme {scheme_name(request.quant)!r} would learn weights for each random layer; use one that rounds to "
            "the nearest."
        )
    subject, cam = resolved(bench, request, progress)
    with bench.networks.load(subject.spec, subject.located, progress).network.locked() as plain:
        network = copy.deepcopy(plain).eval()
    maker = _Maps(bench, subject, request.quant, cam, _inputs(subject, samples))
    layers = tuple(_random_layers(network, maker, seed, progress))
    ids, calibration = tuple((one.id, one.name) for one in samples), subject.calibration.ref
    return Randomisation(subject.spec.name, subject.ref, request.quant, calibration, cam, seed, ids, layers)


def _random_layers(network: nn.Module, maker: _Maps, seed: int, progress: Progress) -> Iterator[RandomisedLayer]:
    own, names = maker.of(network), resettable(network)
    for place, name in enumerate(names):
        progress(f"Random down to {name}", place / len(names), Phase.EXPLAINING)
        reset(network, name, seed)
        both = [tuple(map(similarity, *pair)) for pair in zip(own, maker.of(network), strict=True)]
        yield RandomisedLayer(name, both[0], both[1])


def resettable(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the modules that can be made random, the network's last one first."""
    return tuple(name for name, module in network.named_modules() if hasattr(module, "reset_parameters"))[::-1]


def reset(network: nn.Module, name: str, seed: int) -> None:
    """Make a module random in place, by Quantus's rule; torch's own random state is as before afterwards."""
    import torch

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed + 1)
        module: Any = network.get_submodule(name)
        module.reset_parameters()


def similarity(first: FloatMap | None, second: FloatMap | None) -> float | None:
    """Return Spearman's rank correlation of two maps' pixels; None where one is missing or constant."""
    from scipy import stats  # here, because it takes a second to import

    if first is None or second is None or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(stats.spearmanr(first.ravel(), second.ravel())[0])


def report_randomisation(found: Randomisation) -> dict[str, Any]:
    """Return a randomisation test as JSON-able data."""
    return {
        "model": found.model,
        "weights": asdict(found.weights),
        "quantization": {"label": found.quant.label, "scheme_words": scheme_name(found.quant), **asdict(found.quant)},
        "calibration": asdict(found.calibration),
        "cam": asdict(found.cam),
        "seed": found.seed,
        "images": [{"sha256": sha256, "name": name} for sha256, name in found.images],
        "layers": [
            {"name": layer.name, "float": list(layer.reference), "quantized": list(layer.quantized)}
            for layer in found.layers
        ],
    }


def _inputs(subject: Subject, samples: Sequence[ImageSample]) -> list[Tensor]:
    """Return the pictures as the network takes them, (1, 3, H, W) float32 each."""
    import torch

    preprocessing = subject.ref.preprocessing
    crops = (images.crop(sample.rgb, preprocessing) for sample in samples)
    return [torch.from_numpy(images.normalize(crop, preprocessing)) for crop in crops]


class _Maps:
    """The maps of a float network and of its quantized copy, of the same classes throughout."""

    def __init__(
        self, bench: Workbench, subject: Subject, quant: QuantSpec, cam: CamSpec, inputs: Sequence[Tensor]
    ) -> None:
        self.bench, self.subject, self.quant, self.cam, self.inputs = bench, subject, quant, cam, inputs
        self.classes: list[int] = []

    def of(self, network: nn.Module) -> tuple[list[FloatMap | None], list[FloatMap | None]]:
        """Return the float and the quantized network's maps; the first call notes the float network's classes."""
        own: list[FloatMap | None] = []
        for place, image in enumerate(self.inputs):
            index = self.classes[place] if place < len(self.classes) else None
            found = answer(network, image, self.cam, index)
            self.classes += [found.class_index] if index is None else []
            own.append(found.heatmap)
        return own, self._quantized(network)

    def _quantized(self, network: nn.Module) -> list[FloatMap | None]:
        from quantviz.quantize import assemble, calibrate, float_base

        networks = self.bench.networks
        try:
            base = float_base(network, self.quant, networks.example(self.subject), self.subject.layer)
            ranges = calibrate(base, networks.batches(self.subject, no_progress, ""), self.quant.ranges)
            copied: nn.Module | Locked[nn.Module] = assemble(base, self.quant, ranges)
            pairs = zip(self.inputs, self.classes, strict=True)
            return [answer(copied, image, self.cam, index).heatmap for image, index in pairs]
        except QuantvizError:  # random weights can leave values that no grid holds
            return [None] * len(self.inputs)
