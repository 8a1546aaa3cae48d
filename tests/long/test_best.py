"""What the preset ``best`` reaches at W4A8 on real photographs that it was not calibrated on; some minutes a model.

Needs the folder that QUANTVIZ_REAL_DATA names (default ``../shared/data``, seen from the project's root).
"""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from quantviz import cam, images, networks, scores
from quantviz.comparison import CompareRequest, Workbench
from quantviz.specs import CamSpec, no_progress, spec_of
from quantviz.store import TensorStore

ROOT = Path(__file__).parent.parent.parent
DATA = Path(os.environ.get("QUANTVIZ_REAL_DATA") or ROOT / ".." / "shared" / "data")
PICTURES = DATA / "imagenet-sample" / "val"
LEAST_TOP_1 = {"efficientnet_lite0": 0.75, "mobilenet_v2": 0.82}

pytestmark = pytest.mark.skipif(
    not PICTURES.is_dir(), reason=f"no real data at {DATA}; set QUANTVIZ_REAL_DATA to a folder that has it"
)


@pytest.mark.parametrize("name", [*LEAST_TOP_1, "squeezenet1_1"])
def test_best_at_w4a8(name, tmp_path, record_property):
    spec = networks.spec(name)
    weights = None if spec.weights[0].bundled else str(DATA / "weights" / f"{name}.safetensors")
    found = {}
    with TensorStore(tmp_path) as store:
        bench = Workbench(store)
        subject = bench.subject(CompareRequest(model=name, weights=weights))
        preprocessing = subject.ref.preprocessing
        inputs = torch.cat(
            [
                torch.from_numpy(images.normalize(images.crop(images.load(file).rgb, preprocessing), preprocessing))
                for file in images.folder(PICTURES)
            ]
        )
        reference = bench.networks.load(subject.spec, subject.located, no_progress).network
        for preset in ("standard", "best"):
            started = time.perf_counter()
            network = bench.networks.quantized(subject, spec_of(preset, 4, 8), no_progress)
            seconds = time.perf_counter() - started
            found[preset] = {"top-1": top_1(network, inputs), "CC": correlation(reference, network, inputs, spec.layer)}
            found[preset]["seconds"] = round(seconds, 1)
    found["float"] = {"top-1": top_1(reference, inputs)}
    print(f"\n{name} at W4A8, 200 images, calibrated on the bundled photographs: {found}")
    record_property("best", found)
    assert found["best"]["top-1"] >= LEAST_TOP_1.get(name, found["standard"]["top-1"])
    assert found["best"]["CC"] > found["standard"]["CC"]


def top_1(model, inputs):
    # The sample has every fifth class, and the files are sorted by class.
    with torch.no_grad(), model.locked() as module:
        answers = torch.cat([module(batch).argmax(1) for batch in inputs.split(8)])
    return round(float((answers == 5 * torch.arange(len(inputs))).double().mean()), 4)


def correlation(reference, network, inputs, layer):
    spec, marks = CamSpec("gradcam++", layer), []
    for image in inputs[::5]:
        first = cam.explain(reference, image[None], spec)
        second = cam.explain(network, image[None], spec, first.class_index)
        marks.append(scores.compare(second.heatmap.values, first.heatmap.values).cc)
    return round(float(np.mean([mark for mark in marks if mark is not None])), 4)
