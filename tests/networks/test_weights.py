"""Weights of files: real ones, every spelling of a checkpoint, and hostile ones."""

import argparse
import hashlib
import io
import itertools
import os
import pickle
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
import weights_support
from weights_support import BODY, DEFAULT, SQUEEZENET, espresso, real_weights

from quantviz.networks import fetch, resolve, spec
from quantviz.networks.build import build
from quantviz.networks.weights import largest_file
from quantviz.specs import CheckpointError

home = weights_support.home


# Reading


def test_the_bundled_weights_know_coffee(home):
    located = resolve(DEFAULT)
    assert fetch(DEFAULT) == located.path
    model, ref = build(DEFAULT, located)
    assert (ref.source, ref.sha256[:8], ref.classes, ref.note) == ("bundled", "57934424", 1000, "")
    assert espresso(model, ref) == "espresso"
    assert not any(module.training or getattr(module, "inplace", False) for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_a_users_safetensors_file(name):
    path = real_weights(name)
    located = resolve(spec(name), str(path))
    model, ref = build(spec(name), located)
    assert ref == replace(located.ref, note=ref.note)
    assert (ref.source, ref.name) == ("file", path.name)
    assert ref.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert espresso(model, ref) == "espresso"


@pytest.fixture(scope="module")
def seeded():
    """State dicts of seeded models, by name and number of classes."""

    def make(name, classes=1000):
        from torchvision.models import get_model

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return get_model(name, weights=None, num_classes=classes).state_dict()

    return make


def load(entry, path):
    return build(entry, resolve(entry, str(path)))


def same(model, tensors):
    own = model.state_dict()
    return all(torch.equal(own[name], value.float()) for name, value in tensors.items() if name in own)


@pytest.mark.parametrize(
    ("wrapper", "suffix"),
    [(None, ".pth"), ("state_dict", ".pt"), ("model", ".PTH"), ("model_state_dict", ".pth"), ("net", ".pth")],
)
def test_wrapped_and_prefixed_checkpoints(tmp_path, seeded, suffix, wrapper):
    tensors = seeded("squeezenet1_1", 7)
    named = {f"module._orig_mod.{name}": value for name, value in tensors.items()}
    path = tmp_path / f"tuned{suffix}"
    torch.save({wrapper: named, "epoch": 3, "optimizer": {"state": {}}} if wrapper else named, path)
    model, ref = load(SQUEEZENET, path)
    assert same(model, tensors)
    assert (ref.classes, ref.note, ref.name) == (7, "", path.name)
    assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 7)


def test_of_two_state_dicts_one_is_taken_and_told(tmp_path, seeded):
    tensors = seeded("squeezenet1_1")
    path = tmp_path / "two.pth"
    torch.save({"ema": {k: v + 1 for k, v in tensors.items()}, "model": tensors}, path)
    model, ref = load(SQUEEZENET, path)
    assert same(model, tensors)
    assert ref.note == "entry 'model' taken, not 'ema'"


def test_an_entry_can_be_picked_by_its_key(tmp_path, seeded):
    tensors = seeded("squeezenet1_1")
    path = tmp_path / "both.pth.tar"
    average = {f"module.{name}": value + 1 for name, value in tensors.items()}
    torch.save({"arch": "x", "state_dict": tensors, "state_dict_ema": average}, path)
    plain, plain_ref = load(SQUEEZENET, path)
    model, ref = build(SQUEEZENET, resolve(SQUEEZENET, f"{path}#state_dict_ema"))
    assert same(plain, tensors)
    assert same(model, {name: value + 1 for name, value in tensors.items()})
    assert plain_ref.note == "entry 'state_dict' taken, not 'state_dict_ema'"
    assert (ref.note, ref.name) == ("", "both.pth.tar#state_dict_ema")
    assert ref.sha256 != plain_ref.sha256  # the cache must not take one for the other
    with pytest.raises(CheckpointError, match=r"has no entry 'emu'; use one of state_dict, state_dict_ema"):
        build(SQUEEZENET, resolve(SQUEEZENET, f"{path}#emu"))


def test_a_lightning_checkpoint_with_an_average_beside_the_model(tmp_path, seeded):
    tensors = seeded("squeezenet1_1", 9)
    named = {f"model.{name}": value for name, value in tensors.items()}
    named |= {f"ema_model.module.{name}": value + 1 for name, value in tensors.items()}
    named |= {"criterion.weight": torch.ones(9)}
    path = tmp_path / "epoch=3.ckpt"
    torch.save({"state_dict": named, "hyper_parameters": argparse.Namespace(lr=np.float64(0.1)), "epoch": 3}, path)
    model, ref = load(SQUEEZENET, path)
    assert same(model, tensors)
    assert ref.note == "entries of 'model' taken, not of 'ema_model'; 1 entries outside 'model' ignored"
    average, _ = build(SQUEEZENET, resolve(SQUEEZENET, f"{path}#ema_model"))
    assert same(average, {name: value + 1 for name, value in tensors.items()})


