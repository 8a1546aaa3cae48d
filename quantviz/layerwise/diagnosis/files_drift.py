"""What each tensor of a quantized ONNX file does to the maps: quantized alone, and every tensor but it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from quantviz import images
from quantviz.comparison.files import networks_of, target_of
from quantviz.comparison.files_request import FilesRequest, preprocessing_of_files
from quantviz.comparison.loaded import deciding_versions
from quantviz.comparison.machine import backend_versions, integer_kernels
from quantviz.comparison.pair import PairRequest, compare_pair
from quantviz.layerwise.diagnosis.specs import Diagnosis, TensorDrift, TensorFigures
from quantviz.layerwise.drift import Changes, MapAndLogits, answer
from quantviz.layerwise.noise import grey_moved, is_wide, overlap
from quantviz.layerwise.specs import Drift, NoiseFloor
from quantviz.networks.onnx_files import FilePair, Opened
from quantviz.specs import (
    RGB,
    CamSpec,
    Comparison,
    ImageSample,
    Phase,
    Progress,
    StoredRecord,
    UsageError,
    digest_of,
    no_progress,
)
from quantviz.store import TensorStore

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quantviz.networks.onnx_files.editing import PairEditor

_VERSION: Final = 1
"""Raised whenever a change of the code changes a drift, so that older cache entries are not read."""
_ARRAYS: Final = ("cams", "kl", "signal", "noise", "before", "after")
_CLASSES: Final = 1000
RESIDUE: Final = 1e-3
"""Mean drift with every tensor in float from which on a note says so: more than rounding stands between the files."""


@dataclass(frozen=True)
class FileDrifts:
    """Measures changed copies of a quantized file against the float file, by way of the store.

    Each map explains the class that the float file saw in the picture.

    Attributes:
        files: which files.
        name: of the quantized file in ``comparison.files.pairs_of``.
        pair: the files.
        samples: the pictures, at least one.
        method: one of ``CAM_METHODS``.
        store: where changes are kept; None: nowhere.
    """

    files: FilesRequest
    name: str
    pair: FilePair
    samples: tuple[ImageSample, ...]
    method: str = "gradcam++"
    store: TensorStore | None = None

    def __post_init__(self) -> None:
        if not self.samples:
            raise UsageError("There is no picture to measure on; name one, or a folder of some.")

    @cached_property
    def editor(self) -> PairEditor:
        """Makes the changed copies."""
        from quantviz.networks.onnx_files.editing import PairEditor

        return PairEditor(self.pair)

    @cached_property
    def target(self) -> str:
        """The tensor of the quantized file that maps are taken at."""
        return target_of(self.files, self.pair)[1].quantized_tensor

    @cached_property
    def labels(self) -> tuple[int | None, ...]:
        """The pictures' classes, where those of the files are known."""
        known = bool(self.files.names) or self.pair.reference.logits.classes == _CLASSES
        return tuple(sample.label if known else None for sample in self.samples)

    @cached_property
    def crops(self) -> list[RGB]:
        """What the files see of each picture, uint8 (H, W, 3)."""
        return [images.crop(sample.rgb, preprocessing_of_files(self.files)) for sample in self.samples]

    @cached_property
    def before(self) -> list[MapAndLogits]:
        """The float file's answers."""
        return [self._answer(self._reference, crop, None) for crop in self.crops]

    @cached_property
    def _reference(self) -> nn.Module:
        return networks_of(self.files, self.name, self.pair)[0].module

    def _answer(self, module: nn.Module, crop: RGB, class_index: int | None) -> MapAndLogits:
        from quantviz.networks.onnx_files.network import LAYER

        return answer(module, self._input(crop), CamSpec(self.method, LAYER), class_index)

    def _input(self, crop: RGB) -> Tensor:
        import torch

        return torch.from_numpy(images.normalize(crop, preprocessing_of_files(self.files)))

    def answers(self, module: nn.Module, crops: Sequence[RGB]) -> list[MapAndLogits]:
        """Return a network's answers on crops, one for each picture, each of the class that the float file saw."""
        rows = zip(crops, self.before, strict=True)
        return [self._answer(module, crop, first.class_index) for crop, first in rows]

    def network(self, opened: Opened, names: Collection[str] = ()) -> nn.Module:
        """Return a changed copy as a network that maps are taken of.

        Args:
            opened: the copy.
            names: the tensors of it that are in float.
        """
        from quantviz.networks.onnx_files.network import OnnxNetwork

        target = self.editor.cut_at(self.target, names)
        fused = set(self.pair.matching.fused())
        return OnnxNetwork(opened, target, self._input(self.crops[0]).numpy(), fused)

    def without(self, names: Collection[str]) -> Changes:
        """Return what the quantized file changes with these tensors in float."""

        def make() -> nn.Module:
            if not names:
                return networks_of(self.files, self.name, self.pair)[1].module
            return self.network(self.editor.without(names), names)

        return self._kept(sorted(names), make)

    def compared(self, name: str, sample: ImageSample, progress: Progress = no_progress) -> Comparison:
        """Compare the float file with the quantized one of which this tensor alone is on its grid, on one picture.

        Args:
            name: of ``editor.names``.
            sample: the picture.
            progress: reports what is being done.

        Raises:
            UsageError: the tensor cannot be taken out of its rounding; or as ``with_file_drift``.
        """
        if name not in self.editor.names:
            raise UsageError(f"Tensor {name!r} is not rounded by itself, so that there is no map of it alone.")
        others = [other for other in self.editor.names if other != name]
        module = self.network(self.editor.without(others), others)
        first, second = networks_of(self.files, self.name, self.pair)
        alone = replace(second, name=f"{name} only", module=module, notes=())
        request = PairRequest(self.method, saliency=None)
        return compare_pair(first, alone, sample, request, progress=progress, same_classes=False)

    def of(self, opened: Opened) -> Changes:
        """Return what a changed copy changes, of which no tensor around the target is in float that was not."""
        digest = hashlib.sha256(opened.file.model.SerializeToString(deterministic=True)).hexdigest()
        return self._kept([digest], lambda: self.network(opened, self._taken_out(opened)))

    def _taken_out(self, opened: Opened) -> tuple[str, ...]:
        """Return the activations whose QuantizeLinear a copy no longer has."""
        nodes = opened.graph.producers
        return tuple(
            name
            for name, entry in self.editor.activations.items()
            if entry.rounded in nodes and nodes[entry.rounded].op != "QuantizeLinear"
        )

    def _kept(self, what: Sequence[str], make: Callable[[], nn.Module]) -> Changes:
        key = self._key(what)
        record = self.store.get(key) if self.store is not None else None
        if record is not None:
            return Changes(**{name: np.asarray(record.arrays[name]) for name in _ARRAYS})
        changes = Changes.of(self.before, self.answers(make(), self.crops))
        if self.store is not None:
            self.store.put(key, StoredRecord({name: getattr(changes, name) for name in _ARRAYS}))
        return changes

    def _key(self, what: Sequence[str]) -> str:
        return digest_of(
            {
                "kind": "file drift",
                "version": _VERSION,
                "versions": deciding_versions(),
                "backend": backend_versions("onnxruntime"),
                "kernels": integer_kernels(),
                "files": [self.pair.reference.file.sha256, self.pair.quantized.file.sha256],
                "target": [target_of(self.files, self.pair)[0].tensor, self.target],
                "preprocessing": preprocessing_of_files(self.files),
                "images": [sample.id for sample in self.samples],
                "method": self.method,
                "what": list(what),
            }
        )

    def floor(self) -> NoiseFloor:
        """Return the noise floor of the float file's maps on these pictures, as ``layerwise.noise_floor`` takes it."""
        preprocessing = preprocessing_of_files(self.files)
        grey = [grey_moved(crop, sample.id) for crop, sample in zip(self.crops, self.samples, strict=True)]
        wide = [is_wide(sample.rgb) for sample in self.samples]
        moved = [
            images.crop(sample.rgb, preprocessing, shift=(1, 0) if across else (0, 1))
            for sample, across in zip(self.samples, wide, strict=True)
        ]
        after = self.answers(self._reference, moved)
        twins = Changes.of(
            [overlap(one, across, slice(1, None)) for one, across in zip(self.before, wide, strict=True)],
            [overlap(one, across, slice(None, -1)) for one, across in zip(after, wide, strict=True)],
        )
        levels = Changes.of(self.before, self.answers(self._reference, grey))
        return NoiseFloor(levels.drift(self.labels), twins.drift(self.labels), None)


