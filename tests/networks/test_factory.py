"""Networks of the user's own by the function that makes them."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

import quantviz as qv
from quantviz import networks
from quantviz.networks.build import build
from quantviz.networks.permission import VARIABLE
from quantviz.specs import CheckpointError, UsageError

SOURCE = """
import torch
from torch import nn

calls = []

class Little(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        first, last = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, 2)
        self.features = nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU(), last, nn.ReLU())
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))

def little():
    calls.append(1)
    return Little()

def settled():
    model = Little()
    model.pretrained_cfg = {"input_size": (3, 64, 64), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0,
                            "interpolation": "bilinear"}
    return model

class Holder:
    make = staticmethod(little)

def fails():
    raise RuntimeError("no weights\\nat home")

def leaves():
    raise SystemExit(3)

def gives_text():
    return "a network"

def takes_tokens():
    return nn.Sequential(nn.Flatten(), nn.Linear(7, 2))

constant = 3
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Return the name of a module of the user's own, which lies in the working folder."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "factories_of_mine.py").write_text(SOURCE)
    return folder


@pytest.fixture(autouse=True)
def working_folder(mine, monkeypatch):
    monkeypatch.chdir(mine)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_a_function_gives_a_network_with_its_own_weights():
    entry = networks.spec("factories_of_mine:little")
    assert (entry.layer, entry.head, entry.family) == ("features.4", "head", "Little")
    located = networks.resolve(entry)
    assert (located.ref.source, located.path) == ("memory", None)
    model, ref = build(entry, located)
    again, ref_again = build(entry, networks.resolve(entry))
    assert ref == ref_again
    assert model is not again
    assert ref.classes == 4
    assert ref.note.startswith("The preprocessing was not given")
    assert len(sys.modules["factories_of_mine"].calls) == 1
    assert model.training is False
    assert torch.equal(model.head.weight, again.head.weight)
    networks.spec("factories_of_mine:Holder.make")


def test_it_is_compared_as_any_model_is(tmp_path):
    found = qv.compare("coffee", model="factories_of_mine:settled", saliency=None, cache=tmp_path / "cache")
    comparison = found.comparison
    assert comparison.crop.shape == (64, 64, 3)
    assert comparison.weights.source == "memory"
    assert comparison.reference.native.values.shape == (15, 15)
    assert comparison.scores["quantized_v_float"].cc > 0.9


def test_weights_of_a_file_take_the_place_of_its_own(tmp_path):
    entry = networks.spec("factories_of_mine:little")
    tensors = {name: value + 1 for name, value in build(entry, networks.resolve(entry))[0].state_dict().items()}
    tensors = {name: value.float() for name, value in tensors.items() if "num_batches" not in name}
    save_file(tensors, tmp_path / "trained.safetensors")
    model, ref = build(entry, networks.resolve(entry, str(tmp_path / "trained.safetensors")))
    assert ref.source == "file"
    assert torch.equal(model.head.weight, tensors["head.weight"])
    save_file({**tensors, "head.weight": torch.ones(5, 8)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="of another shape"):
        build(entry, networks.resolve(entry, str(tmp_path / "other.safetensors")))
    with pytest.raises(UsageError, match=r"'untrained' of factories_of_mine:little are unknown; use as made, or the"):
        networks.resolve(entry, "untrained")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "no_such_module_of_mine:f",
            "cannot be imported: ModuleNotFoundError: No module named 'no_such_module_of_mine'",
        ),
        ("factories_of_mine:nothing", "cannot be imported: AttributeError: .*nothing"),
        ("factories_of_mine:constant", "constant is a int; name a function"),
        ("factories_of_mine:fails", "the call fails: RuntimeError: no weights at home; mend it"),
        ("factories_of_mine:leaves", "the call fails: SystemExit: 3; mend it"),
        ("factories_of_mine:gives_text", "the call gives a str, not a torch.nn.Module"),
        ("factories_of_mine:takes_tokens", r"its network cannot take a picture \(1, 3, 224, 224\): RuntimeError: mat1"),
    ],
)
def test_what_goes_wrong_in_a_users_code_is_one_sentence(name, message):
    with pytest.raises(UsageError, match=message) as caught:
        networks.spec(name)
    assert "\n" not in str(caught.value)


def test_a_dashboard_makes_only_what_it_was_started_with(monkeypatch):
    networks.spec("factories_of_mine:little")  # known to this process already
    monkeypatch.setenv(VARIABLE, "")
    networks.allow(["factories_of_mine:settled"])
    networks.allow(())
    assert networks.spec("factories_of_mine:settled").layer == "features.4"
    with pytest.raises(
        UsageError, match=r"is code, which this dashboard runs only .*serve --model factories_of_mine:little"
    ):
        networks.spec("factories_of_mine:little")
    with pytest.raises(UsageError, match="is code"):
        networks.spec("os:getcwd")


def test_the_command_line_finds_the_working_folder_and_says_what_fails(mine):
    command = [sys.executable, "-P", "-m", "quantviz", "compare", "coffee", "--model", "factories_of_mine:fails"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=mine)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "quantviz: Model 'factories_of_mine:fails' cannot be used: the call fails: RuntimeError: no weights at home; "
        "mend it, or name another.\n"
    )
