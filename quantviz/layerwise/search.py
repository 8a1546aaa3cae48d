"""Bits of single layers: the smallest model whose maps stay where they were.

1. Every other picture is searched on; the ones between are held out and only measured.
2. Each layer's weight alone is rounded to 4 bits (or the width nearest to it), the inputs of all layers being rounded
   already, on up to 16 pictures: how far maps drift, and what the noise energy of the logits is. A bit more or less is
   taken to divide or multiply both by four, as it does a grid's squared error.
3. Taking these to add up, layers give up bits in order of the harm for each byte saved (``allocate.path``), once by the
   maps' drift and once by maps and logits together. Along both paths the real drift is measured, at the size of each
   uniform width and halfway between.
4. On each path the place is halved in upon where the budgets are crossed. From the smallest model within them, further
   steps are tried, a few at once and then one by one, passing over those that go too far. Each candidate counts by what
   was measured of it, never by what was predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from itertools import pairwise, product
from typing import Any

import numpy as np

from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.layerwise.allocate import Bits, Move, after, fitted, path
from quantviz.layerwise.drift import Changes, Drifts, accuracy, decides, layers_of, switchboard
from quantviz.layerwise.search_plan import Budgets, SearchPlan, result_of
from quantviz.layerwise.sensitivity import step
from quantviz.layerwise.specs import Candidate, Drift, SearchResult
from quantviz.specs import (
    Cost,
    ImageSample,
    LayerBits,
    Progress,
    QuantSpec,
    StoredRecord,
    no_progress,
    with_layers,
)

WIDTHS = (2, 3, 4, 5, 6, 8)

_RANKED_ON = 16  # pictures of the searched ones that single layers are measured on
_ANCHOR = 4  # bits that they are measured at; for other widths a law is taken, which ranked as well as measuring
_HALVINGS = 5  # of the stretch of each path in which the budgets are crossed
_TRIALS = 12  # of further steps along each path, passing over those that are too many
_AT_ONCE = 4  # steps of the first trial


def candidate_quant(result: SearchResult, candidate: Candidate) -> QuantSpec:
    """Return the quantization of a search's candidate."""
    return with_layers(result.quant, candidate.bits)


def search(
    bench: Workbench,
    request: CompareRequest,
    samples: Sequence[ImageSample],
    *,
    max_drift: float,
    max_flips: float | None = None,
    widths: Sequence[int] = WIDTHS,
    progress: Progress = no_progress,
) -> SearchResult:
    """Find weight bits for each layer that make the model small and keep its maps; the top of this file says how.

    Activations keep the bits of ``request.quant``. Weights are rounded to nearest throughout: a scheme that learns
    its rounding or corrects biases is searched without, and the result's ``quant`` says so; its bits can be learned
    for afterwards. Each network's drift is kept in the store, so that an interrupted call goes on where it ended.

    Args:
        bench: with the models and the store.
        request: model, weights, map, quantization and calibration pictures; its weight bits are not used.
        samples: the pictures, at least one.
        max_drift: greatest mean of 1 - CC on the searched pictures, above 0.
        max_flips: greatest part of the searched pictures whose top-1 class may change, 0 to 1; None for any.
        widths: weight bits to choose from, two or more.
        progress: reports what is being done and the part done; whatever it raises ends the call.

    Raises:
        UsageError: a budget or width is out of range, there is no picture, or the protocol is not the calibrated one;
            or as ``Workbench.compare``.
    """
    plan = SearchPlan.of(bench, request, samples, Budgets(max_drift, max_flips, tuple(widths)), progress)
    record = bench.store.get(plan.key)
    if record is None:
        record = StoredRecord({}, _Search(plan, progress).run(plan.budgets.allow))
        bench.store.put(plan.key, record)
    return result_of(plan, record.metadata)


def stored_search(
    bench: Workbench,
    request: CompareRequest,
    samples: Sequence[ImageSample],
    *,
    max_drift: float,
    max_flips: float | None = None,
    widths: Sequence[int] = WIDTHS,
    progress: Progress = no_progress,
) -> SearchResult | None:
    """Return the result that ``search`` would read from the store, or None; no network is run.

    To know which weights are meant, published ones may be downloaded and untrained ones drawn.

    Args:
        bench: with the store.
        request: as in ``search``.
        samples: the pictures.
        max_drift: as in ``search``.
        max_flips: as in ``search``.
        widths: as in ``search``.
        progress: reports a download; whatever it raises ends the call.

    Raises:
        as ``search``.
    """
    plan = SearchPlan.of(bench, request, samples, Budgets(max_drift, max_flips, tuple(widths)), progress)
    record = bench.store.get(plan.key)
    return None if record is None else result_of(plan, record.metadata)


