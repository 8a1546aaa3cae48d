"""Shared networks: their modules are reached only while the lock is held."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import comparison_support
import pytest
import torch
from cam_support import tiny
from comparison_support import SAMPLE, SQUEEZENET
from torch import nn

from quantviz import cam
from quantviz.cam import Locked, lockable
from quantviz.cam.locked import let_others_pass
from quantviz.specs import CamSpec, QuantSpec, no_progress

store, bench = comparison_support.store, comparison_support.bench


def test_no_network_of_the_workbench_can_be_run_without_its_lock(bench):
    subject, quant = bench.subject(SQUEEZENET), QuantSpec(8, 8)
    paper = QuantSpec(8, 8, protocol="paper")
    *both, image = bench.models(SQUEEZENET, SAMPLE)
    handed_out = [
        bench.networks.load(subject.spec, subject.located, no_progress).network,
        bench.networks.base(subject, quant, no_progress),
        bench.networks.reference(subject, no_progress),
        bench.networks.quantized(subject, quant, no_progress),
        bench.protocols.reference(subject, paper, no_progress),
        bench.protocols.quantized(subject, paper, no_progress),
        bench.backends.reference(subject, no_progress),
        bench.backends.deployed(subject, quant, no_progress),
        *both,
    ]
    for network in handed_out:
        assert not callable(network)
        public = [getattr(network, name) for name in dir(network) if not name.startswith("_")]
        assert not any(isinstance(value, nn.Module) for value in public)
        with network.locked() as module, torch.no_grad():
            assert module(image).shape == (1, 1000)


@pytest.mark.parametrize("handle", [Locked, lambda module: module], ids=["handle", "bare"])
def test_a_map_waits_for_who_holds_the_module_by_any_handle(handle):
    module, image = tiny(2.0), torch.ones(1, 1, 4, 4)
    first, begun = Locked(module), threading.Event()

    def explain():
        begun.set()
        return cam.explain(handle(module), image, CamSpec("gradcam", "features"), 0)

    with ThreadPoolExecutor(1) as pool:
        with first.locked() as held:
            assert held is module
            waiting = pool.submit(explain)
            assert begun.wait(60)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
            cam.explain(first, image, CamSpec("gradcam", "features"), 0)  # who holds it takes it again
        assert waiting.result(timeout=60).class_index == 0


def test_a_block_that_fails_gives_the_lock_back():
    network = lockable(tiny(1.0))
    assert lockable(network) is network
    with pytest.raises(RuntimeError, match="in the block"), network.locked():
        raise RuntimeError("in the block")
    with ThreadPoolExecutor(1) as pool:
        spec = CamSpec("gradcam", "features")
        assert pool.submit(cam.explain, network, torch.ones(1, 1, 4, 4), spec, 0).result(timeout=60)


def scored_network():
    """A network of three batches of ScoreCAM's masks."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3))
    parts = {"features": nn.Conv2d(1, 12, 3, padding=1), "head": head}
    network = nn.Sequential()
    for name, part in parts.items():
        network.add_module(name, part)
    return network.eval().requires_grad_(False)


def test_others_pass_between_the_masks_of_scorecam():
    network, image = Locked(scored_network()), torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    spec, order = CamSpec("scorecam", "features"), []
    alone = cam.explain(network, image, spec, 0)

    def other():
        with network.locked():
            cam.explain(network, image, CamSpec("gradcam", "features"), 0)
            order.append("other")

    thread = threading.Thread(target=other)

    def progress(*_):
        if not order:
            thread.start()
            while not network.waiting:
                time.sleep(0.01)
        order.append("masks")

    found = cam.explain(network, image, spec, 0, progress)
    thread.join()
    assert order == ["masks", "other", "masks", "masks"]
    assert found.heatmap.values.tobytes() == alone.heatmap.values.tobytes()


def test_who_asks_first_has_a_network_first_and_nobody_passes_whoever_does_not_hold_it():
    network, order = Locked(scored_network()), []

    def ask(name):
        with network.locked():
            order.append(name)

    threads = []
    with network.locked() as module:
        for count, name in enumerate("abc"):
            threads.append(threading.Thread(target=ask, args=(name,)))
            threads[-1].start()
            while network.waiting <= count:
                time.sleep(0.01)
        with network.locked():
            let_others_pass(module)
            assert order == ["a", "b", "c"]
        order.append("holder")
    for thread in threads:
        thread.join()
    let_others_pass(module)
    let_others_pass(nn.Identity())
    assert order == ["a", "b", "c", "holder"]
