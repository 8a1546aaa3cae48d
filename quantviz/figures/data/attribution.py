"""The shares of the protocol's switches as they are shown, in figures and in tables."""

from __future__ import annotations

from quantviz.layerwise.specs import Attribution


def shown_shares(attribution: Attribution) -> dict[str, float]:
    """Return each switch's share with three decimals, the greatest loss first.

    They add up to the difference of the two mean CCs with three decimals: where rounding alone would not do, the shares
    with the largest remainders are rounded the other way.
    """
    names = sorted(attribution.share, key=lambda name: attribution.share[name])
    exact = [1000 * attribution.share[name] for name in names]
    parts = [round(value) for value in exact]
    missing = round(1000 * (round(attribution.paper, 3) - round(attribution.calibrated, 3))) - sum(parts)
    step = 1 if missing > 0 else -1
    # First those that rounding moved furthest the other way.
    order = sorted(range(len(parts)), key=lambda place: step * (parts[place] - exact[place]))
    for turn in range(abs(missing) if parts else 0):
        parts[order[turn % len(parts)]] += step
    return {name: part / 1000 for name, part in zip(names, parts, strict=True)}
