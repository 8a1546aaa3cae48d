"""Pictures in order under a protocol, whose observers may go on from picture to picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from quantviz import images
from quantviz.comparison.protocols import MANY_PASSES, explained, network_quant, seed_of, subject_of, without
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.specs import CamResult, ImageSample, Progress, no_progress


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One picture of a sequence: both networks' results by both class rules.

    Attributes:
        fixed: float and quantized, both of the class that the request's rule names.
        own: float and quantized, each of its own top-1 class.
    """

    fixed: tuple[CamResult, CamResult]
    own: tuple[CamResult, CamResult]


def sequence(
    bench: Workbench, request: CompareRequest, samples: Sequence[ImageSample], progress: Progress = no_progress
) -> Iterator[Step]:
    """Run pictures in order under the request's protocol; with ``online_ranges`` each goes on where the last ended.

    Every picture passes the observers once: where the quantized network's own class is another one, its map is of the
    same pass or, by the methods with many passes, of a second one that leaves them alone. Maps are as the networks
    give them; ``finished`` does what ``eight_bit_maps`` says.

    Args:
        bench: with the models and the store; float results come from the store where it has them.
        request: its class rule is that of ``Step.fixed``, ``"own"`` taken as ``"float"``.
        samples: the pictures.
        progress: reports what is being done.

    Raises:
        as ``Workbench.compare``.
    """
    import torch

    from quantviz import cam
    from quantviz.quantize import frozen_observers

    quant = network_quant(request.quant)
    subject = subject_of(bench.subject(request, progress), request.quant)
    preprocessing, cam_spec = subject.ref.preprocessing, replace(request.cam, layer=subject.layer)
    plain = replace(request, quant=without(request.quant, "eight_bit_maps"))
    network = bench.protocols.quantized(subject, quant, progress)
    for sample in samples:
        own = bench.float_result(plain, sample, None, preprocessing, progress)
        index = own.class_index if isinstance(request.target, str) else request.target
        fixed = own
        if index != own.class_index:
            fixed = bench.float_result(plain, sample, index, preprocessing, progress)
        image = torch.from_numpy(images.normalize(images.crop(sample.rgb, preprocessing), preprocessing))
        seed = seed_of(sample.id, quantized=True)
        # For this picture only: when it comes again, a network with observers may give something else.
        kept = None if cam_spec.method in MANY_PASSES else cam.KeptFeatures()
        found = other = explained(network, image, cam_spec, index, seed, progress, quant.label, kept)
        if found.predictions[0].index != index:
            with network.locked() as module, frozen_observers(module):
                other = explained(network, image, cam_spec, None, seed, progress, quant.label, kept)
        yield Step((fixed, found), (own, other))
