"""The study that comes with quantviz: small, numbers only, made by the command in it, and as measured elsewhere."""

import shlex
from pathlib import Path

import pytest

import quantviz
from quantviz.specs import COMPUTATION_VERSION
from quantviz.study import pictures
from quantviz.study.table import study_table

FOLDER = Path(quantviz.__file__).parent / "studies" / "imagenet-200"
MODELS = ("efficientnet_lite0", "squeezenet1_1", "mobilenet_v2")
BITS = ("W16A16", "W8A8", "W6A6", "W5A5", "W4A4")
# Mean CC of quantized v float maps, measured once by an independent implementation on 40 ImageNet pictures.
CALIBRATED = {
    "efficientnet_lite0": (1.000, 0.998, 0.949),
    "squeezenet1_1": (1.000, 0.997, 0.954),
    "mobilenet_v2": (1.000, 0.998, 0.965),
}
PAPER = {"squeezenet1_1": (0.972, 0.965), "mobilenet_v2": (0.901, 0.706)}


@pytest.fixture(scope="module")
def table():
    return study_table(FOLDER)


def mean_cc(table, model, setting, protocol):
    row = table.cells.index((model, setting, protocol))
    values = table.columns["quantized_v_float_cc"][row]
    return values[values == values].mean()


def test_it_is_small_and_holds_numbers_only():
    files = {file.name: file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()}
    assert set(files) == {"plan.json", "results.parquet", "floor.json"}
    assert sum(files.values()) < 2_000_000


def test_it_says_how_it_was_made(table):
    plan = table.plan
    words = shlex.split(plan.command)
    assert words[:2] == ["quantviz", "sweep"]
    assert words[words.index("--bits") + 1] == "16,8,6,5,4"
    assert words[words.index("--models") + 1] == ",".join(MODELS) == ",".join(model.name for model in plan.models)
    assert [quant.label for quant in plan.quants] == list(BITS)
    assert plan.protocols == ("calibrated", "paper")
    assert plan.computation == COMPUTATION_VERSION, "maps changed: make the shipped study again by its command"
    assert all(model.weights.trained for model in plan.models)
    assert len(plan.images) == 200
    assert all(len(image.sha256) == 64 and image.label is not None for image in plan.images)
    assert not Path(plan.dataset).is_absolute()


def test_every_row_is_there_without_an_error(table):
    assert len(table.cells) == len(MODELS) * len(BITS) * 2
    assert not table.columns["error"].any()
    assert (table.columns["float_probability"] > 0).all()


@pytest.mark.parametrize("model", MODELS)
def test_the_calibrated_protocol_agrees_with_an_independent_implementation(table, model):
    found = [mean_cc(table, model, setting, "calibrated") for setting in BITS[:3]]
    assert found == pytest.approx(CALIBRATED[model], abs=0.02)


@pytest.mark.parametrize("model", list(PAPER))
def test_the_papers_protocol_agrees_with_an_independent_implementation(table, model):
    found = [mean_cc(table, model, setting, "paper") for setting in BITS[:2]]
    assert found == pytest.approx(PAPER[model], abs=0.08)


def test_the_lists_of_studies_begin_with_it():
    from quantviz.ui.studies import finished_studies

    assert next(iter(finished_studies())) == "imagenet-200"
    assert pictures.plan_of_study(FOLDER).digest == study_table(FOLDER).plan.digest
