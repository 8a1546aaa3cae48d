"""Weights: found in the right place, checked, downloaded from a real server, and fitted to their model."""

import hashlib
import http.server
import io
import itertools
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from quantviz.specs import CheckpointError, PublishedWeights, UsageError, WeightsUnavailable
from quantviz.zoo import fetch, resolve, spec, state
from quantviz.zoo.build import build, labels
from quantviz.zoo.weights import hub_folder, largest_file

SQUEEZENET, DEFAULT = spec("squeezenet1_1"), spec("efficientnet_lite0")
REAL = Path(os.environ.get("QUANTVIZ_REAL_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
BODY = bytes(range(256)) * 8192  # 2 MiB


def real_weights(name):
    path = REAL / "weights" / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"no real weights at {path}; set QUANTVIZ_REAL_DATA")
    return path


def hub_spec(content, of=SQUEEZENET):
    """The model with one published file, whose digest is that of ``content``."""
    digest = hashlib.sha256(content).hexdigest()
    entry = PublishedWeights("IMAGENET1K_V1", f"made_up-{digest[:8]}.pth", digest[:8], of.weights[0].preprocessing)
    return replace(of, weights=(entry,))


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        try:
            getattr(self, self.server.manner)(self.server.content)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def start(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def whole(self, content):
        self.start(len(content))
        self.wfile.write(content)

    def no_length(self, content):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def endless(self, content):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(content)

    def half(self, content):
        self.start(len(content))
        self.wfile.write(content[: len(content) // 2])

    def silent(self, content):
        self.server.released.wait(30)

    def half_then_silent(self, content):
        self.half(content)
        self.wfile.flush()
        self.server.released.wait(30)

    def trickle(self, content):
        self.start(len(content))
        for byte in content:
            self.wfile.write(bytes([byte]))
            if self.server.released.wait(0.05):
                return

    def trickling_headers(self, content):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not self.server.released.wait(0.05):
            self.wfile.write(b"X: y\r\n")

    def absent(self, content):
        self.send_error(404)

    def broken(self, content):
        self.send_error(500)

    def loop(self, content):
        self.send_response(302)
        self.send_header("Location", self.path)
        self.end_headers()

    def no_http(self, content):
        self.wfile.write(b"nonsense\r\n\r\n")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty torch hub, and no proxy between the tests and their server."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("QUANTVIZ_TIMEOUT", "0.6")
    return tmp_path / "torch home" / "hub" / "checkpoints"


@pytest.fixture
def server(home, monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.content, server.manner, server.asked = BODY, "whole", []
    server.released = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("QUANTVIZ_WEIGHTS_URL", f"http://127.0.0.1:{server.server_port}/models")
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def left_behind(home):
    return sorted(home.iterdir()) if home.exists() else []


# Finding


@pytest.mark.parametrize(
    "environment",
    [
        {"TORCH_HOME": "/a/home"},
        {"TORCH_HOME": "~/there"},
        {"XDG_CACHE_HOME": "/a/cache"},
        {"TORCH_HOME": "/a/home", "XDG_CACHE_HOME": "/a/cache"},
        {},
    ],
)
def test_hub_folder_is_torchs(environment, monkeypatch):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(hub_folder()) == os.path.join(torch.hub.get_dir(), "checkpoints")


def test_state_follows_the_hubs_cache(home):
    assert state(DEFAULT) == "bundled"
    resnet = spec("resnet50")
    assert {state(resnet), state(resnet, "imagenet1k_v2")} == {"downloadable"}
    home.mkdir(parents=True)
    (home / "resnet50-11ad3fa6.pth").write_bytes(b"x")
    assert (state(resnet), state(resnet, "IMAGENET1K_V2")) == ("downloadable", "cached")


def test_unknown_choices_are_refused_with_the_known_ones(home):
    for call in (resolve, state, fetch):
        with pytest.raises(UsageError, match=r"'V3' of resnet50 are unknown; use IMAGENET1K_V1, IMAGENET1K_V2"):
            call(spec("resnet50"), "V3")
    with pytest.raises(UsageError, match="'' of"):
        resolve(SQUEEZENET, "")


def test_without_download_the_file_and_its_place_are_named(home):
    with pytest.raises(WeightsUnavailable) as caught:
        resolve(spec("resnet50"), "IMAGENET1K_V2", download=False)
    message = str(caught.value)
    assert str(home / "resnet50-11ad3fa6.pth") in message
    assert "`quantviz fetch-weights resnet50 --weights IMAGENET1K_V2`" in message


# Downloading


@pytest.mark.parametrize("manner", ["whole", "no_length"])
def test_download_and_then_the_cache(server, home, manner):
    server.manner, told = manner, []
    entry = hub_spec(BODY)
    located = resolve(entry, progress=lambda *report: told.append(report))
    assert located.path == home / entry.weights[0].file
    assert located.path.read_bytes() == BODY
    assert (located.ref.source, located.ref.name) == ("hub", "IMAGENET1K_V1")
    assert located.ref.sha256 == hashlib.sha256(BODY).hexdigest()
    assert server.asked == [f"/models/{entry.weights[0].file}"]
    assert left_behind(home) == [located.path]
    assert located.path.stat().st_mode & 0o044 == 0o044
    assert told[-1] == (f"Downloading {entry.weights[0].file}", 1.0)
    fractions = [fraction for _, fraction in told if fraction is not None]
    assert fractions == sorted(fractions)
    assert resolve(entry) == located
    assert fetch(entry) == located.path
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("manner", "why"),
    [
        ("half", r"broke off after 1048576 of 2097152 bytes"),
        ("silent", r"silent for 0\.6 s"),
        ("half_then_silent", r"silent for 0\.6 s"),
        ("trickle", r"sent only \d+ bytes in 1\.8 s"),
        ("trickling_headers", r"sent only 0 bytes in 1\.8 s"),
        ("endless", r"more than the 26661184 bytes"),
        ("absent", r"the server answered 404 Not Found"),
        ("broken", r"the server answered 500 Internal Server Error"),
        ("loop", r"redirects lead nowhere \(status 302\)"),
        ("no_http", r"not valid HTTP"),
    ],
)
def test_a_failing_server_leaves_one_message_and_nothing_else(server, home, manner, why):
    server.manner = manner
    entry = hub_spec(BODY)
    begun = time.monotonic()
    with pytest.raises(WeightsUnavailable, match=why) as caught:
        resolve(entry)
    assert time.monotonic() - begun < 6
    message = str(caught.value)
    assert "\n" not in message
    assert entry.weights[0].file in message
    assert str(home) in message
    assert "`quantviz fetch-weights squeezenet1_1`" in message
    assert left_behind(home) == []
    assert state(entry) == "downloadable"


def test_a_download_with_the_wrong_digest_is_dropped(server, home):
    server.content = BODY[:-1] + b"\0"
    with pytest.raises(WeightsUnavailable, match=r"sent a file whose sha256 begins [0-9a-f]{8}, not [0-9a-f]{8};"):
        fetch(hub_spec(BODY))
    assert left_behind(home) == []


def test_a_refused_connection(server, home, monkeypatch):
    monkeypatch.setenv("QUANTVIZ_WEIGHTS_URL", "http://127.0.0.1:9/")
    with pytest.raises(WeightsUnavailable, match=r"no connection \(Connection refused\)"):
        fetch(SQUEEZENET)
    assert left_behind(home) == []


def test_a_name_that_does_not_resolve(home, monkeypatch):
    monkeypatch.setenv("QUANTVIZ_WEIGHTS_URL", "http://weights.invalid/")
    with pytest.raises(WeightsUnavailable, match=r"no connection|sent only 0 bytes"):
        fetch(SQUEEZENET)
    assert left_behind(home) == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("QUANTVIZ_WEIGHTS_URL", "file:///etc"),
        ("QUANTVIZ_WEIGHTS_URL", "example.com/models"),
        ("QUANTVIZ_TIMEOUT", "soon"),
        ("QUANTVIZ_TIMEOUT", "-1"),
        ("QUANTVIZ_TIMEOUT", "nan"),
        ("QUANTVIZ_TIMEOUT", "inf"),
    ],
)
def test_malformed_settings_are_named(home, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=f"{variable} is '{value}'"):
        fetch(SQUEEZENET)


def test_a_folder_that_cannot_be_made(server, home, tmp_path):
    (tmp_path / "torch home").write_text("a file in the way")
    with pytest.raises(WeightsUnavailable, match="cannot be written there"):
        resolve(hub_spec(BODY))


def test_a_folder_without_permission(server, home):
    home.mkdir(parents=True)
    home.chmod(0o500)
    root = os.geteuid() == 0
    if root:  # which may write everywhere
        os.seteuid(65534)
    try:
        with pytest.raises(WeightsUnavailable, match=r"cannot be written there \(Permission denied\)"):
            resolve(hub_spec(BODY))
    finally:
        if root:
            os.seteuid(0)
    home.chmod(0o700)
    assert left_behind(home) == []


def test_no_room_on_disk(server, home):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(WeightsUnavailable, match="cannot be written there"):
            resolve(hub_spec(BODY))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left_behind(home) == []


def test_an_interrupt_in_the_middle_removes_the_part_file(server, home):
    def interrupt(message, fraction):
        if fraction is not None:
            assert len(left_behind(home)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve(hub_spec(BODY), progress=interrupt)
    assert left_behind(home) == []


FETCH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run started in the background ignores it
from dataclasses import replace
from quantviz.specs import PublishedWeights
from quantviz.zoo import fetch, spec
entry = spec("squeezenet1_1")
old = entry.weights[0]
file, prefix = sys.argv[1:]
print(fetch(replace(entry, weights=(PublishedWeights(old.name, file, prefix, old.preprocessing),))))
"""


def fetching_process(entry):
    published = entry.weights[0]
    command = [sys.executable, "-c", FETCH, published.file, published.sha256]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_control_c_while_the_server_hangs(server, home, monkeypatch):
    monkeypatch.setenv("QUANTVIZ_TIMEOUT", "30")
    server.manner = "half_then_silent"
    with fetching_process(hub_spec(BODY)) as process:
        deadline = time.monotonic() + 15
        while not left_behind(home) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [path.suffix for path in left_behind(home)] == [".part"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode != 0
    assert left_behind(home) == []


def test_two_processes_fetch_the_same_file(server, home):
    entry = hub_spec(BODY)
    with fetching_process(entry) as one, fetching_process(entry) as other:
        outputs = [process.communicate(timeout=30) for process in (one, other)]
    assert [process.returncode for process in (one, other)] == [0, 0], outputs
    assert left_behind(home) == [home / entry.weights[0].file]
    assert fetch(entry).read_bytes() == BODY


def test_part_files_of_killed_processes_are_swept(server, home):
    entry = hub_spec(BODY)
    home.mkdir(parents=True)
    old, young = (home / f".{entry.weights[0].file}.{name}.part" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    fetch(entry)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_cached_file_is_checked_at_every_load(server, home):
    entry = hub_spec(BODY)
    located = resolve(entry)
    located.path.write_bytes(BODY[:-1] + b"\0")
    for call in (lambda: resolve(entry), lambda: fetch(entry), lambda: build(entry, located)):
        with pytest.raises(WeightsUnavailable, match="delete it and run `quantviz fetch-weights squeezenet1_1`"):
            call()
    assert len(server.asked) == 1


def test_the_whole_slice_with_real_weights_from_a_server(server, home):
    tensors = safetensors.torch.load_file(real_weights("squeezenet1_1"))
    file = io.BytesIO()
    torch.save(tensors, file)
    server.content = file.getvalue()
    entry = hub_spec(server.content)
    model, ref = build(entry, resolve(entry))
    assert (ref.source, ref.classes, ref.note) == ("hub", 1000, "")
    assert espresso(model, ref) == "espresso"


# Reading


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
    with pytest.raises(CheckpointError, match=r"damaged\.\w+ (cannot be read as a|unpacks to)") as caught:
        load(SQUEEZENET, path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_checkpoint(tmp_path):
    (tmp_path / "empty.pth").touch()
    (tmp_path / "weights.bin").write_bytes(b"x")
    (tmp_path / "folder.pth").mkdir()
    os.mkfifo(tmp_path / "pipe.pth")
    with (tmp_path / "huge.pth").open("wb") as file:
        file.truncate(largest_file(SQUEEZENET) + 1)
    for name, why in {
        "empty.pth": "is empty",
        "weights.bin": r"ends in '\.bin'",
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
