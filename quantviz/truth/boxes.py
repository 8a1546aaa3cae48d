"""Untrusted files of bounding boxes to boxes in the picture's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from quantviz.specs import ImageError, limits
from quantviz.truth.files import parse_number, read_bytes, scale_between, shown
from quantviz.truth.tables import Table, read_table

_Boxes = npt.NDArray[np.float64]

MAX_XML_BYTES = limits.XML_BYTES
MAX_XML_DEPTH = limits.XML_DEPTH

_WANTED = "an ILSVRC or PASCAL VOC .xml file, or a CSV file with columns x0, y0, x1, y1"
_COLUMNS = (
    ("x0", "y0", "x1", "y1"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_PREDICTION = "predictionstring"
_TO_EDGES = np.array([0.0, 0.0, 1.0, 1.0])  # from the first and last pixel, counted from 0


def read_boxes(
    source: bytes | Path, image_size: tuple[int, int], *, name: str = "", image: str = ""
) -> tuple[_Boxes, tuple[str, ...]]:
    """Read bounding boxes from an ILSVRC or PASCAL VOC XML file or from a CSV file; the content decides which it is.

    XML: each ``object`` of an ``annotation`` has a ``bndbox`` of ``xmin``, ``ymin``, ``xmax``, ``ymax``. These are the
    first and last pixels of the box, counted from 0 in ILSVRC and from 1 where the file's ``database`` or ``folder``
    says VOC; a box that holds pixels a to b spans the edges a to b + 1. Boxes are scaled where ``size`` is another
    size of the same aspect ratio; a ``size`` of 0 counts as the picture's own.

    CSV: columns ``x0, y0, x1, y1`` (or ``xmin, ymin, xmax, ymax``, ``left, top, right, bottom``) by its header, or the
    first four columns where there is none, in pixels and taken as edges; a column ``image`` (or ``filename``, ...)
    selects the rows of one image by stem. Or the ILSVRC localisation form with the columns ``ImageId`` and
    ``PredictionString`` (``n01440764 111 108 407 359``, five cells a box), whose pixels count as in ILSVRC's XML.

    Boxes are clipped to the picture, and those wholly outside it left out, with a note.

    Args:
        source: the file's bytes, or its path.
        image_size: (H, W) of the upright picture.
        name: for messages; the path's last part by default.
        image: the picture's file name, for tables of several images.

    Returns:
        float64 (n, 4), n at least 1: x0, y0, x1, y1, edges with 0 <= x0 < x1 <= W and 0 <= y0 < y1 <= H; and notes.

    Raises:
        ImageError: the file cannot be read, is too large, is neither of the two, declares a document type or entities,
            is for a picture of another aspect ratio, holds no box of the image, a box of no width or height or
            without numbers, or only boxes outside the picture.
    """
    if isinstance(source, Path) and source.suffix.lower() != ".xml":
        boxes, name = _from_table(read_table(source, name, _headers(), _WANTED), image), name or source.name
    else:
        name, data = read_bytes(source, name, _WANTED)
        if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            boxes = _from_xml(data, image_size, name)
        else:
            boxes = _from_table(read_table(data, name, _headers(), _WANTED), image)
    return _inside(boxes, image_size, name)


def _headers() -> tuple[str, ...]:
    return (_PREDICTION, *(label for four in _COLUMNS for label in four))


def _from_table(table: Table, image: str) -> _Boxes:
    rows = table.of_image(image)
    if not rows:
        raise ImageError(f"{table.name} holds no row; give {_WANTED}.")
    if _PREDICTION in table.columns:
        position = table.columns[_PREDICTION]
        texts = [(line, cells[position] if position < len(cells) else "") for line, cells in rows]
        return np.concatenate([_from_prediction(text, f"{table.name}, line {line},") for line, text in texts])
    positions: Sequence[int] = range(4)
    if table.columns:
        labels = next((four for four in _COLUMNS if set(four) <= set(table.columns)), None)
        if not labels:
            raise ImageError(
                f"{table.name} has columns {shown(', '.join(table.columns))}; name four of them x0, y0, x1 and y1."
            )
        positions = [table.columns[label] for label in labels]
    return np.array([[table.number(row, position) for position in positions] for row in rows], np.float64)


def _from_prediction(text: str, where: str) -> _Boxes:
    cells = text.split()
    if not cells or len(cells) % 5:
        raise ImageError(f"{where} has {shown(text)}; give a class and four numbers for each box.")
    numbers = [[_number(cell, where) for cell in cells[at + 1 : at + 5]] for at in range(0, len(cells), 5)]
    return np.asarray(np.array(numbers) + _TO_EDGES, np.float64)


def _from_xml(data: bytes, image_size: tuple[int, int], name: str) -> _Boxes:
    root = parsed_xml(data, name)
    boxes = []
    for thing in root.findall("object"):
        box = thing.find("bndbox")
        if box is None:
            raise ImageError(f"{name} has an object without a bndbox; give {_WANTED}.")
        boxes.append([_number(_text(box, edge), name) for edge in ("xmin", "ymin", "xmax", "ymax")])
    if root.tag != "annotation" or not boxes:
        raise ImageError(f"{name} holds no object of an annotation; give {_WANTED}.")
    origin = f"{_text(root, 'folder')} {_text(root, 'source/database')}"
    edges: _Boxes = np.array(boxes) + _TO_EDGES - ("VOC" in origin.upper())
    own = [_text(root, f"size/{side}") or "0" for side in ("height", "width")]
    height, width = (_number(text, name) for text in own)
    if not (1 <= height < 1e6 and 1 <= width < 1e6):
        return edges
    scale = scale_between((round(height), round(width)), image_size, name)
    return np.asarray(edges * (*scale, *scale), np.float64)


def parsed_xml(data: bytes, name: str) -> ElementTree.Element:
    """Parse XML that declares nothing: entities can grow without bound, or name other files.

    Raises:
        ImageError: it is too large, nested too deep, no XML, or declares a document type or entities.
    """
    if len(data) > MAX_XML_BYTES:
        raise ImageError(f"{name} has more than {MAX_XML_BYTES >> 20} MiB; give the .xml file of one image.")
    builder, parser, depth = ElementTree.TreeBuilder(), expat.ParserCreate(), 0

    def refuse(*_declared: Any) -> NoReturn:
        raise ImageError(f"{name} declares a document type or entities, which are not read; remove them.")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_XML_DEPTH:
            raise ImageError(f"{name} is nested deeper than {MAX_XML_DEPTH}; give {_WANTED}.")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartDoctypeDeclHandler, parser.EntityDeclHandler, parser.ExternalEntityRefHandler = (refuse,) * 3
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: an unknown encoding
        raise ImageError(f"{name} is no readable XML ({error}); give {_WANTED}.") from None
    return builder.close()


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(text: str, where: str) -> float:
    value = parse_number(text)
    if value is None:
        raise ImageError(f"{where} has {shown(text)} where a number is needed; correct it.")
    return value


def _inside(boxes: _Boxes, image_size: tuple[int, int], name: str) -> tuple[_Boxes, tuple[str, ...]]:
    """Clip boxes to the picture, leave out those outside it, and say so."""
    wrong = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, :2] < boxes[:, 2:]).all(axis=1))
    if wrong.any():
        x0, y0, x1, y1 = boxes[wrong.argmax()]
        raise ImageError(
            f"{name} has a box from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}), which encloses nothing; "
            "give x0 < x1 and y0 < y1."
        )
    clipped = boxes.reshape(-1, 2, 2).clip(0, np.array(image_size[::-1], np.float64)).reshape(-1, 4)
    inside = (clipped[:, :2] < clipped[:, 2:]).all(axis=1)
    if not inside.any():
        raise ImageError(
            f"{name} holds no box inside the image's {image_size[1]} x {image_size[0]} pixels; "
            "check that it belongs to the image."
        )
    notes = []
    if not inside.all():
        notes.append(f"{int((~inside).sum())} of {len(boxes)} boxes outside the image left out")
    beyond = int((np.abs(clipped - boxes)[inside] > 1.0).any(axis=1).sum())  # up to a pixel is a matter of counting
    if beyond:
        notes.append(f"{beyond} of {len(boxes)} boxes clipped to the image")
    return clipped[inside], tuple(notes)
