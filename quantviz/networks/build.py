"""Located weights -> a float model ready to explain, and what can be asked of a model's structure."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from quantviz.networks import checkpoint
from quantviz.networks.attention import separate
from quantviz.networks.deferred import one_by_one
from quantviz.networks.module import state_digest
from quantviz.networks.origins import construct, load
from quantviz.networks.skeleton import blank, drawn, looked_at, untrained, without_weights
from quantviz.networks.structure import Structure, structure_of
from quantviz.networks.table import MODELS
from quantviz.networks.weights import LocatedWeights, check_published, digest_with
from quantviz.specs import LAYOUT, UNUSED, CheckpointError, ModelSpec, UsageError, WeightsRef, WeightsUnavailable

_TABLE = frozenset((entry.library, entry.constructor) for entry in MODELS.values())


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """A module that can be a CAM target layer.

    Attributes:
        name: dotted name in the model.
        kind: class name.
        channels: number of channels of its output.
        height: rows of its output's grid at the default preprocessing's crop.
        width: columns of that grid.
    """

    name: str
    kind: str
    channels: int
    height: int
    width: int


def build(spec: ModelSpec, located: LocatedWeights) -> tuple[torch.nn.Module, WeightsRef]:
    """Build a model and load its weights.

    The file's bytes are read once, checked, and parsed from memory: what was checked is what is loaded.

    Args:
        spec: the model.
        located: what ``resolve`` returned for it.

    Returns:
        The model: eval mode, float32 on the CPU, no parameter requires a gradient, no module works in place.
        And the complete description of its weights: digest, number of classes, note. Untrained weights are
        drawn with seed 0 and leave the global generator as it was; their digest is that of the state dict's
        names and bytes.

    Raises:
        CheckpointError: the user's file cannot be used with the model, or changed since it was located.
        WeightsUnavailable: published weights changed since they were located.
    """
    spec = made_for(spec, located)
    model, ref = _weighted(spec, located)
    if (spec.library, spec.constructor) in _TABLE:
        # Nothing of what follows is in a network of convolutions, and torch's shapes of convolutions on the meta device
        # take its compiler, which is a second to import.
        return _frozen(model), ref
    separate(model)
    structure = _structure(spec)
    for grid in structure.layers:
        for name in grid.names if grid.layout else ():
            setattr(model.get_submodule(name), LAYOUT, grid.layout)
    for name in structure.unused:
        setattr(model.get_submodule(name), UNUSED, True)
    return _frozen(model), replace(ref, note="; ".join(filter(None, (ref.note, _unused_words(structure.unused)))))


def made_for(spec: ModelSpec, located: LocatedWeights) -> ModelSpec:
    """Return the entry with published weights first that take another size of input, for which it is then made."""
    same = {"hub": "name", "file": "preprocessing"}.get(
        located.ref.source, ""
    )  # a file may be a copy of published ones
    first = next((one for one in spec.weights if same and getattr(one, same) == getattr(located.ref, same)), None)
    if first is None or first.preprocessing.size == spec.weights[0].preprocessing.size:
        return spec
    constructor = spec.constructor
    if spec.library == "timm":
        constructor = f"{constructor.partition('.')[0]}.{first.name}"
    others = tuple(entry for entry in spec.weights if entry is not first)
    return replace(spec, constructor=constructor, weights=(first, *others))


def _unused_words(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    heads = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
    return f"{len(names)} layers are left alone, which only training uses (in {heads})"


def _weighted(spec: ModelSpec, located: LocatedWeights) -> tuple[torch.nn.Module, WeightsRef]:
    if located.path is None and located.ref.source == "memory":
        model = construct(spec, 0)
        ref = replace(located.ref, sha256=state_digest(model), classes=_structure(spec).classes, note=spec.note)
        return model, ref
    if located.path is None:
        size = None if (spec.library, spec.constructor) in _TABLE else spec.weights[0].preprocessing.size
        model = untrained(lambda: construct(spec, 1000), scaled=spec.library == "torchvision", size=size)
        return model, replace(located.ref, sha256=_digest(model))
    data = _checked_bytes(spec, located, located.path)
    published = next((entry for entry in spec.weights if entry.source and entry.name == located.ref.name), None)
    if located.ref.source == "hub" and published is not None:
        model = load(spec, published, located.path).float()
        return model, replace(located.ref, classes=_classes(model, spec))
    empty = lru_cache(lambda classes: _empty(spec, classes))

    def shapes(classes: int) -> dict[str, tuple[int, ...]]:
        return _shapes_in(empty(classes)) if spec.name in MODELS else _shapes(spec, classes)

    loaded = checkpoint.read(data, located.path.name, spec, shapes, entry=located.entry)
    model = empty(loaded.classes)
    # Assigned, not copied: the random initialisation and a second copy of the weights are saved.
    model.load_state_dict(dict(loaded.tensors), assign=True)
    return model, replace(located.ref, classes=loaded.classes, note=loaded.note, names=loaded.names)


@lru_cache(maxsize=32)
def layers(spec: ModelSpec) -> tuple[LayerInfo, ...]:
    """List a model's layers that can be CAM target layers, in execution order.

    These are the modules, containers included, that are called exactly once a forward and give a grid
    (``structure``) with h and w above 1. They are looked for on the meta device, without weights and arithmetic.

    Args:
        spec: the model.

    Returns:
        The layers with their grids at the default preprocessing's crop.
    """
    return tuple(
        LayerInfo(name, kind, grid.channels, grid.height, grid.width)
        for grid in _structure(spec).layers
        for name, kind in zip(grid.names, grid.kinds, strict=True)
    )


@lru_cache(maxsize=32)
def _structure(spec: ModelSpec) -> Structure:
    size = spec.weights[0].preprocessing.size

    def look(model: torch.nn.Module) -> Structure:
        separate(model)
        return structure_of(model, blank(model, size, 2))

    return looked_at(lambda: construct(spec, 1000), look)


@lru_cache(maxsize=32)
def weight_layers(spec: ModelSpec) -> tuple[str, ...]:
    """List a model's convolution and linear layers by name, in order of registration: those that can be quantized."""
    kinds, unused = (torch.nn.Conv2d, torch.nn.Linear), _structure(spec).unused

    def names(model: torch.nn.Module) -> tuple[str, ...]:
        separate(model)
        return tuple(name for name, module in model.named_modules() if isinstance(module, kinds) and name not in unused)

    return looked_at(lambda: construct(spec, 1000), names)


