"""Whether a network's preprocessing is the one that it was trained with: what it says of pictures that are known."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from quantviz import images
from quantviz.cam import lockable
from quantviz.networks import Network
from quantviz.networks.preprocessing import normalization_words, usual_normalizations
from quantviz.specs import RGB, FloatMap, Prediction, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

KNOWN: Final = {
    "coffee": ("espresso", "coffee", "coffee mug", "cup"),
    "chelsea": ("cat", "tabby"),
    "motorcycle": ("moped", "scooter", "motor scooter", "motorcycle", "motorbike"),
    "rocket": ("missile", "projectile", "rocket"),
    "china": ("palace", "monastery", "temple", "pagoda"),
}
"""Bundled photograph -> words that name what is on it, of ImageNet's classes and of others'."""

_COLOURED = ("chelsea", "coffee", "motorcycle", "flower")  # redder than they are blue
_WARM = """goldfish, lemon, orange, banana, strawberry, pomegranate, school bus, fire engine, flamingo, cheeseburger,
pizza, corn, red fox, tiger""".replace("\n", " ").split(", ")
_COOL = """indigo bunting, jay, great white shark, tiger shark, hammerhead, grey whale, killer whale, dugong, jellyfish,
scuba diver, coral reef, seashore, breakwater, swimming trunks""".replace("\n", " ").split(", ")
_TOP, _LEAST_KNOWN, _LEAST_CLASSES, _LEAST_COLOURED = 5, 3, 20, 6
# Of three trained networks, the right normalization was never beaten by a usual one, and a clearly wrong one lost by
# 0.83 nats a picture or more; colours moved the right order's evidence by 0.44 or more, the wrong order's by its
# negative.
_CLEARLY_BETTER, _CLEARLY_SWAPPED = 0.4, -0.15
# A wrong one that is near, ImageNet's in place of 0.5 or the other way round, lost by 0.2 to 0.35 nats a picture, but
# on every one of them; the right one on none.
_BETTER_ON_ALL, _LEAST_FOR_ALL = 0.1, 4
_SMALLEST = 1e-6


@dataclass(frozen=True, slots=True)
class KnownPicture:
    """What a network says of a bundled photograph.

    Attributes:
        picture: the photograph's name.
        top: the five most probable classes, the first first.
        right: whether what is on it is among them; None where none of the network's classes names it.
    """

    picture: str
    top: tuple[Prediction, ...]
    right: bool | None


@dataclass(frozen=True, slots=True)
class PreprocessingCheck:
    """What a network says of known pictures, and what that says of its preprocessing.

    Attributes:
        pictures: with the preprocessing that it was given.
        warning: what speaks against the preprocessing, in a sentence; "" where nothing does, or nothing is known.
    """

    pictures: tuple[KnownPicture, ...]
    warning: str = ""

    @property
    def right(self) -> int:
        """Number of pictures whose right class is among the five most probable."""
        return sum(picture.right is True for picture in self.pictures)

    @property
    def known(self) -> int:
        """Number of pictures that classes of the network name."""
        return sum(picture.right is not None for picture in self.pictures)


def check_preprocessing(network: Network) -> PreprocessingCheck:
    """Run a network on bundled photographs, and judge by its top-5 whether it gets the input that it was trained with.

    Three things are warned of, and nothing is blocked: with another usual normalization the right classes get
    clearly more probable, or more probable on every picture; with red and blue exchanged, warm colours speak for things
    that are warm (oranges, goldfish) and not against them; or the right class is seldom among the top-5. It takes 29
    forward passes of one picture. Nothing is judged of untrained weights, nor where the classes are not known: they
    need names, or there have to be ImageNet's 1,000 (or 1,001, with a background before them). What a network hardly
    minds does not show: ImageNet's mean and deviation and 0.5 are told apart of SqueezeNet (0.34 nats a picture) and
    EfficientNet-Lite0 (0.21), but not of MobileNetV2 (0.06), nor by entropy, greatest logit or twenty views of each of
    eight photographs, whose signs differ from picture to picture. A quantized file beside it knows more:
    ``input_grid.calibrated_otherwise``.

    Args:
        network: in eval mode.
    """
    names, given = _names(network), network.weights.preprocessing
    crops = _crops(given)
    logits = {name: _logits(network, crops[name], given) for name in KNOWN}
    classes = {name: _named(names, words) for name, words in KNOWN.items()}
    pictures = tuple(_known_picture(name, logits[name], names, classes[name]) for name in KNOWN)
    found = PreprocessingCheck(pictures)
    if found.known < _LEAST_KNOWN or len(names) < _LEAST_CLASSES or not network.weights.trained:
        return found
    return replace(found, warning=_warning(network, found, crops, names))


@lru_cache(maxsize=4)
def _crops(preprocessing: Preprocessing) -> dict[str, RGB]:
    names = dict.fromkeys((*KNOWN, *_COLOURED))
    return {name: images.crop(images.bundled(name).rgb, preprocessing) for name in names}


def _warning(network: Network, found: PreprocessingCheck, crops: dict[str, RGB], names: Sequence[str]) -> str:
    given, name = network.weights.preprocessing, network.name
    better = _better(network, crops, names)
    agreement = f"the right class is among the top 5 of {found.right} of {found.known} known pictures"
    if better is not None:
        other, nats = better
        words, own = normalization_words(other), normalization_words(given)
        return (
            f"{name} may have been trained with another normalization: {agreement}, and right classes are "
            f"{math.exp(min(nats, 20)):.2g} times as probable with {words} as with {own}; check "
            "mean, std and range."
        )
    if found.right * 2 < found.known:
        first = next(picture for picture in found.pictures if picture.right is False)
        return (
            f"{name} does not know what it sees: {agreement} ({first.picture}: {first.top[0].label}), and other usual "
            "normalizations are no better; check its weights, the order of its classes, and its input."
        )
    if _warmth(network, crops, names) < _CLEARLY_SWAPPED:
        other = replace(given, order="BGR" if given.order == "RGB" else "RGB")
        return (
            f"{name} may have been trained on {other.order}, not {given.order}: warm colours speak for things that are "
            f"blue, and blue ones for things that are warm ({agreement}); check the channel order."
        )
    return ""


def _better(network: Network, crops: dict[str, RGB], names: Sequence[str]) -> tuple[Preprocessing, float] | None:
    """Return the usual normalization that makes right classes clearly more probable, and by how many nats a picture."""
    given = network.weights.preprocessing
    known = [(name, right) for name, words in KNOWN.items() if (right := _named(names, words))]

    def likelihood(preprocessing: Preprocessing) -> tuple[list[float], int]:
        """The logarithm of the right classes' probability, and for how many pictures one is among the top-5."""
        logs, agreeing = [], 0
        for name, right in known:
            probabilities = _softmax(_logits(network, crops[name], preprocessing))
            logs.append(math.log(max(float(probabilities[right].sum()), _SMALLEST)))
            agreeing += not set(right).isdisjoint(np.argsort(-probabilities, kind="stable")[:_TOP].tolist())
        return logs, agreeing

    own, _ = likelihood(given)
    best: tuple[Preprocessing, float] | None = None
    for other in usual_normalizations(given):
        values, agreeing = likelihood(other)
        gains = [theirs - ours for theirs, ours in zip(values, own, strict=True)]
        gain, on_all = sum(gains) / len(gains), min(gains) > 0 and len(gains) >= _LEAST_FOR_ALL
        # Less bad is not right: nothing is known of a network that recognizes nothing either way.
        enough = gain > (_BETTER_ON_ALL if on_all else _CLEARLY_BETTER) and 2 * agreeing >= len(known)
        if enough and gain > (best[1] if best else 0.0):
            best = other, gain
    return best


