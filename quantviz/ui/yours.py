"""The page "Your network": widgets, and the comparison of what is uploaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import streamlit as st

from quantviz.comparison import PairRequest
from quantviz.comparison.sandbox import CLASSES_BYTES, Sandbox, UploadedFiles
from quantviz.comparison.sandbox_process import Limits
from quantviz.comparison.transfer import FilesResult
from quantviz.networks.card import Card
from quantviz.specs import ImageSample
from quantviz.ui import visible_progress
from quantviz.ui.cards import choose_card
from quantviz.ui.controls import choose_method, choose_picture, choose_saliency, choose_target
from quantviz.ui.links import Linked
from quantviz.ui.serving import serving

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

_DEFAULT_LAYER: Final = "the last spatial tensor before pooling"
_MOST_RESULTS = 6


@dataclass(frozen=True, slots=True, eq=False)
class YourChoices:
    """What the widgets say.

    Attributes:
        card: the card that is compared, or None for uploaded files.
        files: what was uploaded, or None where a file is missing yet.
        key: of the uploaded files, their layer and their input: the same choices have the same key.
        request: what to compare by.
        picture: reads the picture; raises ImageError where an uploaded file is no usable one.
        uploaded: names of the files that a link cannot carry.
        ignored: values of the link that no widget has, as sentences.
    """

    card: Card | None
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
    """Draw the sidebar and return what is chosen; nothing is opened yet."""
    linked = Linked()
    with st.sidebar:
        st.subheader("Network", divider="gray")
        card = choose_card(linked)
        files, key, names = (None, (), ()) if card is not None else choose_files()
        picture, own_picture = choose_picture(linked)
        st.subheader("Map", divider="gray")
        method = choose_method(linked)
        target = choose_target(linked, _classes(card, key))
        salient, salient_name = choose_saliency(linked)
    request = PairRequest(method, target, salient, salient_name)
    uploaded = (*names, *own_picture, *((salient_name,) if salient_name else ()))
    return YourChoices(card, files, key, request, picture, uploaded, tuple(linked.ignored))


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


def choose_files() -> tuple[UploadedFiles | None, tuple[Any, ...], tuple[str, ...]]:
    """Draw the widgets of uploaded files; return the files, or None while one is missing, their key, and names."""
    most = serving().upload_bytes >> 20
    reference = _onnx("Float ONNX file", "float_file", most)
    quantized = _onnx("Quantized ONNX file", "quantized_file", most)
    classes = st.file_uploader(
        "Class names",
        type=["txt"],
        key="classes_file",
        max_upload_size=CLASSES_BYTES >> 20,
        help="A text file with a name a line, in the order of the logits. 1,000 classes are taken for ImageNet's.",
    )
    words = st.text_input(
        "Input",
        key="input",
        bind="query-params",
        max_chars=500,
        placeholder="resize=256,mean=0.5/0.5/0.5,std=0.5",
        help="How a picture becomes the input, as `quantviz compare --input` takes it: resize, crop, interpolation, "
        "mean, std, fit; crop=224x320 is height, then width. Left empty: as ImageNet networks usually take it.",
    ).strip()
    given = [file for file in (reference, quantized, classes) if file is not None]
    key = tuple(file.file_id for file in given)
    names = tuple(file.name for file in given)
    if reference is None or quantized is None:
        return None, key, names
    layer = _layer(key)
    files = UploadedFiles(
        reference=reference.getvalue(),
        reference_name=reference.name,
        quantized=quantized.getvalue(),
        quantized_name=quantized.name,
        classes=b"" if classes is None else classes.getvalue(),
        classes_name="" if classes is None else classes.name,
        layer=layer,
        input=words,
    )
    return files, key, names


def _onnx(label: str, key: str, most: int) -> UploadedFile | None:
    return st.file_uploader(label, type=["onnx"], key=key, max_upload_size=most)


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


def formats() -> str:
    """Return what can be uploaded and what becomes of it, in a few sentences."""
    limits = sandbox().limits
    return (
        f"Upload a float and a quantized ONNX file of one classifier, up to {limits.file_bytes >> 20} MiB each. Both "
        "run by ONNX Runtime as they are, and their maps are compared. A process of its own opens them, with "
        f"{limits.memory / 2**30:g} GiB of memory and {limits.seconds / 60:g} minutes; they are removed when it ends, "
        "and no result is kept longer than your visit. Weights in further files and custom operators are not taken."
    )
