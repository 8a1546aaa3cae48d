"""A network as it computes in train mode, one image at a time, with draws that a seed decides."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Chance:
    """Where dropout and stochastic depth draw from: a generator of its own, begun anew at every forward pass.

    The draw depends on the seed alone: not on what ran before, nor on the other images of a batch. Torch's global
    generator is neither read nor moved.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.generator = torch.Generator()

    def __call__(self, _module: nn.Module, _inputs: Any) -> None:
        """Begin anew; the root module's forward pre-hook."""
        self.generator.manual_seed(self.seed)

    def __deepcopy__(self, _memo: dict[int, Any]) -> Chance:
        return Chance(self.seed)


def train_mode(model: nn.Module) -> nn.Module:
    """Return a copy that computes what the model computes in train mode, image by image.

    Batch norm uses the statistics of each single image, as in train mode at batch size 1, and leaves no running
    statistics behind. Dropout and stochastic depth are active and draw from the copy's ``Chance`` (see ``seeded``),
    one draw for all images of a batch. The copy's own training flags do not matter: eval() changes nothing.

    Args:
        model: float; left as it was.
    """
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    chance = Chance()
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                _image_by_image(child)
            elif isinstance(child, nn.Dropout):
                setattr(parent, name, _Dropout(child.p, chance))
            elif type(child).__name__ in ("StochasticDepth", "DropPath"):
                part: Any = getattr(child, "p", None) or getattr(child, "drop_prob", 0.0)
                setattr(parent, name, _Dropout(float(part), chance, whole=True))
    copied.register_forward_pre_hook(chance)
    object.__setattr__(copied, "chance", chance)
    return copied.eval()


@contextmanager
def seeded(network: nn.Module, seed: int) -> Iterator[None]:
    """Let a network's dropout draw from this seed for the length of a block; nothing where it has no ``Chance``."""
    before = seed_draws(network, seed)
    try:
        yield
    finally:
        seed_draws(network, before)


def seed_draws(network: nn.Module, seed: int) -> int:
    """Let a network's dropout draw from this seed from now on; return what it drew from before."""
    chance = getattr(network, "chance", None)
    if not isinstance(chance, Chance):
        return 0
    before, chance.seed = chance.seed, seed
    return before


class _Dropout(nn.Module):
    """Dropout that is always active; with ``whole``, an image's tensor is kept or dropped as a whole."""

    def __init__(self, part: float, chance: Chance, whole: bool = False) -> None:
        super().__init__()
        self.part, self.chance, self.whole = part, chance, whole

    def forward(self, values: Tensor) -> Tensor:
        keep = 1 - self.part
        if keep == 1:
            return values
        # Filled in the order of memory, as torch's own dropout is.
        noise = values.new_empty([1] * values.ndim) if self.whole else torch.empty_like(values[:1])
        noise.bernoulli_(keep, generator=self.chance.generator)
        return values * (noise.div_(keep) if keep else noise)

    def extra_repr(self) -> str:
        return f"part={self.part}, whole={self.whole}"


class _ImageByImage:
    """Comes before a batch norm's own class: the statistics are each image's, whatever the batch."""

    def forward(self, values: Tensor) -> Tensor:
        own: Callable[[Tensor], Tensor] = super().forward  # type: ignore[misc]
        return own(values) if len(values) == 1 else torch.cat([own(image) for image in torch.split(values, 1)])


def _image_by_image(norm: nn.BatchNorm2d) -> None:
    # Without running statistics a batch norm takes those of its input, in either mode.
    norm.running_mean, norm.running_var, norm.num_batches_tracked = None, None, None
    norm.track_running_stats = False
    # The class is changed, not the module, so that the names of the modules inside it stay.
    norm.__class__ = type(type(norm).__name__, (_ImageByImage, type(norm)), {})
