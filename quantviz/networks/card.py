"""A network card: one TOML file that says what a network of the user's is. Imports no torch.

A card names the float network, by a model's name with weights or by an ONNX file; its variants, ONNX files or bits;
how a picture becomes the input; the classes; and the layer that maps are taken at. All paths start in its folder.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

from quantviz.networks.classes import names_of_file
from quantviz.networks.preprocessing import covers, extent_words, resize_for
from quantviz.networks.toml_lines import content_of, line_of, text_of
from quantviz.specs import ModelSpec, Preprocessing, UsageError, bits_label, parse_bits

SUFFIX: Final = ".toml"
RESERVED: Final = ("float", "quantized", "deployed", "saliency")
"""What results call maps already; no variant has such a name."""

_SIDES = (16, 4096)
_TOP = ("name", "float", "model", "weights", "classes", "layer", "input", "variants")
_INPUT = ("size", "resize", "fit", "interpolation", "mean", "std", "range", "order", "layout")
_VARIANT = ("file", "bits", "name")
_LAYER = ("float", "quantized")
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "fit": ("crop", "stretch", "pad"),
    "interpolation": ("bilinear", "bicubic"),
    "range": ("0-1", "0-255"),
    "order": ("RGB", "BGR"),
    "layout": ("NCHW", "NHWC"),
}
_FIELDS = {"size": "crop"}  # keys that a preprocessing calls otherwise


@dataclass(frozen=True, slots=True)
class CardVariant:
    """A quantized network of a card.

    Attributes:
        name: what results call it.
        file: its ONNX file, or None.
        bits: of the simulated network, as ``parse_bits`` reads them; "" for a file.
    """

    name: str
    file: Path | None = None
    bits: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """A network of the user's.

    Attributes:
        path: the card's file, absolute.
        name: what results call the network.
        sha256: of the card's bytes.
        model: name of the float network as ``networks.spec`` takes it; "" where it is an ONNX file.
        weights: as ``networks.resolve`` takes them, a file's path absolute; None for the default ones.
        float_file: the float ONNX file, or None.
        variants: the quantized networks, in the card's order.
        settings: fields of ``Preprocessing`` that the card gives.
        layout: of the input of ONNX files, or "" where the card does not say.
        classes: names of the classes in the order of the logits; () where they are not given.
        layer: that maps are taken at, of the float network; None for the default one.
        quantized_layer: the tensor of quantized files that stands for it; None: it is found.
    """

    path: Path
    name: str
    sha256: str
    model: str = ""
    weights: str | None = None
    float_file: Path | None = None
    variants: tuple[CardVariant, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    layout: Literal["", "NCHW", "NHWC"] = ""
    classes: tuple[str, ...] = ()
    layer: str | None = None
    quantized_layer: str | None = None

    @property
    def files(self) -> tuple[CardVariant, ...]:
        """The variants that are files."""
        return tuple(variant for variant in self.variants if variant.file is not None)

    @property
    def bits(self) -> tuple[str, ...]:
        """The bits of the variants that are simulated, as labels: ``"W4A8"``."""
        return tuple(variant.name for variant in self.variants if variant.file is None)

    def preprocessing(self, usual: Preprocessing) -> Preprocessing:
        """Return how a picture becomes the input.

        Args:
            usual: holds where the card says nothing. Where the card gives a size alone, ``resize`` keeps its ratio.

        Raises:
            UsageError: the crop would be larger than what it is cut from.
        """
        settings = dict(self.settings)
        settings.setdefault("resize", resize_for(settings.get("crop", usual.crop), usual))
        made = replace(usual, **settings)
        if not covers(made):
            crop, resize = extent_words(made.crop), extent_words(made.resize)
            raise UsageError(f"Card {self.path.name!r} cuts {crop} pixels out of {resize}; raise resize, or set fit.")
        return made

    def of_spec(self, spec: ModelSpec) -> ModelSpec:
        """Return the entry of the card's model, with the card's name, layer, input, weights and classes.

        Args:
            spec: of ``model``.
        """
        weights = tuple(replace(entry, preprocessing=self.preprocessing(entry.preprocessing)) for entry in spec.weights)
        return replace(
            spec,
            name=self.name,
            layer=self.layer or spec.layer,
            weights=weights,
            chosen_weights=self.weights,
            class_names=self.classes,
        )


def is_card(name: str) -> bool:
    """Tell whether a model's name is the path of a card."""
    return name.lower().endswith(SUFFIX)