@pytest.mark.parametrize("ending", [".bin", ".ckpt", ".pt", ""])
@pytest.mark.parametrize("kind", ["safetensors", "torch", "torch before 1.6"])
def test_what_a_file_is_decides_and_not_its_ending(tmp_path, seeded, ending, kind):
    tensors, path = seeded("squeezenet1_1"), tmp_path / f"weights{ending}"
    if kind == "safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=kind == "torch")
    assert same(load(SQUEEZENET, path)[0], tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, seeded, dtype):
    tensors = {name: value.to(dtype) for name, value in seeded("squeezenet1_1").items()}
    path = tmp_path / "half.safetensors"
    safetensors.torch.save_file(tensors, path)
    model, ref = load(SQUEEZENET, path)
    assert same(model, tensors)
    assert ref.note == f"{str(dtype).removeprefix('torch.')} converted to float32"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_old_densenet_names_and_missing_counters(tmp_path, seeded):
    tensors = {k: v for k, v in seeded("densenet121").items() if not k.endswith("num_batches_tracked")}
    old = {}
    for name, value in tensors.items():
        for leaf, index in itertools.product(("norm", "conv"), "12"):
            if "denselayer" in name:
                name = name.replace(f".{leaf}{index}.", f".{leaf}.{index}.")
        old[name] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    path = tmp_path / "densenet.pth"
    torch.save(old, path)
    model, _ = load(spec("densenet121"), path)
    assert same(model, tensors)


def test_lite0_under_both_namings_and_with_other_classes(tmp_path):
    bundled, _ = build(DEFAULT, resolve(DEFAULT))
    theirs = torch.load(resolve(DEFAULT).path, weights_only=True)
    own = bundled.state_dict()
    safetensors.torch.save_file(own, tmp_path / "timm.safetensors")
    assert same(load(DEFAULT, tmp_path / "timm.safetensors")[0], own)
    theirs["_fc.weight"], theirs["_fc.bias"] = torch.ones(5, 1280), torch.zeros(5)
    torch.save(theirs, tmp_path / "tuned.pth")
    model, ref = load(DEFAULT, tmp_path / "tuned.pth")
    assert ref.classes == 5
    assert torch.equal(model.bn2.running_var, own["bn2.running_var"])


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_checkpoints_of_quantization_aware_training(tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchvision.models import quantization

        trained = getattr(quantization, name)(weights=None, quantize=False).train()
        trained.fuse_model(is_qat=True)
        trained.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
        torch.ao.quantization.prepare_qat(trained, inplace=True)
        with torch.no_grad():
            for key, value in trained.state_dict().items():
                if key.endswith("running_var"):
                    value.uniform_(0.5, 2)
        # Evaluated in float: observers and fake quantization off.
        trained.apply(torch.ao.quantization.disable_observer).apply(torch.ao.quantization.disable_fake_quant)
        trained.eval()
        torch.save(trained.state_dict(), tmp_path / "qat.pth")
        picture = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = trained(picture)
    model, ref = load(spec(name), tmp_path / "qat.pth")
    with torch.no_grad():
        found = model(picture)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))
    assert "observer and fake-quantization entries ignored" in ref.note


def test_a_copy_of_published_weights_keeps_their_preprocessing(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(BODY)
    resnet = spec("resnet50")
    second = replace(resnet.weights[1], sha256=hashlib.sha256(BODY).hexdigest()[:8])
    assert resolve(resnet, str(path)).ref.preprocessing.resize == 256
    assert resolve(replace(resnet, weights=(resnet.weights[0], second)), str(path)).ref.preprocessing.resize == 232


# Refusing
class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4, "torch"])
def test_pickled_code_is_not_run(tmp_path, protocol):
    path, proof = tmp_path / "bad.pth", tmp_path / "executed"
    content = {"state_dict": Malicious(proof)}
    if protocol == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol))
    # torch's restricted reader knows protocol 2 only; of the others it does not even get to the code.
    readable = protocol in (2, "torch")
    why = r"holds pickled code \(posix\.mkdir\), which is never run" if readable else "cannot be read as a PyTorch"
    with pytest.raises(CheckpointError, match=why):
        load(SQUEEZENET, path)
    assert not proof.exists()


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"pickled code \(torch\.nn\.modules\.linear\.Linear\)"):
        load(SQUEEZENET, tmp_path / "model.pt")


