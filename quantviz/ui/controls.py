"""The Compare page's widgets: each choice lives in the URL under its widget's key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import streamlit as st

from quantviz import images, networks
from quantviz.comparison import TRUTH_KINDS, CompareRequest, TruthSource, Workbench, measure, target_layers
from quantviz.layerwise.drift import model_cost
from quantviz.networks.classes import class_names
from quantviz.saliency import PREDICTORS
from quantviz.specs import (
    CAM_METHODS,
    CamSpec,
    Comparison,
    Cost,
    ImageSample,
    MetricTable,
    QuantSpec,
    QuantvizError,
    UsageError,
    check_deployable,
)
from quantviz.ui import guarded, visible_progress, workbench
from quantviz.ui.bit_widths import SLOW_METHODS
from quantviz.ui.crop import choose_crop
from quantviz.ui.decoded import decoded
from quantviz.ui.from_study import OF_STUDY, StudyLink, linked_picture, show_link
from quantviz.ui.links import Linked
from quantviz.ui.network import OF_CARD, choose_model, weights_at_hand
from quantviz.ui.plain import code, plain
from quantviz.ui.quantization import choose_bits_file, choose_quantization
from quantviz.ui.thumbnails import choose_thumbnail

_RULES = {"float": "Float model's top-1", "own": "Each model's own top-1", "chosen": "A class you choose"}
_CLASS_HELP = "float: what the float network says; own: what each network says; or a class, found by typing its name."
_BASIC = frozenset(
    "image model model_name weight_bits act_bits class from_study from_picture crop crop_x crop_y own_picture".split()
)


@dataclass(frozen=True, slots=True)
class Choices:
    """What the widgets say.

    Attributes:
        request: what to compare by.
        picture: reads the picture; raises ImageError where an uploaded file is no usable one.
        uploaded: names of the files that a link cannot carry.
        truth: ground truth of the user's, or None.
        ignored: values of the link that no widget has, as sentences.
    """

    request: CompareRequest
    picture: Callable[[], ImageSample]
    uploaded: tuple[str, ...]
    truth: TruthSource | None
    ignored: tuple[str, ...]


def choose() -> Choices:
    """Draw the sidebar and return what is chosen; nothing is read yet that could fail and hide the rest of it."""
    linked = Linked()
    study = linked_picture(linked.ignored)
    asked = _asks_for_more()
    with st.sidebar:
        picture, uploaded = choose_thumbnail(linked, study)
        model = choose_model(linked)
        basic = st.container()
        target = choose_class(linked, model)
        with st.expander("Advanced", expanded=asked, icon=":material/tune:"):
            weights = _weights(linked, model, study)
            quant = choose_quantization(linked, model, basic=basic)
            on_integers = _deployed(quant)
            crop = choose_crop(linked, quant)
            cam = _map(linked, model)
            salient, salient_name = choose_saliency(linked)
            truth = _truth(linked)
            choose_bits_file()
    request = CompareRequest(
        model=model,
        weights=weights,
        quant=quant,
        cam=cam,
        target=target,
        backend="onnxruntime" if on_integers else "torch",
        deployed=on_integers,
        crop=crop,
    )
    uploaded = (*uploaded, *((salient_name,) if salient_name else ()), *((truth.name,) if truth else ()))
    request = replace(request, saliency=salient, saliency_name=salient_name)
    if study is not None:
        with guarded():
            request = replace(request, calibration=study.calibration())
    return Choices(request, picture, uploaded, truth, tuple(linked.ignored))


def _asks_for_more() -> bool:
    """Return whether the address sets something that is not seen at once; asked on the first run of a session only."""
    if "asked_for_more" not in st.session_state:
        st.session_state["asked_for_more"] = bool(set(st.query_params) - _BASIC)
    return bool(st.session_state["asked_for_more"])


def choose_class(linked: Linked, model: str) -> Literal["float", "own"] | int:
    """Draw the choice of the class that maps explain, by its name."""
    known = networks.spec(model).class_names or class_names()
    options = ["float", "own", *(f"{name} ({index})" for index, name in enumerate(known))]
    _translate_class(options)
    chosen = str(
        st.selectbox("Class that the maps explain", options, key="class", bind="query-params", help=_CLASS_HELP)
    )
    linked.check("class", chosen)
    if chosen in _RULES:
        return "own" if chosen == "own" else "float"
    return int(chosen.rpartition("(")[2].removesuffix(")"))


def _translate_class(options: Sequence[str]) -> None:
    """Let links of before, which name a class by its index, say the class as it is said now."""
    if st.query_params.get("class") != "chosen":
        return
    index = st.query_params.get("class_index", "282")
    if index.isascii() and index.isdigit() and int(index) + 2 < len(options):
        st.session_state["class"] = options[int(index) + 2]
    for key in ("class", "class_index"):
        if key in st.query_params:
            del st.query_params[key]


def choose_request(
    linked: Linked,
    *,
    protocols: bool = True,
    targets: bool = True,
    deployed: bool = False,
    study: StudyLink | None = None,
) -> CompareRequest:
    """Draw the widgets of model, quantization and map, and return what they ask for, without a saliency.

    Args:
        linked: the values of the address.
        protocols: with the choice of a protocol.
        targets: with the choice of the class that maps explain; else it is the float network's top-1.
        deployed: with the switch of deployed int8.
        study: the study that the picture is from, whose weights can be chosen where they are a file.
    """
    st.subheader("Model", divider="gray")
    model = choose_model(linked)
    weights = _weights(linked, model, study)
    quant = choose_quantization(linked, model, protocols=protocols)
    on_integers = deployed and _deployed(quant)
    cam = _map(linked, model)
    target = choose_target(linked) if targets else "float"
    backend: Literal["torch", "onnxruntime"] = "onnxruntime" if on_integers else "torch"
    return CompareRequest(
        model=model,
        weights=weights,
        quant=quant,
        cam=cam,
        target=target,
        saliency=None,
        backend=backend,
        deployed=on_integers,
    )


def measured(choices: Choices, comparison: Comparison) -> tuple[MetricTable, ...]:
    """Score by every metric; a ground-truth file that cannot be used costs its own table only."""
    with visible_progress() as progress:
        if choices.truth is not None:
            with guarded():
                return measure(workbench(), choices.request, comparison, choices.truth, progress=progress)
        return measure(workbench(), choices.request, comparison, progress=progress)


def measured_quietly(choices: Choices, comparison: Comparison, bench: Workbench) -> tuple[MetricTable, ...]:
    """As ``measured``, for a file that is downloaded: without the page, which shows what is wrong with a file."""
    if choices.truth is not None:
        try:
            return measure(bench, choices.request, comparison, choices.truth)
        except QuantvizError:
            pass
    return measure(bench, choices.request, comparison)


def cost_of(request: CompareRequest) -> Cost | None:
    """Return what the quantized network costs; None under a protocol with deviations, where it is not known."""
    if request.quant.deviations:
        return None
    with visible_progress() as progress:
        return model_cost(workbench(), request, progress)


def wants_faithfulness() -> bool:
    """Draw the switch of the faithfulness metrics, which take some hundred forward passes."""
    return st.toggle(
        "Faithfulness: does each model's class rest on what its own map marks?", key="faithfulness", bind="query-params"
    )


def choose_picture(linked: Linked, study: StudyLink | None = None) -> tuple[Callable[[], ImageSample], tuple[str, ...]]:
    """Draw the choice of a picture; return what reads it, and the name of an uploaded one."""
    st.subheader("Picture", divider="gray")
    if study is not None:
        show_link(study)
        return study.read, ()
    name = linked.select("Bundled photograph", images.BUNDLED, "image", index=images.BUNDLED.index("chelsea"))
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
    return lambda: decoded(data, file_name), (file_name,)


def _weights(linked: Linked, model: str, study: StudyLink | None) -> str | None:
    known = weights_at_hand(model)
    file = None if study is None else study.weights(model)
    value = linked.select(
        "Weights",
        [*known, *([OF_STUDY] if file else [])],
        "weights",
        help="Untrained: seeded random weights, a sanity control. Files of your own: on the command line.",
    )
    st.caption(plain(known[value]) if value in known else f"the study's file {code(Path(file or '').name)}")
    if value == OF_CARD:
        return None
    return file if file and value == OF_STUDY else value


def _deployed(quant: QuantSpec) -> bool:
    """Draw the switch of deployed int8; it stays off, and says why, for a scheme that has no deployed form."""
    wanted = st.toggle(
        "Deployed int8 (ONNX Runtime)",
        key="deployed",
        bind="query-params",
        help="A third map: the quantized network on real integer kernels.",
    )
    if not wanted:
        return False
    try:
        check_deployable(quant)
    except UsageError as error:
        st.caption(f":material/info: {plain(error)}")
        return False
    return True


def _map(linked: Linked, model: str) -> CamSpec:
    st.subheader("Map", divider="gray")
    method = choose_method(linked)
    layers = target_layers(workbench().store, model)
    names = list(layers)
    layer = linked.select(
        "Target layer",
        names,
        "layer",
        lambda name: layers[name],
        index=names.index(networks.spec(model).layer),
        help="Where the map is taken: any layer with a spatial output. The default is the paper's.",
    )
    return CamSpec(method, layer)


def choose_method(linked: Linked) -> str:
    """Draw the choice of a CAM method, and say what is special about it."""
    method = linked.select("CAM method", CAM_METHODS, "cam", index=CAM_METHODS.index("gradcam++"))
    if method in SLOW_METHODS:
        st.caption("One forward pass a channel: this takes a while.")
    if method == "eigencam":
        st.caption("EigenCAM explains no class: it shows where the layer is active.")
    return method


def choose_target(linked: Linked, classes: int = 1000) -> Literal["float", "own"] | int:
    """Draw the choice of the class that maps explain, of so many."""
    rule = linked.select("Class to explain", list(_RULES), "class", lambda name: _RULES[name])
    if rule != "chosen":
        return "own" if rule == "own" else "float"
    index = st.number_input(
        "Class index", 0, classes - 1, min(282, classes - 1), key="class_index", bind="query-params"
    )
    linked.check("class_index", index)
    return int(index)


def choose_saliency(linked: Linked) -> tuple[bytes | str | None, str]:
    """Draw the choice of a saliency; return a method's name, a map's bytes or None, and an uploaded map's name."""
    st.subheader("Saliency", divider="gray")
    source = linked.select(
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


def _truth(linked: Linked) -> TruthSource | None:
    st.subheader("Ground truth", divider="gray")
    kind = linked.select("Kind", TRUTH_KINDS, "truth_kind", help="What the file below holds.")
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
