"""What a model costs to keep and to run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What one quantized layer costs for one image.

    Attributes:
        name: dotted name.
        kind: ``"conv"``, ``"depthwise"`` or ``"linear"``.
        weights: number of weights, biases not counted.
        biases: number of biases, with batch norm folded where it can be.
        channels: number of output channels, which is the number of scales on a per-channel grid.
        macs: multiply-accumulates of its weights.
        products: multiply-accumulates of products of activations (attention's) between it and the next layer.
    """

    name: str
    kind: str
    weights: int
    biases: int
    channels: int
    macs: int
    products: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network costs at given bit-widths.

    Attributes:
        bytes: size of the stored model: weights at their bits, scales, zero points, and everything else in float32.
        float_bytes: size of the float model, batch norm folded.
        macs: multiply-accumulates of one image, products of activations among them.
        bops: bit operations of one image: the sum over layers of MACs x weight bits x activation bits (32 for float);
            of products of activations, MACs x activation bits x activation bits.
        float_bops: the same of the float network.
    """

    bytes: int
    float_bytes: int
    macs: int
    bops: int
    float_bops: int