def check_layer(spec: ModelSpec, name: str) -> str:
    """Return ``name`` if it is a layer that ``layers`` lists.

    Args:
        spec: the model.
        name: a module's dotted name.

    Returns:
        The same name.

    Raises:
        UsageError: it is none; the message has the nearest names and the default.
    """
    names = [info.name for info in layers(spec)]
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"{', '.join(near)} are near; the" if len(near) > 1 else f"did you mean {near[0]}? The" if near else "the"
    raise UsageError(
        f"Layer {name!r} of {spec.name} is unknown or has no spatial output; {hint} default is {spec.layer}."
    )


@lru_cache(maxsize=32)
def labels(classes: int) -> tuple[str, ...]:
    """Name the classes of a model.

    Args:
        classes: their number; 1,000 is taken for ImageNet's.

    Returns:
        ImageNet's names from torchvision's weights metadata, or ``"class 0"``, ``"class 1"``, ...
    """
    if classes != 1000:
        return tuple(f"class {index}" for index in range(classes))
    with one_by_one():
        from torchvision.models.resnet import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


@lru_cache(maxsize=32)
def _shapes(spec: ModelSpec, classes: int) -> dict[str, tuple[int, ...]]:
    return looked_at(lambda: construct(spec, classes), _shapes_in)


def _shapes_in(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _empty(spec: ModelSpec, classes: int) -> torch.nn.Module:
    """Return a network whose weights are going to be replaced."""
    if spec.name in MODELS:
        with without_weights():
            return construct(spec, classes)
    # Others may hold tensors that are in no state dict, such as tables of relative positions.
    with drawn():
        return construct(spec, classes)


def _classes(model: torch.nn.Module, spec: ModelSpec) -> int:
    weight = model.get_submodule(spec.head).weight
    assert isinstance(weight, torch.Tensor)
    return len(weight)


def _frozen(model: torch.nn.Module) -> torch.nn.Module:
    """Make a model safe to explain: CAM hooks keep activations that an in-place module would overwrite."""
    for module in model.modules():
        if isinstance(getattr(module, "inplace", None), bool):
            module.inplace = False  # type: ignore[assignment]
    return model.eval().requires_grad_(False)


def _digest(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + b"\0")
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _checked_bytes(spec: ModelSpec, located: LocatedWeights, path: Path) -> bytes:
    """Read the file once and make sure that it is what was located."""
    user_file = located.ref.source == "file"
    failure = CheckpointError if user_file else WeightsUnavailable
    try:
        data = path.read_bytes()
    except (OSError, MemoryError) as error:
        why = getattr(error, "strerror", None) or "not enough memory"
        raise failure(f"{path} cannot be read ({why}); check that it is still there.") from error
    digest = hashlib.sha256(data).hexdigest()
    for published in spec.weights:
        if not user_file and published.name == located.ref.name:
            check_published(spec, published, path, digest)
    if digest_with(digest, located.entry) != located.ref.sha256:
        raise failure(f"{path} changed while it was in use; try again.")
    return data
