"""What each quantized layer reads on the calibration images, and the range that its input's grid covers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from quantviz.quantize._hooks import hooks, quantized_layers
from quantviz.specs import QuantvizError, UsageError


@dataclass(frozen=True, slots=True)
class Ranges:
    """The least and greatest value that each quantized layer read during calibration.

    Attributes:
        limits: layer's dotted name -> (low, high), in the units of that layer's input.
        images: number of images seen.
    """

    limits: Mapping[str, tuple[float, float]]
    images: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", MappingProxyType(dict(self.limits)))


def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> Ranges:
    """Run a float model over calibration images and record what each quantized layer reads.

    Args:
        model: float, in eval mode; left as it was. No other thread may run it meanwhile.
        batches: inputs (N, 3, H, W), float32.

    Raises:
        UsageError: there is no image.
        QuantvizError: a layer read a value that is not finite.
    """
    limits: dict[str, tuple[float, float]] = {}
    images = 0

    def observe(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = (float(value) for value in torch.aminmax(inputs[0]))
            # The comparison is False for NaN, which min and max would pass over silently.
            if not (abs(low) < float("inf") and abs(high) < float("inf")):
                raise QuantvizError(f"Layer {name!r} read a value that is not finite during calibration.")
            before = limits.get(name, (low, high))
            limits[name] = (min(low, before[0]), max(high, before[1]))

        return hook

    with hooks(layer.register_forward_pre_hook(observe(name)) for name, layer in quantized_layers(model)):
        with torch.no_grad():
            for batch in batches:
                model(batch)
                images += batch.shape[0]
    if not images:
        raise UsageError("There is no calibration image; name a folder that holds some.")
    return Ranges(limits, images)
