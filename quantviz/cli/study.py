"""The commands of a study: sweep and summary."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from quantviz.cli.terminal import (
    cache_option,
    check_writable,
    emit_json,
    json_option,
    progress_bar,
    show,
    table_of,
    watched_store,
    write_file,
)
from quantviz.pipeline.plan import BATCH, SweepRequest
from quantviz.specs import (
    CALIBRATED,
    CAM_METHODS,
    COMPARISONS,
    DEVIATIONS,
    PRESETS,
    RANGE_METHODS,
    SCHEME_WORDS,
    STUDY_METRICS,
    CamSpec,
    Estimate,
    QuantvizError,
    Rate,
    StudyCell,
    StudySummary,
    UsageError,
    parse_bits,
    scheme_name,
    spec_of,
)

_NAMES = {
    "float_v_saliency": "float v saliency",
    "quantized_v_saliency": "quantized v saliency",
    "quantized_v_float": "quantized v float",
}


@click.command("sweep")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--models", required=True, metavar="NAMES", help="Names that `quantviz models` lists, by commas.")
@click.option(
    "--bits", default="8", show_default=True, metavar="BITS", help="16, 8, W4 (weight-only) or W4A8, say; by commas."
)
@click.option(
    "--weights", multiple=True, metavar="MODEL=CHOICE", help="A file, published weights or untrained; for each model."
)
@click.option(
    "--scheme",
    default="standard",
    show_default=True,
    metavar="WORDS",
    help=f"One of {', '.join(PRESETS)}; or words of {', '.join(SCHEME_WORDS)}; separated by commas.",
)
@click.option("--ranges", type=click.Choice(RANGE_METHODS), help="As the scheme says if not given.")
@click.option(
    "--protocols",
    default=CALIBRATED,
    show_default=True,
    help=f"calibrated, paper, or calibrated+NAME+NAME with names from {', '.join(DEVIATIONS)}; by commas.",
)
@click.option("--cam", "method", default="gradcam++", show_default=True, help=f"One of {', '.join(CAM_METHODS)}.")
@click.option("--calibration", type=click.Path(path_type=Path), help="Folder of pictures; bundled ones if not given.")
@click.option("--limit", type=click.IntRange(min=1), help="Take at most so many pictures, evenly spaced.")
@click.option("--seed", type=click.IntRange(min=0), help="Draw the pictures of --limit at random by this seed.")
@click.option(
    "--batch", type=click.IntRange(min=1), default=BATCH, show_default=True, help="Pictures that are kept at a time."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="STUDY", help="The study's folder.")
@cache_option
def sweep_command(
    models: str,
    bits: str,
    weights: tuple[str, ...],
    scheme: str,
    ranges: Any,
    protocols: str,
    method: str,
    out: Path,
    cache_dir: Path | None,
    **rest: Any,
) -> None:
    """Compare float and quantized networks on every picture of the folder DATASET, and keep the results in STUDY.

    Interrupted or killed, the same command goes on where it was, to the same results. Pictures in folders that are
    named as ImageNet's synsets (n02123045) have labels. A picture that cannot be used is recorded with the reason.
    """
    from quantviz.pipeline.sweep import sweep  # here, because Arrow takes a fifth of a second to import

    widths = [parse_bits(part) for part in bits.split(",")]
    request = SweepRequest(
        models=_words(models),
        quants=tuple(spec_of(scheme, *width, ranges=ranges) for width in widths),
        weights=_weights(weights),
        protocols=_words(protocols),
        cam=CamSpec(method),
        command=_command(),
        **rest,
    )
    try:
        with watched_store(cache_dir) as store, progress_bar() as progress:
            found = sweep(request, out, store, progress)
    except KeyboardInterrupt:
        raise QuantvizError("Interrupted; what was done is kept, and the same command goes on from there.") from None
    plan = found.plan
    what = f"{len(plan.images)} pictures, {len(plan.models)} models, {len(plan.quants)} bit-widths"
    state = f"{found.computed} of {len(plan.pieces)} pieces computed" if found.computed else "nothing to compute"
    click.echo(f"Study {out} is finished ({what}; {state}). Sum it up by: quantviz summary {shlex.quote(str(out))}")


@click.command("summary")
@click.argument("study", type=click.Path(path_type=Path))
@json_option
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="Write every number here, one a line.")
def summary_command(study: Path, json_path: str | None, csv_path: Path | None) -> None:
    """Sum up the finished STUDY of a sweep: agreement of the maps, tests, flips, accuracy, and what drift goes with."""
    from quantviz.pipeline.summary import report_summary, summary, summary_table

    for path in (None if json_path in (None, "-") else Path(str(json_path)), csv_path):
        check_writable(path)
    with progress_bar() as progress:
        found = summary(study, progress)
    if csv_path is not None:
        write_file(csv_path, summary_table(found))
    if json_path is not None:
        emit_json(report_summary(found), json_path)
    else:
        _show(found)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def _weights(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in given:
        name, mark, choice = entry.partition("=")
        if not mark or not choice:
            raise UsageError(f"Weights {entry!r} name no model; write MODEL=CHOICE, vgg16=untrained say.")
        if name in found:
            raise UsageError(f"Weights of {name!r} are given twice; give them once.")
        found[name] = choice
    return found


def _command() -> str:
    """Return the command line that was given, in the order of the options; the cache folder decides nothing."""
    context = click.get_current_context()
    words = ["quantviz", "sweep"]
    for param in context.command.params:
        value = context.params.get(str(param.name))
        given = context.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
        if not given or param.name == "cache_dir":
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words += [str(one)] if isinstance(param, click.Argument) else [param.opts[0], str(one)]
    return shlex.join(words)


def _show(found: StudySummary) -> None:
    plan = found.plan
    labelled = sum(image.label is not None for image in plan.images)
    click.echo(f"{len(plan.images)} pictures of {plan.dataset}, {labelled} with a label")
    quant = plan.quants[0]
    click.echo(
        f"{plan.cam.method}, scheme {scheme_name(quant)}, ranges {quant.ranges}, calibrated on "
        f"{plan.calibration.source}; the saliency is predicted ({plan.saliency})"
    )
    untrained = [model.name for model in plan.models if not model.weights.trained]
    if untrained:
        click.echo(f"UNTRAINED (random) weights, a sanity control: {', '.join(untrained)}")
    for protocol in plan.protocols:
        cells = [cell for cell in found.cells if cell.protocol == protocol]
        click.echo(f"\nProtocol {protocol}: mean ± standard deviation over the pictures\n")
        _show_scores(found, cells)
        _show_change(cells)
        _show_rates(cells)
        _show_drift(cells)
    for reason, count in found.reasons.items():
        click.echo(f"{count} picture{'s' * (count != 1)} without a result: {reason}")


def _show_scores(found: StudySummary, cells: Sequence[StudyCell]) -> None:
    """Print the paper's Table 1: comparison and metric down, models across."""
    names = [model.name for model in found.plan.models]
    by_place = {(cell.model, cell.setting): cell for cell in cells}
    table = table_of("comparison", "metric", *names)
    settings = [quant.label for quant in found.plan.quants]
    for comparison in COMPARISONS:
        alone = comparison == "float_v_saliency"
        for setting in settings[:1] if alone else settings:
            for metric in STUDY_METRICS:
                marks = [by_place[name, setting].scores[comparison][metric] for name in names]
                title = _NAMES[comparison].replace("quantized", setting)
                table.add_row(title, metric.upper(), *map(_spread, marks))
    show(table)


