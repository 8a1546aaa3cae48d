"""A weights file's bytes -> exactly the tensors that a model takes, or one sentence why not."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from quantviz.networks.checkpoint_file import corrupt, tensors_of
from quantviz.networks.weights import largest_file
from quantviz.specs import CheckpointError, ModelSpec

Shapes = Mapping[str, tuple[int, ...]]

_COUNTER = "num_batches_tracked"
# Entries that quantization-aware training adds (torch.ao eager and FX, torchao, NVIDIA's quantizers).
_OBSERVER = re.compile(
    r"(^|[._])(activation_post_process|(weight_|bias_)?fake_quant\w*|\w*(quantizer|observer)\w*)(_\d+)?(\.|$)"
    r"|(^|\.)(fake_quant_enabled|observer_enabled)$"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a weights file gave.

    Attributes:
        tensors: every entry of the model's state dict: contiguous, finite, float32 (counters int64).
        classes: number of classes, the first dimension of the head's weight.
        note: what was adapted, or "".
        names: of the classes, where the file has one for each; else ().
    """

    tensors: Mapping[str, torch.Tensor]
    classes: int
    note: str
    names: tuple[str, ...] = ()


def read(data: bytes, file: str, spec: ModelSpec, shapes: Callable[[int], Shapes], *, entry: str = "") -> Checkpoint:
    """Read a checkpoint and fit it to a model.

    Unwraps ``{"state_dict": ...}`` and the like; strips ``module.``, ``_orig_mod.`` and prefixes such as Lightning's
    ``model.``; leaves out observers; renames the entries of old densenet files, of batch norms fused for
    quantization-aware training, and of the bundled EfficientNet-Lite0 package.

    Args:
        data: the file's bytes.
        file: its name, for messages.
        spec: the model.
        shapes: given a number of classes, the shapes of the model's state dict in its order.
        entry: which of several state dicts is meant; "" for the first of the usual ones.

    Returns:
        The tensors with what they say of themselves.

    Raises:
        CheckpointError: the bytes are corrupt, hold code, or belong to another architecture; or a weight is
            not finite.
    """
    notes: list[str] = []
    names: list[str] = []
    tensors = tensors_of(data, file, largest_file(spec), entry, notes, names)
    tensors = _unprefixed(tensors, shapes(1000), notes)
    tensors = _renamed(tensors, shapes(1000), notes)
    head = tensors.get(f"{spec.head}.weight")
    classes = head.shape[0] if head is not None and head.ndim > 0 else 0
    expected = shapes(classes or 1000)
    _check_fit(tensors, expected, file, spec)
    ready = {name: _ready(tensors, name, shape, file) for name, shape in expected.items()}
    kinds = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()}
    if kinds - {"float32"}:
        notes.append(f"{' and '.join(sorted(kinds - {'float32'}))} converted to float32")
    return Checkpoint(ready, classes, "; ".join(notes), tuple(names) if len(names) == classes else ())


def _unprefixed(tensors: dict[str, torch.Tensor], own: Shapes, notes: list[str]) -> dict[str, torch.Tensor]:
    """Take the network out of what holds it: names that all begin alike (``model.``, ``student.``), the rest left.

    Nothing is done where most of the network's names are there as they are.
    """
    names = [name for name in own if not name.endswith(_COUNTER)]
    if 2 * sum(name in tensors for name in names) >= len(names):
        return tensors
    prefixes = {
        name.removesuffix(probe): 0 for probe in (names[0], names[-1]) for name in tensors if name.endswith(f".{probe}")
    }
    for prefix in prefixes:
        prefixes[prefix] = sum(prefix + name in tensors for name in names)
    best = max(prefixes, key=lambda prefix: prefixes[prefix], default="")
    if not best or 2 * prefixes[best] < len(names):
        return tensors
    others = [prefix for prefix in prefixes if prefix != best and 2 * prefixes[prefix] >= len(names)]
    if others:
        notes.append(f"entries of {best[:-1]!r} taken, not of {', '.join(repr(other[:-1]) for other in others)}")
    rest = sum(not name.startswith((best, *others)) for name in tensors)
    if rest:
        notes.append(f"{rest} entries outside {best[:-1]!r} ignored")
    return {name.removeprefix(best): value for name, value in tensors.items() if name.startswith(best)}


