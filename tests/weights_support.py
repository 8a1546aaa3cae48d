"""What the tests of weights share."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quantviz.networks import spec
from quantviz.networks.build import labels

SQUEEZENET, DEFAULT = spec("squeezenet1_1"), spec("efficientnet_lite0")
REAL = Path(os.environ.get("QUANTVIZ_REAL_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
BODY = bytes(range(256)) * 8192  # 2 MiB


def real_weights(name):
    path = REAL / "weights" / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"no real weights at {path}; set QUANTVIZ_REAL_DATA")
    return path


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty torch hub, and no proxy between the tests and their server."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("QUANTVIZ_TIMEOUT", "60")  # however slow the machine is
    return tmp_path / "torch home" / "hub" / "checkpoints"


def espresso(model, ref):
    """The model's top class for scikit-image's coffee, preprocessed by hand."""
    from skimage import data

    wanted = ref.preprocessing
    image = Image.fromarray(data.coffee())
    scale = wanted.resize / min(image.size)
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[wanted.interpolation]
    image = image.resize((round(image.width * scale), round(image.height * scale)), resample)
    left, top = (image.width - wanted.crop) // 2, (image.height - wanted.crop) // 2
    pixels = np.asarray(image.crop((left, top, left + wanted.crop, top + wanted.crop)), np.float32) / 255
    tensor = torch.from_numpy((pixels - np.float32(wanted.mean)) / np.float32(wanted.std)).permute(2, 0, 1)[None]
    with torch.no_grad():
        return labels(ref.classes)[int(model(tensor.contiguous()).argmax())]
