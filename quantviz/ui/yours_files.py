"""The uploads of the page "Your network": kept for the session, shown before there are any, and an example of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import streamlit as st

from quantviz.comparison.example_pair import example_pair
from quantviz.comparison.sandbox import CLASSES_BYTES
from quantviz.comparison.sandbox_process import Limits
from quantviz.store import default_directory
from quantviz.ui import wrapping
from quantviz.ui.plain import code
from quantviz.ui.turns import computing

_FLOAT, _QUANTIZED, _CLASSES = "float_file", "quantized_file", "classes_file"
_ASKED: Final = "example_pair_asked"
_SEEN: Final = (
    "Where both networks look in a photograph, how far their maps drift apart, whether the label flips, and what "
    "differs between the files and should not. Both run by ONNX Runtime as they are."
)


@dataclass(frozen=True, slots=True, repr=False)
class KeptFile:
    """An upload of the session.

    Attributes:
        data: its bytes.
        name: as the visitor called it.
        id: another one for each upload.
    """

    data: bytes
    name: str
    id: str


@dataclass(frozen=True, slots=True, repr=False)
class GivenFiles:
    """What was uploaded, and how a picture becomes an input.

    Attributes:
        reference: the float file, or None where it is missing yet.
        quantized: the quantized one, or None.
        classes: the file of class names, or None.
        input: as ``FilesRequest.input``.
    """

    reference: KeptFile | None = None
    quantized: KeptFile | None = None
    classes: KeptFile | None = None
    input: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """What is another one where another file is given."""
        return tuple(one.id for one in self._given)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what is given."""
        return tuple(one.name for one in self._given)

    @property
    def _given(self) -> tuple[KeptFile, ...]:
        return tuple(one for one in (self.reference, self.quantized, self.classes) if one is not None)


def choose_uploads(limits: Limits) -> GivenFiles:
    """Draw the uploads and return what they hold, now or from before on another page."""
    _take_example()
    complete = kept_file(_FLOAT) is not None and kept_file(_QUANTIZED) is not None
    most = limits.file_bytes >> 20
    with st.expander("Your files", expanded=not complete, icon=":material/upload_file:"):
        left, middle, right = wrapping("files", "cards").columns(3, gap="medium")
        with left:
            reference = _upload("Float ONNX file", _FLOAT, "onnx", most)
        with middle:
            quantized = _upload("Quantized ONNX file", _QUANTIZED, "onnx", most)
        with right:
            classes = _upload(
                "Class names, if you like",
                _CLASSES,
                "txt",
                CLASSES_BYTES >> 20,
                "A text file with a name a line, in the order of the logits. 1,000 classes are taken for ImageNet's.",
            )
        words = st.text_input(
            "Input",
            key="input",
            bind="query-params",
            max_chars=500,
            placeholder="resize=256,mean=0.5/0.5/0.5,std=0.5",
            help="How a picture becomes the input, as `quantviz compare --input` takes it: resize, crop, "
            "interpolation, mean, std, fit; crop=224x320 is height, then width. Left empty: as ImageNet networks "
            "usually take it.",
        ).strip()
    return GivenFiles(reference, quantized, classes, words)


def show_first_state(limits: Limits, given: GivenFiles, seen: str = _SEEN) -> None:
    """Say what the page is for, what to bring, what becomes of it, and offer an example.

    Args:
        limits: of a comparison.
        given: what is there already.
        seen: what a visitor sees once both files are there.
    """
    if given.names:
        missing = "quantized" if given.quantized is None else "float"
        if given.reference is None and given.quantized is None:
            missing = "float and the quantized"
        st.info(f"The {missing} ONNX file is still to come.", icon=":material/upload_file:")
    bring, see, becomes = wrapping("first", "cards").columns(3, gap="medium")
    with bring.container(border=True, height="stretch"):
        st.markdown(
            f"**What you bring**  \nUpload a float and a quantized ONNX file of one classifier, up to "
            f"{limits.file_bytes >> 20} MiB each: the two that you deploy, quantized by any tool. Weights in further "
            "files and custom operators are not taken."
        )
    with see.container(border=True, height="stretch"):
        st.markdown(f"**What you see**  \n{seen}")
    with becomes.container(border=True, height="stretch"):
        st.markdown(
            f"**What becomes of the files**  \nA process of its own opens them, with {limits.memory / 2**30:g} GiB of "
            f"memory and {limits.seconds / 60:g} minutes. They are kept for this session only; no result outlives "
            "your visit."
        )
    st.button("Try it with an example pair", on_click=_ask, key="example_pair", icon=":material/play_arrow:")
    st.caption(
        "EfficientNet-Lite0 with its published weights, exported by torch and quantized to int8 by ONNX Runtime on "
        "this machine: some 20 seconds the first time."
    )


def kept_file(key: str) -> KeptFile | None:
    """Return an upload of the session, or None."""
    return _kept().get(key)


def _kept() -> dict[str, KeptFile]:
    kept: dict[str, KeptFile] = st.session_state.setdefault("kept_files", {})
    return kept


def _upload(label: str, key: str, suffix: str, most: int, words: str | None = None) -> KeptFile | None:
    """Draw one upload; where it is empty, and one comes back to the page, say what was uploaded before."""
    shown = st.file_uploader(
        label, type=[suffix], key=key, max_upload_size=most, help=words, on_change=_take, args=(key,)
    )
    kept = kept_file(key)
    if kept is not None and shown is None:
        st.markdown(f":material/draft: {code(kept.name)}, given before")
        st.button(f"Remove {code(kept.name)}", on_click=_remove, args=(key,), key=f"remove_{key}", width="stretch")
    return kept


def _take(key: str) -> None:
    """Keep a file that was chosen, or forget one that was taken away."""
    file = st.session_state[key]
    if file is None:
        _remove(key)
    else:
        _kept()[key] = KeptFile(file.getvalue(), file.name, file.file_id)


def _remove(key: str) -> None:
    _kept().pop(key, None)


def _ask() -> None:
    st.session_state[_ASKED] = True


def _take_example() -> None:
    """Give the example pair in place of uploads, where it was asked for."""
    if not st.session_state.pop(_ASKED, False):
        return
    with computing(long=True) as progress:
        paths = example_pair(default_directory() / "examples", progress)
    for key, path in zip((_FLOAT, _QUANTIZED), paths, strict=True):
        _kept()[key] = _example(path)


def _example(path: Path) -> KeptFile:
    return KeptFile(path.read_bytes(), path.name, f"example-{path.name}")