class _Search:
    """One search under way.

    Args:
        plan: what is searched for.
        progress: of the whole call.
    """

    def __init__(self, plan: SearchPlan, progress: Progress) -> None:
        from quantviz.quantize import cost

        self.searched, self.held_out, self.progress = plan.searched, plan.held_out, progress
        self.widths = tuple(sorted(set(plan.budgets.widths), reverse=True))
        bench, subject, self.quant = self.searched.bench, self.searched.subject, plan.request.quant
        self.layers, self.others = layers_of(bench, subject, self.quant, progress)
        self.board = cache(lambda: switchboard(bench, subject, self.quant, progress))
        self.start: Bits = {layer.name: self.widths[0] for layer in self.layers}
        self.measured: dict[tuple[int, ...], tuple[Bits, Drift]] = {}
        self.trials: set[tuple[int, ...]] = set()  # steps on the way to the result, which nobody asked for
        self._cost = cost

    def run(self, within: Callable[[Drift], bool]) -> dict[str, Any]:
        """Return the result as JSON-able data."""
        uniform = [dict.fromkeys(self.start, width) for width in reversed(self.widths)]
        moves, limits = self._paths(), self._limits(uniform)
        for place, bits in enumerate(uniform):
            self.drift(bits, step(self.progress, "Uniform bits", 50 + place, 100))
        total = len(moves) * len(limits)
        for place, (path_, limit) in enumerate(product(moves, limits)):
            if (fit := fitted(self.start, path_, self.size, limit)) is not None:
                self.drift(fit, step(self.progress, "Mixed bits", 56 * total + 10 * place, 100 * total))
        for place, path_ in enumerate(moves):
            self._approach(path_, limits, within, 66 + _HALVINGS * place)
        best = self._smallest(within)
        for path_ in moves:
            best = self._refined(best, path_, within)
        front = self._front(best)
        return self._measured_entries(best, front, uniform)

    def size(self, bits: Bits) -> int:
        """Return the bytes of the model with these bits."""
        return self.cost(bits).bytes

    def cost(self, bits: Bits) -> Cost:
        """Return what the model costs with these bits."""
        return self._cost(self.layers, self._spec(bits), self.others)

    def drift(self, bits: Bits, report: Progress) -> Drift:
        """Return the drift on the searched pictures, and remember it."""
        drift = self._changes(self.searched, bits, report).drift(self.searched.labels)
        self.measured[tuple(bits.values())] = (bits, drift)
        return drift

    def _spec(self, bits: Mapping[str, int | None]) -> QuantSpec:
        return replace(self.quant, layer_bits=self._each(bits))

    def _each(self, bits: Mapping[str, int | None]) -> tuple[LayerBits, ...]:
        acts = {layer.name: self.quant.bits_of(layer.name)[1] for layer in self.layers}
        return tuple(LayerBits(name, bits.get(name), act_bits) for name, act_bits in acts.items())

    def _changes(self, drifts: Drifts, bits: Mapping[str, int | None], report: Progress) -> Changes:
        spec = self._spec(bits)
        return drifts.changes(lambda: self.board().set(spec), decides(drifts.subject, spec), report)

    def _paths(self) -> list[list[Move]]:
        """Return the paths by the maps' drift, and by maps and logits together."""
        few = min(_RANKED_ON, len(self.searched.samples))
        places = [place * len(self.searched.samples) // few for place in range(few)]
        drifts = Drifts(
            self.searched.bench,
            self.searched.subject,
            self.searched.cam,
            [self.searched.samples[place] for place in places],
        )
        maps, noise = self._harms(drifts)
        weights = {layer.name: layer.weights for layer in self.layers}
        both = {
            name: {
                width: maps[name][width] / _total(maps) + noise[name][width] / _total(noise) for width in self.widths
            }
            for name in weights
        }
        return [path(maps, weights), path(both, weights)]

    def _harms(self, drifts: Drifts) -> tuple[dict[str, dict[int, float]], dict[str, dict[int, float]]]:
        """Return what each layer alone adds at each width to the maps' drift and to the logits' relative noise."""
        anchor = min(self.widths, key=lambda width: abs(width - _ANCHOR))
        total = 2 * len(self.layers)  # twice: the first half of the whole work
        rest = self._changes(drifts, {}, step(self.progress, "Inputs alone", 0, total))
        maps, noise = {}, {}
        for place, layer in enumerate(self.layers):
            report = step(self.progress, f"{layer.name} alone", place, total)
            changes = self._changes(drifts, {layer.name: anchor}, report)
            maps[layer.name] = _curve(_mean(changes.cams) - _mean(rest.cams), anchor, self.widths)
            noise[layer.name] = _curve(_ratio(changes) - _ratio(rest), anchor, self.widths)
        return maps, noise

    def _limits(self, uniform: Sequence[Bits]) -> list[int]:
        """Return the sizes of the uniform models and those halfway between, smallest first."""
        sizes = [self.size(bits) for bits in uniform]
        return sorted({*sizes, *((low + high) // 2 for low, high in pairwise(sizes))})

    def _approach(
        self, moves: Sequence[Move], limits: Sequence[int], within: Callable[[Drift], bool], done: int
    ) -> None:
        """Measure ever closer to the size at which a path crosses the budgets."""
        inside = outside = None
        for limit in reversed(limits):  # the largest first
            fit = fitted(self.start, moves, self.size, limit)
            if fit is None or not within(self.measured[tuple(fit.values())][1]):
                outside = limit
                break
            inside = limit
        if inside is None or outside is None:
            return
        for number in range(_HALVINGS):
            limit = (inside + outside) // 2
            fit = fitted(self.start, moves, self.size, limit)
            report = step(self.progress, "Mixed bits", done + number, 100)
            inside, outside = (limit, outside) if fit and within(self.drift(fit, report)) else (inside, limit)

    def _smallest(self, within: Callable[[Drift], bool]) -> Bits | None:
        good = [bits for bits, drift in self.measured.values() if within(drift)]
        return min(good, key=self.size, default=None)

    def _refined(self, best: Bits | None, moves: Sequence[Move], within: Callable[[Drift], bool]) -> Bits | None:
        """Return the bits after trying layers with fewer, first those that should do least harm for what they save."""
        if best is None:
            return None
        left = [move for move in moves if best[move.layer] > move.bits]
        at_once = _AT_ONCE
        for trial in range(_TRIALS):
            if not left:
                break
            bits = after(best, left[:at_once])
            self.trials.add(tuple(bits.values()))
            if within(self.drift(bits, step(self.progress, "Layers one by one", 76 + trial % 12, 100))):
                best, left, at_once = bits, left[at_once:], 2 * at_once
            elif at_once > 1:
                at_once //= 2
            else:
                left = [move for move in left if move.layer != left[0].layer]
        return best

    def _front(self, best: Bits | None) -> list[Bits]:
        """Return the mixed assignments that no other beats in size and drift, smallest first."""
        front: list[Bits] = []
        least = float("inf")
        for bits, drift in sorted(self.measured.values(), key=self._worth):
            passing = tuple(bits.values()) in self.trials and bits != best
            if len(set(bits.values())) > 1 and not passing and drift.cam is not None and drift.cam < least:
                least = drift.cam
                front.append(bits)
        return front

    def _worth(self, entry: tuple[Bits, Drift]) -> tuple[int, float]:
        bits, drift = entry
        return self.size(bits), float("inf") if drift.cam is None else drift.cam

    def _measured_entries(self, best: Bits | None, front: Sequence[Bits], uniform: Sequence[Bits]) -> dict[str, Any]:
        """Return the results as JSON-able data, each candidate measured on the held-out pictures too."""
        wanted = [*uniform, *front, *([] if best is None else [best])]
        entries: dict[tuple[int, ...], dict[str, Any]] = {}
        for place, bits in enumerate(wanted):
            if (values := tuple(bits.values())) in entries:
                continue
            unseen = None
            if self.held_out is not None:
                report = step(self.progress, "Held-out pictures", 88 * len(wanted) + 12 * place, 100 * len(wanted))
                unseen = self._changes(self.held_out, bits, report).drift(self.held_out.labels)
            widths = set(bits.values())
            name = replace(self.quant, weight_bits=values[0], layer_bits=()).label if len(widths) == 1 else "mixed"
            entries[values] = asdict(
                Candidate(name, self._each(bits), self.cost(bits), self.measured[values][1], unseen)
            )
        return {
            "found": None if best is None else entries[tuple(best.values())],
            "front": [entries[tuple(bits.values())] for bits in front],
            "uniform": [entries[tuple(bits.values())] for bits in uniform],
            "float_accuracy": self._float_accuracy(uniform[-1]),
        }

    def _float_accuracy(self, bits: Bits) -> float | None:
        if self.held_out is None:
            return None
        return accuracy(self._changes(self.held_out, bits, no_progress).before, self.held_out.labels)


def _curve(measured: float, anchor: int, widths: Sequence[int]) -> dict[int, float]:
    """Return harm for every width from that at one: a bit more halves the step and quarters the noise's energy."""
    return {width: max(measured, 0.0) * 4.0 ** (anchor - width) for width in widths}


def _mean(values: np.typing.NDArray[np.float64]) -> float:
    scored = values[~np.isnan(values)]
    return float(scored.mean()) if len(scored) else 1.0


def _ratio(changes: Changes) -> float:
    return float(changes.noise.sum() / changes.signal.sum())


def _total(harms: Mapping[str, Mapping[int, float]]) -> float:
    """Return the sum over layers, by which two kinds of harm are made comparable; at whichever width."""
    return sum(max(curve.values()) for curve in harms.values()) or 1.0
