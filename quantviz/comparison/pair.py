"""One picture compared by any two networks: modules in memory, files, or one of our table beside either."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from quantviz import images, scores
from quantviz.comparison.loaded import deciding_versions, versions
from quantviz.comparison.machine import backend_versions, integer_kernels
from quantviz.comparison.protocols import MANY_PASSES, explained, result_of
from quantviz.comparison.records import pack_comparison, unpack_comparison
from quantviz.comparison.references import SPECTRAL_RESIDUAL, SaliencySource, saliency_source
from quantviz.networks import Network
from quantviz.specs import (
    COMPUTATION_VERSION,
    GRADIENT_FREE,
    RGB,
    CamResult,
    CamSpec,
    Comparison,
    Crop,
    GivenQuant,
    Heatmap,
    ImageError,
    ImageSample,
    Phase,
    Progress,
    QuantvizError,
    Scores,
    StoredRecord,
    UsageError,
    digest_of,
    no_progress,
)
from quantviz.store import TensorStore

if TYPE_CHECKING:
    from torch import Tensor

ClassRule = Literal["float", "own"] | int

_READING_VERSION = 2  # raised whenever a change of the code changes how a file's target is read


@dataclass(frozen=True, slots=True)
class PairRequest:
    """What to compare two networks by.

    Attributes:
        method: one of ``CAM_METHODS``.
        target: ``"float"``: both maps explain the float network's top-1; ``"own"``: each its own; or a class index.
        saliency: None; a method's name (``"spectral_residual"``); the path of an .onnx network or of a map; or a
            map file's bytes.
        saliency_name: display name of a supplied map.
        crop: which part of the picture the networks see; a tensor is seen as it is.

    Raises:
        UsageError: the method or the class rule is unknown.
    """

    method: str = "gradcam++"
    target: ClassRule = "float"
    saliency: Path | bytes | str | None = SPECTRAL_RESIDUAL
    saliency_name: str = ""
    crop: Crop = field(default_factory=Crop)

    def __post_init__(self) -> None:
        CamSpec(self.method)
        if self.target not in ("float", "own") and type(self.target) is not int:
            raise UsageError(f"Class rule {self.target!r} is unknown; use float, own or a class index.")


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """Everything that decides a comparison."""

    reference: Network
    quantized: Network
    request: PairRequest
    sample: ImageSample
    crop: RGB
    tensor: Tensor | None
    saliency: SaliencySource
    progress: Progress

    def key(self) -> str:
        """Return the store's key: the digest of everything that decides the result."""
        networks = (self.reference, self.quantized)
        backends = {network.backend for network in networks} - {"torch"}
        return digest_of(
            {
                "kind": "pair",
                "computation": [COMPUTATION_VERSION, _READING_VERSION],
                "versions": deciding_versions(),
                "backends": {name: backend_versions(name) for name in sorted(backends)},
                "kernels": integer_kernels() if "onnxruntime" in backends else None,
                "networks": [[one.weights.sha256, one.backend, one.layer, one.target, one.classes] for one in networks],
                "preprocessing": self.reference.weights.preprocessing,
                "image": [self.sample.id, self.tensor is not None],
                "method": self.request.method,
                "target": self.request.target,
                "saliency": self.saliency.key,
            }
        )


def compare_pair(
    reference: Network,
    quantized: Network,
    sample: ImageSample,
    request: PairRequest | None = None,
    *,
    tensor: Tensor | None = None,
    store: TensorStore | None = None,
    progress: Progress = no_progress,
    same_classes: bool = True,
) -> Comparison:
    """Compare a float and a quantized network of any origin on one picture.

    The picture is cropped by the float network's preprocessing, so that both networks see the same pixels. The same
    functions render the result as that of ``Workbench.compare``; its ``key`` is "" without a store.

    Args:
        reference: the float network.
        quantized: the network that is compared with it; ``quant`` says what is known of it.
        sample: the picture.
        request: what to compare by; None for the defaults.
        tensor: the input (1, 3, H, W) float32 that both networks get, where it is made already; ``sample.rgb`` is then
            what it shows, (H, W, 3).
        store: where the result is kept; for networks that the sha256 of their weights identifies (files). None:
            nothing is kept.
        progress: reports what is being done; whatever it raises ends the call.
        same_classes: refuse networks with different numbers of classes. Otherwise, a class that the quantized network
            lacks is not explained of it; its own top-1 is.

    Raises:
        UsageError: an unknown layer or class; a picture or a map that cannot be used; or networks with different
            numbers of classes.
        QuantvizError: the logits are not finite, or do not depend on the target layer.
    """
    started = time.perf_counter()
    if same_classes:
        _check_classes(reference, quantized)
    job = _job(reference, quantized, sample, request or PairRequest(), tensor, progress)
    key = job.key() if store is not None else ""
    stored = store.get(key) if store is not None else None
    record = stored or _computed(job)
    if store is not None and stored is None:
        store.put(key, record)
    found = _comparison(job, record)
    return replace(found, seconds=time.perf_counter() - started, cached=stored is not None, key=key)


