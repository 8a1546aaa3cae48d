"""The request for a comparison of one picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from quantviz import networks
from quantviz.comparison.deploy import BACKENDS
from quantviz.comparison.references import SPECTRAL_RESIDUAL
from quantviz.specs import CamSpec, Crop, QuantSpec, UsageError, check_deployable


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """How to compare a picture.

    Attributes:
        model: name of an architecture.
        weights: None for the default published weights, the name of others, ``"untrained"``, or a file's path.
        quant: bit-widths and scheme.
        cam: method, and target layer (None for the model's default).
        target: ``"float"``: both maps explain the float model's top-1; ``"own"``: each its own; or a class index.
        calibration: folder of calibration pictures, or None for the bundled photographs.
        saliency: None; a method's name (``"spectral_residual"``); the path of an .onnx network or of a map; or a
            map file's bytes.
        saliency_name: display name of a supplied map.
        backend: what computes activation and logits: ``"torch"``; ``"onnxruntime"``, the float and the simulated
            network's; or ``"ncnn"``, the float network's alone.
        deployed: compare the deployed network, too, which integer kernels run.
        names: of the classes, in the order of the logits; () for those of a network card, else ImageNet's.
        crop: which part of the picture the networks see; calibration pictures are cut as the weights want it.

    Raises:
        UsageError: the class rule or the backend is unknown, the scheme has no deployed form, or a crop is given for a
            protocol that stretches the whole picture.
    """

    model: str = networks.DEFAULT_MODEL
    weights: str | None = None
    quant: QuantSpec = field(default_factory=QuantSpec)
    cam: CamSpec = field(default_factory=CamSpec)
    target: Literal["float", "own"] | int = "float"
    calibration: Path | None = None
    saliency: Path | bytes | str | None = SPECTRAL_RESIDUAL
    saliency_name: str = ""
    backend: Literal["torch", "onnxruntime", "ncnn"] = "torch"
    deployed: bool = False
    names: tuple[str, ...] = ()
    crop: Crop = field(default_factory=Crop)

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UsageError(f"Backend {self.backend!r} is unknown; use one of {', '.join(BACKENDS)}.")
        if self.deployed:
            check_deployable(self.quant)
        if self.target not in ("float", "own") and type(self.target) is not int:
            raise UsageError(f"Class rule {self.target!r} is unknown; use float, own or a class index.")
        if self.crop != Crop() and "stretched_input" in self.quant.deviations:
            raise UsageError(
                f"Crop {self.crop.words!r} and protocol {self.quant.protocol!r}, which stretches the whole picture, "
                "exclude each other; leave one out."
            )
