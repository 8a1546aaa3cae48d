"""What is timed of a pair of ONNX files: its two maps, and the two bare runs of the same files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from quantviz.bench.paths import BARE_FILES, FILES_PAIR, Bench, Calls, inputs_of
from quantviz.comparison.files import networks_of, pairs_of
from quantviz.comparison.files_request import FilesRequest
from quantviz.comparison.pair import PairRequest, explain_pair

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MODELS: Final = ("squeezenet1_1", "mobilenet_v2", "efficientnet_lite0")
"""Networks that are exported and quantized here: it takes some ten seconds each."""

_CALIBRATING = 4


def file_calls(bench: Bench, image: Tensor, folder: Path) -> Calls:
    """Return the two maps of a pair of ONNX files, and the two bare runs; nothing for models not in ``MODELS``.

    The network is exported by torch and quantized by ONNX Runtime's tool, in ``folder``. Files are opened, matched and
    parted before anything is timed. Bare runs are of the untouched files, in all of torch's threads, one after the
    other; the maps are made as ``compare_files`` makes them, the float network's top-1 explained.

    Args:
        bench: the model.
        image: (1, 3, H, W) float32.
        folder: for the files.
    """
    name = bench.subject.spec.name
    if name not in MODELS or find_spec("onnxruntime") is None:
        return {}
    from quantviz.networks.onnx_files.making import make_pair
    from quantviz.networks.onnx_files.running import Runner, Tap

    examples: npt.NDArray[np.float32] = inputs_of(bench, _CALIBRATING).numpy()
    with bench.plain.locked() as module:
        reference, quantized = make_pair(module, examples, folder, name)
    files = FilesRequest(reference, (quantized,))
    ((variant, pair),) = pairs_of(files).items()
    networks, request = networks_of(files, variant, pair), PairRequest(bench.cam.method)
    threads = torch.get_num_threads()
    runners = [Runner(one.file, [Tap(one.logits.output)], threads) for one in (pair.reference, pair.quantized)]
    values = pair.reference.form.given(image.numpy())

    def bare() -> None:
        for runner in runners:
            runner(values)

    return {
        BARE_FILES: bare,
        FILES_PAIR: lambda: explain_pair(*networks, image, request),
    }
