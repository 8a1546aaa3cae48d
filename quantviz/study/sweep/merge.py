"""Shards: shares of a study that are computed separately, and merged into the study."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from quantviz.specs import Phase, Progress, UsageError, no_progress
from quantviz.study.folder import StudyFolder
from quantviz.study.specs.plan import Piece, StudyPlan

Shard = tuple[int, int]


def parse_shard(text: str) -> Shard:
    """Return (i, n) of ``"i/n"``.

    Raises:
        UsageError: the text has another form, or i is not from 1 to n.
    """
    first, mark, second = text.strip().partition("/")
    if not (mark and all(part.isascii() and part.isdigit() and len(part) < 7 for part in (first, second))):
        raise UsageError(f"Shard {text!r} is unknown; write 3/8 for the third of eight.")
    return _checked((int(first), int(second)))


def share(plan: StudyPlan, shard: Shard | None) -> tuple[Piece, ...]:
    """Return the pieces that a shard computes, by number; those of all shards are the study's, each once.

    Independent pieces are dealt out in turn, so that shards have equally many of each model, give or take one. Where a
    piece needs the one before, a model's pieces under the protocol stay together.

    Args:
        plan: of the study.
        shard: (i, n), i from 1 to n; None: all pieces.

    Raises:
        UsageError: i is not from 1 to n.
    """
    if shard is None:
        return plan.pieces
    number, count = _checked(shard)
    chained = [run for run in plan.runs if plan.sequential(run[0].protocol)]
    alone = [piece for run in plan.runs if not plan.sequential(run[0].protocol) for piece in run]
    mine = alone[number - 1 :: count] + [piece for run in chained[number - 1 :: count] for piece in run]
    return tuple(sorted(mine, key=lambda piece: piece.number))


def merge(shards: Sequence[Path], out: Path, progress: Progress = no_progress) -> StudyPlan:
    """Make a study of its shards: the same bytes in ``results.parquet`` as a sweep that was not shared out.

    Args:
        shards: the shards' folders; they are not changed. A piece may be in several, if it is the same in all.
        out: folder of the study: a new one, or one that a merge of the same study has begun.
        progress: reports how far it is; whatever it raises ends the call, and the same call goes on from there.

    Returns:
        The study's plan.

    Raises:
        UsageError: there is no shard in a folder, they are of different studies, pieces differ or are missing; or
            ``out`` holds another study.
        StoreError: a shard cannot be read, or the study not be written.
    """
    folders = [StudyFolder(path) for path in shards]
    plans = [_plan(folder) for folder in folders]
    for folder, plan in zip(folders[1:], plans[1:], strict=True):
        if different := plans[0].difference(plan):
            raise UsageError(
                f"Shards {str(folders[0].path)!r} and {str(folder.path)!r} are of two studies: {different}; merge "
                "those of one."
            )
    pieces = plans[0].pieces
    holders: dict[int, StudyFolder] = {}
    for folder, plan in zip(folders, plans, strict=True):
        for done, piece in enumerate(pieces):
            if done % 100 == 0:
                progress(f"Looking through {folder.path}", done / len(pieces), Phase.READING)
            if folder.has(plan, piece):
                _agree(holders.setdefault(piece.number, folder), folder, plans[0], piece)
    if lacking := [piece for piece in pieces if piece.number not in holders]:
        raise UsageError(_missing(plans, lacking))
    return _written(plans[0], pieces, holders, out, progress)


def _checked(shard: Shard) -> Shard:
    number, count = shard
    if not 1 <= number <= count:
        raise UsageError(f"Shard {number}/{count} does not exist; the first number goes from 1 to the second.")
    return shard


def _plan(folder: StudyFolder) -> StudyPlan:
    plan = folder.plan() if folder.path.exists() else None
    if plan is None:
        raise UsageError(f"There is no shard at {str(folder.path)!r}; make one by quantviz sweep with --shard.")
    return plan


def _agree(first: StudyFolder, second: StudyFolder, plan: StudyPlan, piece: Piece) -> None:
    """Refuse a piece whose results differ between two shards."""
    if first is second or first.piece_bytes(piece) == second.piece_bytes(piece):
        return
    where = f"pictures {piece.start + 1} to {piece.stop} under {plan.models[piece.model].name}, {piece.protocol}"
    raise UsageError(
        f"Shards {str(first.path)!r} and {str(second.path)!r} differ in {where}; leave one of them out: their machines "
        "do not compute alike."
    )


def _missing(plans: Sequence[StudyPlan], lacking: Sequence[Piece]) -> str:
    """Say which shards are missing or unfinished, and which command makes them."""
    count = next((plan.shard[1] for plan in plans if plan.shard), 1)
    numbers = {piece.number for piece in lacking}
    absent = [
        number
        for number in range(1, count + 1)
        if numbers & {piece.number for piece in share(plans[0], (number, count))}
    ]
    shards = ", ".join(f"{number}/{count}" for number in absent)
    what = f"Shard {shards} is" if len(absent) == 1 else f"Shards {shards} are"
    commands = {plan.shard: plan.command for plan in plans if plan.command}
    shard = (absent[0], count)
    if shard in commands:
        again = commands[shard]
    elif commands:
        command = next(iter(commands.values()))
        again = f"{_changed(command, {'--shard': f'{absent[0]}/{count}', '--out': 'FOLDER'})} with a new FOLDER"
    else:
        again = "the same sweep with that shard"
    each = "it" if len(absent) == 1 else "each"
    return f"{what} missing or not finished ({len(lacking)} pieces); make {each} by: {again}"


def _written(
    plan: StudyPlan, pieces: Iterable[Piece], holders: Mapping[int, StudyFolder], out: Path, progress: Progress
) -> StudyPlan:
    folder = StudyFolder(out)
    known = folder.plan()
    whole = replace(plan, shard=None, command=_changed(plan.command, {"--shard": None, "--out": str(out)}))
    if known is not None and (known.shard or known.difference(whole)):
        raise UsageError(f"Folder {str(out)!r} holds another study or a shard; name a new folder.")
    if known is not None and folder.finished(known):
        return known
    with folder.locked():
        if known is None:
            folder.begin(whole)
        for piece in pieces:
            progress("Gathering the pieces", piece.number / len(holders), Phase.WRITING)
            if not folder.has(whole, piece):
                folder.add(piece, holders[piece.number].piece_bytes(piece))
        progress("Writing the results", None, Phase.WRITING)
        folder.finish(whole)
    return whole


def _changed(command: str, options: Mapping[str, str | None]) -> str:
    """Return a command line with other values for options; None leaves an option out."""
    words = shlex.split(command)
    for option, value in options.items():
        if option in words:
            at = words.index(option)
            words[at : at + 2] = [] if value is None else [option, value]
    return shlex.join(words)
