"""Modules in memory: one network's map, and two networks compared. Each module is left as it was."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quantviz import images, scores
from quantviz.cam import Locked
from quantviz.comparison.loaded import versions
from quantviz.comparison.pair import PairRequest, compare_pair, explain_network, salient_map
from quantviz.comparison.references import saliency_source
from quantviz.networks import Network
from quantviz.networks.preprocessing import of_input, preprocessing_of
from quantviz.specs import (
    RGB,
    CamSpec,
    Comparison,
    GivenQuant,
    ImageError,
    ImageSample,
    NetworkMap,
    Preprocessing,
    Progress,
    UsageError,
    no_progress,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    Layer = str | nn.Module

_LABEL = "quantized"
_MADE = "the input was given as a tensor; the picture shows it with its normalization undone"


@dataclass(frozen=True, slots=True, eq=False)
class ModuleChoice:
    """What a module does not say of itself.

    Attributes:
        layer: the target layer by its name or as the module itself; of two networks also (float, quantized); None: the
            last feature map before pooling, as ``networks.structure.pooled_layer`` finds it.
        preprocessing: as ``networks.preprocessing.preprocessing_of`` takes it.
        classes: names of the classes, in the order of the logits; empty where they are not known.
        name: of the network, for display; "" for the module's class.
        label: what the quantized network is called.
    """

    layer: Layer | tuple[Layer, Layer] | None = None
    preprocessing: object = None
    classes: Sequence[str] = ()
    name: str = ""
    label: str = _LABEL


def compare_modules(
    float_module: nn.Module,
    quantized_module: nn.Module,
    picture: ImageSample | Tensor,
    choice: ModuleChoice,
    request: PairRequest,
    progress: Progress = no_progress,
) -> Comparison:
    """Compare two modules in memory on one picture.

    Both run in eval mode, with observers held, and are left as they were: modes, buffers, parameters and hooks.

    Args:
        float_module: gives logits (N, classes) of (N, 3, H, W) float32, on the CPU.
        quantized_module: the same, quantized in any way; a method with gradients needs them behind the target layer.
        picture: the picture, or an input (1, 3, H, W) float32 made already.
        choice: layer, preprocessing and names.
        request: what to compare by.
        progress: told what is being done.

    Raises:
        UsageError: a module or a choice cannot be used; or as ``compare_pair``.
        QuantvizError: as ``compare_pair``.
    """
    given = _given(picture, choice.preprocessing, float_module)
    with _untouched(float_module, quantized_module) as (plain, rounded, rounding):
        first, second = _layers(plain, rounded, given.tensor, choice.layer)
        reference = _network(plain, given, choice, first)
        quantized = replace(_network(rounded, given, replace(choice, name=""), second), notes=())
        details = {"source": "memory", "name": quantized.name, "sha256": quantized.weights.sha256}
        quantized = replace(quantized, quant=GivenQuant(choice.label, details))
        tensor = given.tensor if given.made else None
        found = compare_pair(reference, quantized, given.sample, request, tensor=tensor, progress=progress)
        bits = rounding.label
    notes = (*found.notes, rounding.note) if rounding.given else found.notes
    if not bits:
        return replace(found, notes=notes)
    label = bits if choice.label == _LABEL else choice.label
    return replace(found, notes=notes, quant=GivenQuant(label, {**details, "bits": bits}))


def explain_module(
    module: nn.Module,
    picture: ImageSample | Tensor,
    choice: ModuleChoice,
    request: PairRequest,
    progress: Progress = no_progress,
) -> NetworkMap:
    """Return the map of a module in memory of one picture; the module is left as it was.

    Args:
        module: gives logits (N, classes) of (N, 3, H, W) float32, on the CPU.
        picture: the picture, or an input (1, 3, H, W) float32 made already.
        choice: layer, preprocessing and names.
        request: method and saliency; the class rules are one here, the network's own top-1.
        progress: told what is being done.

    Raises:
        UsageError: the module or a choice cannot be used; or as ``explain_network``.
        QuantvizError: as ``explain_network``.
    """
    started = time.perf_counter()
    if isinstance(choice.layer, tuple):
        raise UsageError("Two layers were given for one network; give one.")
    given = _given(picture, choice.preprocessing, module)
    source = saliency_source(request.saliency, request.saliency_name)
    target = None if isinstance(request.target, str) else request.target
    with _untouched(module) as (layered, rounding):
        network = _network(layered, given, choice, choice.layer)
        salient = salient_map(source, given.sample, given.crop, network)
        result = explain_network(network, given.tensor, request.method, target, progress, name=network.name)
    marks = {} if salient is None else {"map_v_saliency": scores.compare(result.heatmap.values, salient.values)}
    return NetworkMap(
        model=network.name,
        weights=network.weights,
        cam=CamSpec(request.method, network.layer),
        class_rule="own" if target is None else target,
        sample=given.sample,
        crop=given.crop,
        result=result,
        saliency=None if salient is None else source.described(salient),
        scores=marks,
        seconds=time.perf_counter() - started,
        versions=versions(),
        notes=(*network.notes, rounding.note) if rounding.given else network.notes,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """A picture as the networks get it.

    Attributes:
        sample: the picture.
        crop: uint8 (H, W, 3), what the networks see.
        tensor: (1, 3, H, W) float32, their input.
        preprocessing: how the one becomes the other.
        notes: what was assumed.
        made: the picture came as its input.
    """

    sample: ImageSample
    crop: RGB
    tensor: Tensor
    preprocessing: Preprocessing
    notes: tuple[str, ...]
    made: bool


def _given(picture: ImageSample | Tensor, choice: object, module: nn.Module) -> _Given:
    import torch

    preprocessing, note = preprocessing_of(choice, module)
    if not isinstance(picture, ImageSample):
        sample = _shown(picture, preprocessing)
        inner = of_input(preprocessing, *sample.rgb.shape[:2])
        return _Given(sample, sample.rgb, picture.detach(), inner, (), made=True)
    crop = images.crop(picture.rgb, preprocessing)
    tensor = torch.from_numpy(images.normalize(crop, preprocessing))
    return _Given(picture, crop, tensor, preprocessing, (note,) if note else (), made=False)


def _network(module: nn.Module, given: _Given, choice: ModuleChoice, layer: Layer | None) -> Network:
    from quantviz.networks.module import network_of

    return network_of(
        module,
        given.tensor,
        given.preprocessing,
        layer=layer,
        classes=choice.classes,
        name=choice.name,
        notes=given.notes,
    )


def _shown(tensor: Tensor, preprocessing: Preprocessing) -> ImageSample:
    """Return the picture that an input shows, its normalization undone.

    Raises:
        ImageError: the input is no float32 (1, 3, H, W) on the CPU, or holds values that are not finite.
    """
    import torch

    if tensor.ndim != 4 or tensor.shape[:2] != (1, 3) or tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise ImageError(
            f"The input is a {tensor.dtype} tensor {tuple(tensor.shape)} on {tensor.device}; give one picture, float32 "
            "(1, 3, H, W) on the CPU."
        )
    values = np.ascontiguousarray(tensor.detach().numpy())
    if not np.isfinite(values).all():
        raise ImageError("The input holds NaN or infinity; give finite values.")
    mean, std = np.array((preprocessing.mean, preprocessing.std))
    levels = (values[0].transpose(1, 2, 0) * std + mean) * 255
    digest = hashlib.sha256(f"tensor {values.shape}".encode() + values.tobytes()).hexdigest()
    rgb = np.rint(levels.clip(0, 255)).astype(np.uint8)
    return ImageSample(digest, rgb, "input tensor", notes=(_MADE,))


def _layers(
    reference: nn.Module, quantized: nn.Module, example: Tensor, layer: Layer | tuple[Layer, Layer] | None
) -> tuple[str, str]:
    """Return the names of the target layer in the float and in the quantized network."""
    from quantviz.networks.module import layer_name
    from quantviz.networks.structure import pooled_layer

    if isinstance(layer, tuple):
        return layer_name(reference, layer[0]), layer_name(quantized, layer[1])
    if layer is not None:
        name = layer_name(reference, layer)
        if name not in {inner for inner, _ in quantized.named_modules()}:
            raise UsageError(
                f"Layer {name!r} does not exist in the quantized network; name both, layer=(float, quantized)."
            )
        return name, name
    first, second = (pooled_layer(module, example) for module in (reference, quantized))
    common = [name for name in first.names if name in second.names]
    if common:
        return common[0], common[0]
    if "ReLU" in second.kinds[0] and first.size == second.size:  # it was fused with the convolution before it
        return first.names[0], second.names[0]
    raise UsageError(
        f"The last feature maps before pooling are given by {first.names[0]!r} (float) and {second.names[0]!r} "
        "(quantized), which have no name in common; name both layers, layer=(float, quantized)."
    )


@contextmanager
def _untouched(*modules: nn.Module) -> Iterator[tuple[Any, ...]]:
    """Hold the modules' locks, and run them in eval mode for the length of a block, leaving them as they were.

    Yields:
        Each module, exported graphs with their layers; last what was seen of roundings, which have a gradient.
    """
    from quantviz.networks.graph_module import with_layers
    from quantviz.networks.module import check_module, untouched
    from quantviz.quantize.straight_through import StraightThrough

    with ExitStack() as stack:
        # In one order whoever asks, so that no two threads wait for each other.
        for module in sorted(dict.fromkeys(modules), key=id):
            check_module(module)
            stack.enter_context(Locked(module).locked())
            stack.enter_context(untouched(module))
        yield (*map(with_layers, modules), stack.enter_context(StraightThrough()))
