"""Pictures in order under a protocol whose observers may go on from picture to picture."""

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
    """Both networks' results on one picture of a sequence, by both class rules.

    Attributes:
        fixed: float and quantized, both explaining the class that the request's rule names.
        own: float and quantized, each explaining its own top-1 class.
    """

    fixed: tuple[CamResult, CamResult]
    own: tuple[CamResult, CamResult]


def sequence(
    bench: Workbench, request: CompareRequest, samples: Sequence[ImageSample], progress: Progress = no_progress
) -> Iterator[Step]:
    """Yield the results of pictures in order under the request's protocol.

    With ``online_ranges`` every picture passes the observers once, and they go on from it to the next. Where the
    quantized network's own class is another one, its map is of the same pass; methods with many passes take a second
    one, during which the observers do not update. ``eight_bit_maps`` is not applied: call ``finished`` for it.

    Args:
        bench: holds the models and the store; float results come from the store where it has them.
        request: its class rule is that of ``Step.fixed``; ``"own"`` counts as ``"float"``.
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
        features = None if cam_spec.method in MANY_PASSES else cam.KeptFeatures()
        quantized = quantized_own = explained(network, image, cam_spec, index, seed, progress, quant.label, features)
        if quantized.predictions[0].index != index:
            with network.locked() as module, frozen_observers(module):
                quantized_own = explained(network, image, cam_spec, None, seed, progress, quant.label, features)
        yield Step((fixed, quantized), (own, quantized_own))