def read_card(path: Path) -> Card:
    """Read a card.

    Args:
        path: of a .toml file.

    Raises:
        UsageError: it cannot be read, or a key or a value is wrong; the message has the line, and what is allowed.
    """
    return parse_card(text_of(path, "Card"), path)


def parse_card(text: str, path: Path) -> Card:
    """Read the text of a card.

    Args:
        text: of the card.
        path: where it lies or is to lie; its paths start in that folder.

    Raises:
        UsageError: as ``read_card``.
    """
    content = content_of(text, path.name, "Card")
    return _Reader(path.absolute(), text).card(content, hashlib.sha256(text.encode()).hexdigest())


class _Reader:
    """Checks the content of a card and names what is wrong by its line."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text = path, text

    def card(self, content: Mapping[str, Any], sha256: str) -> Card:
        self._check_keys(content, _TOP, ())
        model, weights, file = self._origin(content)
        settings = dict(self._table(content, "input", _INPUT))
        layout = settings.pop("layout", "")
        layer, quantized_layer = self._layers(content)
        return Card(
            path=self._path,
            name=self._text_at(content, ("name",)) if "name" in content else (file or self._path).stem,
            sha256=sha256,
            model=model,
            weights=weights,
            float_file=file,
            variants=self._variants(content, file is not None),
            settings={_FIELDS.get(key, key): value for key, value in settings.items()},
            layout=layout,
            classes=self._classes(content),
            layer=layer,
            quantized_layer=quantized_layer,
        )

    def _origin(self, content: Mapping[str, Any]) -> tuple[str, str | None, Path | None]:
        if ("float" in content) == ("model" in content):
            what = "names a model and a float file" if "float" in content else "names no network"
            place = ("float",) if "float" in content else ()
            self._refuse(place, f'{what}; give model = "NAME", or float = "FILE.onnx"')
        if "float" in content:
            if "weights" in content:
                self._refuse(("weights",), "weights go with model; leave them out beside float")
            return "", None, self._file(content, ("float",))
        model = self._text_at(content, ("model",))
        if is_card(model):
            self._refuse(("model",), f"model {model!r} is a card itself; give the name that stands there")
        if "weights" not in content:
            return model, None, None
        weights = self._text_at(content, ("weights",))
        beside = self._path.parent / Path(weights).expanduser()
        return model, str(beside) if beside.is_file() else weights, None

    def _variants(self, content: Mapping[str, Any], of_files: bool) -> tuple[CardVariant, ...]:
        entries = content.get("variants", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self._refuse(("variants",), "variants are tables; write [[variants]] and below it file or bits")
        variants: list[CardVariant] = []
        for number, entry in enumerate(entries):
            variant = self._variant(content, ("variants", number), entry, of_files)
            if variant.name in [other.name for other in variants]:
                self._refuse(("variants", number), f"two variants are called {variant.name!r}; name one otherwise")
            if variant.file is not None and variant.file in [other.file for other in variants]:
                self._refuse(("variants", number, "file"), f"file {variant.file.name!r} is given twice; give it once")
            variants.append(variant)
        return tuple(variants)

    def _variant(
        self, content: Mapping[str, Any], place: tuple[str | int, ...], entry: Mapping[str, Any], of_files: bool
    ) -> CardVariant:
        self._check_keys(entry, _VARIANT, place)
        if ("file" in entry) == ("bits" in entry):
            self._refuse(place, 'a variant is a file or has bits; give file = "FILE.onnx", or bits = "W4A8"')
        if "file" in entry:
            file = self._file(content, (*place, "file"))
            usual = file.name if file.stem in RESERVED else file.stem
            name = self._text_at(content, (*place, "name")) if "name" in entry else usual
            if name in RESERVED:
                self._refuse((*place, "name"), f"name {name!r} is that of another map; choose another")
            return CardVariant(name, file)
        if of_files:
            self._refuse(
                (*place, "bits"), "bits are simulated in torch; name the float network by model, or give a file"
            )
        if "name" in entry:
            self._refuse((*place, "name"), "a simulated network is called by its bits; leave its name out")
        text = self._text_at(content, (*place, "bits"))
        try:
            weight, act = parse_bits(text)
        except UsageError as error:
            self._refuse((*place, "bits"), _lowered(str(error)).rstrip("."))
        return CardVariant(bits_label(weight, act), bits=text)

    def _classes(self, content: Mapping[str, Any]) -> tuple[str, ...]:
        given = content.get("classes")
        if given is None:
            return ()
        if isinstance(given, list):
            if not given or not all(isinstance(name, str) and name.strip() for name in given):
                self._refuse(("classes",), "classes are a list of names, or a file with a name a line")
            return tuple(name.strip() for name in given)
        try:
            return names_of_file(self._file(content, ("classes",)))
        except UsageError as error:
            self._refuse(("classes",), _lowered(str(error)).rstrip("."))

    def _layers(self, content: Mapping[str, Any]) -> tuple[str | None, str | None]:
        given = content.get("layer")
        if isinstance(given, dict):
            self._check_keys(given, _LAYER, ("layer",))
            names = [self._text_at(content, ("layer", key)) if key in given else None for key in _LAYER]
            return names[0], names[1]
        return (None if given is None else self._text_at(content, ("layer",))), None

    def _table(self, content: Mapping[str, Any], name: str, keys: Sequence[str]) -> Mapping[str, Any]:
        given = content.get(name, {})
        if not isinstance(given, dict):
            self._refuse((name,), f"{name} is a table; write [{name}] and its settings below")
        self._check_keys(given, keys, (name,))
        return {key: self._setting(key, value, (name, key)) for key, value in given.items()}

    def _setting(self, key: str, value: Any, place: tuple[str, ...]) -> Any:
        if key in _CHOICES:
            if value not in _CHOICES[key]:
                self._refuse(place, f"{key} {value!r} is unknown; use {' or '.join(_CHOICES[key])}")
            return value
        if key in ("size", "resize"):
            lengths = value if isinstance(value, list) and len(value) == 2 else [value]
            if not all(type(length) is int and _SIDES[0] <= length <= _SIDES[1] for length in lengths):
                self._refuse(
                    place,
                    f"{key} {value!r} is no side in pixels; use {_SIDES[0]} to {_SIDES[1]}, or two as [height, width]",
                )
            return lengths[0] if len(set(lengths)) == 1 else tuple(lengths)
        values = value if isinstance(value, list) else [value] * 3
        numbers = [float(entry) for entry in values if type(entry) in (int, float) and math.isfinite(entry)]
        if len(values) != 3 or len(numbers) != 3 or (key == "std" and min(numbers) <= 0):
            above = " above 0" if key == "std" else ""
            self._refuse(
                place, f"{key} {value!r} cannot be used; give a number{above}, or three in the channels' order"
            )
        return tuple(numbers)

    def _check_keys(self, table: Mapping[str, Any], known: Sequence[str], place: tuple[str | int, ...]) -> None:
        for key in table:
            if key not in known:
                where = f" of {place[0]}" if place else ""
                self._refuse((*place, key), f"key {key!r}{where} is unknown; use {', '.join(known)}")

    def _text_at(self, content: Mapping[str, Any], place: tuple[str | int, ...]) -> str:
        value: Any = content
        for key in place:
            value = value[key]
        if not isinstance(value, str) or not value.strip():
            self._refuse(place, f"{place[-1]} is {value!r}; give a text in quotes")
        return value.strip()

    def _file(self, content: Mapping[str, Any], place: tuple[str | int, ...]) -> Path:
        file = self._path.parent / Path(self._text_at(content, place)).expanduser()
        if not file.is_file():
            self._refuse(place, f"there is no file {str(file)!r}; paths start in the card's folder")
        return file

    def _refuse(self, place: Sequence[str | int], what: str) -> NoReturn:
        line = line_of(self._text, place) if place else None
        where = f", line {line}" if line else ""
        raise UsageError(f"Card {self._path.name!r}{where}: {what}.")


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
