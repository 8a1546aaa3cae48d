"""Forward passes kept for the next map of the same image: by another method, or of another class."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict

import numpy as np
from torch import Tensor, nn

from quantviz.cam.features import Features
from quantviz.cam.saved import SavedTensors

Key = tuple[weakref.ref[nn.Module], str | None, str]
"""The network, the target layer's dotted name, and the sha256 of the input's values."""


class KeptFeatures:
    """The features of the images last explained, as many as stay below a number of bytes; threads may share it.

    Every pass is recorded for differentiation, whether or not its first map needs a gradient, so that any method of
    any class can follow without another one. What a recorded pass holds is measured: 1 to 2 MiB at the last
    convolution of the seven models here, 40 to 200 MiB at the first one. A pass that is larger than the limit
    serves its own call and is not kept. What is being computed comes on top of the limit.

    The networks must be deterministic, and must not change between calls: one that is switched to other bits, that
    draws dropout or moves its observers has no features to keep. A network that nobody else holds is not kept alive,
    and its features go with the next pass.

    Args:
        limit: bytes that are kept at most, 128 MiB by default.
    """

    def __init__(self, limit: int = 128 << 20) -> None:
        self._limit = limit
        self._guard = threading.Lock()
        self._passes: OrderedDict[Key, Features] = OrderedDict()

    def features(self, model: nn.Module, images: Tensor, layer: str | None) -> Features:
        """Return what one forward pass leaves, running it where it is not kept; the caller holds the model's lock.

        Args:
            model: in eval mode.
            images: (N, C, H, W) float32.
            layer: dotted name of the target layer.

        Raises:
            UsageError: the layer does not exist or gives no (N, C, h, w) tensor.
            QuantvizError: the output does not use the layer.
        """
        values = np.ascontiguousarray(images.detach().numpy())
        key = weakref.ref(model), layer, f"{values.shape} {hashlib.sha256(values.data).hexdigest()}"
        with self._guard:
            features = self._passes.get(key)
            if features is not None:
                self._passes.move_to_end(key)
                return features
        saved = SavedTensors()
        with saved:
            features = Features(model, images, layer, gradients=True)
        features.measure(model, saved)
        with self._guard:
            self._passes[key] = features
        return features

    def trim(self) -> None:
        """Drop the longest unused until the rest is below the limit, and all of networks that are gone."""
        with self._guard:
            for key in [key for key in self._passes if key[0]() is None]:
                del self._passes[key]
            total = sum(features.nbytes for features in self._passes.values())
            # A single one that is too large would put all others out: it goes first.
            for key in [key for key, features in self._passes.items() if features.nbytes > self._limit]:
                total -= self._passes.pop(key).nbytes
            while total > self._limit:
                total -= self._passes.popitem(last=False)[1].nbytes

    @property
    def nbytes(self) -> int:
        """Bytes that are kept now."""
        with self._guard:
            return sum(features.nbytes for features in self._passes.values())
