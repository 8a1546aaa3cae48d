"""A weights file's bytes -> exactly the tensors that a model takes, or one sentence why not.

Nothing in a file is executed: pickles are read by torch's restricted reader (``weights_only=True``) only.
"""

from __future__ import annotations

import io
import itertools
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
import torch

from quantviz.networks.weights import largest_file
from quantviz.specs import CheckpointError, ModelSpec

Shapes = Mapping[str, tuple[int, ...]]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "ema", "state_dict_ema", "model_ema", "module")
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
    """

    tensors: Mapping[str, torch.Tensor]
    classes: int
    note: str


def read(data: bytes, file: str, spec: ModelSpec, shapes: Callable[[int], Shapes]) -> Checkpoint:
    """Read a checkpoint and fit it to a model.

    Unwraps ``{"state_dict": ...}`` and the like; strips ``module.``, ``_orig_mod.`` and Lightning's
    ``model.``; leaves out observers; renames the entries of old densenet files, of batch norms fused for
    quantization-aware training, and of the bundled EfficientNet-Lite0 package.

    Args:
        data: the file's bytes.
        file: its name, which decides the format by its suffix and is used in messages.
        spec: the model.
        shapes: given a number of classes, the shapes of the model's state dict in its order.

    Returns:
        The tensors with what they say of themselves.

    Raises:
        CheckpointError: the bytes are corrupt, hold code, or belong to another architecture; or a weight is
            not finite.
    """
    notes: list[str] = []
    tensors = _tensors(_parse(data, file, largest_file(spec)), file, notes)
    tensors = _renamed(tensors, shapes(1000), notes)
    head = tensors.get(f"{spec.head}.weight")
    classes = head.shape[0] if head is not None and head.ndim > 0 else 0
    expected = shapes(classes or 1000)
    _check_fit(tensors, expected, file, spec)
    ready = {name: _ready(tensors, name, shape, file) for name, shape in expected.items()}
    kinds = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()}
    if kinds - {"float32"}:
        notes.append(f"{' and '.join(sorted(kinds - {'float32'}))} converted to float32")
    return Checkpoint(ready, classes, "; ".join(notes))


def _parse(data: bytes, file: str, limit: int) -> Any:
    """Return the object in the bytes, letting no text or warning of the readers out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if file.lower().endswith(".safetensors"):
                return safetensors.torch.load(data)
            _check_unpacked_size(data, file, limit)
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is None:
            raise _corrupt(file) from error
        raise CheckpointError(
            f"{file} holds pickled code ({code[1][:80]}), which is never run; save the weights alone with "
            "torch.save(model.state_dict(), path) or as .safetensors."
        ) from error
    # Damaged bytes make the readers raise nearly anything: RuntimeError, KeyError, RecursionError, ...
    except Exception as error:
        raise _corrupt(file) from error


def _corrupt(file: str) -> CheckpointError:
    kind = "safetensors" if file.lower().endswith(".safetensors") else "PyTorch"
    return CheckpointError(
        f"{file} cannot be read as a {kind} checkpoint: it is damaged, cut short or of another kind; "
        "get or save it again."
    )


def _check_unpacked_size(data: bytes, file: str, limit: int) -> None:
    """Refuse an archive whose entries unpack to far more than any checkpoint."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > limit:
        raise CheckpointError(
            f"{file} unpacks to {unpacked / 1e6:,.0f} MB, more than the {limit / 1e6:,.0f} MB that a checkpoint "
            "of this model can have; save the state dict alone."
        )


def _tensors(content: Any, file: str, notes: list[str]) -> dict[str, torch.Tensor]:
    """Unwrap the content down to its tensors, with the names that the model itself would give them."""
    for _ in range(3):
        if not isinstance(content, Mapping):
            break
        inner = [key for key in _WRAPPERS if isinstance(content.get(key), Mapping) and content[key]]
        if not inner:
            break
        if len(inner) > 1:
            notes.append(f"entry {inner[0]!r} taken, not {', '.join(map(repr, inner[1:]))}")
        content = content[inner[0]]
    named = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in named if isinstance(value, torch.Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{file} holds no state dict (a {type(content).__name__} without tensors); "
            "save one with torch.save(model.state_dict(), path)."
        )
    tensors.pop("n_averaged", None)  # the counter of torch.optim.swa_utils.AveragedModel
    tensors = {re.sub(r"(?<![^.])((module|_orig_mod)\.)+", "", name): value for name, value in tensors.items()}
    for prefix in ("model.", "net."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


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
        raise _corrupt(file)
    result = tensor.detach().to(torch.float32).contiguous()
    if not bool(torch.isfinite(result).all()):
        raise CheckpointError(
            f"{name} in {file} holds values that are not finite; use a checkpoint from before the training diverged."
        )
    return result
