"""The shipped study whose pictures come with installed packages: they are there, and so are their maps."""

import json
from pathlib import Path

import numpy as np
import pytest

from quantviz import images
from quantviz.specs import CALIBRATED, COMPUTATION_VERSION, StoreError, UsageError
from quantviz.study.floor import read_floor
from quantviz.study.grids import FLOAT, GRIDS_FILE, StudyGrids, grid_of, read_grids, write_grids
from quantviz.study.pictures import PACKAGED, pictures_folder, study_picture
from quantviz.study.shipped import shipped_studies
from quantviz.study.table import study_table

FOLDER = shipped_studies()["photographs"]


@pytest.fixture(scope="module")
def table():
    return study_table(FOLDER)


def test_it_is_small_holds_numbers_only_and_names_no_folder(table):
    files = {file.name: file.stat().st_size for file in FOLDER.iterdir()}
    assert set(files) == {"plan.json", "results.parquet", "floor.json", "maps.json"}
    assert sum(files.values()) < 200_000
    assert table.plan.dataset == PACKAGED
    assert table.plan.computation == COMPUTATION_VERSION, "maps changed: run docs/tools/write_gallery.py"


def test_its_pictures_come_with_what_is_installed(table):
    paths = [image.path for image in table.plan.images]
    assert sorted(paths) == sorted(images.PACKAGED_PICTURES)
    assert len(paths) == 12
    place = paths.index("sklearn/datasets/images/flower.jpg")
    sample = study_picture(table.plan, place, pictures_folder(table.plan))
    assert sample.id == images.bundled("flower").id
    with pytest.raises(UsageError, match="comes with no package"):
        images.packaged_path("skimage/../secret.png")


def test_its_maps_are_those_of_its_rows(table):
    grids = read_grids(FOLDER, table.plan)
    calibrated = [cell for cell in table.cells if cell[2] == CALIBRATED]
    assert set(grids.grids) == {*calibrated, *((cell[0], FLOAT, CALIBRATED) for cell in calibrated)}
    for cell in calibrated:
        row = table.cells.index(cell)
        for place in range(len(table.plan.images)):
            before, after = grids.pair(cell, place)
            assert before is not None
            cc = table.columns["quantized_v_float_cc"][row, place]
            if after is None or np.isnan(cc):
                continue
            found = np.corrcoef(before.ravel(), after.ravel())[0, 1]
            # The rows' maps are upsampled, and these are rounded to 1/255.
            assert found == pytest.approx(cc, abs=0.15), (cell, place)
    assert grids.pair((*calibrated[0][:2], "paper"), 0) is None


def test_it_has_a_noise_floor(table):
    floor = read_floor(FOLDER, table.plan)
    assert set(floor.networks) == {model.name for model in table.plan.models}


def test_maps_are_read_as_written_and_damage_is_one_sentence(table, tmp_path):
    one = grid_of(np.array([[0.0, 1.0], [0.5, 0.25]]))
    maps = (one, *[None] * (len(table.plan.images) - 1))
    write_grids(tmp_path, StudyGrids(table.plan.digest, {("a", "W8A8", CALIBRATED): maps}))
    found = read_grids(tmp_path, table.plan).grids["a", "W8A8", CALIBRATED]
    assert found[0].tolist() == [[0, 255], [128, 64]]
    assert found[1:] == maps[1:]
    content = json.loads(Path(tmp_path, GRIDS_FILE).read_text())
    for change in ({"plan": "00"}, {"format": 2}, {"cells": [{"cell": ["a", "b", "c"], "maps": []}]}, {"cells": 3}):
        Path(tmp_path, GRIDS_FILE).write_text(json.dumps(content | change))
        with pytest.raises(StoreError) as caught:
            read_grids(tmp_path, table.plan)
        assert "\n" not in str(caught.value)
    Path(tmp_path, GRIDS_FILE).unlink()
    assert read_grids(tmp_path, table.plan) is None
