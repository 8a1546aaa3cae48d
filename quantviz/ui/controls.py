"""The Compare page's widgets: each choice lives in the URL under its widget's key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from quantviz import images, zoo
from quantviz.pipeline import TRUTH_KINDS, CompareRequest, TruthSource, measure, target_layers
from quantviz.saliency import PREDICTORS
from quantviz.specs import CAM_METHODS, MAX_BITS, MIN_BITS, CamSpec, Comparison, ImageSample, MetricTable, QuantSpec
from quantviz.ui import guarded, visible_progress, workbench

BITS = tuple(str(bits) for bits in range(MIN_BITS, MAX_BITS + 1))
WEIGHT_ONLY = "none"
_RULES = {"float": "Float model's top-1", "own": "Each model's own top-1", "chosen": "A class you choose"}
_SLOW = ("scorecam", "ablationcam")


@dataclass(frozen=True, slots=True)
class Choices:
    """What the widgets say.

    Attributes:
        request: what to compare by.
        picture: reads the picture; raises ImageError where an uploaded file is no usable one.
        uploaded: names of the files that a link cannot carry.
        truth: ground truth of the user's, or None.
        opacity: of the maps over the picture, 0 to 1.
        ignored: values of the link that no widget has, as sentences.
    """

    request: CompareRequest
    picture: Callable[[], ImageSample]
    uploaded: tuple[str, ...]
    truth: TruthSource | None
    opacity: float
    ignored: tuple[str, ...]


class _Linked:
    """Finds out which values of the address were not taken, on the first run of a session."""

    def __init__(self) -> None:
        first = "linked" not in st.session_state
        st.session_state["linked"] = True
        self.values = {key: st.query_params[key] for key in st.query_params} if first else {}
        self.ignored: list[str] = []

    def check(self, key: str, taken: Any) -> None:
        given = self.values.pop(key, None)
        if given is not None and given != str(taken):
            self.ignored.append(f"The link's {key} {given!r} is not available; {str(taken)!r} is shown instead.")


def choose() -> Choices:
    """Draw the sidebar and return what is chosen; nothing is read yet that could fail and hide the rest of it."""
    linked = _Linked()
    with st.sidebar:
        picture, uploaded = _picture(linked)
        st.subheader("Model", divider="gray")
        model = _select(linked, "Model", list(zoo.MODELS), "model", lambda name: zoo.spec(name).family)
        weights = _weights(linked, model)
        quant = _bits(linked)
        cam, target = _map(linked, model)
        opacity = st.slider("Opacity of the maps", 0, 100, 55, 5, format="%d %%", key="opacity", bind="query-params")
        linked.check("opacity", opacity)
        salient, salient_name = _saliency(linked)
        truth = _truth(linked)
    uploaded = (*uploaded, *((salient_name,) if salient_name else ()), *((truth.name,) if truth else ()))
    request = CompareRequest(
        model=model,
        weights=weights,
        quant=quant,
        cam=cam,
        target=target,
        saliency=salient,
        saliency_name=salient_name,
    )
    return Choices(request, picture, uploaded, truth, opacity / 100, tuple(linked.ignored))


def measured(choices: Choices, comparison: Comparison) -> tuple[MetricTable, ...]:
    """Score by every metric; a ground-truth file that cannot be used costs its own table only."""
    with visible_progress() as progress:
        if choices.truth is not None:
            with guarded():
                return measure(workbench(), choices.request, comparison, choices.truth, progress=progress)
        return measure(workbench(), choices.request, comparison, progress=progress)


def wants_faithfulness() -> bool:
    """Draw the switch of the faithfulness metrics, which take some hundred forward passes."""
    return st.toggle(
        "Faithfulness: does each model's class rest on what its own map marks?", key="faithfulness", bind="query-params"
    )


def _select(
    linked: _Linked,
    label: str,
    options: Sequence[str],
    key: str,
    shown: Callable[[str], str] = str,
    index: int = 0,
    help: str | None = None,
) -> str:
    taken = st.selectbox(label, options, index, key=key, bind="query-params", help=help)
    value = str(taken)
    linked.check(key, value)
    if shown is not str:
        st.caption(shown(value))
    return value


def _picture(linked: _Linked) -> tuple[Callable[[], ImageSample], tuple[str, ...]]:
    st.subheader("Picture", divider="gray")
    name = _select(linked, "Bundled photograph", images.BUNDLED, "image", index=images.BUNDLED.index("chelsea"))
    file = st.file_uploader(
        "Or your own picture",
        type=sorted(suffix.removeprefix(".") for suffix in images.SUFFIXES),
        max_upload_size=images.MAX_BYTES >> 20,
        key="upload",
        help="PNG, JPEG, WebP, BMP, GIF or TIFF. It stays on this machine.",
    )
    if file is None:
        return lambda: images.bundled(name), ()
    data, file_name = file.getvalue(), file.name
    return lambda: images.load(data, name=file_name), (file_name,)


def _weights(linked: _Linked, model: str) -> str:
    spec = zoo.spec(model)
    names = [weights.name for weights in spec.weights]
    state = {name: zoo.state(spec, name) for name in names}
    value = _select(
        linked,
        "Weights",
        [*names, "untrained"],
        "weights",
        help="Untrained: seeded random weights, a sanity control. Files of your own: on the command line.",
    )
    st.caption("random, a sanity control" if value == "untrained" else state[value])
    return value


def _bits(linked: _Linked) -> QuantSpec:
    st.subheader("Quantization", divider="gray")
    weight = st.select_slider("Weight bits", BITS, "8", key="weight_bits", bind="query-params")
    linked.check("weight_bits", weight)
    act = st.select_slider(
        "Activation bits",
        (*BITS, WEIGHT_ONLY),
        "8",
        key="act_bits",
        bind="query-params",
        help="none: weight-only, activations stay in float.",
    )
    linked.check("act_bits", act)
    return QuantSpec(int(weight), None if act == WEIGHT_ONLY else int(act))


def _map(linked: _Linked, model: str) -> tuple[CamSpec, Literal["float", "own"] | int]:
    st.subheader("Map", divider="gray")
    method = _select(linked, "CAM method", CAM_METHODS, "cam", index=CAM_METHODS.index("gradcam++"))
    if method in _SLOW:
        st.caption("One forward pass a channel: this takes a while.")
    if method == "eigencam":
        st.caption("EigenCAM explains no class: it shows where the layer is active.")
    layers = target_layers(workbench().store, model)
    names = list(layers)
    layer = _select(
        linked,
        "Target layer",
        names,
        "layer",
        lambda name: layers[name],
        index=names.index(zoo.spec(model).layer),
        help="Where the map is taken: any layer with a spatial output. The default is the paper's.",
    )
    rule = _select(linked, "Class to explain", list(_RULES), "class", lambda name: _RULES[name])
    if rule != "chosen":
        return CamSpec(method, layer), "own" if rule == "own" else "float"
    index = st.number_input("Class index", 0, 999, 282, key="class_index", bind="query-params")
    linked.check("class_index", index)
    return CamSpec(method, layer), int(index)


def _saliency(linked: _Linked) -> tuple[bytes | str | None, str]:
    st.subheader("Saliency", divider="gray")
    source = _select(
        linked,
        "Saliency of the picture",
        [*PREDICTORS, "none"],
        "saliency",
        lambda name: f"{PREDICTORS[name].title}: a computed prediction" if name in PREDICTORS else "no saliency",
    )
    file = st.file_uploader(
        "Or a map of your own",
        type=["npy", "png", "jpg", "jpeg", "tif", "tiff"],
        key="saliency_upload",
        max_upload_size=images.MAX_BYTES >> 20,
        help="A .npy array or a greyscale picture, of the picture's aspect ratio.",
    )
    if file is not None:
        return file.getvalue(), file.name
    return (None if source == "none" else source), ""


def _truth(linked: _Linked) -> TruthSource | None:
    st.subheader("Ground truth", divider="gray")
    kind = _select(linked, "Kind", TRUTH_KINDS, "truth_kind", help="What the file below holds.")
    file = st.file_uploader(
        "A file of your own",
        type=["npy", "png", "jpg", "jpeg", "tif", "tiff", "csv", "tsv", "mat", "xml"],
        key="truth_upload",
        max_upload_size=images.MAX_BYTES >> 20,
        help="A density map or mask (.npy or greyscale), fixations (CSV or MAT), or boxes (ILSVRC XML or CSV).",
    )
    if file is None:
        return None
    return TruthSource(file.getvalue(), file.name, next(known for known in TRUTH_KINDS if known == kind))
