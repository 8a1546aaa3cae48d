"""What a forward pass keeps in memory for its gradients."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


class SavedTensors(saved_tensors_hooks):
    """While it is active, every tensor that an operation saves for its gradient is noted here.

    torch checks that a saved tensor was not overwritten in place, but not where hooks like these are active; so the
    check is made here.
    """

    def __init__(self) -> None:
        self._saved: list[weakref.ref[Tensor]] = []
        super().__init__(self._pack, _unpack)

    def nbytes(self, others: Iterable[Tensor], without: Iterable[Tensor]) -> int:
        """Return the bytes of the memory behind the saved tensors that are still needed, each piece counted once.

        Args:
            others: tensors that count as well.
            without: tensors whose memory does not count, saved or not.
        """
        alive = [tensor for reference in self._saved if (tensor := reference()) is not None]
        sizes = {_address(tensor): tensor.untyped_storage().nbytes() for tensor in (*alive, *others)}
        for tensor in without:
            sizes.pop(_address(tensor), None)
        return sum(sizes.values())

    def _pack(self, tensor: Tensor) -> tuple[Tensor, int]:
        # A tensor that holds its own history, saved in that history, would never be freed; this one has none.
        plain = tensor.detach()
        self._saved.append(weakref.ref(plain))
        return plain, plain._version


def _unpack(saved: tuple[Tensor, int]) -> Tensor:
    tensor, version = saved
    if tensor._version != version:
        raise RuntimeError("A tensor that a gradient needs was overwritten in place after it had been saved.")
    return tensor


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
