"""The sixty networks of docs/networks_table.md: each compares with nothing but its name, at a real grid.

Some ten minutes on two cores.
"""

import json
from pathlib import Path

import pytest
import torch

from quantviz import images, networks
from quantviz.cam.features import Features
from quantviz.comparison import CompareRequest, Workbench
from quantviz.networks.build import build
from quantviz.store import TensorStore

DOCS = Path(__file__).parents[2] / "docs"
NAMES = json.loads((DOCS / "tools" / "networks_table.json").read_text())


def test_the_page_has_them_all():
    assert len(NAMES) == len(set(NAMES)) == 60
    rows = [
        line for line in (DOCS / "networks_table.md").read_text().splitlines() if line.startswith(("| timm:", "| tor"))
    ]
    assert [row.split(" ")[1] for row in rows] == NAMES
    compared = [row for row in rows if row.split("|")[6].strip().startswith(("0.", "1."))]
    assert len(compared) >= 57


@pytest.mark.parametrize("name", NAMES)
def test_it_compares_with_nothing_but_its_name(name, tmp_path):
    with TensorStore(tmp_path) as store:
        request = CompareRequest(model=name, weights="untrained", saliency=None)
        found = Workbench(store).compare(request, images.bundled("coffee"))
    assert found.degenerate == {}
    # With seeded weights EfficientViT and LeViT come out lowest, at 0.75 and 0.83; the others are above 0.93.
    assert found.scores["quantized_v_float"].cc > 0.5


# LeViT's last stage begins by attention without a shortcut, which with seeded weights mixes all places evenly.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "timm:levit_128s"])
def test_places_of_the_grid_are_places_of_the_picture(name):
    """What changes in a quarter of the picture changes that quarter of the grid most."""
    entry = networks.spec(name)
    model, _ = build(entry, networks.resolve(entry, "untrained"))
    side = entry.weights[0].preprocessing.crop
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, side, side, generator=generator)
    before = Features(model, image, entry.layer, gradients=False).leaf
    height, width = before.shape[2] // 2, before.shape[3] // 2
    for down, across in ((1, 1), (0, 1)):
        changed = image.clone()
        rows, columns = slice(down * side // 2, (down + 1) * side // 2), slice(across * side // 2, None)
        changed[..., rows, columns] = 2 * torch.randn(changed[..., rows, columns].shape, generator=generator)
        moved = (Features(model, changed, entry.layer, gradients=False).leaf - before).abs().mean(1)[0]
        quarters = [moved[:height, :width], moved[:height, -width:], moved[-height:, :width], moved[-height:, -width:]]
        means = [float(quarter.mean()) for quarter in quarters]
        assert means.index(max(means)) == 2 * down + across
