"""The command diagnose: which tensor did it, why, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from quantviz.api.files import write_file
from quantviz.cli.options import check_outputs, limit_option, request_options, samples_of, working
from quantviz.cli.pair import Pairs, file_options
from quantviz.cli.terminal import cache_option, count_of, emit_json, json_option, progress_bar, show, table_of
from quantviz.comparison import CompareRequest, FilesRequest
from quantviz.comparison.files_request import files_of_card
from quantviz.layerwise.diagnosis.files import diagnose_files
from quantviz.layerwise.diagnosis.output import FORMAT, csv_of, report_diagnosis
from quantviz.layerwise.diagnosis.run import diagnose
from quantviz.layerwise.diagnosis.specs import Diagnosis
from quantviz.specs import UsageError

_SHORT = re.compile(r"(?:W(\d{1,2}))?(?:A(\d{1,2}))?", re.ASCII)
_SHOWN = 12


@click.command("diagnose")
@click.argument("pictures", nargs=-1, required=True, metavar="IMAGE_OR_DIR...")
@request_options(protocol=False, files=True)
@file_options
@click.option(
    "--bits", metavar="W8A8", help="Bits of weights and activations in short: W8A8; W8, weights only; A8, activations."
)
@click.option("--by-channel", is_flag=True, help="With the range and SQNR of every channel, in the JSON.")
@limit_option
@json_option
@click.option(
    "--csv", "csv_path", type=click.Path(path_type=Path), help="Write the tensors here, in order of execution."
)
@cache_option
def diagnose_command(
    pictures: tuple[str, ...],
    pairs: Pairs | None,
    request: CompareRequest,
    bits: str | None,
    by_channel: bool,
    limit: int | None,
    json_path: str | None,
    csv_path: Path | None,
    cache_dir: Path | None,
) -> None:
    """Tell which tensor of MODEL, or of an ONNX pair, loses most when it is quantized, why, and what mends it.

    Every weight and activation is compared in float and quantized over IMAGE_OR_DIR: SQNR, range, channels. A folder's
    pictures, pictures' paths, or bundled photographs' names.
    """
    check_outputs(json_path, csv_path)
    files = _files_of(pairs, request)
    if files is not None:
        if bits is not None:
            raise UsageError("--bits goes with a model that quantviz rounds; ONNX files have their own; leave it out.")
        samples = samples_of(pictures, limit)
        with progress_bar() as progress:
            found = list(diagnose_files(files, samples, progress, by_channel=by_channel).values())
    else:
        request, weights, activations = _with_bits(request, bits)
        samples = samples_of(pictures, limit, request.model)
        parts: dict[str, Any] = {"weights": weights, "activations": activations, "by_channel": by_channel}
        with working(cache_dir) as (bench, progress):
            found = [diagnose(bench, request, samples, progress, **parts)]
    _put_out(found, json_path, csv_path, by_channel)


def _put_out(found: Sequence[Diagnosis], json_path: str | None, csv_path: Path | None, by_channel: bool) -> None:
    if csv_path is not None:
        write_file(csv_path, b"\n".join(csv_of(entry) for entry in found))
    if json_path is not None:
        reports = [report_diagnosis(entry, by_channel=by_channel) for entry in found]
        several = {"format": FORMAT, "diagnoses": {entry["network"]: entry for entry in reports}}
        emit_json(reports[0] if len(reports) == 1 else several, json_path)
    else:
        for entry in found:
            _show(entry)


def _files_of(pairs: Pairs | None, request: CompareRequest) -> FilesRequest | None:
    """Return the ONNX files that are named, by themselves or by a card; None for a network that quantviz rounds."""
    if pairs is None or pairs.files is not None:
        return None if pairs is None else pairs.files
    if pairs.card is None or pairs.card.float_file is None:
        return None
    return files_of_card(pairs.card, request.cam.layer, pairs.classes)


def _with_bits(request: CompareRequest, bits: str | None) -> tuple[CompareRequest, bool, bool]:
    """Return the request at these bits, and whether weights and whether activations are rounded."""
    if bits is None:
        return request, True, request.quant.act_bits is not None
    context = click.get_current_context()
    for name, option in (("weight_bits", "--weight-bits"), ("act_bits", "--act-bits"), ("bits_file", "--bits-file")):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--bits and {option} exclude each other; leave one out.")
    match = _SHORT.fullmatch(bits.upper())
    if match is None or not (match[1] or match[2]):
        raise UsageError(f"--bits {bits!r} names no bits; write W8A8, W8 for weights only, or A8 for activations only.")
    weight, act = (int(number) if number else None for number in match.groups())
    quant = replace(request.quant, weight_bits=weight or request.quant.weight_bits, act_bits=act)
    return replace(request, quant=quant), weight is not None, act is not None


def _show(found: Diagnosis) -> None:
    click.echo(f"{found.network}, {found.quantization}, {count_of(len(found.images), 'picture')}")
    for note in found.notes:
        click.echo(note)
    click.echo("")
    if not found.causes:
        click.echo("Nothing is wrong by any of the rules; the tensors that lose most:")
    for cause in found.causes:
        click.echo(f"{cause.sentence}\n  {cause.cause}: {cause.advice}.")
    click.echo("")
    known = {entry.name: entry for entry in found.tensors}
    causes = {cause.tensor: cause.cause for cause in found.causes}
    table = table_of(
        "", "tensor", "depth", "bits", "isolated dB", "accumulated dB", "clipped", "used", "outlier", "cause"
    )
    for rank, name in enumerate(found.ranking[:_SHOWN], 1):
        entry = known.get(name)
        if entry is None:
            table.add_row(str(rank), name, *[""] * 7, causes.get(name, ""))
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
            causes.get(name, ""),
        )
    show(table)
    left = len(found.ranking) - _SHOWN
    if left > 0:
        click.echo(f"... and {left} more; --json or --csv has them all.")
    click.echo("\nSQNR is of the tensor's own rounding (isolated) and of all before it, too (accumulated).")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
