"""A first draft of a network card: what files and models say of themselves, with comments on the rest."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from quantviz.networks.onnx_files import Opened, open_file
from quantviz.networks.preprocessing import IMAGENET, resize_for
from quantviz.specs import Extent, Preprocessing, UsageError

_KEYS: Final = ("names", "classes", "class_names", "labels")
_ASSUMED: Final = "Assumed, as ImageNet networks usually take it: compare with how the network was trained."
_OWN: Final = "The model's own settings."


@dataclass(frozen=True, slots=True)
class Draft:
    """What a draft says.

    Attributes:
        name: what results call the network.
        model: as ``networks.spec`` takes it; "" for an ONNX file.
        weights: of the model, as users give them; None for its default ones.
        float_file: the float ONNX file, "" for a model.
        files: the quantized ONNX files.
        preprocessing: how a picture becomes the input.
        layout: of the input of an ONNX file; "" for a model.
        layer: the default target layer.
        classes: names of the classes, where a file has them.
        count: number of classes.
    """

    name: str
    model: str
    weights: str | None
    float_file: str
    files: tuple[str, ...]
    preprocessing: Preprocessing
    layout: str
    layer: str
    classes: tuple[str, ...]
    count: int

    def text(self) -> str:
        """Return the card, TOML with comments."""
        lines = ["# A network card of quantviz; paths start in its folder.", f"name = {_quoted(self.name)}"]
        lines += self._origin()
        lines += self._classes()
        lines += [
            "",
            "# Where maps are taken; found by itself if it stays a comment. Or { float = ..., quantized = ... }.",
            f"# layer = {_quoted(self.layer)}",
            *self._variants(),
            *self._input(),
        ]
        return "\n".join(lines) + "\n"

    def _origin(self) -> list[str]:
        if self.float_file:
            return [f"float = {_quoted(self.float_file)}"]
        weights = "# weights = " + _quoted("FILE.safetensors") if self.weights is None else _weights(self.weights)
        return [f"model = {_quoted(self.model)}", weights]

    def _classes(self) -> list[str]:
        if self.classes:
            return ["", "# As the file's own metadata has them.", f"classes = {json.dumps(list(self.classes))}"]
        meant = " 1,000 classes are taken for ImageNet's." if self.count == 1000 else ""
        return [
            "",
            f"# A file with a name a line, {self.count:,} lines, or a list.{meant}",
            '# classes = "classes.txt"',
        ]

    def _variants(self) -> list[str]:
        lines = []
        for file in self.files:
            lines += ["", "[[variants]]", f"file = {_quoted(file)}"]
        if not self.float_file:
            lines += ["", "[[variants]]", 'bits = "W8A8"   # simulated']
        elif not self.files:
            lines += ["", "# [[variants]]", '# file = "QUANTIZED.onnx"']
        return lines

    def _input(self) -> list[str]:
        given = self.preprocessing
        lines = [
            "",
            f"# {_OWN if not self.float_file else _ASSUMED}",
            "[input]",
            f"size = {_extent(given.crop)}",
            f"resize = {_extent(given.resize)}",
            f'fit = "{given.fit}"',
            f'interpolation = "{given.interpolation}"',
            f"mean = {list(given.mean)}",
            f"std = {list(given.std)}",
            f'range = "{given.range}"   # or "0-255": levels as they are, before mean and std',
            f'order = "{given.order}"   # or "BGR", as networks of Caffe and OpenCV take it',
        ]
        return [*lines, f'layout = "{self.layout}"'] if self.layout else lines


def draft_of_files(files: Sequence[Path]) -> Draft:
    """Return the draft of ONNX files, the float one first.

    Raises:
        CheckpointError: a file cannot be used.
    """
    opened = open_file(files[0])
    size = opened.form.filled(IMAGENET.size)
    return Draft(
        name=files[0].stem,
        model="",
        weights=None,
        float_file=str(files[0]),
        files=tuple(map(str, files[1:])),
        preprocessing=replace(IMAGENET, crop=size, resize=resize_for(size, IMAGENET)),
        layout=opened.form.layout,
        layer=opened.target().tensor,
        classes=class_names_in(opened),
        count=opened.logits.classes,
    )


def class_names_in(opened: Opened) -> tuple[str, ...]:
    """Return the classes' names that a file's metadata have: a list, or a table by index; () where there is none."""
    for entry in opened.file.model.metadata_props:
        if entry.key.lower() not in _KEYS:
            continue
        try:
            content = ast.literal_eval(entry.value)  # JSON of texts is read by it as well
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(content, dict):
            content = [content.get(index, content.get(str(index))) for index in range(len(content))]
        names = [name.strip() for name in content if isinstance(name, str)] if isinstance(content, list) else []
        if len(names) == opened.logits.classes and all(names):
            return tuple(names)
    return ()


def check_files(files: Sequence[Path]) -> None:
    """Refuse what is no list of ONNX files.

    Raises:
        UsageError: a file does not end in .onnx.
    """
    for file in files:
        if file.suffix.lower() != ".onnx":
            raise UsageError(f"{str(file)!r} is no .onnx file; give the quantized .onnx files behind the network.")


def _weights(choice: str) -> str:
    return f"weights = {_quoted(choice)}"


def _extent(extent: Extent) -> str:
    return f"{list(extent)}   # height, width" if isinstance(extent, tuple) else str(extent)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