def _show_change(cells: Sequence[StudyCell]) -> None:
    click.echo("\nAgreement with the saliency, quantized - float: mean [95 % interval], p (Wilcoxon, Holm)\n")
    table = table_of("model", "bits", *(metric.upper() for metric in STUDY_METRICS))
    for cell in cells:
        tests = [cell.tests[metric] for metric in STUDY_METRICS]
        told = [f"{_mean(test.change, '+.4f')} {_p(test.p_adjusted)}" for test in tests]
        table.add_row(cell.model, cell.setting, *told)
    show(table)


def _show_rates(cells: Sequence[StudyCell]) -> None:
    click.echo("\nTop-1, errors, and maps without evidence (not scored)\n")
    maps = ("float", "quantized", "saliency")
    table = table_of("model", "bits", "flips", "float top-1", "top-1", "errors", *(f"no {name} map" for name in maps))
    for cell in cells:
        rates = (cell.flips, cell.float_accuracy, cell.accuracy)
        counts = (cell.errors, *(cell.degenerate[name] for name in maps))
        table.add_row(cell.model, cell.setting, *map(_part, rates), *map(str, counts))
    show(table)


def _show_drift(cells: Sequence[StudyCell]) -> None:
    click.echo("\nDrift, 1 - CC of the quantized and the float map: mean [95 % interval], (pictures)\n")
    groups = {
        ("flipped", "flipped"): "flipped",
        ("flipped", "kept"): "kept",
        ("confidence", "low"): "unsure third",
        ("confidence", "middle"): "middle third",
        ("confidence", "high"): "sure third",
        ("correct", "correct"): "float right",
        ("correct", "wrong"): "float wrong",
    }
    table = table_of("model", "bits", "all", *groups.values())
    for cell in cells:
        splits = {(split.by, split.group): split.drift for split in cell.splits}
        parts = [splits.get(group) for group in groups]
        told = ["-" if part is None else f"{_number(part.mean, '.4f')} ({part.n})" for part in parts]
        table.add_row(cell.model, cell.setting, _mean(cell.drift, ".4f"), *told)
    show(table)


def _spread(found: Estimate) -> str:
    return f"{_number(found.mean, '.3f')} ± {_number(found.sd, '.3f')}"


def _mean(found: Estimate, form: str) -> str:
    """Return a mean with its interval, the bracket escaped from the terminal library's markup."""
    if found.low is None or found.high is None:
        return _number(found.mean, form)
    return f"{_number(found.mean, form)} \\[{found.low:{form}}, {found.high:{form}}]"


def _part(found: Rate | None) -> str:
    if found is None or found.value is None or found.low is None or found.high is None:
        return "-"
    return f"{found.value:.1%} \\[{found.low:.1%}, {found.high:.1%}]"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
