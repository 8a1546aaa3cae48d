"""A small study whose names are hostile, and bundles made wrong on purpose."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from quantviz import images
from quantviz.specs import spec_of
from quantviz.store import TensorStore
from quantviz.study.bundle import PARTS, bundle_bytes
from quantviz.study.planning import SweepRequest
from quantviz.study.summary import summary
from quantviz.study.sweep.run import sweep

HOSTILE = "<img src=x onerror=hacked=1>&.png"
"""A file's name; the file is no picture, so that the sentence of its error, with the name, is in the summary."""

LABELS = {"chelsea": "n02123045", "coffee": "n07920052", "flower": "n11939491"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def found(study):
    return summary(study)


def make_study(folder):
    """Make a study of three labelled pictures and a broken file, of an untrained model under two protocols."""
    dataset = folder / "pictures & <b>more</b>".replace("/", "")
    for name, synset in LABELS.items():
        (dataset / synset).mkdir(parents=True)
        Image.fromarray(images.bundled(name).rgb[:200, :260]).save(dataset / synset / f"{name}.png")
    (dataset / HOSTILE).write_text("not a picture")
    request = SweepRequest(
        dataset=dataset,
        models=("squeezenet1_1",),
        quants=(spec_of("standard", 8, 8), spec_of("standard", 3, None)),
        weights={"squeezenet1_1": "untrained"},
        protocols=("calibrated", "paper"),
        command=f"quantviz sweep '{dataset}' --models squeezenet1_1 --weights squeezenet1_1=untrained",
    )
    with TensorStore(folder / "tensors") as store:
        sweep(request, folder / "study", store)
    return folder / "study"


def make_bundle(study):
    """Return the parts of a study's bundle, by name."""
    with zipfile.ZipFile(io.BytesIO(bundle_bytes(study, summary(study)))) as file:
        return {name: file.read(name) for name in file.namelist()}


def listed(parts):
    """Return the parts with a manifest that fits them, so that a change of theirs is not found by their digests."""
    lines = [f"{hashlib.sha256(parts[name]).hexdigest()}  {name}\n" for name in PARTS if name in parts]
    return {**parts, "MANIFEST": "".join(lines).encode()}


def packed(path, parts, compression=zipfile.ZIP_DEFLATED):
    """Write a zip file of (name, data) pairs or a mapping of them."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in parts.items() if isinstance(parts, dict) else parts:
            file.writestr(name, data)
    return Path(path)
