"""Which ONNX files of the user's are compared, and how a picture becomes their input."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from quantviz.networks.card import Card
from quantviz.networks.classes import names_of_file
from quantviz.networks.onnx_files import Opened, open_file
from quantviz.networks.preprocessing import IMAGENET, extent_words, of_words
from quantviz.specs import Preprocessing, UsageError, sides


@dataclass(frozen=True, slots=True)
class FilesRequest:
    """A float ONNX file and its quantized ones.

    Attributes:
        reference: path of the float file.
        quantized: paths of the quantized files, one or more.
        layer: tensor that maps are taken at, of the float file or of a quantized one; None for the last spatial tensor
            before pooling.
        input: how a picture becomes the input, as ``networks.preprocessing.of_words`` reads it; "" for what ImageNet
            networks usually take.
        classes: path of a text file with the name of a class on each line; None where they are not known.
        external: whether weights may lie in other files beside a file.
        card: the network card that the files are of, or None; it says what is not said here.

    Raises:
        UsageError: no quantized file is named.
    """

    reference: Path
    quantized: tuple[Path, ...] = field(default=())
    layer: str | None = None
    input: str = ""
    classes: Path | None = None
    external: bool = True
    card: Card | None = None

    def __post_init__(self) -> None:
        if not self.quantized:
            raise UsageError(f"No quantized file was named beside {self.reference.name}; name one or more.")

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names, () where they are not known.

        Raises:
            UsageError: the file of them cannot be read.
        """
        if self.classes is not None:
            return names_of_file(self.classes)
        return self.card.classes if self.card is not None else ()


def files_of_card(card: Card, layer: str | None = None, classes: Path | None = None) -> FilesRequest:
    """Return the files of a card that names ONNX files.

    Args:
        card: with a float file.
        layer: in place of the card's.
        classes: in place of the card's.

    Raises:
        UsageError: the card names a model, or no quantized file.
    """
    if card.float_file is None:
        raise UsageError(f"Card {card.path.name!r} names a model; here it takes one with a float ONNX file.")
    if not card.files:
        raise UsageError(f"Card {card.path.name!r} has no quantized file; add [[variants]] and below it file = ...")
    quantized = tuple(variant.file for variant in card.files if variant.file is not None)
    return FilesRequest(card.float_file, quantized, layer or card.layer, classes=classes, card=card)


def preprocessing_of_files(files: FilesRequest) -> Preprocessing:
    """Return how a picture becomes the files' input.

    Raises:
        CheckpointError: the float file cannot be used.
        UsageError: the words or the card are wrong, or the float file takes another size or layout.
    """
    opened = open_file(files.reference, external=files.external)
    beside = _size_beside(files, opened)
    if not files.input:
        return _usual(opened, beside) if files.card is None else preprocessing_of_card(files.card, opened, beside)
    chosen = of_words(files.input, _usual(opened, beside))
    if not opened.form.takes(chosen.size):
        raise UsageError(f"{_takes(opened, chosen)}; leave crop out of the input.")
    return chosen


def _size_beside(files: FilesRequest, opened: Opened) -> tuple[int, int] | None:
    """Return (height, width) of the first quantized file that says both, where the float file leaves one open."""
    if opened.form.size is not None:
        return None
    forms = (open_file(path, external=files.external).form for path in files.quantized)
    return next((form.size for form in forms if form.size is not None), None)


def check_size(opened: Opened, preprocessing: Preprocessing, reference: str) -> None:
    """Refuse a quantized file that cannot take the float file's input.

    Raises:
        UsageError: it takes another size.
    """
    if not opened.form.takes(preprocessing.size):
        raise UsageError(f"{_takes(opened, preprocessing)} as {reference}; export both for one size of input.")


def _takes(opened: Opened, other: Preprocessing) -> str:
    own = opened.form.filled(other.size)
    return f"{opened.file.name} takes {_extent_words(own)} pixels, not {_extent_words(other.size)}"


def _extent_words(size: tuple[int, int]) -> str:
    return extent_words(size[0] if size[0] == size[1] else size)


def preprocessing_of_card(card: Card, opened: Opened, beside: tuple[int, int] | None = None) -> Preprocessing:
    """Return how a picture becomes the input of a card's float file.

    Args:
        card: of the file.
        opened: the file.
        beside: (height, width) for sides that the file leaves open; None for what is usual.

    Raises:
        UsageError: the file takes another size or layout.
    """
    made = card.preprocessing(IMAGENET if "crop" in card.settings else _usual(opened, beside))
    form, file = opened.form, opened.file.name
    if not form.takes(made.size):
        raise UsageError(f"{_takes(opened, made)}; correct size in card {card.path.name!r}.")
    if card.layout not in ("", form.layout):
        raise UsageError(f"{file} takes {form.layout}, not {card.layout}; correct layout in card {card.path.name!r}.")
    return made


def _usual(opened: Opened, beside: tuple[int, int] | None) -> Preprocessing:
    """Return what ImageNet networks usually take, at a file's size; of one side alone, a square."""
    known = [side for side in opened.form.sides if side]
    height, width = opened.form.filled(beside or ((known[0], known[0]) if known else IMAGENET.size))
    resize = IMAGENET.resize
    # The usual ratio of 8 to 7 where a crop leaves nothing of a side of 256, or the sides differ.
    if height != width or height >= sides(resize)[0]:
        resize = round(height * 8 / 7), round(width * 8 / 7)
    return replace(IMAGENET, crop=(height, width), resize=resize)
