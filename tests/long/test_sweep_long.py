"""Sweeps that are killed a hundred times, that grow tenfold, of every architecture, and on a running Ray cluster."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantviz import images
from quantviz.study.folder import StudyFolder
from quantviz.study.summary import summary

SQUEEZE = "squeezenet1_1"
TORCHVISION = ("vgg16", "resnet50", "densenet121", "mobilenet_v2", "efficientnet_b0", SQUEEZE)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
START = "import sys; from quantviz.cli import main; main()"


def crops(folder, count, seed=0):
    """Write crops of the bundled photographs, JPEG of 160 x 120."""
    chance = np.random.default_rng(seed)
    photographs = [images.bundled(name).rgb for name in ("astronaut", "chelsea", "coffee", "rocket", "china", "flower")]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rgb = photographs[number % len(photographs)]
        top, left = (int(chance.integers(0, side - part)) for side, part in zip(rgb.shape, (120, 160), strict=False))
        Image.fromarray(rgb[top : top + 120, left : left + 160]).save(folder / f"{number:05d}.jpg", quality=90)
    return folder


def words(dataset, out, models=(SQUEEZE,), *options):
    weights = [word for name in models for word in ("--weights", f"{name}=untrained")]
    return ["sweep", str(dataset), "--models", ",".join(models), *weights, "--out", str(out), *map(str, options)]


def quantviz(arguments, cache, timeout=3600):
    command = [sys.executable, "-c", START, *arguments]
    found = subprocess.run(
        command, env={**ENVIRONMENT, "QUANTVIZ_CACHE": str(cache)}, capture_output=True, text=True, timeout=timeout
    )
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout


# Torch is imported once; every sweep is a fork of the process that has. It writes down how many pictures it has done.
FORKS = """
import os, sys
from pathlib import Path
import torch, timm, torchvision, pytorch_grad_cam
import quantviz.cam, quantviz.quantize, quantviz.networks.build, quantviz.quantize.paper
from quantviz.study.sweep.executor import Executor
from quantviz.study.planning import SweepRequest
from quantviz.study.sweep.run import sweep
from quantviz.specs import spec_of
from quantviz.store import TensorStore
torch.set_num_threads(1)
dataset, out, cache, workers = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
weights = {"squeezenet1_1": "untrained"}
request = SweepRequest(dataset, ("squeezenet1_1",), (spec_of("standard"),), weights, ("calibrated", "paper"), batch=2)
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        os.setsid()
        done = os.open(line.strip(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        def tell(message, part, _phase=None):
            if "images" in message or "squeezenet1_1, " in message:
                os.pwrite(done, b"%.9f" % part, 0)
        with TensorStore(cache) as store:
            sweep(request, out, store, tell, executor=Executor(workers=workers))
        os._exit(0)
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print(status, flush=True)
"""


class Sweeps:
    """Sweeps one after the other, in forks of one process."""

    def __init__(self, dataset, out, cache, workers):
        command = [sys.executable, "-c", FORKS, *map(str, (dataset, out, cache, workers))]
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, done):
        done.unlink(missing_ok=True)
        self.process.stdin.write(f"{done}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def ended(self):
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)


def pieces(out):
    return {file.name: file.read_bytes() for file in out.glob("pieces/*.parquet")}


def written(out):
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in out.glob("pieces/*.parquet")}


def alive(pid):
    return os.path.exists(f"/proc/{pid}") and b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()


@pytest.mark.parametrize(("workers", "kills"), [(1, 100), (2, 25)])
def test_kills_lose_nothing_that_is_committed(tmp_path, workers, kills):
    """Kill -9 at random moments; begin a new study whenever one was finished before the last kill."""
    dataset, count, batch = crops(tmp_path / "pictures", 40), 40, 2
    whole = tmp_path / "whole"
    options = ("--batch", batch, "--protocols", "calibrated,paper")
    quantviz(words(dataset, whole, (SQUEEZE,), *options), tmp_path / "cache")
    expected, results = pieces(whole), (whole / "results.parquet").read_bytes()
    sweeps = Sweeps(dataset, tmp_path / "killed", tmp_path / "cache" / "tensors", workers)
    chance, out, done = random.Random(5), tmp_path / "killed", tmp_path / "done"
    killed = finished = lost_at_most = rounds = 0
    while killed < kills or not finished:
        before, times = pieces(out), written(out)
        pid, rounds = sweeps.start(done), rounds + 1
        if killed < kills:
            # From just after the start to well into what is left.
            deadline, more = time.monotonic() + 120, chance.choice([0, 1, 1, 2])
            while len(written(out)) < len(before) + more and alive(pid) and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(chance.random() * (1.0 if more == 0 else 0.15))
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        status = sweeps.ended()
        after = pieces(out)
        assert not before.keys() - after.keys()  # nothing that was committed is lost
        assert not [name for name in after if after[name] != expected[name]]
        assert not [name for name in before if written(out)[name] != times[name]]  # nor computed again
        if os.WIFSIGNALED(status):
            killed += 1
            told = float(done.read_text() or 0) if done.exists() else 0.0
            lost = round(told * 2 * count) - batch * len(after)
            lost_at_most = max(lost_at_most, lost)
            assert lost <= batch * workers
        else:
            assert status == 0
            assert (out / "results.parquet").read_bytes() == results
            finished += 1
            shutil.rmtree(out)
    sweeps.close()
    print(f"\n{workers} workers: {killed} kills, {finished} studies, at most {lost_at_most} pictures lost in a kill")


def measured(arguments, cache):
    """Return (seconds, peak resident bytes) of a command."""
    started = time.monotonic()
    environment = {**ENVIRONMENT, "QUANTVIZ_CACHE": str(cache)}
    process = subprocess.Popen([sys.executable, "-c", START, *arguments], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return time.monotonic() - started, usage.ru_maxrss * 1024


def test_memory_is_flat_and_time_linear(tmp_path):
    few, many = crops(tmp_path / "few", 200), crops(tmp_path / "many", 2000)
    measured(words(few, tmp_path / "first", (SQUEEZE,), "--limit", 2), tmp_path / "cache")  # calibrates
    took, peak = measured(words(few, tmp_path / "200"), tmp_path / "cache")
    took_more, peak_more = measured(words(many, tmp_path / "2000"), tmp_path / "cache")
    bytes_a_row = (tmp_path / "2000" / "results.parquet").stat().st_size / 2000
    on_disk = sum(file.stat().st_size for file in (tmp_path / "2000").rglob("*") if file.is_file()) / 2000
    print(
        f"\n200 pictures: {took:.1f} s, {peak / 2**20:.0f} MiB; 2,000: {took_more:.1f} s, {peak_more / 2**20:.0f} MiB"
    )
    print(f"time x {took_more / took:.2f}, memory x {peak_more / peak:.4f}")
    print(f"{bytes_a_row:.0f} bytes a row in results.parquet, {on_disk:.0f} in the whole study")
    assert peak_more <= 1.05 * peak
    assert took_more <= 10.5 * took


def test_every_architecture_of_torchvision_is_in_one_summary(tmp_path):
    dataset, out = crops(tmp_path / "pictures", 2), tmp_path / "study"
    options = ("--bits", "8,4", "--protocols", "calibrated,paper")
    quantviz(words(dataset, out, TORCHVISION, *options), tmp_path / "cache")
    found = summary(out)
    assert [(cell.protocol, cell.model, cell.setting) for cell in found.cells] == [
        (protocol, model, setting)
        for protocol in ("calibrated", "paper")
        for model in TORCHVISION
        for setting in ("W8A8", "W4A4")
    ]
    assert all((cell.images, cell.errors) == (2, 0) for cell in found.cells)
    told = json.loads(quantviz(["summary", str(out), "--json", "-"], tmp_path / "cache"))
    assert len(told["cells"]) == 2 * 6 * 2


def test_a_ray_cluster_that_is_already_there(tmp_path, monkeypatch):
    dataset, cache = crops(tmp_path / "pictures", 6), tmp_path / "cache"
    options = ("--batch", 2, "--protocols", "calibrated,paper")
    quantviz(words(dataset, tmp_path / "one", (SQUEEZE,), *options), cache)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = Path(sys.executable).with_name("ray")
    start = [ray, "start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
    start += ["--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=100000000"]
    folder = Path("/tmp") / f"ray-long-{os.getpid()}"  # a socket's name may not be long
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*start, f"--temp-dir={folder}"], start_new_session=True, **quiet) as cluster:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            time.sleep(5)  # the rest of the cluster
            more = ("--executor", "ray", "--workers", 2, "--address", f"127.0.0.1:{port}")
            monkeypatch.setitem(ENVIRONMENT, "RAY_AUTH_MODE", "token")  # a cluster has one by default
            told = quantviz(words(dataset, tmp_path / "ray", (SQUEEZE,), *options, *more), cache, timeout=300)
            assert "6 of 6 pieces computed" in told
            assert cluster.poll() is None  # it is not ours to end
        finally:
            os.killpg(cluster.pid, signal.SIGTERM)
            cluster.wait(60)
            shutil.rmtree(folder, ignore_errors=True)
    one, ray_found = (tmp_path / name / "results.parquet" for name in ("one", "ray"))
    assert one.read_bytes() == ray_found.read_bytes()
    assert StudyFolder(tmp_path / "ray").progress() is None