def _renamed(tensors: dict[str, torch.Tensor], own: Shapes, notes: list[str]) -> dict[str, torch.Tensor]:
    """Give entries the model's names where another naming of the same thing is known."""
    observers = [name for name in tensors if name not in own and _OBSERVER.search(name)]
    if observers:
        notes.append(f"{len(observers)} observer and fake-quantization entries ignored")
    weights = {name: value for name, value in tensors.items() if name not in set(observers)}
    if "_conv_stem.weight" in weights:
        return _by_position(weights, own)
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in own))
    following = dict(itertools.pairwise(modules))
    result = {}
    for name, value in weights.items():
        module, _, leaf = name.rpartition(".")
        convolution = module.removesuffix(".bn")
        if name in own:
            new = name
        elif module.endswith(".bn") and convolution in following:
            new = f"{following[convolution]}.{leaf}"
        else:
            new = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)
        result[new] = value
    return result


def _by_position(tensors: dict[str, torch.Tensor], own: Shapes) -> dict[str, torch.Tensor]:
    """Rename by position when last names and shapes agree throughout, the head's first dimension apart."""
    theirs = [name for name in tensors if not name.endswith(_COUNTER)]
    ours = [name for name in own if not name.endswith(_COUNTER)]
    last = ours[-1].rpartition(".")[0]
    pairs = list(zip(theirs, ours, strict=False))
    agree = len(theirs) == len(ours) and all(
        a.rpartition(".")[2] == b.rpartition(".")[2] and (tuple(tensors[a].shape) == own[b] or b.startswith(f"{last}."))
        for a, b in pairs
    )
    return {b: tensors[a] for a, b in pairs} if agree else tensors


def _check_fit(tensors: Mapping[str, torch.Tensor], expected: Shapes, file: str, spec: ModelSpec) -> None:
    """Raise CheckpointError unless the entries are the model's, counters apart."""
    missing = [name for name in expected if name not in tensors and not name.endswith(_COUNTER)]
    extra = [name for name in tensors if name not in expected and not name.endswith(_COUNTER)]
    odd = [name for name, shape in expected.items() if name in tensors and tuple(tensors[name].shape) != shape]
    if not (missing or extra or odd):
        return
    faults = [
        f"{len(names)} {what} (such as {names[0][:80]!r}{detail})"
        for names, what, detail in (
            (missing, f"of its {len(expected)} entries are missing", ""),
            (extra, "are unexpected", ""),
            (odd, "of another shape", _shapes_of(tensors, expected, odd)),
        )
        if names
    ]
    raise CheckpointError(
        f"{file} does not fit {spec.name}: {', '.join(faults)}; name the model that the file was saved from."
    )


def _shapes_of(tensors: Mapping[str, torch.Tensor], expected: Shapes, names: list[str]) -> str:
    return f", {tuple(tensors[names[0]].shape)} instead of {expected[names[0]]}" if names else ""


def _ready(tensors: Mapping[str, torch.Tensor], name: str, shape: tuple[int, ...], file: str) -> torch.Tensor:
    """Return one entry as the model takes it."""
    if name.endswith(_COUNTER):
        # Only training reads it, and many files lack it.
        return torch.zeros(shape, dtype=torch.int64)
    tensor = tensors[name]
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or not tensor.is_floating_point():
        raise CheckpointError(
            f"{name} in {file} is {str(tensor.dtype).removeprefix('torch.')}, not plain floating-point weights; "
            "save the weights before they are converted to integers."
        )
    # A view can claim any shape over a few bytes; copying it would fill the memory.
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise corrupt(file)
    result = tensor.detach().to(torch.float32).contiguous()
    if not np.isfinite(result.numpy()).all():  # a tenth of what torch takes for many small tensors
        raise CheckpointError(
            f"{name} in {file} holds values that are not finite; use a checkpoint from before the training diverged."
        )
    return result
