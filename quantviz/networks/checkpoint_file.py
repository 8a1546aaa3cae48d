"""A checkpoint's bytes -> named tensors, as training frameworks save them; a file's ending decides nothing.

Nothing in a file is executed: pickles are read by torch's restricted reader (``weights_only=True``) only. Beyond its
own list it may make plain values that hold settings: ``argparse.Namespace`` and numpy's scalars.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from quantviz.specs import CheckpointError, foreign, limits

_WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "weights", "params"),
    *("ema", "state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "params_ema", "module"),
)
_DEEPEST = 3
_NAMES = ("classes", "class_names", "names", "labels", "categories", "idx_to_class", "id2label", "class_to_idx")
_PLAIN = [
    argparse.Namespace,
    np.dtype,
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    *(type(np.dtype(kind)) for kind in "fdeilqBbhH?"),
]


def tensors_of(
    data: bytes, file: str, limit: int, entry: str, notes: list[str], names: list[str]
) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint, unwrapped and without the prefixes of wrapping modules.

    Args:
        data: the file's bytes.
        file: its name, for messages.
        limit: bytes that an archive may unpack to.
        entry: which of several state dicts to take, by its key or by what its names begin with; "" for the first of
            the usual keys.
        notes: what was chosen is added.
        names: of the classes, where the checkpoint has some beside its weights, are added.

    Raises:
        CheckpointError: the bytes are corrupt, hold code or no state dict, or have no such entry.
    """
    content = _parse(data, file, limit)
    names += _class_names(_metadata(data) if _is_safetensors(data) else content)
    content, prefix = _entry(content, entry, file) if entry else (_unwrapped(content, notes), "")
    named = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in named if isinstance(value, torch.Tensor)}
    if not tensors:
        if within := [key for key, value in named if _holds_tensors(value)]:
            choices = " or ".join(f"{file}#{key}" for key in within[:8])
            raise CheckpointError(
                f"{file} holds state dicts under names that say nothing of them; name one: {choices}."
            )
        raise CheckpointError(
            f"{file} holds no state dict (a {type(content).__name__} without tensors); "
            "save one with torch.save(model.state_dict(), path)."
        )
    if prefix:
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    tensors.pop("n_averaged", None)  # the counter of torch.optim.swa_utils.AveragedModel
    return {re.sub(r"(?<![^.])((module|_orig_mod)\.)+", "", name): value for name, value in tensors.items()}


def corrupt(file: str, data: bytes = b"") -> CheckpointError:
    """Return the error for bytes that cannot be read, which says what they are where that is known."""
    if found := foreign(data, "checkpoint"):
        return CheckpointError(found.sentence(file, "a checkpoint", "give the .safetensors, .pth or .pt file itself"))
    kind = "safetensors" if file.lower().endswith(".safetensors") else "PyTorch"
    return CheckpointError(
        f"{file} cannot be read as a {kind} checkpoint: it is damaged, cut short or of another kind; "
        "get or save it again."
    )


def _parse(data: bytes, file: str, limit: int) -> Any:
    """Return the object in the bytes, letting no text or warning of the readers out."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_PLAIN):
            warnings.simplefilter("ignore")
            if _is_safetensors(data):
                _check_header(data, file)
                return safetensors.torch.load(data)
            _check_archive(data, file, limit)
            return torch.load(_Counted(data), map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except _TooLong:
        raise CheckpointError(f"{file} holds more values than any checkpoint has; save the state dict alone.") from None
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is None:
            raise corrupt(file, data) from error
        raise CheckpointError(
            f"{file} holds pickled code ({code[1][:80]}), which is never run; save the weights alone with "
            "torch.save(model.state_dict(), path) or as .safetensors."
        ) from error
    # Damaged bytes make the readers raise nearly anything: RuntimeError, KeyError, RecursionError, ...
    except Exception as error:
        raise corrupt(file, data) from error


class _TooLong(BaseException):
    """A pickle goes on and on; torch's reader turns errors, not this, into others of its own."""


class _Counted(io.BytesIO):
    """Bytes that a reader of pickles may ask for a bounded number of times: it asks for each instruction."""

    steps = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.steps += 1
        if self.steps > limits.CHECKPOINT_STEPS:
            raise _TooLong
        return super().read(size)