def _warmth(network: Network, crops: dict[str, RGB], names: Sequence[str]) -> float:
    """Return by how much, in the logits' deviations, warm colours speak for warm things more than for blue ones.

    Of pictures that are redder than they are blue, the logits of warm things less those of blue ones, less the same of
    the picture with red and blue exchanged; 0 where too few classes are of either kind.
    """
    warm, cool = _named(names, _WARM), _named(names, _COOL)
    if min(len(warm), len(cool)) < _LEAST_COLOURED:
        return 0.0
    differences = []
    for name in _COLOURED:
        evidence = []
        for crop in (crops[name], crops[name][..., ::-1]):
            values = _logits(network, crop, network.weights.preprocessing)
            evidence.append(float((values[warm].mean() - values[cool].mean()) / (values.std() or 1.0)))
        differences.append(evidence[0] - evidence[1])
    return sum(differences) / len(differences)


def _known_picture(name: str, logits: FloatMap, names: Sequence[str], classes: list[int]) -> KnownPicture:
    probabilities = _softmax(logits)
    order = np.argsort(-probabilities, kind="stable")[:_TOP]
    top = tuple(Prediction(int(index), names[index], float(probabilities[index])) for index in order)
    return KnownPicture(name, top, bool(set(classes) & {entry.index for entry in top}) if classes else None)


def _logits(network: Network, crop: RGB, preprocessing: Preprocessing) -> FloatMap:
    import torch

    with lockable(network.module).locked() as module, torch.no_grad():
        values: Tensor = module(torch.from_numpy(images.normalize(crop, preprocessing)))
    found: FloatMap = values[0].numpy()
    return found


def _softmax(logits: FloatMap) -> FloatMap:
    powers = np.exp((logits - logits.max()).astype(np.float64))
    probabilities: FloatMap = (powers / powers.sum()).astype(np.float32)
    return probabilities


def _names(network: Network) -> tuple[str, ...]:
    from quantviz.networks.build import labels

    count = network.weights.classes
    if network.classes or count != 1001:
        return network.classes or labels(count)
    return ("background", *labels(1000))


def _named(names: Sequence[str], words: Sequence[str]) -> list[int]:
    """Return the classes whose names hold one of the words, as whole words at their end: "tiger cat" for "cat"."""
    pattern = re.compile(rf"(^|[\s,_-])({'|'.join(map(re.escape, words))})s?($|,)", re.IGNORECASE)
    return [index for index, name in enumerate(names) if pattern.search(name)]
