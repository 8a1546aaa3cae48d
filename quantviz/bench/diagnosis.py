"""What a diagnosis costs beside the passes that it needs: every tensor's figures, on some pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch

from quantviz.cam import cores
from quantviz.comparison.loaded import Subject
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.diagnosis.simulation import diagnose_modules
from quantviz.specs import QuantSpec, no_progress

DIAGNOSIS_PASSES, DIAGNOSIS = "bare passes of a diagnosis", "diagnosis"
PICTURES = 4
"""Pictures of a call: weights are compared once, activations in every picture."""


def diagnosis_calls(
    workbench: Workbench, subject: Subject, quant: QuantSpec, inputs: torch.Tensor
) -> dict[str, Callable[[], None]]:
    """Return the passes of a diagnosis without it, and with the figures of every tensor.

    Args:
        workbench: with the networks.
        subject: which network.
        quant: how it is quantized.
        inputs: (``PICTURES``, 3, H, W) float32.
    """
    pictures = [inputs[at : at + 1] for at in range(len(inputs))]
    reference = workbench.networks.base(subject, quant, no_progress)
    rounded = workbench.networks.quantized(subject, quant, no_progress)

    def bare() -> None:
        with torch.no_grad(), reference.locked() as first, rounded.locked() as second:
            for picture in pictures:
                first(picture)
                second(picture)

    def diagnosed() -> None:
        ahead = cores() > 1
        with reference.locked() as first, rounded.locked() as second:
            diagnose_modules(first, second, pictures, ahead=ahead)

    return {DIAGNOSIS_PASSES: bare, DIAGNOSIS: diagnosed}
