"""Measure how often ``quantviz check`` fails wrongly, catches a planted fault, and stays undecided.

From real studies of one network on the same pictures, made by a sweep: one sound, one sound that was calibrated on
other pictures, and others in each of which one layer has 4-bit weights and inputs. Pictures are drawn from them
with replacement, seeded; limits are drafted from one draw, as ``--init`` does, and judged on another.

    python docs/tools/guard_power.py SOUND PLANTED... --again RECALIBRATED
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from quantviz.guard.baseline import taken
from quantviz.guard.decide import Case, decide, outcome_of
from quantviz.guard.draft import draft_limits
from quantviz.guard.run import measure_study
from quantviz.guard.specs import Limit, Measured
from quantviz.store import TensorStore

PICTURES = 100
COLUMNS = ("drift", "flipped", "correct", "probability", "logit_noise")
CHANGE = (
    Limit("drift_over_baseline", 1.25, "baseline"),
    Limit("probability_over_baseline", 1.5, "baseline"),
    Limit("logit_noise_over_baseline", 1.25, "baseline"),
    Limit("flips", 0.05, "baseline"),
    Limit("accuracy", 0.05, "baseline"),
)
"""What ``--init`` proposes."""
HARDEST = (
    Limit("mean_drift", 0.0, "baseline"),
    Limit("drift_over_baseline", 1.0, "baseline"),
    Limit("probability_over_baseline", 1.0, "baseline"),
    Limit("logit_noise_over_baseline", 1.0, "baseline"),
    Limit("flips", 0.0, "baseline"),
    Limit("accuracy", 0.0, "baseline"),
)


def results(study: Path, store: TensorStore, variant: str | None = None) -> Measured:
    """Return what is measured of one network of a study, whose pictures and weights have to be here for its logits."""
    return measure_study(study, (), (variant,) if variant else (), store)[1][0]


def exact_limits(values: Measured) -> tuple[Limit, ...]:
    """Return limits that lie exactly at the values of all pictures: the hardest that still hold."""
    drift = values.drift[~np.isnan(values.drift)]
    cut = float(np.quantile(drift, 0.95))
    known = ~np.isnan(values.correct)
    return (
        Limit("mean_drift", float(drift.mean())),
        Limit("probability", float(np.nanmean(values.probability))),
        Limit("logit_noise", float(np.nanmean(values.logit_noise))),
        Limit("flips", float(np.nanmean(values.flipped))),
        Limit("accuracy", float(values.correct[known].mean())),
        Limit("accuracy_drop", float((values.float_correct - values.correct)[known].mean())),
        Limit("worst_picture", cut, part=float((drift > cut).mean())),
    )


def shares(outcomes: Counter[str]) -> str:
    """Return the parts of the outcomes as cells of a table."""
    total = sum(outcomes.values())
    return " | ".join(f"{outcomes[name] / total:.1%}" for name in ("holds", "undecided", "broken"))


def alike(values: Measured, sound: Measured) -> Measured:
    """Return a network's results on the sound network's pictures, in their order, under its name."""
    places = {sha256: at for at, sha256 in enumerate(values.pictures)}
    return replace(taken(values, np.array([places[sha256] for sha256 in sound.pictures])), cell=sound.cell)


def exchanged(one: Measured, other: Measured, swap: np.ndarray) -> Measured:
    """Return results that are the other network's where ``swap``, bool (n,), says so."""
    return replace(one, **{name: np.where(swap, getattr(other, name), getattr(one, name)) for name in COLUMNS})


def judged(values: Measured, limits: Sequence[Limit], before: Measured | None = None) -> str:
    """Return the outcome of limits, with or without a baseline."""
    case = Case(values, None if before is None else (values, before))
    return outcome_of(decide([case], limits)).value


@dataclass(frozen=True)
class Power:
    """Draws pictures and prints a line of the table for each case.

    Attributes:
        sound: a sound network.
        repeats: of each case.
        rng: that draws.
    """

    sound: Measured
    repeats: int
    rng: np.random.Generator

    def draw(self, size: int = PICTURES) -> np.ndarray:
        """Return places of pictures, with replacement."""
        return self.rng.integers(0, len(self.sound.pictures), size)

    def drafted(self) -> tuple[Limit, ...]:
        """Return limits as ``--init`` drafts them from a draw of the sound network."""
        return draft_limits([taken(self.sound, self.draw())])

    def show(self, words: str, outcome: Callable[[], str], size: int = PICTURES) -> None:
        """Print the parts of the outcomes of so many repeats."""
        found = Counter(outcome() for _ in range(self.repeats))
        print(f"| {words} | {size} | {self.repeats} | {shares(found)} |", flush=True)

    def without_change(self) -> None:
        """Judge the sound network itself."""
        sound, exact, limits = self.sound, exact_limits(self.sound), draft_limits([self.sound])
        self.show("no change, limits exactly at the values", lambda: judged(taken(sound, self.draw()), exact))
        self.show(
            "no change, limits drafted from other pictures", lambda: judged(taken(sound, self.draw()), self.drafted())
        )
        for size in (25, 50, 100, 200, 400):
            words = f"no change, limits drafted from {len(sound.pictures)}"
            self.show(words, lambda size=size: judged(taken(sound, self.draw(size)), limits), size)

    def recalibrated(self, again: Measured) -> None:
        """Judge the sound network against itself, calibrated on other pictures."""

        def exchange() -> str:
            at, swap = self.draw(), self.rng.random(PICTURES) < 0.5
            one, other = taken(self.sound, at), taken(again, at)
            return judged(exchanged(one, other, swap), HARDEST, exchanged(other, one, swap))

        def changed() -> str:
            at = self.draw()
            return judged(taken(again, at), (*self.drafted(), *CHANGE), taken(self.sound, at))

        self.show("no change since the baseline, which is the limit", exchange)
        self.show("calibrated on other pictures, limits and baseline", changed)

    def planted(self, values: Measured, name: str) -> None:
        """Judge a network with a planted fault, by limits alone and with the sound one as the baseline."""

        def change() -> str:
            at = self.draw()
            return judged(taken(values, at), (*self.drafted(), *CHANGE), taken(self.sound, at))

        words = f"`{name}` at 4 bits (mean drift {np.nanmean(values.drift):.4f})"
        self.show(f"{words}, limits", lambda: judged(taken(values, self.draw()), self.drafted()))
        self.show(f"{words}, limits and baseline", change)


def main() -> None:
    """Print the figures as lines of a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sound", type=Path)
    parser.add_argument("planted", type=Path, nargs="*")
    parser.add_argument("--again", type=Path, help="The sound network, calibrated on other pictures.")
    parser.add_argument("--repeats", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quantviz-power-") as name, TensorStore(Path(name)) as store:
        power = Power(results(given.sound, store, "W8A8"), given.repeats, np.random.default_rng(0))
        power.without_change()
        if given.again is not None:
            power.recalibrated(alike(results(given.again, store), power.sound))
        for study in given.planted:
            power.planted(alike(results(study, store), power.sound), study.name.partition("_")[2])


if __name__ == "__main__":
    main()
