"""The page "Your network": widgets, and the comparison of what is uploaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import streamlit as st

from quantviz.comparison import PairRequest
from quantviz.comparison.sandbox import Sandbox, UploadedFiles
from quantviz.comparison.sandbox_process import Limits
from quantviz.comparison.transfer import FilesResult
from quantviz.networks.card import Card
from quantviz.specs import ImageSample
from quantviz.ui import visible_progress
from quantviz.ui.cards import choose_card
from quantviz.ui.controls import choose_method, choose_picture, choose_saliency, choose_target
from quantviz.ui.links import Linked
from quantviz.ui.serving import serving
from quantviz.ui.yours_files import GivenFiles, choose_uploads

_DEFAULT_LAYER: Final = "the last spatial tensor before pooling"
_MOST_RESULTS = 6


@dataclass(frozen=True, slots=True, eq=False)
class YourChoices:
    """What the widgets say.

    Attributes:
        card: the card that is compared, or None for uploaded files.
        given: what was uploaded so far.
        files: the same as it is compared, or None where a file is missing yet.
        key: of the uploaded files, their layer and their input: the same choices have the same key.
        request: what to compare by.
        picture: reads the picture; raises ImageError where an uploaded file is no usable one.
        uploaded: names of the files that a link cannot carry.
        ignored: values of the link that no widget has, as sentences.
    """

    card: Card | None
    given: GivenFiles
    files: UploadedFiles | None
    key: tuple[Any, ...]
    request: PairRequest
    picture: Callable[[], ImageSample]
    uploaded: tuple[str, ...]
    ignored: tuple[str, ...]


@st.cache_resource(show_spinner=False)
def sandbox() -> Sandbox:
    """Return the one sandbox that every session shares."""
    return Sandbox(Limits(file_bytes=serving().upload_bytes))


def choose() -> YourChoices:
    """Draw the uploads and the sidebar, and return what is chosen; nothing is opened yet."""
    linked = Linked()
    with st.sidebar:
        card = choose_card(linked)
    given = GivenFiles() if card is not None else choose_uploads(sandbox().limits)
    with st.sidebar:
        picture, own_picture = choose_picture(linked)
        st.subheader("Map", divider="gray")
        layer = _layer(given.key)
        method = choose_method(linked)
        target = choose_target(linked, _classes(card, given.key))
        salient, salient_name = choose_saliency(linked)
    request = PairRequest(method, target, salient, salient_name)
    uploaded = (*given.names, *own_picture, *((salient_name,) if salient_name else ()))
    files = _files(given, layer)
    return YourChoices(card, given, files, given.key, request, picture, uploaded, tuple(linked.ignored))


def compared(choices: YourChoices, files: UploadedFiles, sample: ImageSample) -> FilesResult:
    """Return the comparison of the uploaded files on a picture; kept for the visit, and nowhere else.

    Raises:
        QuantvizError: as ``Sandbox.compare``.
    """
    results: dict[tuple[Any, ...], FilesResult] = st.session_state.setdefault("uploaded_results", {})
    request, salient = choices.request, choices.request.saliency
    saliency_key = hashlib.sha256(salient).hexdigest() if isinstance(salient, bytes) else salient
    key = (*choices.key, files.layer, files.input, sample.id, request.method, request.target, saliency_key)
    if key in results:
        return results[key]
    with visible_progress() as progress:
        result = sandbox().compare(files, sample, request, progress=progress)
    while len(results) >= _MOST_RESULTS:
        del results[next(iter(results))]
    results[key] = result
    first = not _known(choices.key)
    known = result.files["float"]
    _all_known()[choices.key] = {"layers": known["layers"]["all"], "classes": known["logits"]["classes"]}
    if first:  # the widgets above could not know yet which layers and classes there are
        st.rerun()
    return result


def choose_files() -> tuple[UploadedFiles | None, tuple[Any, ...], GivenFiles]:
    """Draw the uploads; return them as they are compared, or None while one is missing, their key, and themselves."""
    given = choose_uploads(sandbox().limits)
    with st.sidebar:
        layer = _layer(given.key)
    return _files(given, layer), given.key, given


def _files(given: GivenFiles, layer: str | None) -> UploadedFiles | None:
    """Return the files as they are compared, or None where one is missing yet."""
    if given.reference is None or given.quantized is None:
        return None
    return UploadedFiles(
        reference=given.reference.data,
        reference_name=given.reference.name,
        quantized=given.quantized.data,
        quantized_name=given.quantized.name,
        classes=b"" if given.classes is None else given.classes.data,
        classes_name="" if given.classes is None else given.classes.name,
        layer=layer,
        input=given.input,
    )


def _layer(key: tuple[Any, ...]) -> str | None:
    """Draw the choice of the float file's tensor that maps are taken at, once the file has been opened."""
    layers = _known(key).get("layers", [])
    if not layers:
        return None
    chosen = st.selectbox("Target tensor", [_DEFAULT_LAYER, *reversed(layers)], key=f"tensor_{'_'.join(key)}")
    return None if chosen == _DEFAULT_LAYER else chosen


def _classes(card: Card | None, key: tuple[Any, ...]) -> int:
    """Return the number of classes, ImageNet's where it is not known yet."""
    if card is not None and card.classes:
        return len(card.classes)
    return int(_known(key).get("classes", 1000))


def _all_known() -> dict[tuple[Any, ...], dict[str, Any]]:
    known: dict[tuple[Any, ...], dict[str, Any]] = st.session_state.setdefault("uploaded_known", {})
    return known


def _known(key: tuple[Any, ...]) -> dict[str, Any]:
    return _all_known().get(key, {})
