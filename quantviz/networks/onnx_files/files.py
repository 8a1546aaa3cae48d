"""An ONNX file of the user's: read whole, checked, and never followed outside its folder."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from quantviz.specs import CheckpointError, foreign, limits, reason_of

MAX_BYTES: Final = limits.ONNX_BYTES
"""Largest .onnx file that is opened."""

MAX_EXTERNAL_BYTES: Final = limits.ONNX_EXTERNAL_BYTES
"""Most bytes of external data; a model with them has to stay below protobuf's 2 GiB."""

OLDEST_OPSET: Final = 11

DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Domains of operators that ONNX Runtime itself brings along."""

_BLOCKED: Final = "com.microsoft.nchwc"


@dataclass(frozen=True, slots=True, eq=False)
class OnnxFile:
    """An ONNX file as it was read.

    Attributes:
        name: the file's name.
        sha256: of the file's bytes, followed by those of its external data, in hex.
        opset: version of the standard operators.
        model: the ``onnx.ModelProto``, external data within and model-local functions inlined; nobody changes it.
    """

    name: str
    sha256: str
    opset: int
    model: Any


def read(path: Path, *, external: bool = True) -> OnnxFile:
    """Read an ONNX file.

    Args:
        path: the file, of at most ``MAX_BYTES``; opset 11 or newer, no operators but ONNX's and ONNX Runtime's own.
        external: whether weights may lie in other files of the same folder, or in folders below it.

    Raises:
        CheckpointError: the file cannot be used; one sentence says why, and what to do.
    """
    import onnx
    from onnx.inliner import inline_local_functions

    data = _bytes_of(path, MAX_BYTES, path.name)
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # a parser of untrusted bytes raises nearly anything
        if found := foreign(data, "ONNX"):
            raise CheckpointError(found.sentence(path.name, "an ONNX file", "export the network as one")) from None
        raise CheckpointError(f"{path.name} is no ONNX file ({reason_of(error)}); export the network again.") from None
    if not model.graph.node:
        raise CheckpointError(f"{path.name} holds no ONNX network; export the network again.")
    opset = _opset(model, path.name)
    _check_operators(model, path.name)
    digest = hashlib.sha256(data)
    _load_external(model, path, digest, external)
    if model.functions:
        model = inline_local_functions(model)
    return OnnxFile(path.name, digest.hexdigest(), opset, model)


def identity(path: Path) -> tuple[str, int, int]:
    """Return what tells whether a file has changed: absolute path, bytes, and time of its last change in ns.

    Raises:
        CheckpointError: it does not exist or cannot be read.
    """
    status = _status(path, path.name)
    return str(path.absolute()), status.st_size, status.st_mtime_ns


def _status(path: Path, name: str) -> os.stat_result:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        folder = path.absolute().parent
        raise CheckpointError(f"{name} does not exist in {folder}; give the path of an .onnx file.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{name} cannot be read ({reason}); check its path and permissions.") from None
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f"{name} is not a regular file; give the path of an .onnx file.")
    return status


def _bytes_of(path: Path, limit: int, name: str) -> bytes:
    _status(path, name)  # first, since opening a named pipe would wait for ever
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read ({error.strerror}); check its path and permissions.") from None
    if not data or len(data) > limit:
        what = "is empty" if not data else f"has more than {limit >> 20} MiB"
        raise CheckpointError(f"{name} {what}; give an .onnx file of up to {limit >> 20} MiB.")
    return data


def _opset(model: Any, name: str) -> int:
    from onnx.defs import onnx_opset_version

    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    opset = max(versions, default=1)
    if not OLDEST_OPSET <= opset <= onnx_opset_version():
        raise CheckpointError(
            f"{name} uses opset {opset}; export it with one from {OLDEST_OPSET} to {onnx_opset_version()}."
        )
    return opset


def _check_operators(model: Any, name: str) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    graphs = [model.graph.node, *(function.node for function in model.functions)]
    for node in (node for nodes in graphs for node in nodes_within(nodes)):
        if node.domain == _BLOCKED:
            raise CheckpointError(
                f"{name} was optimized by ONNX Runtime for one kind of processor (operator {node.op_type!r} of domain "
                f"{node.domain!r}); give the file from before, or optimize it at level extended at most."
            )
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
            raise CheckpointError(
                f"{name} uses operator {node.op_type!r} of domain {node.domain!r}, which ONNX Runtime does not bring "
                "along; export the network with ONNX's own operators."
            )


def _tensors_of(model: Any) -> Iterator[Any]:
    """Yield every tensor that a model stores: initializers and attributes, in branches and loops as well."""
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in nodes_within(nodes):
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                for graph in (attribute.g, *attribute.graphs):
                    yield from graph.initializer
    yield from model.graph.initializer


def nodes_within(nodes: Any) -> Iterator[Any]:
    """Yield the nodes and those of the graphs within them (branches and loops)."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from nodes_within(graph.node)


def _load_external(model: Any, path: Path, digest: Any, allowed: bool) -> None:
    """Load tensors that lie in other files into the model, and add their bytes to the digest."""
    from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

    tensors = [tensor for tensor in _tensors_of(model) if uses_external_data(tensor)]
    total = 0
    for tensor in tensors:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        place = _inside(path, entries.get("location", ""), allowed)
        total += _length(entries, _status(place, place.name).st_size, path.name)
        if total > MAX_EXTERNAL_BYTES:
            raise CheckpointError(
                f"{path.name} keeps more than {MAX_EXTERNAL_BYTES >> 20} MiB in other files; give a smaller network."
            )
        try:
            load_external_data_for_tensor(tensor, str(path.absolute().parent))
        except Exception as error:  # whatever the library does not bear of the entries
            raise CheckpointError(
                f"{path.name} keeps weights in {place.name}, which cannot be read ({reason_of(error)}); export it "
                "again."
            ) from None
        tensor.data_location = tensor.DEFAULT
        del tensor.external_data[:]
        digest.update(tensor.raw_data)


def _inside(path: Path, location: str, allowed: bool) -> Path:
    """Return where external data lies, which must be a regular file in the model's folder or below it."""
    if not allowed:
        raise CheckpointError(f"{path.name} keeps weights in another file; save the network as one file.")
    folder = path.absolute().parent.resolve()
    try:
        place = (folder / location).resolve()
    except (OSError, ValueError):
        place = folder
    if not location or "\0" in location or Path(location).is_absolute() or folder not in place.parents:
        raise CheckpointError(
            f"{path.name} keeps weights in {location!r}, which is not in its folder; put them beside the file and "
            "export it again."
        )
    if not place.exists():
        raise CheckpointError(f"{path.name} keeps weights in {location!r}, which is missing; put that file beside it.")
    return place


def _length(entries: dict[str, str], size: int, name: str) -> int:
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
    except ValueError:
        offset, length = -1, -1
    if offset < 0 or length < 0 or offset > size or ("length" in entries and offset + length > size):
        raise CheckpointError(f"{name} names a part of another file that does not exist; export the network again.")
    return min(length, size - offset)
