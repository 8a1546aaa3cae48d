"""Small charts as inline SVG, for a page that is there before a chart library would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from quantviz.figures.data.style import BLUE, NETWORKS, VERMILLION

_WIDTH, _HEIGHT = 272, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 8, 10, 24
_TEXT: Final = 'fill="currentColor" font-size="12"'
_FAINT: Final = 'stroke="currentColor" stroke-opacity="0.25"'


def agreement_lines(series: Mapping[str, Mapping[str, float]], families: Mapping[str, str]) -> str:
    """Return CC against bit-widths, a line for each network.

    Args:
        series: network -> label of a bit-width -> mean CC, in the same order for all.
        families: network -> its name for a reader.
    """
    settings = list(next(iter(series.values())))
    step = (_WIDTH - _LEFT - _RIGHT) / (len(settings) - 1)
    drawn = [_axis((0.0, 0.5, 1.0))]
    for at, setting in enumerate(settings):
        drawn.append(_text(_LEFT + at * step, _HEIGHT - 6, setting.split("A")[1], "middle"))
    for at, (name, values) in enumerate(series.items()):
        points = " ".join(
            f"{_LEFT + place * step:.1f},{_height(values[key]):.1f}" for place, key in enumerate(settings)
        )
        colour, dash = NETWORKS[at % len(NETWORKS)][0], ("none", "6 3", "2 3")[at % 3]
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}">'
            f"<title>{escape(families[name])}</title></polyline>"
        )
        drawn.append(
            f'<line x1="40" x2="64" y1="{88 + 14 * at}" y2="{88 + 14 * at}" stroke="{colour}" stroke-width="2.5" '
            f'stroke-dasharray="{dash}"/>' + _text(70, 92 + 14 * at, families[name])
        )
    worst = {key: min(values[key] for values in series.values()) for key in settings}
    words = ", ".join(f"{key} {value:.2f}" for key, value in worst.items())
    return _svg(drawn, f"CC of quantized and float maps against bits, at least: {words}.")


def agreement_bars(pairs: Mapping[str, tuple[float, float]]) -> str:
    """Return two bars for each network, from 0 to 1.

    Args:
        pairs: network's name for a reader -> mean CC calibrated, and by the paper's protocol.
    """
    drawn, row = [], (_HEIGHT - 22) / len(pairs)
    for at, (name, values) in enumerate(pairs.items()):
        top = 2 + at * row
        drawn.append(_text(0, top + 10, name))
        for place, (value, colour) in enumerate(zip(values, (BLUE, VERMILLION), strict=True)):
            y = top + 13 + 11 * place
            drawn.append(f'<rect x="0" y="{y}" width="{value * (_WIDTH - 50):.1f}" height="10" fill="{colour}"/>')
            drawn.append(_text(value * (_WIDTH - 50) + 4, y + 9, f"{value:.3f}"))
    for at, (word, colour) in enumerate((("calibrated", BLUE), ("the paper's protocol", VERMILLION))):
        drawn.append(f'<rect x="{90 * at}" y="{_HEIGHT - 12}" width="10" height="10" fill="{colour}"/>')
        drawn.append(_text(90 * at + 14, _HEIGHT - 3, word))
    words = "; ".join(f"{name} {one:.3f} and {other:.3f}" for name, (one, other) in pairs.items())
    return _svg(drawn, f"CC at 8 bits, calibrated and by the paper's protocol: {words}.")


def triangle_marks(checks: Sequence[Mapping[str, object]]) -> str:
    """Return a mark for each published similarity: a cross where it cannot be, a ring where it can.

    Args:
        checks: of each its ``model``, ``setting`` and whether it ``holds``.
    """
    settings = list(dict.fromkeys(str(check["setting"]) for check in checks))
    models = list(dict.fromkeys(str(check["model"]) for check in checks))
    drawn, row = [], (_HEIGHT - 16) / len(models)
    for at, setting in enumerate(settings):
        drawn.append(_text(160 + 60 * at, 12, setting, "middle"))
    for check in checks:
        across = 160 + 60 * settings.index(str(check["setting"]))
        down = 24 + row * models.index(str(check["model"]))
        mark, colour = ("○", BLUE) if check["holds"] else ("✕", VERMILLION)
        drawn.append(
            f'<text x="{across}" y="{down + 6:.1f}" text-anchor="middle" font-size="17" font-weight="700" '
            f'fill="{colour}">{mark}</text>'
        )
    drawn += [_text(0, 28 + row * at, model) for at, model in enumerate(models)]
    broken = sum(not check["holds"] for check in checks)
    return _svg(drawn, f"{broken} of {len(checks)} published similarities break the triangle inequality.")


def _axis(values: Sequence[float]) -> str:
    return "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_height(value):.1f}" y2="{_height(value):.1f}" {_FAINT}/>'
        + _text(_LEFT - 6, _height(value) + 4, f"{value:g}", "end")
        for value in values
    )


def _height(value: float) -> float:
    return _TOP + (1 - value) * (_HEIGHT - _TOP - _BOTTOM)


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_TEXT}>{escape(words)}</text>'


def _svg(drawn: Sequence[str], words: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%" role="img" aria-label="{escape(words, quote=True)}">'
        f"{''.join(drawn)}</svg>"
    )
