"""What the tests of the pipeline share: a workbench, a count of forward passes, pictures."""

import pytest
import torch
from PIL import Image

from quantviz import images
from quantviz.comparison import CompareRequest, Workbench, arrays
from quantviz.store import TensorStore

SQUEEZENET = CompareRequest("squeezenet1_1", "untrained")
SAMPLE = images.bundled("chelsea")


@pytest.fixture
def store(tmp_path):
    with TensorStore(tmp_path / "store") as opened:
        yield opened


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Return a workbench on which nothing has been made."""
    with TensorStore(tmp_path_factory.mktemp("bench")) as opened:
        yield Workbench(opened)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A workbench on which the default comparison and SqueezeNet's have been made."""
    with TensorStore(tmp_path_factory.mktemp("shared")) as opened:
        bench = Workbench(opened)
        bench.compare(CompareRequest(), SAMPLE)
        bench.compare(SQUEEZENET, SAMPLE)
        yield bench


@pytest.fixture
def forwards():
    """Count the calls of all networks: each runs its first convolution once."""
    names = []

    def note(module, _inputs):
        # On the meta device, where layers are looked up, nothing is computed.
        if isinstance(module, torch.nn.Conv2d) and module.in_channels == 3 and not module.weight.is_meta:
            names.append("quantized" if hasattr(module, "input_quantizer") else "float")

    handle = torch.nn.modules.module.register_module_forward_pre_hook(note)
    yield names
    handle.remove()


def bits(comparison):
    return {name: values.tobytes() for name, values in arrays(comparison).items()}


def write_picture(path, rgb):
    Image.fromarray(rgb).save(path)
    return path


@pytest.fixture
def folder(tmp_path, noise_picture):
    made = tmp_path / "pictures"
    made.mkdir()
    for seed in range(3):
        write_picture(made / f"{seed}.png", noise_picture(seed))
    return made