def with_file_drift(
    drifts: FileDrifts, diagnosis: Diagnosis, progress: Progress = no_progress, *, most: int | None = None
) -> Diagnosis:
    """Return a diagnosis of a pair of files with the CAM drift of each tensor beside its figures.

    A tensor is quantized alone where every other is taken out of its rounding: activations are passed on, weights and
    biases are the float file's.

    Args:
        drifts: of the diagnosis' files, on pictures.
        diagnosis: of ``diagnose_files``.
        progress: reports the part done.
        most: how many of the worst tensors; None for all.

    Raises:
        CheckpointError: ONNX Runtime cannot run a changed copy.
        UsageError: the file computes its grids for each input, or has no target that the float file has.
    """
    names = drifts.editor.names
    chosen = [entry for entry in ranked(diagnosis) if entry.name in names][:most]
    measured: dict[str, TensorDrift] = {}
    floor = drifts.floor().floor
    for done, entry in enumerate(chosen):
        moved = []
        for place, out in enumerate(([name for name in names if name != entry.name], [entry.name])):
            progress(f"Drift of {entry.name}", (2 * done + place) / (2 * len(chosen)), Phase.WORKING)
            moved.append(drifts.without(out).drift(drifts.labels).cam)
        measured[entry.name] = TensorDrift(moved[0], moved[1], floor)
    tensors = tuple(replace(entry, drift=measured.get(entry.name)) for entry in diagnosis.tensors)
    notes = (*diagnosis.notes, *_notes(drifts, drifts.without(names).drift(drifts.labels)))
    return replace(diagnosis, tensors=tensors, floor=floor, notes=notes)


def ranked(diagnosis: Diagnosis) -> list[TensorFigures]:
    """Return the tensors, worst first."""
    known = {entry.name: entry for entry in diagnosis.tensors}
    return [known[name] for name in diagnosis.ranking if name in known]


def _notes(drifts: FileDrifts, rest: Drift) -> list[str]:
    """Say what stays where every tensor that can be is in float."""
    if rest.cam is None or rest.cam < RESIDUE:
        return []
    left = len(drifts.editor.stored) + len(drifts.editor.activations) - len(drifts.editor.names)
    words = f"; {left} weights or biases have no float twin and stay on their grids" if left else ""
    return [
        f"With every tensor in float that can be, the maps still drift by {rest.cam:.4f}: more than rounding stands "
        f"between the files{words}."
    ]
