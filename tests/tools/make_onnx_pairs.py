"""Write the small quantized files that other tools than ONNX Runtime's make, for tests/networks/onnx.

They are kept because these tools are no dependencies: `pip install nncf torchao`, then `PYTHONPATH=.:tests python
tests/tools/make_onnx_pairs.py`. Made with nncf 3.4.0 and torchao 0.18.0.
"""

import tempfile
from pathlib import Path

import nncf
import onnx
import torch
from onnx_support import CLASSES, pictures, saved, small
from torch import nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
from torchao.testing.pt2e import _xnnpack_quantizer as xnnpack

FOLDER = Path(__file__).parent.parent / "networks" / "onnx" / "made"


class Network(nn.Module):
    """Batch normalization, a residual around a depthwise convolution with ReLU6, pooling and one linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.point = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 16, 3, 2, 1)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, values):
        values = self.norm(self.stem(values)).relu()
        values = values + self.point(nn.functional.hardtanh(self.deep(values), 0, 6))
        return self.head(self.last(values).relu().mean((2, 3)))


def keep(model, name):
    """Save a model without what says on which machine, from which lines it was made."""
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        part.doc_string = ""
        del part.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    del model.metadata_props[:], model.graph.value_info[:]
    saved(FOLDER, model, name)


def exported(module, example):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        names = {"input_names": ["input"], "output_names": ["logits"]}
        torch.onnx.export(module, (example,), path, dynamo=True, external_data=False, verbose=False, **names)
        return onnx.load(path)


def main():
    FOLDER.mkdir(exist_ok=True)
    calibration = [entry[None] for entry in pictures(16, seed=1)]
    keep(nncf.quantize(small(), nncf.Dataset([{"input": entry} for entry in calibration])), "nncf.onnx")
    torch.manual_seed(0)
    module, example = Network().eval(), torch.from_numpy(calibration[0])
    keep(exported(module, example), "torch.onnx")
    quantizers = {
        "pt2e-x86.onnx": x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config()),
        "pt2e-xnnpack.onnx": xnnpack.XNNPACKQuantizer().set_global(
            xnnpack.get_symmetric_quantization_config(is_per_channel=True)
        ),
    }
    for name, quantizer in quantizers.items():
        prepared = prepare_pt2e(torch.export.export(module, (example,)).module(), quantizer)
        for entry in calibration:
            prepared(torch.from_numpy(entry))
        keep(exported(convert_pt2e(prepared), example), name)


if __name__ == "__main__":
    main()
