"""Tensor by tensor, a float ONNX file beside a quantized one: two passes a picture, nothing is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from quantviz import images
from quantviz.comparison.files import input_warning, networks_of, pairs_of
from quantviz.comparison.files_request import FilesRequest, preprocessing_of_files
from quantviz.comparison.machine import integer_kernels
from quantviz.layerwise.diagnosis.causes import causes
from quantviz.layerwise.diagnosis.files_structure import blocks_of_files, file_findings
from quantviz.layerwise.diagnosis.specs import Diagnosis, Float64, Site, TensorFigures
from quantviz.networks.onnx_files import FilePair
from quantviz.networks.onnx_files.grids import Grid
from quantviz.networks.onnx_files.taps import PairRunner, StoredTensor, TappedTensor, stored, tapped
from quantviz.specs import ImageSample, Phase, Progress, UsageError, no_progress

if TYPE_CHECKING:
    from torch import Tensor

    from quantviz.layerwise.diagnosis.meter import Meter


def diagnose_files(
    files: FilesRequest,
    samples: Sequence[ImageSample],
    progress: Progress = no_progress,
    *,
    by_channel: bool = False,
) -> dict[str, Diagnosis]:
    """Return what rounding does to every tensor of quantized ONNX files, and what is wrong with which.

    Both files run without optimization, as ``onnxruntime.quantization.qdq_loss_debug`` runs them: fused operators would
    leave no tensor to read.

    Args:
        files: a float file and its quantized ones.
        samples: the pictures, at least one.
        progress: reports the part done; whatever it raises ends the call.
        by_channel: with the SQNR of each channel of activations.

    Returns:
        Quantized file's name -> its diagnosis, in the order of the request.

    Raises:
        CheckpointError: a file cannot be used.
        UsageError: there is no picture, or a file holds no tensor on a grid.
    """
    if not samples:
        raise UsageError("There is no picture to diagnose on; name one, or a folder of some.")
    progress("Reading the ONNX files", None, Phase.LOADING)
    return {
        name: _diagnosis(files, name, pair, samples, progress, by_channel) for name, pair in pairs_of(files).items()
    }


def _diagnosis(
    files: FilesRequest,
    name: str,
    pair: FilePair,
    samples: Sequence[ImageSample],
    progress: Progress,
    by_channel: bool,
) -> Diagnosis:
    preprocessing = preprocessing_of_files(files)
    warning = input_warning(files, pair, networks_of(files, name, pair)[0]) if pair.reference.targets else ""

    def inputs() -> Iterable[np.ndarray]:
        for done, sample in enumerate(samples):
            progress("Comparing tensor by tensor", done / len(samples), Phase.WORKING)
            yield images.normalize(images.crop(sample.rgb, preprocessing), preprocessing)

    tensors = diagnose_pair(pair, inputs(), by_channel=by_channel)
    return Diagnosis(
        network=name,
        kind="files",
        quantization=f"{pair.quantized.quantization.label} {pair.quantized.quantization.format}",
        details=_details(pair),
        images=tuple((sample.id, sample.name) for sample in samples),
        tensors=tuple(tensors),
        causes=tuple(causes(tensors, file_findings(pair, integer_kernels()), blocks_of_files(pair))),
        notes=(*pair.findings, *((warning,) if warning else ())),
    )


def _details(pair: FilePair) -> Mapping[str, object]:
    return {
        role: {"name": opened.file.name, "sha256": opened.file.sha256}
        for role, opened in (("float", pair.reference), ("quantized", pair.quantized))
    }


def diagnose_pair(
    pair: FilePair,
    pictures: Iterable[np.ndarray],
    *,
    by_channel: bool = False,
    threads: int = 1,
    seen: Callable[[int], None] = lambda _count: None,
) -> list[TensorFigures]:
    """Return the figures of every weight, bias and activation on a grid, in the quantized file's order.

    Args:
        pair: the files.
        pictures: inputs (1, 3, side, side) float32, at least one.
        by_channel: with the SQNR of each channel of activations.
        threads: how many ONNX Runtime computes in; their number decides the last bits.
        seen: called with the number of pictures done.

    Raises:
        CheckpointError: ONNX Runtime cannot run a file.
        UsageError: nothing in the file lies on a grid.
    """
    activations, own = tapped(pair), stored(pair)
    if not activations and not own:
        raise UsageError(f"{pair.quantized.file.name} holds no tensor on a grid; give a quantized file.")
    meters = _meters(pair, activations, own)
    runner = PairRunner(pair, activations, threads)
    for count, picture in enumerate(pictures, 1):
        for entry, reference, before, after in runner(picture):
            if reference.shape == after.shape:
                values = [None if value is None else _tensor(value) for value in (reference, before, after)]
                assert values[0] is not None
                assert values[2] is not None
                meters[entry.name].see(values[0], values[1], values[2], by_channel=by_channel)
        seen(count)
    return [meter.figures() for meter in meters.values() if meter.has_seen]


def _tensor(values: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _meters(pair: FilePair, activations: Sequence[TappedTensor], own: Sequence[StoredTensor]) -> dict[str, Meter]:
    """Return the meters of all tensors in the order of the file; those of weights have seen them."""
    from quantviz.layerwise.diagnosis.meter import Meter  # here, since it takes torch

    order = pair.quantized.graph.order
    sites = [(order.get(entry.after, 0), entry.name, _activation_site(entry)) for entry in activations]
    sites += [(order.get(entry.reader, 0), entry.name, _stored_site(entry)) for entry in own]
    meters: dict[str, Meter] = {}
    values = {entry.name: entry for entry in own}
    for depth, (_, name, site) in enumerate(sorted(sites, key=lambda row: row[0])):
        meters[name] = Meter(site, depth)
        entry = values.get(name)
        if entry is not None and entry.reference is not None:
            reference = _tensor(entry.reference.copy())  # what a file stores is read-only
            meters[name].see(reference, reference, _tensor(entry.values), by_channel=True)
    return meters


def _activation_site(entry: TappedTensor) -> Site:
    if entry.grid is None:
        return Site(entry.name, entry.reader, "activation", nodes=entry.nodes)
    return _site(entry.name, entry.reader, "activation", entry.grid, entry.nodes)


def _stored_site(entry: StoredTensor) -> Site:
    return _site(entry.name, entry.reader, "weight" if entry.role == "weight" else "bias", entry.grid, entry.nodes)


def _site(name: str, layer: str, role: str, grid: Grid, nodes: tuple[str, ...]) -> Site:
    scale: Float64 = grid.scale.astype(np.float64).ravel()
    zero = grid.zero_point.astype(np.int64).ravel()
    axis = None if grid.axis is None else grid.axis
    return Site(name, layer, role, grid.bits, scale, zero, grid.quant_min, grid.quant_max, axis, nodes)  # type: ignore[arg-type]
