"""A network of any origin, as those who take maps of it need it. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantviz.specs import GivenQuant, QuantSpec, WeightsRef

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network that maps can be taken of: from our table, a module in memory, a file.

    Attributes:
        name: for display: the architecture's name, the module's class, or the file's name.
        module: takes (N, 3, H, W) float32 on the CPU and gives logits (N, classes) float32. A network that is parted
            at its target layer (``backends.Split``) is such a module. ``cam`` locks it while it runs.
        layer: dotted name, in ``module``, of the layer that maps are taken at.
        weights: where the weights come from, their digest, and the preprocessing that the network takes.
        target: what the target layer is called for a reader, where ``module`` has another name for it (a tensor of a
            file, say); "" for ``layer``.
        classes: the classes' names, in the order of the logits; empty where they are not known: 1,000 classes are then
            taken for ImageNet's, others are numbered.
        quant: how it is quantized, as far as that is known; None for a float network.
        backend: what computes it up to its target layer: ``"torch"``, ``"onnxruntime"`` or ``"ncnn"``.
        notes: what a reader of its results must know.
    """

    name: str
    module: nn.Module
    layer: str
    weights: WeightsRef
    target: str = ""
    classes: tuple[str, ...] = ()
    quant: QuantSpec | GivenQuant | None = None
    backend: str = "torch"
    notes: tuple[str, ...] = ()

    @property
    def shown_layer(self) -> str:
        """The target layer as a reader knows it."""
        return self.target or self.layer
