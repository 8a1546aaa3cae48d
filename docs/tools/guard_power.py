"""Measure how often ``quantviz check`` fails wrongly, catches a planted fault, and stays undecided.

From real studies of one network on the same pictures, made by a sweep: one sound, and others in each of which one layer
has 4-bit weights and inputs. Pictures are drawn from them with replacement, seeded; limits are drafted from one draw,
as ``--init`` does, and judged on another.

    python docs/tools/guard_power.py SOUND PLANTED...
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from quantviz.guard.baseline import taken
from quantviz.guard.decide import Case, decide, outcome_of
from quantviz.guard.draft import draft_limits
from quantviz.guard.measure import measured, of_study
from quantviz.guard.specs import Limit, Measured

PICTURES, CHANGE = 100, 0.002


def results(study: Path, variant: str | None = None) -> Measured:
    """Return what is measured of one network of a study."""
    table, rows = of_study(study, (), (variant,) if variant else ())
    return measured(table, rows[0])


def exact_limits(values: Measured) -> tuple[Limit, ...]:
    """Return limits that lie exactly at the values of all pictures: the hardest that still hold."""
    drift = values.drift[~np.isnan(values.drift)]
    cut = float(np.quantile(drift, 0.95))
    known = ~np.isnan(values.correct)
    return (
        Limit("mean_drift", float(drift.mean())),
        Limit("flips", float(np.nanmean(values.flipped))),
        Limit("accuracy", float(values.correct[known].mean())),
        Limit("accuracy_drop", float((values.float_correct - values.correct)[known].mean())),
        Limit("worst_picture", cut, part=float((drift > cut).mean())),
    )


def shares(outcomes: Counter[str]) -> str:
    """Return the parts of the outcomes in words."""
    total = sum(outcomes.values())
    return ", ".join(f"{name} {outcomes[name] / total:.1%}" for name in ("holds", "undecided", "broken"))


def main() -> None:
    """Print the figures as lines of a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sound", type=Path)
    parser.add_argument("planted", type=Path, nargs="+")
    parser.add_argument("--repeats", type=int, default=200)
    given = parser.parse_args()
    sound, rng = results(given.sound, "W8A8"), np.random.default_rng(0)
    count = len(sound.pictures)

    def draw(size: int = PICTURES) -> np.ndarray:
        return rng.integers(0, count, size)

    def judged(values: Measured, limits: tuple[Limit, ...], before: Measured | None = None) -> str:
        case = Case(values, None if before is None else (values, before))
        return outcome_of(decide([case], limits)).value

    exact = exact_limits(sound)
    found = Counter(judged(taken(sound, draw()), exact) for _ in range(given.repeats))
    print(f"no change, limits exactly at the values | {PICTURES} | {shares(found)}", flush=True)
    found = Counter(judged(taken(sound, draw()), draft_limits([taken(sound, draw())])) for _ in range(given.repeats))
    print(f"no change, limits drafted from other pictures | {PICTURES} | {shares(found)}", flush=True)
    limits = draft_limits([sound])
    for size in (25, 50, 100, 200, 400):
        found = Counter(judged(taken(sound, draw(size)), limits) for _ in range(given.repeats // 4))
        print(f"no change, limits drafted from {count} | {size} | {shares(found)}", flush=True)
    for study in given.planted:
        planted = results(study)
        places = {sha256: at for at, sha256 in enumerate(planted.pictures)}
        planted = taken(planted, np.array([places[sha256] for sha256 in sound.pictures]))
        planted = replace(planted, cell=sound.cell)
        for words, change in (("limits", ()), ("limits and baseline", (Limit("mean_drift", CHANGE, "baseline"),))):
            found = Counter()
            for _ in range(given.repeats // 2):
                drafted, at = (*draft_limits([taken(sound, draw())]), *change), draw()
                found[judged(taken(planted, at), drafted, taken(sound, at) if change else None)] += 1
            print(
                f"{study.name}, mean drift {np.nanmean(planted.drift):.4f}, {words} | {PICTURES} | {shares(found)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
