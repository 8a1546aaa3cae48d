"""The command diagnose: which tensor did it, why, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from quantviz.api.files import write_file
from quantviz.cli.exports import export_of, export_option
from quantviz.cli.options import check_outputs, limit_option, request_options, samples_of, working
from quantviz.cli.pair import Pairs, file_options
from quantviz.cli.terminal import cache_option, count_of, emit_json, json_option, show, table_of
from quantviz.comparison import CompareRequest, FilesRequest
from quantviz.comparison.files_request import files_of_card
from quantviz.layerwise.diagnosis.asked import Asked, ask_files, ask_network
from quantviz.layerwise.diagnosis.causes import REMEDIES
from quantviz.layerwise.diagnosis.exports import export, mended_bits
from quantviz.layerwise.diagnosis.output import FORMAT, csv_of, html_of, report_diagnosis, report_trial
from quantviz.layerwise.diagnosis.remedies import Trial
from quantviz.layerwise.diagnosis.specs import Diagnosis, TensorFigures
from quantviz.specs import UsageError

_SHOWN, _SENTENCES = 12, 2


@click.command("diagnose")
@click.argument("pictures", nargs=-1, required=True, metavar="IMAGE_OR_DIR...")
@request_options(protocol=False, files=True)
@file_options
@click.option("--by-channel", is_flag=True, help="With the range and SQNR of every channel, in the JSON.")
@click.option(
    "--drift",
    "drifts",
    type=click.IntRange(min=0),
    metavar="N",
    help="Measure what the N worst tensors do to the maps, alone and all but it, and the noise floor; 0 for all.",
)
@click.option(
    "--try",
    "trial",
    metavar="TENSOR[=REMEDY]",
    help=f"Try a remedy for a tensor, or for the worst cause's with `auto`: before and after on every other picture, "
    f"none of which it was chosen on. One of {', '.join(REMEDIES)}; the cause's own if not given.",
)
@click.option(
    "--mended",
    "mended_path",
    type=click.Path(path_type=Path),
    help="Write the ONNX file with the remedy of --try here.",
)
@export_option
@limit_option
@json_option
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Write a page for a browser here.")
@click.option(
    "--csv", "csv_path", type=click.Path(path_type=Path), help="Write the tensors here, in order of execution."
)
@cache_option
def diagnose_command(
    pictures: tuple[str, ...],
    pairs: Pairs | None,
    request: CompareRequest,
    by_channel: bool,
    drifts: int | None,
    trial: str | None,
    mended_path: Path | None,
    exports: tuple[str, ...],
    html_path: Path | None,
    limit: int | None,
    json_path: str | None,
    csv_path: Path | None,
    cache_dir: Path | None,
) -> None:
    """Tell which tensor of MODEL, or of an ONNX pair, loses most when it is quantized, why, and what mends it.

    Every weight and activation is compared in float and quantized over IMAGE_OR_DIR: SQNR, range, channels. A folder's
    pictures, pictures' paths, or bundled photographs' names.
    """
    wanted = [export_of(words) for words in exports]
    check_outputs(json_path, csv_path, html_path, mended_path, *(path for _, path in wanted))
    files = _files_of(pairs, request)
    asked = Asked(drifts, trial, by_channel, request.cam.method)
    _check_mended(mended_path, files, trial)
    samples = samples_of(pictures, limit, "" if files is not None else request.model)
    with working(cache_dir) as (bench, progress):
        if files is not None:
            answer = ask_files(bench, files, samples, asked, progress)
        else:
            answer = ask_network(bench, request, samples, asked, progress)
    found = answer.diagnoses
    if mended_path is not None and answer.mended is not None:
        write_file(mended_path, answer.mended)
    for tool, path in wanted:
        data = mended_bits(found[0], request.quant, request.model) if tool == "bits" else export(found[0], tool)
        write_file(path, data)
    if html_path is not None:
        write_file(html_path, html_of(found))
    _put_out(found, answer.trial, json_path, csv_path, by_channel)


def _check_mended(path: Path | None, files: FilesRequest | None, trial: str | None) -> None:
    if path is not None and files is None:
        raise UsageError("--mended writes an ONNX file, and here quantviz rounds a model; leave it out.")
    if path is not None and trial is None:
        raise UsageError("--mended writes the file that --try made; give --try, too, `--try auto` say.")


def _put_out(
    found: Sequence[Diagnosis], trial: Trial | None, json_path: str | None, csv_path: Path | None, by_channel: bool
) -> None:
    if csv_path is not None:
        write_file(csv_path, b"\n".join(csv_of(entry) for entry in found))
    if json_path is not None:
        reports = [report_diagnosis(entry, by_channel=by_channel) for entry in found]
        several = {"format": FORMAT, "diagnoses": {entry["network"]: entry for entry in reports}}
        report = reports[0] if len(reports) == 1 else several
        if trial is not None:
            report["trial"] = report_trial(trial)
        emit_json(report, json_path)
        return
    for entry in found:
        _show(entry)
    if trial is not None:
        _show_trial(trial)


def _show_trial(trial: Trial) -> None:
    pictures = count_of(trial.held_out, "picture")
    click.echo(f"\nRemedy {trial.remedy} for {trial.tensor}, measured on {pictures} that it was not chosen on:\n")
    table = table_of("", "SQNR of the tensor", "drift", "flips", "top-1", "KiB")
    for name, one in (("before", trial.before), ("after", trial.after)):
        table.add_row(
            name,
            f"{_number(one.sqnr_isolated, '.1f')} dB",
            _number(one.drift.cam, ".5f"),
            f"{one.drift.flips:.1%}",
            _number(one.drift.accuracy, ".1%"),
            f"{one.bytes / 2**10:,.0f}",
        )
    show(table)
    if trial.difference is not None:
        ends = (
            "" if trial.interval is None else f", 95 % interval {trial.interval.low:+.5f} to {trial.interval.high:+.5f}"
        )
        click.echo(f"\nDrift changes by {trial.difference:+.5f}{ends}.")


def _files_of(pairs: Pairs | None, request: CompareRequest) -> FilesRequest | None:
    """Return the ONNX files that are named, by themselves or by a card; None for a network that quantviz rounds."""
    if pairs is None or pairs.files is not None:
        return None if pairs is None else pairs.files
    if pairs.card is None or pairs.card.float_file is None:
        return None
    return files_of_card(pairs.card, request.cam.layer, pairs.classes)


def _show(found: Diagnosis) -> None:
    click.echo(f"{found.network}, {found.quantization}, {count_of(len(found.images), 'picture')}")
    for note in found.notes:
        click.echo(note)
    click.echo("")
    if not found.causes:
        click.echo("Nothing is wrong by any of the rules; the tensors that lose most:")
    for name in dict.fromkeys(cause.cause for cause in found.causes):
        same = [cause for cause in found.causes if cause.cause == name]
        for cause in same[:_SENTENCES]:
            click.echo(cause.sentence)
        more = len(same) - _SENTENCES
        if more > 0:
            click.echo(f"The same goes for {count_of(more, 'more tensor')}.")
        click.echo(f"  {name}: {same[0].advice}.")
    click.echo("")
    known = {entry.name: entry for entry in found.tensors}
    causes = {cause.tensor: cause.cause for cause in found.causes}
    drifts = any(entry.drift is not None for entry in found.tensors)
    headings = ["", "tensor", "depth", "bits", "isolated dB", "accumulated dB", "clipped", "used", "outlier"]
    table = table_of(*headings, *(("drift alone", "over floor") if drifts else ()), "cause")
    for rank, name in enumerate(found.ranking[:_SHOWN], 1):
        entry = known.get(name)
        if entry is None:
            table.add_row(str(rank), name, *[""] * (9 if drifts else 7), causes.get(name, ""))
            continue
        table.add_row(
            str(rank),
            name,
            str(entry.depth),
            "float" if entry.site.bits is None else str(entry.site.bits),
            _number(entry.sqnr_isolated, ".1f"),
            _number(entry.sqnr, ".1f"),
            f"{entry.clipped:.3%}",
            _number(entry.used, ".0%"),
            f"{entry.outlier_ratio:.1f}",
            *(_drift_of(entry) if drifts else ()),
            causes.get(name, ""),
        )
    show(table)
    left = len(found.ranking) - _SHOWN
    if left > 0:
        click.echo(f"... and {left} more; --json or --csv has them all.")
    click.echo("\nSQNR is of the tensor's own rounding (isolated) and of all before it, too (accumulated).")


def _drift_of(entry: TensorFigures) -> tuple[str, str]:
    """Return the cells of a tensor's drift, which was measured of some."""
    if entry.drift is None:
        return "-", "-"
    return _number(entry.drift.alone, ".5f"), _number(entry.drift.over_floor, ".1f")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
