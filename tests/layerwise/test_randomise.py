"""Cascading randomisation, held to the values of Quantus 0.6.0 that ``tests/tools/record_mprt.py`` recorded."""

import copy

import numpy as np
import pytest
import torch

from quantviz import images
from quantviz.comparison import CompareRequest, Workbench
from quantviz.layerwise.randomise import randomise, reset, resettable, similarity
from quantviz.specs import QuantSpec, UsageError
from quantviz.store import TensorStore

# Of chelsea and coffee, seed 42, untrained SqueezeNet 1.1, Grad-CAM++, W8A8 calibrated on chelsea.
RECORDED = {
    "classifier.1": ((0.9950412602793566, 0.9971194790511568), (0.9950757303145903, 0.9950532405417887)),
    "features.12.squeeze": ((0.9333446845370089, 0.9735975242449084), (0.9331895153308011, 0.9681416983545792)),
    "features.0": ((0.3276166959592642, 0.3376005231478277), (0.30550370371966873, 0.2953353084187636)),
}


@pytest.mark.slow
def test_both_networks_agree_with_quantus(tmp_path, monkeypatch):
    with TensorStore(tmp_path / "tensors") as store:
        bench = Workbench(store)
        request = CompareRequest("squeezenet1_1", "untrained", QuantSpec())
        samples = [images.bundled(name) for name in ("chelsea", "coffee")]
        preprocessing = bench.subject(request, lambda *_: None).ref.preprocessing
        example = torch.from_numpy(images.normalize(images.crop(samples[0].rgb, preprocessing), preprocessing))
        monkeypatch.setattr(bench.networks, "batches", lambda *_: lambda: iter([example]))
        monkeypatch.setattr(bench.networks, "example", lambda _: example)
        found = {layer.name: layer for layer in randomise(bench, request, samples).layers}
    for name, (reference, quantized) in RECORDED.items():
        assert found[name].reference == pytest.approx(reference, abs=1e-6)
        assert found[name].quantized == pytest.approx(quantized, abs=1e-6)


def test_layers_are_reset_from_the_end_and_alike():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    assert resettable(network) == ("2", "0")
    first, state = copy.deepcopy(network), torch.random.get_rng_state()
    reset(first, "2", 42)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first[0].weight, network[0].weight)
    torch.manual_seed(43)
    network[2].reset_parameters()
    assert torch.equal(first[2].weight, network[2].weight)


def test_maps_without_evidence_have_no_similarity():
    rising = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    assert similarity(rising, rising) == pytest.approx(1)
    assert similarity(rising, -rising) == pytest.approx(-1)
    assert similarity(rising, np.zeros((2, 3), np.float32)) is None
    assert similarity(None, rising) is None


def test_learned_weights_and_no_pictures_are_refused():
    with pytest.raises(UsageError, match="No picture"):
        randomise(None, CompareRequest(), [])
    with pytest.raises(UsageError, match="gptq"):
        randomise(None, CompareRequest(quant=QuantSpec(rounding="gptq")), [images.bundled("coffee")])