def _is_safetensors(data: bytes) -> bool:
    """Return whether bytes begin as a safetensors file does: the header's length, then JSON."""
    return int.from_bytes(data[:8], "little") <= len(data) and data[8:9] == b"{"


def _metadata(data: bytes) -> dict[str, Any]:
    """Return the texts that a safetensors file has beside its tensors; those that are JSON, read."""
    length = int.from_bytes(data[:8], "little")
    texts = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    found: dict[str, Any] = {}
    for name, text in texts.items():
        with contextlib.suppress(ValueError, RecursionError):
            found[name] = json.loads(text)
    return found


def _class_names(content: Any) -> list[str]:
    """Return the names of the classes under one of the usual keys, in their order; [] where there are none.

    A list of names, a table of names by index, or one of indices by name, as torchvision's ImageFolder has it.
    """
    for key in _NAMES:
        value = content.get(key) if isinstance(content, Mapping) else None
        if isinstance(value, Mapping) and key == "class_to_idx":
            value = {index: name for name, index in value.items()}
        if isinstance(value, Mapping):
            value = [value.get(index, value.get(str(index))) for index in range(len(value))]
        if isinstance(value, list | tuple) and value and all(isinstance(name, str) and name.strip() for name in value):
            return [name.strip() for name in value]
    return []


def _check_header(data: bytes, file: str) -> None:
    """Refuse a safetensors file of more tensors than any network has: each takes time to be made."""
    header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    _check_count(max(header.count(b"data_offsets"), header.count(b"{")), len(header), limits.CHECKPOINT_HEADER, file)


def _check_count(tensors: int, described: int, most: int, file: str) -> None:
    if tensors > limits.CHECKPOINT_TENSORS or described > most:
        held = "1 tensor" if tensors == 1 else f"{tensors:,} tensors"
        raise CheckpointError(
            f"{file} holds {held}, described in {described:,} bytes; a checkpoint may have "
            f"{limits.CHECKPOINT_TENSORS:,} in {most:,}. Save the state dict alone."
        )


def _check_archive(data: bytes, file: str, limit: int) -> None:
    """Refuse an archive that unpacks to far more than any checkpoint, or whose pickle is longer than any has."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
    described = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    _check_count(len(entries), described, limits.CHECKPOINT_PICKLE, file)
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > limit:
        raise CheckpointError(
            f"{file} unpacks to {unpacked / 1e6:,.0f} MB, more than the {limit / 1e6:,.0f} MB that a checkpoint "
            "of this model can have; save the state dict alone."
        )


def _unwrapped(content: Any, notes: list[str]) -> Any:
    """Return what is under the usual keys."""
    for _ in range(_DEEPEST):
        inner = _inner(content, _WRAPPERS)
        if not inner:
            break
        if len(inner) > 1:
            notes.append(f"entry {inner[0]!r} taken, not {', '.join(map(repr, inner[1:]))}")
        content = content[inner[0]]
    return content


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(inner, torch.Tensor) for inner in value.values())


def _inner(content: Any, keys: tuple[str, ...]) -> list[str]:
    if not isinstance(content, Mapping):
        return []
    return [key for key in keys if isinstance(content.get(key), Mapping) and content[key]]


def _entry(content: Any, entry: str, file: str) -> tuple[Any, str]:
    """Return the mapping that a key names, or the one in which names begin with ``entry``, and that prefix.

    Raises:
        CheckpointError: there is neither.
    """
    levels = list(_levels(content, _DEEPEST))
    for level in levels:
        if _inner(level, (entry,)):
            return _unwrapped(level[entry], []), ""
    prefix = f"{entry.removesuffix('.')}."
    for level in levels:
        if any(str(name).startswith(prefix) for name, value in level.items() if isinstance(value, torch.Tensor)):
            return level, prefix
    known = dict.fromkeys(str(key) for level in levels for key in level if _inner(level, (key,)))
    raise CheckpointError(f"{file} has no entry {entry!r}; use one of {', '.join(known) or 'none: it has no entries'}.")


def _levels(content: Any, depth: int) -> Iterator[Mapping[Any, Any]]:
    if isinstance(content, Mapping):
        yield content
        for value in content.values() if depth else ():
            yield from _levels(value, depth - 1)