def damaged(kind, tensors):
    file = io.BytesIO()
    torch.save(tensors, file)
    good = file.getvalue()
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(largest_file(SQUEEZENET) + 1))
    return {
        "noise": np.random.default_rng(0).bytes(5000),
        "text": b"<html>not found</html>",
        "cut short": good[: len(good) // 2],
        "bomb": bomb.getvalue(),
        "zip": b"PK\x05\x06" + bytes(18),
        "huge header": (1 << 60).to_bytes(8, "little") + b"{}",
    }[kind]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", ["noise", "text", "cut short", "bomb", "zip", "huge header"])
def test_damaged_files(tmp_path, seeded, kind, suffix):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(damaged(kind, seeded("squeezenet1_1")))
    with pytest.raises(
        CheckpointError,
        match=r"damaged\.\w+ (cannot be read as a|unpacks to|holds 1 tensor, described in|is a web page)",
    ) as caught:
        load(SQUEEZENET, path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_checkpoint(tmp_path):
    (tmp_path / "empty.pth").touch()
    (tmp_path / "folder.pth").mkdir()
    os.mkfifo(tmp_path / "pipe.pth")
    with (tmp_path / "huge.pth").open("wb") as file:
        file.truncate(largest_file(SQUEEZENET) + 1)
    for name, why in {
        "empty.pth": "is empty",
        "folder.pth": "is a folder",
        "pipe.pth": "is not a regular file",
        "huge.pth": "more than any checkpoint of squeezenet1_1",
        "absent.pth": r"cannot be opened \(No such file or directory\)",
        "nul\0.pth": r"cannot be opened \(embedded null byte\)",
        "long" * 99 + ".pth": r"cannot be opened \(File name too long\)",
    }.items():
        with pytest.raises(CheckpointError, match=why):
            resolve(SQUEEZENET, str(tmp_path / name))


@pytest.mark.parametrize("content", [3, [1, 2], {}, {"epoch": 3}, {"state_dict": {"a": 1}}])
def test_a_file_without_tensors(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"holds no state dict"):
        load(SQUEEZENET, tmp_path / "odd.pth")


def test_another_architecture_is_counted_out(tmp_path, seeded):
    torch.save(seeded("mobilenet_v2"), tmp_path / "other.pth")
    with pytest.raises(
        CheckpointError,
        match=r"other\.pth does not fit squeezenet1_1: 50 of its 52 entries are missing \(such as "
        r"'features\.0\.weight'\), 260 are unexpected \(such as .*\), 1 of another shape \(such as "
        r"'classifier\.1\.weight', \(1000, 1280\) instead of \(1000, 512, 1, 1\)\)",
    ):
        load(SQUEEZENET, tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t | {"features.0.bias": torch.full((64,), torch.nan)}, r"features\.0\.bias.*not finite"),
        (lambda t: t | {"features.0.bias": torch.full((64,), 1e300, dtype=torch.float64)}, "not finite"),
        (lambda t: t | {"features.0.bias": torch.zeros(64, dtype=torch.int8)}, "is int8, not plain"),
        (lambda t: t | {"features.0.bias": torch.zeros(64).to_sparse()}, "not plain floating-point"),
        (lambda t: t | {"features.0.bias": torch.zeros(64, dtype=torch.complex64)}, "is complex64"),
        (lambda t: t | {"features.0.bias": torch.zeros(64, device="meta")}, "not plain"),
        (lambda t: t | {"classifier.1.weight": torch.zeros(())}, "of another shape"),
        (
            lambda t: (
                t
                | {
                    "classifier.1.weight": torch.zeros(1).expand(1 << 30, 512, 1, 1),
                    "classifier.1.bias": torch.zeros(1).expand(1 << 30),
                }
            ),
            "damaged",
        ),
    ],
)
def test_weights_that_no_model_can_have(tmp_path, seeded, change, why):
    torch.save(change(dict(seeded("squeezenet1_1"))), tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=why) as caught:
        load(SQUEEZENET, tmp_path / "odd.pth")
    assert "\n" not in str(caught.value)


def test_a_file_that_changes_after_it_was_found_is_not_loaded(tmp_path, seeded):
    path = tmp_path / "moving.pth"
    torch.save(seeded("squeezenet1_1"), path)
    located = resolve(SQUEEZENET, str(path))
    torch.save(seeded("squeezenet1_1", 3), path)
    with pytest.raises(CheckpointError, match="changed while it was in use"):
        build(SQUEEZENET, located)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        build(SQUEEZENET, located)


def test_state_dicts_under_names_of_ones_own_are_named(tmp_path, seeded):
    tensors = seeded("squeezenet1_1")
    torch.save({"teacher": tensors, "student": {k: v + 1 for k, v in tensors.items()}}, tmp_path / "two.pth")
    with pytest.raises(CheckpointError, match=r"name one: two\.pth#teacher or two\.pth#student\."):
        load(SQUEEZENET, tmp_path / "two.pth")
    _, ref = build(SQUEEZENET, resolve(SQUEEZENET, f"{tmp_path / 'two.pth'}#teacher"))
    assert ref.name == "two.pth#teacher"
