"""Located weights -> a float model ready to explain, and what can be asked of a model's structure."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch

from quantviz.networks import checkpoint
from quantviz.networks.origins import construct, load
from quantviz.networks.skeleton import blank, drawn, looked_at
from quantviz.networks.table import MODELS
from quantviz.networks.weights import LocatedWeights, check_published
from quantviz.specs import CheckpointError, ModelSpec, UsageError, WeightsRef, WeightsUnavailable


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
    if located.path is None:
        model = _untrained(spec)
        return _frozen(model), replace(located.ref, sha256=_digest(model))
    data = _checked_bytes(spec, located, located.path)
    published = next((entry for entry in spec.weights if entry.source and entry.name == located.ref.name), None)
    if located.ref.source == "hub" and published is not None:
        model = load(spec, published, located.path).float()
        return _frozen(model), replace(located.ref, classes=_classes(model, spec))
    loaded = checkpoint.read(data, located.path.name, spec, lambda classes: _shapes(spec, classes))
    model = _empty(spec, loaded.classes)
    # Assigned, not copied: the random initialisation and a second copy of the weights are saved.
    model.load_state_dict(dict(loaded.tensors), assign=True)
    return _frozen(model), replace(located.ref, classes=loaded.classes, note=loaded.note)


@lru_cache(maxsize=32)
def layers(spec: ModelSpec) -> tuple[LayerInfo, ...]:
    """List a model's convolution-stage layers, which can be CAM target layers, in execution order.

    These are the modules, containers included, that are called exactly once a forward and return one tensor
    (1, C, h, w) with h and w above 1. They are looked for on the meta device, without weights and arithmetic.

    Args:
        spec: the model.

    Returns:
        The layers with their grids at the default preprocessing's crop.
    """
    return looked_at(lambda: construct(spec, 1000), lambda model: _run(model, spec.weights[0].preprocessing.crop))


def _run(model: torch.nn.Module, side: int) -> tuple[LayerInfo, ...]:
    calls: Counter[str] = Counter()
    infos: dict[str, LayerInfo] = {}

    def note(name: str, module: torch.nn.Module, output: object) -> None:
        calls[name] += 1
        if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            _, channels, height, width = output.shape
            infos[name] = LayerInfo(name, type(module).__name__, channels, height, width)

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(lambda module, _, output, name=name: note(name, module, output))
    model(blank(model, side))
    return tuple(info for name, info in infos.items() if calls[name] == 1)


@lru_cache(maxsize=32)
def weight_layers(spec: ModelSpec) -> tuple[str, ...]:
    """List a model's convolution and linear layers by name, in order of registration: those that can be quantized."""
    kinds = (torch.nn.Conv2d, torch.nn.Linear)

    def names(model: torch.nn.Module) -> tuple[str, ...]:
        return tuple(name for name, module in model.named_modules() if isinstance(module, kinds))

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
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


@lru_cache(maxsize=32)
def _shapes(spec: ModelSpec, classes: int) -> dict[str, tuple[int, ...]]:
    def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in model.state_dict().items()}

    return looked_at(lambda: construct(spec, classes), shapes)


def _empty(spec: ModelSpec, classes: int) -> torch.nn.Module:
    """Return a network whose weights are going to be replaced."""
    if spec.name in MODELS:
        with torch.device("meta"):
            return construct(spec, classes)
    # Others may hold tensors that are in no state dict, such as tables of relative positions.
    with drawn():
        return construct(spec, classes)


def _classes(model: torch.nn.Module, spec: ModelSpec) -> int:
    weight = model.get_submodule(spec.head).weight
    assert isinstance(weight, torch.Tensor)
    return len(weight)


def _untrained(spec: ModelSpec) -> torch.nn.Module:
    with drawn():
        model = construct(spec, 1000).float()
    if spec.library == "torchvision":
        _keep_signal(model)
    return model


@torch.no_grad()
def _keep_signal(model: torch.nn.Module) -> None:
    """Undo what makes the activations of an untrained network vanish, so that maps can be made of them.

    torch.nn.init.kaiming_normal_(mode="fan_out") counts the fan of a grouped convolution as if it were dense,
    and squeeze-and-excitation gates start half shut; together they leave 1e-14 at the end of efficientnet_b0.
    """
    from torchvision.ops import SqueezeExcitation

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.mul_(math.sqrt(module.groups))
        elif isinstance(module, SqueezeExcitation):
            module.fc2.bias.fill_(4.0)  # sigmoid(4) = 0.98: open


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
    if digest != located.ref.sha256:
        raise failure(f"{path} changed while it was in use; try again.")
    return data
