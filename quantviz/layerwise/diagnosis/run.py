"""From a request and pictures to a diagnosis of our own simulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from quantviz import images
from quantviz.comparison.loaded import Subject
from quantviz.comparison.output import weights_data
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.diagnosis.causes import causes
from quantviz.layerwise.diagnosis.specs import Cause, Diagnosis, TensorFigures
from quantviz.layerwise.drift import resolved
from quantviz.specs import (
    ImageSample,
    LayerBits,
    Phase,
    Progress,
    QuantSpec,
    UsageError,
    no_progress,
    scheme_name,
)

if TYPE_CHECKING:
    from torch import Tensor


def diagnose(
    bench: Workbench,
    request: CompareRequest,
    samples: Sequence[ImageSample],
    progress: Progress = no_progress,
    *,
    weights: bool = True,
    activations: bool = True,
    by_channel: bool = False,
) -> Diagnosis:
    """Return what rounding does to every tensor of a network that quantviz rounds, and what is wrong with which.

    Each picture goes once through the float and once through the quantized network; memory does not grow with their
    number.

    Args:
        bench: with the models and the store.
        request: model, weights, quantization and calibration pictures.
        samples: the pictures, at least one.
        progress: reports the part done; whatever it raises ends the call.
        weights: whether weights are rounded; else they stay in float.
        activations: whether what layers read is rounded.
        by_channel: with the SQNR of each channel of activations, which takes longer.

    Raises:
        UsageError: there is no picture, nothing is rounded, or the protocol is not the calibrated one; or as
            ``Workbench.compare``.
    """
    if not samples:
        raise UsageError("There is no picture to diagnose on; name one, or a folder of some.")
    subject, _ = resolved(bench, request, progress)
    quant = rounded_only(request.quant, weights=weights, activations=activations)
    tensors, found = _measured(bench, subject, quant, samples, progress, by_channel)
    return Diagnosis(
        network=subject.spec.name,
        kind="simulation",
        quantization=quant.label,
        details=_details(subject, request.quant),
        images=tuple((sample.id, sample.name) for sample in samples),
        tensors=tuple(tensors),
        causes=tuple(found),
        notes=() if subject.ref.trained else ("UNTRAINED (random) weights: a sanity control.",),
    )


def _details(subject: Subject, quant: QuantSpec) -> dict[str, object]:
    return {
        "weights": weights_data(subject.ref),
        "scheme": scheme_name(quant),
        "ranges": quant.ranges,
        "calibration": asdict(subject.calibration.ref),
    }


def _measured(
    bench: Workbench,
    subject: Subject,
    quant: QuantSpec,
    samples: Sequence[ImageSample],
    progress: Progress,
    by_channel: bool,
) -> tuple[list[TensorFigures], list[Cause]]:
    """Return the figures of every tensor, and the causes."""
    base = bench.networks.base(subject, quant, progress)
    quantized = bench.networks.quantized(subject, quant, progress)
    from quantviz.cam import cores
    from quantviz.layerwise.diagnosis.simulation import diagnose_modules
    from quantviz.layerwise.diagnosis.structure import blocks_of, module_findings

    def report(done: int) -> None:
        progress("Comparing tensor by tensor", done / len(samples), Phase.WORKING)

    report(0)
    inputs = _inputs(subject, samples)
    ahead = cores() > 1
    with base.locked() as first, quantized.locked() as second:
        tensors = diagnose_modules(first, second, inputs, by_channel=by_channel, ahead=ahead, seen=report)
        example = bench.networks.example(subject)
        findings = module_findings(first, second, tensors, example, kept=subject.layer)
        return tensors, causes(tensors, findings, blocks_of(second, example))


def rounded_only(quant: QuantSpec, *, weights: bool, activations: bool) -> QuantSpec:
    """Return a quantization of which only the weights or only the activations are rounded, or both.

    Raises:
        UsageError: nothing would be rounded.
    """
    if not weights and (not activations or quant.act_bits is None):
        raise UsageError("Neither weights nor activations are quantized; give bits such as W8A8, W8 or A8.")
    own = tuple(
        LayerBits(bits.name, bits.weight_bits if weights else None, bits.act_bits if activations else None)
        for bits in quant.layer_bits
    )
    widths = quant.weight_bits if weights else None, quant.act_bits if activations else None
    return replace(quant, weight_bits=widths[0], act_bits=widths[1], layer_bits=own)


def _inputs(subject: Subject, samples: Sequence[ImageSample]) -> Iterator[Tensor]:
    import torch

    preprocessing = subject.ref.preprocessing
    for sample in samples:
        yield torch.from_numpy(images.normalize(images.crop(sample.rgb, preprocessing), preprocessing))
