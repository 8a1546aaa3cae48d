"""The size of the quantized networks of a study: files as they are, simulated ones as they would be stored."""

from __future__ import annotations

from pathlib import Path

from quantviz.comparison.cards import card_of
from quantviz.comparison.workbench import Workbench
from quantviz.guard.specs import Cell
from quantviz.layerwise.drift import layers_of
from quantviz.specs import FileVariant, Progress, UsageError, Variant
from quantviz.store import TensorStore
from quantviz.study.evidence import found_calibration, found_weights
from quantviz.study.pictures import model_choice
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.sweep.networks import study_subject


def network_size(store: TensorStore, plan: StudyPlan, cell: Cell, progress: Progress) -> int:
    """Return the bytes of a quantized network of a study.

    Of a file its size on the disk; of a simulated network its weights at their bits, scales, zero points and everything
    else in float32, as ``quantize.cost`` counts. Weights, cards and calibration pictures are looked for where the
    study's command names them.

    Raises:
        UsageError: they are not here, or are other ones.
        QuantvizError: the network cannot be made.
    """
    model, variant = plan.cell(cell)
    asked = model_choice(plan, model)
    if isinstance(variant, FileVariant):
        card = card_of(asked)
        path = next((one.file for one in card.files if one.name == variant.label), None) if card is not None else None
        if path is None:
            raise UsageError(f"The file of {variant.label} is not in the card of {model.name}; leave out its size.")
        return _bytes(path)
    from quantviz.quantize import cost

    assert isinstance(variant, Variant)
    bench = Workbench(store, float_models=1, quantized_models=1)
    weights = found_weights(plan, model, None, progress)
    folder = found_calibration(plan, None)
    plain = Variant(variant.quant)
    subject = study_subject(bench, plan, model, plain, weights, folder, progress, asked)
    layers, others = layers_of(bench, subject, variant.quant, progress)
    return cost(layers, variant.quant, others).bytes


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read ({error.strerror}); put it there.") from None
