"""What is timed of a pair of ONNX files: its two maps, and the two bare runs of the same files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from quantviz import cam
from quantviz.bench.paths import BARE_FILES, FILES_PAIR, Bench, Calls, inputs_of
from quantviz.networks.onnx_files import open_file, pair_of
from quantviz.specs import CamSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MODELS: Final = ("squeezenet1_1", "mobilenet_v2", "efficientnet_lite0")
"""Networks that are exported and quantized here: it takes some ten seconds each."""

_CALIBRATING = 4


def file_calls(bench: Bench, image: Tensor, class_index: int, folder: Path) -> Calls:
    """Return the two maps of a pair of ONNX files, and the two bare runs; nothing for models not in ``MODELS``.

    The network is exported by torch and quantized by ONNX Runtime's tool, in ``folder``. Files are opened, matched and
    parted before anything is timed. Bare runs are of the untouched files, in all of torch's threads, one after the
    other; the maps are made at the same time, in a thread each, where torch has two.

    Args:
        bench: the model.
        image: (1, 3, H, W) float32.
        class_index: the class to explain.
        folder: for the files.
    """
    name = bench.subject.spec.name
    if name not in MODELS or find_spec("onnxruntime") is None:
        return {}
    from quantviz.networks.onnx_files.making import make_pair
    from quantviz.networks.onnx_files.network import LAYER, OnnxNetwork
    from quantviz.networks.onnx_files.running import Runner, Tap

    examples: npt.NDArray[np.float32] = inputs_of(bench, _CALIBRATING).numpy()
    with bench.plain.locked() as module:
        pair = pair_of(*(open_file(path) for path in make_pair(module, examples, folder, name)))
    target, match = pair.target()
    threads = torch.get_num_threads()
    each = 1 if threads > 1 else threads
    networks = [
        OnnxNetwork(pair.reference, target.tensor, examples, set(), each),
        OnnxNetwork(pair.quantized, match.quantized_tensor, examples, pair.matching.fused(), each),
    ]
    spec = CamSpec(bench.cam.method, LAYER)
    runners = [Runner(one.file, [Tap(one.logits.output)], threads) for one in (pair.reference, pair.quantized)]
    values = pair.reference.form.given(image.numpy())

    def bare() -> None:
        for runner in runners:
            runner(values)

    return {
        BARE_FILES: bare,
        FILES_PAIR: lambda: cam.explain_each([(one, spec) for one in networks], image, class_index),
    }
