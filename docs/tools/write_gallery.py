"""Write quantviz/studies/photographs: a small study of pictures that come with installed packages, with its maps.

Its pictures may be seen at the first start, wherever quantviz is installed; the folder holds numbers only. The weights
of two networks are not in a package: --weights MODEL=FILE names them, as in ``quantviz sweep``.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from quantviz import images
from quantviz.api.floor import measure_floor
from quantviz.comparison import Workbench
from quantviz.specs import CALIBRATED, PAPER, spec_of
from quantviz.store import TensorStore, default_directory
from quantviz.study.folder import StudyFolder
from quantviz.study.grids import FLOAT, StudyGrids, grid_of, write_grids
from quantviz.study.pictures import PACKAGED, compare_request, study_picture
from quantviz.study.plan_file import plan_bytes
from quantviz.study.planning import SweepRequest
from quantviz.study.shipped import SHIPPED
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.sweep.run import sweep

STUDY = SHIPPED / "photographs"
MODELS = ("efficientnet_lite0", "squeezenet1_1", "mobilenet_v2")
BITS = (16, 8, 6, 5, 4)
COMMAND = "python docs/tools/write_gallery.py"


def main() -> None:
    """Sweep over the pictures, measure the noise floor, keep the maps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", action="append", default=[], metavar="MODEL=FILE")
    given = dict(entry.split("=", 1) for entry in parser.parse_args().weights)
    with tempfile.TemporaryDirectory() as place, TensorStore(default_directory() / "tensors") as store:
        pictures, made = Path(place, "pictures"), Path(place, "study")
        for name in images.PACKAGED_PICTURES:
            (pictures / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(images.packaged_path(name), pictures / name)
        quants = tuple(spec_of("standard", bits, bits) for bits in BITS)
        words = " ".join([COMMAND, *(f"--weights {name}={file}" for name, file in given.items())])
        sweep(SweepRequest(pictures, MODELS, quants, given, (CALIBRATED, PAPER), command=words), made, store)
        bench, plan = Workbench(store), StudyFolder(made).finished_plan()
        measure_floor(bench, made)
        write_grids(made, grids_of(bench, plan, pictures))
        (made / "plan.json").write_bytes(plan_bytes(replace(plan, dataset=PACKAGED)))
        shutil.rmtree(STUDY, ignore_errors=True)
        STUDY.mkdir()
        for name in ("plan.json", "results.parquet", "floor.json", "maps.json"):
            shutil.copy(made / name, STUDY / name)


def grids_of(bench: Workbench, plan: StudyPlan, folder: Path) -> StudyGrids:
    """Return the native maps of every network and bit-width, calibrated: the other protocol depends on the order."""
    grids: dict[tuple[str, str, str], list[np.ndarray | None]] = {}
    for cell in plan.cells:
        if cell[2] != CALIBRATED:
            continue
        request = replace(compare_request(plan, cell), saliency=None)
        for place in range(len(plan.images)):
            comparison = bench.compare(request, study_picture(plan, place, folder))
            both = {(cell[0], FLOAT, cell[2]): comparison.reference, cell: comparison.quantized}
            for key, result in both.items():
                if len(kept := grids.setdefault(key, [])) == place:
                    kept.append(None if result.native.degenerate else grid_of(result.native.values))
    return StudyGrids(plan.digest, {cell: tuple(maps) for cell, maps in grids.items()})


if __name__ == "__main__":
    main()
