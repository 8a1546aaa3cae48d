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


def network_of(channels):
    """A network whose target layer has so many channels."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))
    parts = {"features": nn.Conv2d(1, channels, 3, padding=1), "head": head}
    network = nn.Sequential()
    for name, part in parts.items():
        network.add_module(name, part)
    return network.eval().requires_grad_(False)


IMAGE = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))


# Three batches each.
@pytest.mark.parametrize(("method", "channels"), [("scorecam", 12), ("ablationcam", 80)])
def test_others_pass_between_the_batches_of_a_map(method, channels):
    network, order, others = Locked(network_of(channels)), [], []
    spec, quick = CamSpec(method, "features"), CamSpec("gradcam", "features")
    alone, alone_quick = (cam.explain(network, IMAGE, each, 0).heatmap.values.tobytes() for each in (spec, quick))

    def other():
        with network.locked():
            others.append(cam.explain(network, IMAGE, quick, 0).heatmap.values.tobytes())
            order.append("other")

    thread = threading.Thread(target=other)

    def progress(*_):
        if not order:
            thread.start()
            while not network.waiting:
                time.sleep(0.01)
        order.append("batch")

    found = cam.explain(network, IMAGE, spec, 0, progress)
    thread.join()
    assert order == ["batch", "other", "batch", "batch"]
    assert found.heatmap.values.tobytes() == alone
    assert others == [alone_quick]


def test_others_have_the_network_between_the_batches_of_faithfulness():
    network, others = Locked(network_of(4)), []
    heatmap = cam.explain(network, IMAGE, CamSpec("gradcam", "features"), 0).heatmap
    alone = cam.faithfulness(network, IMAGE, heatmap, 0)

    with ThreadPoolExecutor(1) as pool:

        def progress(*_):
            waiting = pool.submit(cam.explain, network, IMAGE, CamSpec("gradcam", "features"), 0)
            others.append(waiting.result(timeout=60).heatmap.values.tobytes())

        assert cam.faithfulness(network, IMAGE, heatmap, 0, progress=progress) == alone
    assert len(others) > 10
    assert set(others) == {heatmap.values.tobytes()}


def test_who_asks_first_has_a_network_first_and_nobody_passes_whoever_does_not_hold_it():
    network, order = Locked(network_of(4)), []

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
