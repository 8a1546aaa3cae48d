"""A float and a quantized file beside each other: which tensors are the same, and what differs that should not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from quantviz.networks.onnx_files.matching import BY_TOPOLOGY, Matching, TensorMatch
from quantviz.networks.onnx_files.opened import Opened
from quantviz.networks.onnx_files.targets import Target, shape_of
from quantviz.specs import UsageError


@dataclass(frozen=True, slots=True)
class Difference:
    """A tensor whose shape is another one in the quantized file.

    Attributes:
        match: the tensor's names.
        float_shape: for one picture.
        quantized_shape: for the same picture.
    """

    match: TensorMatch
    float_shape: tuple[int, ...]
    quantized_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FilePair:
    """A float and a quantized file of one network.

    Attributes:
        reference: the float file.
        quantized: the quantized file.
        matching: finds the float file's tensors in the quantized file.
        matches: of every tensor that has one, in the float file's order.
        differences: those whose shapes differ, in that order.
    """

    reference: Opened
    quantized: Opened
    matching: Matching
    matches: tuple[TensorMatch, ...]
    differences: tuple[Difference, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """What differs between the files and should not, a sentence each."""
        found = []
        first, second = self.reference, self.quantized
        if self.differences:
            entry = self.differences[0]
            found.append(
                f"Shapes differ, first at {entry.match.float_tensor}: {_words(entry.float_shape)} in "
                f"{first.file.name}, {_words(entry.quantized_shape)} in {second.file.name}; the export or the "
                "quantizer changed the network."
            )
        if first.logits.classes != second.logits.classes:
            found.append(
                f"Numbers of classes differ: {first.logits.classes} in {first.file.name}, {second.logits.classes} in "
                f"{second.file.name}; they are not the same network."
            )
        if first.size != second.size:
            found.append(
                f"Input sizes differ: {_words(first.size)} pixels in {first.file.name}, {_words(second.size)} in "
                f"{second.file.name}."
            )
        return tuple(found)

    def target(self, layer: str | None = None) -> tuple[Target, TensorMatch]:
        """Return the float file's target and its match.

        Args:
            layer: a tensor of the float file, or of the quantized file; None for the default.

        Raises:
            UsageError: there is no such target, or nothing in the quantized file stands for it.
        """
        if layer is not None and layer not in {target.tensor for target in self.reference.targets}:
            layer = next((match.float_tensor for match in self.matches if match.quantized_tensor == layer), layer)
        target = self.reference.target(layer)
        match = self.matching.of(target.tensor)
        if match is None or not self._is_grid(match.quantized_tensor):
            others = [entry.float_tensor for entry in self.matches]
            hint = next((entry.tensor for entry in reversed(self.reference.targets) if entry.tensor in others), "")
            advice = f"name {hint} as target" if hint else "give files of the same network"
            raise UsageError(
                f"Nothing in {self.quantized.file.name} stands for tensor {target.tensor!r} of "
                f"{self.reference.file.name}; {advice}."
            )
        return target, match

    def _is_grid(self, tensor: str) -> bool:
        """Tell whether a tensor of the quantized file is a target; what stands for one may lie in another layout."""
        if tensor in {target.tensor for target in self.quantized.targets}:
            return True
        layouts = [target.shape for target in self.reference.targets if target.folding is None]
        return shape_of(self.quantized.graph, self.quantized.shapes, tensor)[1:] in layouts


def pair_of(reference: Opened, quantized: Opened) -> FilePair:
    """Return two files beside each other.

    Args:
        reference: the float file.
        quantized: the quantized file.
    """
    matching = Matching(reference.graph, quantized.graph, (reference.logits.tensor, quantized.logits.tensor))
    matches = tuple(matching.all())
    differences = []
    for match in matches:
        if match.float_tensor == reference.logits.tensor:  # the number of classes is a finding of its own
            continue
        first = shape_of(reference.graph, reference.shapes, match.float_tensor)
        second = shape_of(quantized.graph, quantized.shapes, match.quantized_tensor)
        if match.how == BY_TOPOLOGY and math.prod(first) == math.prod(second):
            continue  # the place in the graph leaves open which side of a Reshape is meant
        if first and second and _sides(first) != _sides(second) and reference.size == quantized.size:
            differences.append(Difference(match, first, second))
    return FilePair(reference, quantized, matching, matches, tuple(differences))


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without dimensions of 1, which tools add and leave out."""
    return tuple(side for side in shape if side != 1)


def _words(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
