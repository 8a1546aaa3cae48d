"""The functions that ``import quantviz`` offers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from quantviz import networks
from quantviz.api.diagnose import DiagnosisResult, diagnose_network, diagnose_onnx, diagnosed_pictures
from quantviz.api.inputs import Picture, is_module
from quantviz.api.modules import ModuleOptions, compare_two, explain_one
from quantviz.api.onnx import FileOptions, compare_onnx
from quantviz.api.results import ComparisonResult, ExplanationResult
from quantviz.api.study import Study
from quantviz.api.table import Bits, PictureOptions, compare_picture
from quantviz.layerwise.diagnosis.asked import Asked
from quantviz.specs import Preprocessing, Progress, RangeMethod, TruthKind, UsageError
from quantviz.study.shipped import shipped_studies

if TYPE_CHECKING:
    from torch import Tensor, nn

    Layer = str | nn.Module

Options = TypeVar("Options", PictureOptions, FileOptions, ModuleOptions)


@overload
def compare(
    image: Picture,
    /,
    *,
    model: str = ...,
    card: str | Path | None = None,
    weights: str | Path | None = None,
    bits: Bits | None = None,
    weight_bits: int | Literal["none"] | None = 8,
    act_bits: int | Literal["none"] | None = 8,
    scheme: str = "standard",
    ranges: RangeMethod | None = None,
    protocol: str = "calibrated",
    bits_file: str | Path | None = None,
    cam: str = "gradcam++",
    layer: str | None = None,
    classes: str | Path | None = None,
    class_: Literal["float", "own"] | int = "float",
    calibration: str | Path | None = None,
    saliency: str | Path | None = "spectral_residual",
    metrics: str | Sequence[str] | None = None,
    truth: str | Path | None = None,
    truth_kind: TruthKind = "map",
    faithfulness: bool = False,
    backend: Literal["torch", "onnxruntime", "ncnn"] = "torch",
    deployed: bool = False,
    crop: str = "centre",
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> ComparisonResult: ...


@overload
def compare(
    image: Picture,
    /,
    *,
    float_model: str | Path,
    quantized_model: str | Path | Sequence[str | Path] = (),
    layer: str | None = None,
    input: str = "",
    classes: str | Path | None = None,
    cam: str = "gradcam++",
    class_: Literal["float", "own"] | int = "float",
    saliency: str | Path | None = "spectral_residual",
    crop: str = "centre",
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> ComparisonResult: ...


@overload
def compare(
    float_module: nn.Module,
    quantized_module: nn.Module,
    image: Picture | Tensor,
    /,
    *,
    layer: Layer | tuple[Layer, Layer] | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | object | None = None,
    classes: Sequence[str] | Mapping[int, str] | None = None,
    cam: str = "gradcam++",
    class_: Literal["float", "own"] | int = "float",
    saliency: str | Path | None = "spectral_residual",
    name: str = "",
    label: str = "quantized",
    progress: Progress | None = None,
) -> ComparisonResult: ...


def compare(*given: Any, **options: Any) -> ComparisonResult:
    """Compare where a float network and its quantized copy look in one picture.

    ``compare(image, ...)`` quantizes a network of quantviz's table, as the command `quantviz compare` does, with its
    names and defaults, and keeps what it computes in the same cache. ``compare(image, float_model=..., ...)`` takes
    ONNX files as they run when they are deployed. ``compare(float_module, quantized_module, image, ...)`` takes two
    modules in memory, quantized in whatever way; they run in eval mode, with observers held, and are left as they were.

    Args:
        *given: the picture: a path, the name of a bundled photograph (``"coffee"``), a file's bytes, a Pillow image, or
            an array, uint8 (H, W, 3), RGB. Or the float module, the quantized module, and the picture; with modules it
            may also be an input made already, a tensor, float32 (1, 3, H, W). A module takes (N, 3, H, W) float32 on
            the CPU and gives logits (N, classes).
        **options: those of a network of the table:

            - ``card``: the path of a network card (.toml), which names a model or ONNX files, and variants. Each
              variant is compared, all but the first in ``others``; with bits given here, these instead.
            - ``model``: a name that ``list_models`` lists; ``"efficientnet_lite0"`` by default.
            - ``weights``: a .safetensors or .pth file, the name of published weights, or ``"untrained"``.
            - ``bits``: ``"W4A8"``, ``"8"`` (W8A8), ``"W4"`` (weight-only), or (weight bits, activation bits), 2 to 16
              each; or ``weight_bits`` and ``act_bits`` apart, 8 by default, ``"none"`` for what stays in float.
            - ``scheme``: ``"naive"``, ``"standard"`` (the default) or ``"best"``, or words separated by commas.
            - ``ranges``: ``"minmax"``, ``"moving_average"``, ``"percentile"``, ``"mse"`` or ``"entropy"``; by default
              as the scheme says.
            - ``protocol``: ``"calibrated"``, ``"paper"``, or ``"calibrated+NAME+NAME"``.
            - ``bits_file``: bits of single layers, as `quantviz search` writes them, in place of all these.
            - ``layer``: dotted name of the target layer; the network's default if not given.
            - ``classes``: a text file with a class name a line; 1,000 classes are taken for ImageNet's if not given.
            - ``calibration``: folder of calibration pictures; the bundled photographs if not given.
            - ``metrics``: ``"all"``, or names: score by these too, beside the baselines.
            - ``truth`` and ``truth_kind``: ground-truth file, or folder with one of the picture's stem; ``"map"``,
              ``"mask"``, ``"fixations"`` or ``"boxes"``.
            - ``faithfulness``: True: also deletion, insertion and ROAD of each network's own map.
            - ``backend``: ``"torch"``, ``"onnxruntime"`` or ``"ncnn"``: what computes the float network.
            - ``deployed``: True: also the quantized network on ONNX Runtime's int8 kernels.
            - ``crop``: what the networks see of the picture: ``"centre"`` (the default), ``"fit"``: the whole of it,
              the rest of the input filled with the mean; or the crop's place from left and top, ``"0.2,0.5"``.
            - ``cache``: cache folder; ``QUANTVIZ_CACHE`` or the default one if not given.

            Those of ONNX files:

            - ``float_model``: the float .onnx file.
            - ``quantized_model``: the quantized .onnx file beside it, or several of them.
            - ``layer``: the tensor that maps are taken at; the last spatial one before pooling if not given.
            - ``input``: how a picture becomes the input, ``"resize=256,mean=0.5/0.5/0.5,std=0.5"`` say; as ImageNet
              networks take it if not given.
            - ``classes``: a text file with a class name a line.
            - ``crop`` and ``cache``: as above.

            Those of two modules:

            - ``layer``: the target layer by its dotted name or as the module itself; (float, quantized) where they
              differ. By default the last feature map before pooling: of the layers that are called once and give a
              (1, C, h, w) tensor with h and w above 1 the last one, pooling layers and maps with a channel for each
              class passed over.
            - ``preprocessing``: a ``Preprocessing``; torchvision's weights or their ``transforms()``; timm's settings;
              by default what timm left in the module, else ImageNet's usual one, which is noted.
            - ``classes``: the classes' names in the order of the logits; 1,000 classes are taken for ImageNet's.
            - ``name`` and ``label``: what the float and the quantized network are called.

            And those of all:

            - ``cam``: ``"gradcam"``, ``"gradcam++"`` (the default), ``"xgradcam"``, ``"hirescam"``, ``"layercam"``,
              ``"eigencam"``, ``"eigengradcam"``, ``"scorecam"`` or ``"ablationcam"``. A quantized module may lack a
              gradient, which EigenCAM, ScoreCAM and AblationCAM do not need.
            - ``class_``: ``"float"``: both maps explain the float network's top-1 (the default); ``"own"``: each its
              own; or a class index.
            - ``saliency``: ``"spectral_residual"`` (the default) or another method, ``"none"`` or None, the path of an
              .onnx network or of a map.
            - ``progress``: called with what is being done, as a text, and the fraction done, or None.

    Returns:
        The maps, predictions and scores; a notebook shows them.

    Raises:
        UsageError: an option or a picture cannot be used, or a module gives no gradient for a method that needs one.
        WeightsUnavailable: the weights are neither on disk nor reachable.
        QuantvizError: the logits are not finite, or do not depend on the target layer.

    Example:
        >>> import quantviz as qv
        >>> result = qv.compare("coffee", bits="W4A8", saliency=None)
        >>> result.predictions["float"][0].label
        'espresso'
        >>> import copy, timm, torch
        >>> _ = torch.manual_seed(0)  # its weights are random, to need no download
        >>> model = timm.create_model("tf_efficientnet_lite0").eval()
        >>> rounded = copy.deepcopy(model)
        >>> rounded.conv_head.weight.data = (1024 * rounded.conv_head.weight.data).round() / 1024
        >>> qv.compare(model, rounded, "coffee", layer="conv_head").scores["quantized_v_float"].cc > 0.9
        True
    """
    if given and is_module(given[0]):
        if len(given) != 3:
            raise UsageError(
                f"{len(given)} values were given with a module; give the float module, the quantized module, and a "
                "picture."
            )
        return compare_two(*given, _options(ModuleOptions, options))
    if len(given) != 1:
        raise UsageError(f"{len(given)} values were given; give one picture, or two modules and a picture.")
    if "float_model" in options or "quantized_model" in options:
        return compare_onnx(given[0], _options(FileOptions, options))
    return compare_picture(given[0], _options(PictureOptions, options))


def explain(
    module: nn.Module,
    image: Picture | Tensor,
    *,
    layer: Layer | None = None,
    method: str = "gradcam++",
    class_: int | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | object | None = None,
    classes: Sequence[str] | Mapping[int, str] | None = None,
    saliency: str | Path | None = "spectral_residual",
    name: str = "",
    progress: Progress | None = None,
) -> ExplanationResult:
    """Return where a network looks in one picture. The module runs in eval mode and is left as it was.

    Args:
        module: any that takes (N, 3, H, W) float32 on the CPU and gives logits (N, classes); float or quantized.
        image: as in ``compare``, or an input made already, float32 (1, 3, H, W).
        layer: the target layer by its dotted name or as the module itself. By default the last feature map before
            pooling, as ``compare`` says.
        method: as ``cam`` in ``compare``.
        class_: the class to explain; the network's own top-1 if not given.
        preprocessing: as in ``compare``.
        classes: as in ``compare``.
        saliency: as in ``compare``.
        name: what the network is called; its class if not given.
        progress: as in ``compare``.

    Raises:
        UsageError: an option or a picture cannot be used, or the module gives no gradient for a method that needs one.
        QuantvizError: the logits are not finite, or do not depend on the target layer.

    Example:
        >>> import quantviz as qv
        >>> import torchvision
        >>> module = torchvision.models.resnet18()
        >>> result = qv.explain(module, "chelsea", method="gradcam")
        >>> result.map.shape
        (224, 224)
    """
    if not is_module(module):
        raise UsageError(f"A {type(module).__name__} is no torch module; give one, or use quantviz.compare.")
    options = ModuleOptions(
        layer=layer,
        preprocessing=preprocessing,
        classes=classes,
        cam=method,
        class_="own" if class_ is None else class_,
        saliency=saliency,
        name=name,
        progress=progress,
    )
    return explain_one(module, image, options)


def diagnose(
    pictures: Picture | Sequence[Picture],
    /,
    *,
    by_channel: bool = False,
    drift: int | None = None,
    remedy: str | None = None,
    **options: Any,
) -> DiagnosisResult:
    """Return what rounding does to every tensor of a network, which is worst, why, and what mends it.

    Args:
        pictures: a folder, a picture as ``compare`` takes it, or a list of these.
        by_channel: with the SQNR of each channel of activations.
        drift: also measure what so many of the worst tensors do to the maps, alone and all but it; 0 for all.
        remedy: also try what mends a tensor: ``"auto"`` for the worst cause's, ``"TENSOR"`` or ``"TENSOR=REMEDY"``. The
            diagnosis then is of every other picture, and ``trial`` of the pictures between; of two ONNX files
            ``save("mended.onnx")`` writes the mended one.
        options: ``model``, ``card``, ``weights``, ``bits``, ``scheme``, ``ranges``, ``bits_file``, ``calibration``,
            ``cam``, ``layer``, ``cache`` and ``progress`` as in ``compare``; or ``float_model`` and
            ``quantized_model``, ONNX files, with ``input``. Of several quantized files ``others`` has all but the
            first.

    Raises:
        UsageError: an option or a picture cannot be used, nothing is quantized, or the remedy cannot be tried.
        CheckpointError: a file cannot be used.

    Example:
        >>> import quantviz as qv
        >>> result = qv.diagnose(["coffee", "chelsea"], bits="W8A8")
        >>> result.causes
        ()
        >>> worst = result.ranking[0]
    """
    samples, asked = diagnosed_pictures(pictures), Asked(drift, remedy, by_channel)
    if "float_model" in options or "quantized_model" in options:
        return diagnose_onnx(samples, _options(FileOptions, options), asked)
    return diagnose_network(samples, _options(PictureOptions, options), asked)


def open_study(path: str | Path) -> Study:
    """Open a study that `quantviz sweep` made, or one that comes with quantviz by its name (``"imagenet-200"``).

    Args:
        path: the study's folder, or the name.

    Raises:
        UsageError: there is no study.
        StoreError: its plan cannot be read.

    Example:
        >>> import quantviz as qv
        >>> study = qv.open_study("imagenet-200")
        >>> study.summary().cells[0].drift.n
        200
    """
    place = Path(path).expanduser()
    return Study(shipped_studies().get(str(path), place) if not place.exists() else place)


def list_models(pattern: str = "*") -> list[str]:
    """Return the names that ``compare`` takes as ``model``.

    Args:
        pattern: with ``*`` and ``?`` as in file names; ``"timm:*mobile*"`` and ``"torchvision:*"`` list what those
            libraries have.

    Example:
        >>> import quantviz as qv
        >>> qv.list_models("*mobile*")
        ['mobilenet_v2']
    """
    return [entry.name for entry in networks.listed(pattern)]


def _options(kind: type[Options], options: Mapping[str, Any]) -> Options:
    known = [entry.name for entry in fields(kind)]
    for name in options:
        if name not in known:
            raise UsageError(f"Option {name!r} is unknown here; use some of {', '.join(known)}.")
    missing = [entry.name for entry in fields(kind) if entry.default is MISSING and entry.name not in options]
    if missing:
        raise UsageError(f"Option {missing[0]!r} is missing; give it as well.")
    return kind(**options)


# For help() and completion, which know nothing of overloads: the options of a picture.
compare.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter("image", inspect.Parameter.POSITIONAL_ONLY),
        *inspect.signature(PictureOptions).parameters.values(),
    ]
)
