"""The ways to a map by ONNX Runtime, by ncnn and on integer kernels that the benchmark times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from quantviz import cam
from quantviz.pipeline.bench_paths import DEPLOYED_PAIR, ENGINE_FLOAT, NCNN_FLOAT, NCNN_PAIR
from quantviz.pipeline.compare import Workbench
from quantviz.pipeline.networks import Subject
from quantviz.specs import CamSpec, QuantSpec, no_progress

if TYPE_CHECKING:
    from quantviz.engine import Split


def engine_maps(
    workbench: Workbench, subject: Subject, cam_spec: CamSpec, quant: QuantSpec, image: Tensor, class_index: int
) -> dict[str, Callable[[], Any]]:
    """Return what is timed: a float map by ONNX Runtime and by ncnn, and each with a deployed int8 map.

    ncnn is left out where it cannot run a network. The two maps of a pair are made at the same time, in a thread each,
    where torch has two.

    Args:
        workbench: with the networks.
        subject: which network, and its layer.
        cam_spec: method; the layer is the subject's.
        quant: as in ``deploy.check_deployable``.
        image: (1, 3, H, W) float32.
        class_index: the class to explain.

    Raises:
        as ``Engines.deployed``.
    """
    engines = workbench.engines

    def maps(*networks: Split) -> Callable[[], Any]:
        wanted = [(network, replace(cam_spec, layer=network.layer)) for network in networks]
        return lambda: cam.explain_each(wanted, image, class_index)

    each = 1 if torch.get_num_threads() > 1 else None
    deployed = engines.deployed(subject, quant, no_progress, each)
    names = {"onnxruntime": (ENGINE_FLOAT, DEPLOYED_PAIR)}
    if not engines.prepare(subject, QuantSpec(), no_progress, "ncnn"):
        names["ncnn"] = (NCNN_FLOAT, NCNN_PAIR)
    found = {}
    for engine, (alone, pair) in names.items():
        found[alone] = maps(engines.reference(subject, no_progress, engine))
        found[pair] = maps(engines.reference(subject, no_progress, engine, each), deployed)
    return found
