"""Weights from a server and from torch hub's cache, whatever goes wrong on the way."""

import fcntl
import hashlib
import io
import os
import resource
import signal
import subprocess
import sys
import time

import download_support
import pytest
import safetensors.torch
import torch
import weights_support
from download_support import hub_spec, is_whole, left_behind, sizes_left
from weights_support import BODY, DEFAULT, SQUEEZENET, espresso, real_weights

from quantviz.networks import fetch, resolve, spec, weights_state
from quantviz.networks.build import build
from quantviz.networks.weights import hub_folder
from quantviz.specs import Phase, UsageError, WeightsUnavailable

home = weights_support.home
server = download_support.server


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
    assert weights_state(DEFAULT) == "bundled"
    resnet = spec("resnet50")
    assert {weights_state(resnet), weights_state(resnet, "imagenet1k_v2")} == {"downloadable"}
    home.mkdir(parents=True)
    (home / "resnet50-11ad3fa6.pth").write_bytes(b"x")
    assert (weights_state(resnet), weights_state(resnet, "IMAGENET1K_V2")) == ("downloadable", "cached")


def test_unknown_choices_are_refused_with_the_known_ones(home):
    for call in (resolve, weights_state, fetch):
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
    assert is_whole(located.path)
    assert (located.ref.source, located.ref.name) == ("hub", "IMAGENET1K_V1")
    assert located.ref.sha256 == hashlib.sha256(BODY).hexdigest()
    assert server.asked == [f"/models/{entry.weights[0].file}"]
    assert left_behind(home) == [located.path]
    assert located.path.stat().st_mode & 0o044 == 0o044
    assert told[-1] == (f"Downloading {entry.weights[0].file}", 1.0, Phase.DOWNLOADING)
    fractions = [fraction for _, fraction, _ in told if fraction is not None]
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
        ("cut_chunks", r"the transfer broke off \(IncompleteRead"),
        ("web_page", r"the server sent a web page in place of the file"),
        ("elsewhere", r"no connection|redirects lead nowhere|302"),
        ("absent", r"the server answered 404 Not Found"),
        ("broken", r"the server answered 500 Internal Server Error"),
        ("loop", r"redirects lead nowhere \(status 302\)"),
        ("no_http", r"not valid HTTP"),
    ],
)
def test_a_failing_server_leaves_one_message_and_nothing_else(server, home, monkeypatch, manner, why):
    server.manner = manner
    if manner in ("silent", "half_then_silent", "trickle", "trickling_headers"):
        monkeypatch.setenv("QUANTVIZ_TIMEOUT", "0.6")
    entry = hub_spec(BODY)
    begun = time.monotonic()
    with pytest.raises(WeightsUnavailable, match=why) as caught:
        resolve(entry)
    assert time.monotonic() - begun < 60  # the server waits for 120 s, or goes on for ever
    message = str(caught.value)
    assert "\n" not in message
    assert entry.weights[0].file in message
    assert str(home) in message
    assert "`quantviz fetch-weights squeezenet1_1`" in message
    assert weights_state(entry) == "downloadable"
    left = left_behind(home)  # what came, if the machine was quick enough
    assert [path.suffix for path in left] == [".part"] * len(left)
    assert len(left) == 1 if manner in ("half", "cut_chunks") else len(left) < 2
    assert all(BODY.startswith(path.read_bytes()) for path in left)
    server.manner, server.ranges, wanted = "by_range", [], [f"bytes={path.stat().st_size}-" for path in left] or [None]
    monkeypatch.setenv("QUANTVIZ_TIMEOUT", "60")
    assert is_whole(fetch(entry))
    assert server.ranges == wanted
    assert left_behind(home) == [home / entry.weights[0].file]


@pytest.mark.parametrize(
    ("manner", "content", "requests"),
    [
        ("by_range", BODY[:1000], 1),
        ("by_range", b"of another file", 2),  # the digest is wrong then
        ("by_range", BODY + b"x", 2),  # there is no such range
        ("whole", BODY[:1000], 1),  # the server sends all of it
    ],
)
def test_what_is_left_of_a_download_is_of_use_and_never_harms(server, home, manner, content, requests):
    server.manner, entry = manner, hub_spec(BODY)
    home.mkdir(parents=True)
    (home / f".{entry.weights[0].file}.left.part").write_bytes(content)
    assert is_whole(fetch(entry))
    assert len(server.asked) == requests
    assert left_behind(home) == [home / entry.weights[0].file]


def test_another_part_than_was_asked_for_is_refused(server, home):
    server.manner, entry = "another_range", hub_spec(BODY)
    home.mkdir(parents=True)
    (home / f".{entry.weights[0].file}.left.part").write_bytes(BODY[:1000])
    with pytest.raises(WeightsUnavailable, match="another part of the file than was asked for"):
        fetch(entry)


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
    monkeypatch.setenv("QUANTVIZ_TIMEOUT", "0.6")
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


def test_an_interrupt_in_the_middle_leaves_what_came(server, home):
    def interrupt(message, fraction, _phase=None):
        if fraction is not None:
            assert len(left_behind(home)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve(hub_spec(BODY), progress=interrupt)
    (part,) = left_behind(home)
    assert BODY.startswith(part.read_bytes())
    server.manner = "by_range"
    assert is_whole(fetch(hub_spec(BODY)))


FETCH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run started in the background ignores it
from dataclasses import replace
from quantviz.specs import PublishedWeights
from quantviz.networks import fetch, spec
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
    server.manner = "half_then_silent"
    with fetching_process(hub_spec(BODY)) as process:
        deadline = time.monotonic() + 120
        while sizes_left(home) != [len(BODY) // 2] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [path.suffix for path in left_behind(home)] == [".part"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode != 0
    assert sizes_left(home) == [len(BODY) // 2]
    (part,) = left_behind(home)
    assert BODY.startswith(part.read_bytes())


def test_two_processes_fetch_the_same_file(server, home):
    entry = hub_spec(BODY)
    with fetching_process(entry) as one, fetching_process(entry) as other:
        outputs = [process.communicate(timeout=120) for process in (one, other)]
    assert [process.returncode for process in (one, other)] == [0, 0], outputs
    assert left_behind(home) == [home / entry.weights[0].file]
    assert is_whole(fetch(entry))


def test_the_part_files_of_processes_that_are_gone_are_swept_whatever_the_clock_says(server, home):
    entry = hub_spec(BODY)
    home.mkdir(parents=True)
    left, more, held = (home / f".{entry.weights[0].file}.{name}.part" for name in ("left", "more", "held"))
    for path in (left, more, held):
        path.write_bytes(b"x" * len(path.name))
    os.utime(held, (0, 0))
    os.utime(left, (1e11, 1e11))
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as the process that writes to it does
        fetch(entry)
    assert left_behind(home) == [held, home / entry.weights[0].file]


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