def explain_network(
    network: Network,
    tensor: Tensor,
    method: str = "gradcam++",
    target: int | None = None,
    progress: Progress = no_progress,
    *,
    name: str = "float",
) -> CamResult:
    """Return one network's map of one input, and its predictions.

    Args:
        network: of any origin.
        tensor: (1, 3, H, W) float32, normalized as the network takes it.
        method: one of ``CAM_METHODS``.
        target: the class to explain, or None for the network's own top-1.
        progress: reports how far methods with many forward passes are.
        name: what progress and errors call the network.

    Raises:
        UsageError: the method, the layer or the class is unknown, the number of class names is wrong, or the method
            needs a gradient and the network gives none.
        QuantvizError: the logits are not finite, or do not depend on the target layer.
    """
    cam = CamSpec(method, network.layer)
    try:
        found = explained(network.module, tensor, cam, target, 0, progress, name, classes=network.classes)
    except UsageError:
        raise
    except QuantvizError:
        _check_gradient(network, tensor, method, name)
        raise
    if found.heatmap.degenerate:
        _check_gradient(network, tensor, method, name)
    return found


def explain_pair(
    reference: Network,
    quantized: Network,
    tensor: Tensor,
    request: PairRequest | None = None,
    progress: Progress = no_progress,
) -> tuple[CamResult, CamResult]:
    """Return both networks' maps of one input; of two files at the same time, where torch has a thread for each.

    A class that the quantized network lacks is not explained of it; its own top-1 is.

    Args:
        reference: the float network.
        quantized: the network that is compared with it.
        tensor: (1, 3, H, W) float32.
        request: method and class rule; None for the defaults.
        progress: reports what is being done.

    Raises:
        as ``explain_network``.
    """
    request = request or PairRequest()
    method, rule = request.method, request.target
    if method not in MANY_PASSES and _at_once(reference, quantized):
        progress(f"{method} of both models", None, Phase.EXPLAINING)
        try:
            return _both(reference, quantized, tensor, method, rule)
        except QuantvizError:
            pass  # one after the other, it is told of which network it is
    first = explain_network(reference, tensor, method, None if isinstance(rule, str) else rule, progress)
    target = None if rule == "own" or first.class_index >= quantized.weights.classes else first.class_index
    return first, explain_network(quantized, tensor, method, target, progress, name="quantized")


def _at_once(reference: Network, quantized: Network) -> bool:
    """Tell whether both are run by a backend of their own, each in one thread."""
    both = (reference, quantized)
    return reference.module is not quantized.module and all(network.backend == "onnxruntime" for network in both)


def _both(
    reference: Network, quantized: Network, tensor: Tensor, method: str, rule: ClassRule
) -> tuple[CamResult, CamResult]:
    from quantviz.cam import explain_each

    networks = {"float": reference, "quantized": quantized}
    wanted = [(network.module, CamSpec(method, network.layer)) for network in networks.values()]
    index = None if isinstance(rule, str) else rule
    found = explain_each(wanted, tensor, index, shared=rule == "float")
    for (name, network), one in zip(networks.items(), found, strict=True):
        if one.heatmap.degenerate:
            _check_gradient(network, tensor, method, name)
    first, second = (
        result_of(one, name, network.classes) for (name, network), one in zip(networks.items(), found, strict=True)
    )
    return first, second


def _check_gradient(network: Network, tensor: Tensor, method: str, name: str) -> None:
    """Refuse a method that needs a gradient where the network gives none."""
    from quantviz.cam import gives_gradient

    if method not in GRADIENT_FREE and not gives_gradient(network.module, tensor, network.layer):
        raise UsageError(
            f"The {name} network gives no gradient behind layer {network.shown_layer!r}, as where values are rounded "
            f"without a straight-through gradient; use a method that needs none: {', '.join(GRADIENT_FREE)}."
        ) from None


