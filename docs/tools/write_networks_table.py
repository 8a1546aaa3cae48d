"""Write docs/networks_table.md: sixty architectures of timm and torchvision, compared with nothing but their names.

    python docs/tools/write_networks_table.py [NAME ...]

Each is compared at W8A8 on one bundled photograph, with seeded weights; that takes some ten minutes in all.
With names, only these are computed and printed, and nothing is written.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torchcam.methods._utils import locate_candidate_layer

from quantviz import images, networks
from quantviz.comparison import CompareRequest, Workbench
from quantviz.networks.build import build, layers
from quantviz.specs import LAYOUT, QuantvizError
from quantviz.store import TensorStore

PLACE = Path(__file__).parent.parent / "networks_table.md"
NAMES = tuple(json.loads(Path(__file__).with_name("networks_table.json").read_text()))
"""The sixty names, which tests/long compares, too."""

_PICTURE = "coffee"
_HEAD = f"""# Sixty networks by name

Every classifier of timm and torchvision can be
[named](howto/weights.md#every-classifier-of-timm-and-torchvision). This table has sixty of many families. Each was
compared with nothing but its name, as

```
quantviz compare {_PICTURE} --model NAME --weights untrained
```

does it, at W8A8. **The weights are untrained**, drawn with a fixed seed: the correlation of the float and the
quantized map (CC) says that the whole way works for the architecture, and nothing about how a trained network fares.
How the layer is chosen stands in [The target layer](howto/weights.md#the-target-layer). Beside it is the layer that
torch-cam 0.5 takes by itself, and why another is taken here.

The page is written by `docs/tools/write_networks_table.py`.

| network | layer | grid | torch-cam's own | why another | CC |
| --- | --- | --- | --- | --- | --- |
"""


def row(bench: Workbench, name: str) -> str:
    """Return a network's line of the table."""
    try:
        entry = networks.spec(name)
        request = CompareRequest(model=name, weights="untrained", saliency=None)
        comparison = bench.compare(request, images.bundled(_PICTURE))
        score = comparison.scores["quantized_v_float"].cc
        info = next(info for info in layers(entry) if info.name == entry.layer)
        theirs, why = torch_cams(name)
    except QuantvizError as error:
        return f"| {name} | {error} | | | | |"
    cc = "no map" if score is None else f"{score:.3f}"
    grid = f"{info.channels} × {info.height} × {info.width}"
    return f"| {name} | `{entry.layer}` | {grid} | {theirs} | {why} | {cc} |"


def torch_cams(name: str) -> tuple[str, str]:
    """Return the layer that torch-cam takes by itself, and why ours is another."""
    entry = networks.spec(name)
    model = build(entry, networks.resolve(entry, "untrained"))[0]
    side = entry.weights[0].preprocessing.crop
    theirs = locate_candidate_layer(model, (3, side, side))
    if theirs is None:
        return "none", "it takes layers that give (N, C, h, w) only"
    outputs = outputs_of(model, side, (theirs, entry.layer))
    shape = " × ".join(map(str, outputs[theirs].shape[1:]))
    if outputs[theirs] is outputs[entry.layer]:
        layout = getattr(model.get_submodule(entry.layer), LAYOUT, None)
        misread = (
            f"the same tensor, which it takes for {outputs[theirs].shape[1]} channels of {shape.partition(' × ')[2]}"
        )
        why = "none: it is the same tensor" if layout is None else misread
        return ("the same", "" if layout is None else why) if theirs == entry.layer else (f"`{theirs}`", why)
    grids = {info.name: info for info in layers(entry)}
    if theirs not in grids:
        return f"`{theirs}`", f"{shape} is no grid of places"
    if "Pool" in type(model.get_submodule(theirs)).__name__:
        return f"`{theirs}`", f"{shape}: pooled already"
    if grids[theirs].channels == 1000:
        return f"`{theirs}`", f"{shape}: a channel for each class"
    order = list(grids)
    if order.index(theirs) < order.index(entry.layer):
        return f"`{theirs}`", f"{shape}: not the last grid before pooling"
    return f"`{theirs}`", f"{shape}: the logits do not rest on its places"


def outputs_of(model: torch.nn.Module, side: int, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Return what layers give in one pass."""
    outputs: dict[str, torch.Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.update({name: output})
        )
        for name in dict.fromkeys(names)
    ]
    with torch.no_grad():
        model(torch.zeros(1, 3, side, side))
    for handle in handles:
        handle.remove()
    return outputs


def rows(names: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of the table, each as soon as it is known."""
    with tempfile.TemporaryDirectory() as folder, TensorStore(Path(folder)) as store:
        for name in names:
            # Networks are not kept: together they would fill the memory.
            line = row(Workbench(store, float_models=1, quantized_models=1), name)
            print(line, flush=True)
            yield line


def main() -> None:
    """Write the page, or print the lines of the names that are given."""
    chosen = tuple(sys.argv[1:])
    lines = list(rows(chosen or NAMES))
    if not chosen:
        PLACE.write_text(_HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