def salient_map(source: SaliencySource, sample: ImageSample, crop: RGB, network: Network) -> Heatmap | None:
    """Return a picture's saliency on the pixels that a network sees, (H, W); None without a source.

    Raises:
        ImageError: a supplied map cannot be used or does not fit.
    """
    found = source.heatmap(sample, crop, network.weights.preprocessing)
    if found is not None and found.values.shape != crop.shape[:2]:
        (height, width), (down, right) = found.values.shape, crop.shape[:2]
        raise ImageError(
            f"The saliency map has {width} x {height} pixels, but the networks' input has {right} x {down}; "
            "give a map of that size, or a picture instead of a tensor."
        )
    return found


def pair_scores(reference: CamResult, quantized: CamResult, salient: Heatmap | None) -> dict[str, Scores]:
    """Score each pair of maps at the input's resolution; the second of a pair is the ground truth of KLD."""
    first, second = scores.ReadyMap(reference.heatmap.values), scores.ReadyMap(quantized.heatmap.values)
    found = {"quantized_v_float": scores.compare(second, first)}
    if salient is not None:
        third = scores.ReadyMap(salient.values)
        found["float_v_saliency"] = scores.compare(first, third)
        found["quantized_v_saliency"] = scores.compare(second, third)
    return found


def _check_classes(reference: Network, quantized: Network) -> None:
    counts = [network.weights.classes for network in (reference, quantized)]
    if counts[0] != counts[1]:
        raise UsageError(
            f"The float network has {counts[0]} classes and the quantized one {counts[1]}; compare a network with its "
            "own quantized copy."
        )


def _job(
    reference: Network,
    quantized: Network,
    sample: ImageSample,
    request: PairRequest,
    tensor: Tensor | None,
    progress: Progress,
) -> _Job:
    if tensor is None:
        weights = replace(reference.weights, preprocessing=reference.weights.preprocessing.at(request.crop))
        reference = replace(reference, weights=weights)
    crop = sample.rgb if tensor is not None else images.crop(sample.rgb, reference.weights.preprocessing)
    source = saliency_source(request.saliency, request.saliency_name)
    return _Job(reference, quantized, request, sample, crop, tensor, source, progress)


def _computed(job: _Job) -> StoredRecord:
    import torch

    # First, so that a map that does not fit is refused before anything is computed.
    salient = salient_map(job.saliency, job.sample, job.crop, job.reference)
    tensor = job.tensor
    if tensor is None:
        tensor = torch.from_numpy(images.normalize(job.crop, job.reference.weights.preprocessing))
    first, second = explain_pair(job.reference, job.quantized, tensor, job.request, job.progress)
    return pack_comparison(first, second, salient, pair_scores(first, second, salient), {})


def _comparison(job: _Job, record: StoredRecord) -> Comparison:
    first, second, salient, marks, _ = unpack_comparison(record)
    quant = job.quantized.quant
    return Comparison(
        model=job.reference.name,
        weights=job.reference.weights,
        quant=GivenQuant() if quant is None else quant,
        calibration=None,
        cam=CamSpec(job.request.method, job.reference.shown_layer),
        class_rule=job.request.target,
        sample=job.sample,
        crop=job.crop,
        reference=first,
        quantized=second,
        saliency=None if salient is None else job.saliency.described(salient),
        scores=marks,
        seconds=0.0,
        cached=False,
        versions=versions(),
        key="",
        backend=job.reference.backend,
        notes=_notes(job, first, second),
    )


def _notes(job: _Job, first: CamResult, second: CamResult) -> tuple[str, ...]:
    told = job.saliency.notes(job.sample, job.reference.weights.preprocessing)
    notes = [*job.reference.notes, *job.quantized.notes, *told]
    grids = [" x ".join(map(str, result.native.values.shape)) for result in (first, second)]
    if grids[0] != grids[1]:
        notes.append(
            f"The maps are on different grids, {grids[0]} (float) and {grids[1]} (quantized); the networks may be cut "
            "differently, and the maps shifted against each other."
        )
    layers = [network.shown_layer for network in (job.reference, job.quantized)]
    if layers[0] != layers[1]:
        notes.append(f"The quantized network's map is taken at {layers[1]}.")
    return tuple(notes)
