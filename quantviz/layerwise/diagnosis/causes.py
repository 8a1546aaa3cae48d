"""Why a tensor is harmed: rules with stated thresholds, each with the figure behind it, a reference and a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import numpy as np

from quantviz.layerwise.diagnosis.specs import Cause, Finding, TensorFigures

MANUAL: Final = "howto/quantization_faults.html"
"""The troubleshooting manual, whose sections are called as the causes are."""

_LABEL = re.compile(r"^\(([a-z0-9-]+)\)=\n", re.MULTILINE)

CLIPPED: Final = 0.001
"""Part of the values beyond the grid from which on clipping is a cause."""
REACH: Final = 0.25
"""Part of the grid's farther side that values reach at least where its range fits."""
ONE_SIDED: Final = 0.85
"""Part of a symmetric grid that values fill at least where it fits them."""
OUTLIERS: Final = 10.0
"""Reach of the farthest channel over the median one's from which on outlier channels are a cause."""
FEWEST_VALUES: Final = 100
"""Values of each channel below which its reach is not known: pooled features have one of each picture."""
VANISHED: Final = 0.08
"""Part of the channels that are all zero once rounded from which on nearly dead channels are a cause."""
FEWEST_VANISHED: Final = 3
"""Number of such channels below which they are no cause."""
BRANCHES: Final = 6.0
"""Ratio of the reaches of two branches on one grid from which on unequal scales are a cause."""
BRANCH_MEDIANS: Final = 4.0
"""Ratio of the reaches of their median channels, which one outlier channel does not raise."""
FEW_BITS_SQNR: Final = 32.0
"""Isolated SQNR in dB below which fewer than 8 bits are a cause where nothing else is."""
FULL_BITS: Final = 8
BIAS_SQNR: Final = 40.0
"""SQNR in dB of a bias below which it is harmed."""


@dataclass(frozen=True, slots=True)
class CauseText:
    """What is said of a cause wherever it is named.

    Attributes:
        title: in a few words.
        remedy: name of the remedy, of ``REMEDIES``.
        reference: where the rule is from.
        severity: of what shows in the structure alone; 0 where the rule reckons it.
    """

    title: str
    remedy: str
    reference: str
    severity: float = 0.0


_WHITE_PAPER = "Nagel et al. 2021, A White Paper on Neural Network Quantization, arXiv 2106.08295"
_EQUALIZATION = "Nagel et al. 2019, Data-Free Quantization Through Weight Equalization, arXiv 1906.04721"
_ORT = "ONNX Runtime, Quantize ONNX Models"
_JACOB = "Jacob et al. 2018, arXiv 1712.05877"

CAUSES: Final[Mapping[str, CauseText]] = {
    "outlier_channels": CauseText("Outlier channels", "equalize", f"{_EQUALIZATION}, section 3.1"),
    "dead_channels": CauseText("Nearly dead channels", "equalize", f"{_EQUALIZATION}, section 3.1"),
    "calibration_range": CauseText("Range from the wrong pictures", "recalibrate", f"{_WHITE_PAPER}, section 3.1"),
    "clipping": CauseText("Values cut off", "full_range", f"{_WHITE_PAPER}, section 3.1"),
    "unequal_scales": CauseText("Branches of unequal scale on one grid", "equalize", f"{_JACOB}, appendix A.3"),
    "asymmetric_on_symmetric": CauseText(
        "One-sided values on a symmetric grid", "affine", f"{_WHITE_PAPER}, section 2.2"
    ),
    "bias_overflow": CauseText("A bias that does not fit", "exclude", f"{_JACOB}, section 2.4", 80.0),
    "int16_overflow": CauseText(
        "Integer kernels that overflow", "reduce_range", f"{_ORT}, When and why do I need to try U8U8?", 30.0
    ),
    "batch_norm_not_folded": CauseText("Batch norm not folded", "fold", f"{_JACOB}, section 3.2", 20.0),
    "left_in_float": CauseText("Left in float between integers", "quantize", f"{_ORT}, Quantization Debugging", 0.5),
    "graph_differs": CauseText("The networks differ", "export_again", f"{_ORT}, Quantization Debugging", 100.0),
    "too_few_bits": CauseText("Too few bits", "more_bits", f"{_WHITE_PAPER}, section 3.7"),
}
"""Cause -> what is said of it."""

REMEDIES: Final[Mapping[str, str]] = {
    "equalize": "equalize the channels, or give each its own scale where it is a weight",
    "per_channel": "give each output channel its own scale",
    "recalibrate": "calibrate on more pictures, of the kind that the network will see",
    "percentile": "set the range by the values that all but one in a thousand keep to",
    "full_range": "set the range by the least and the greatest value (minmax)",
    "affine": "use an affine grid, uint8 say, for this tensor",
    "exclude": "leave the layer in float",
    "reduce_range": "use reduce_range (7-bit weights), or a processor with VNNI",
    "fold": "fold batch norm into the convolution before quantizing",
    "quantize": "quantize the layer, too",
    "export_again": "export the network again, with its shapes fixed, and prepare it before quantizing",
    "more_bits": "give the layer 8 bits",
}
"""Remedy -> what to do, in words."""


def causes(
    tensors: Sequence[TensorFigures],
    findings: Iterable[Finding] = (),
    blocks: Mapping[str, Sequence[int]] | None = None,
) -> list[Cause]:
    """Return the causes that rules find, the most severe first; at most one for each tensor.

    Args:
        tensors: in order of execution.
        findings: of the networks' structure.
        blocks: tensor -> number of channels of each branch that was joined to it, for concatenations.
    """
    structural = [_of_finding(finding) for finding in findings]
    taken = {cause.tensor for cause in structural}
    found = [cause for entry in tensors if entry.name not in taken and (cause := _cause(entry, blocks or {}))]
    return sorted([*structural, *found], key=lambda cause: -cause.severity)


def _of_finding(finding: Finding) -> Cause:
    severity = CAUSES[finding.cause].severity
    return _made(finding.cause, finding.tensor, finding.sentence, finding.figures, severity)


def _cause(entry: TensorFigures, blocks: Mapping[str, Sequence[int]]) -> Cause | None:
    if entry.site.bits is None:
        return None
    if entry.site.role == "bias":
        return _bias(entry)
    found = [cause for rule in _RULES if (cause := rule(entry))]
    if (branches := blocks.get(entry.name)) is not None and (cause := _branches(entry, branches)):
        return cause
    return max(found, key=lambda cause: cause.severity) if found else _few_bits(entry)


def _clipping(entry: TensorFigures) -> Cause | None:
    if entry.clipped < CLIPPED:
        return None
    ends = f"{entry.site.low.min():.3g} to {entry.site.high.max():.3g}"
    sentence = (
        f"{entry.clipped:.2%} of the values of {entry.name} lie beyond its grid, {ends}, while they reach from "
        f"{entry.low:.3g} to {entry.high:.3g}."
    )
    figures = {"clipped": entry.clipped, "threshold": CLIPPED}
    whole = entry.step_noise * max(_span(entry) / _grid_span(entry), 1.0) ** 2
    lost = 10 * np.log10(max(entry.noise / whole, 1.0)) if whole else 0.0
    return _made("clipping", entry.name, sentence, figures, max(float(lost), 1.0))


def _too_wide(entry: TensorFigures) -> Cause | None:
    reach = _reach(entry)
    if entry.site.role != "activation" or not 0 < reach < REACH:
        return None
    bits = -np.log2(reach)
    sentence = (
        f"The values of {entry.name} reach from {entry.low:.3g} to {entry.high:.3g}, {reach:.0%} of its grid's range: "
        f"it was set by other values than these, and {bits:.1f} bits are lost."
    )
    return _made("calibration_range", entry.name, sentence, {"reach": reach, "threshold": REACH}, float(6.02 * bits))


def _one_sided(entry: TensorFigures) -> Cause | None:
    site, used = entry.site, entry.used or 0.0
    if site.role != "activation" or not site.symmetric or used >= ONE_SIDED or _reach(entry) < 0.5:
        return None
    filled = used / min(_reach(entry), 1.0)
    if filled >= ONE_SIDED:
        return None
    sentence = (
        f"The values of {entry.name} reach from {entry.low:.3g} to {entry.high:.3g} on a grid that is symmetric about "
        f"0: {1 - used:.0%} of its integers go unused."
    )
    figures = {"used": used, "threshold": ONE_SIDED}
    return _made("asymmetric_on_symmetric", entry.name, sentence, figures, float(-20 * np.log10(filled)))


def _outliers(entry: TensorFigures) -> Cause | None:
    if entry.outlier_ratio < OUTLIERS or entry.values < FEWEST_VALUES * entry.channels:
        return None
    channel = entry.outliers[0]
    sentence = (
        f"Channel {channel} of {entry.name} reaches {entry.outlier_ratio:.0f} times as far as the median channel, and "
        f"{len(entry.outliers)} of {entry.channels} lie that far out; the others share its coarse grid, which costs "
        f"{entry.sharing_loss:.0f} dB."
    )
    figures = {"outlier_ratio": entry.outlier_ratio, "threshold": OUTLIERS, "sharing_loss": entry.sharing_loss}
    remedy = "per_channel" if entry.site.role == "weight" else None
    return _made("outlier_channels", entry.name, sentence, figures, entry.sharing_loss, remedy)


def _dead(entry: TensorFigures) -> Cause | None:
    part = entry.zero_channels / entry.channels
    known = entry.site.role != "activation" or entry.values >= FEWEST_VALUES * entry.channels
    if part < VANISHED or entry.zero_channels < FEWEST_VANISHED or not known:
        return None
    sentence = (
        f"{entry.zero_channels} of {entry.channels} channels of {entry.name} are so small that all their values round "
        "to 0."
    )
    figures = {"vanished": part, "threshold": VANISHED, "zero_channels": float(entry.zero_channels)}
    remedy = "per_channel" if entry.site.role == "weight" else None
    # Beside it, outliers are far channels among many that are alike: here many are near 0.
    lost = entry.sharing_loss if entry.outlier_ratio < OUTLIERS else 1.0
    return _made("dead_channels", entry.name, sentence, figures, max(lost, 1.0), remedy)


def _branches(entry: TensorFigures, branches: Sequence[int]) -> Cause | None:
    """Return the cause where the channels that one branch gave reach much farther than another's."""
    figures = entry.by_channel
    if len(branches) < 2 or sum(branches) != len(figures.low) or entry.site.axis is not None:
        return None
    reach = np.maximum(np.abs(figures.low), np.abs(figures.high))
    rows = [part[part > 0] for part in np.split(reach, np.cumsum(branches)[:-1])]
    if any(not len(row) for row in rows):
        return None
    parts, medians = [float(row.max()) for row in rows], [float(np.median(row)) for row in rows]
    if max(parts) / min(parts) < BRANCHES or max(medians) / min(medians) < BRANCH_MEDIANS:
        return None
    ratio = max(parts) / min(parts)
    sentence = (
        f"{entry.name} joins branches on one grid of which one reaches to {max(parts):.3g} and another to "
        f"{min(parts):.3g}: the smaller one keeps {1 / ratio:.1%} of the grid."
    )
    return _made(
        "unequal_scales", entry.name, sentence, {"ratio": ratio, "threshold": BRANCHES}, float(20 * np.log10(ratio))
    )


def _bias(entry: TensorFigures) -> Cause | None:
    # Where the quantized network has the very bias, as our simulation does, none of it was cut off.
    if not entry.clipped or entry.sqnr is None or entry.sqnr >= BIAS_SQNR:
        return None
    values = max(abs(entry.low), abs(entry.high))
    sentence = (
        f"{entry.clipped:.1%} of {entry.name} needs more than 32 bits: it reaches to {values:.3g}, and a step is the "
        f"product of the input's and the weight's, {entry.site.scale.min():.3g} at the least."
    )
    return _made("bias_overflow", entry.name, sentence, {"clipped": entry.clipped, "threshold": 0.0}, 80.0)


def _few_bits(entry: TensorFigures) -> Cause | None:
    ratio, bits = entry.sqnr_isolated, float(entry.site.bits or 0)
    # A weight's range is its own: where it fills little of it, fewer bits are stored in a wider type.
    if entry.site.role == "weight" and entry.used and entry.used < REACH:
        bits = float(round(bits + np.log2(entry.used), 1))
    if not bits or bits >= FULL_BITS or ratio is None or ratio >= FEW_BITS_SQNR:
        return None
    sentence = (
        f"{entry.name} has {bits:g} bits, which leave an SQNR of {ratio:.1f} dB of its own rounding; each bit more "
        "brings 6 dB."
    )
    figures = {"bits": bits, "sqnr_isolated": ratio, "threshold": FEW_BITS_SQNR}
    return _made("too_few_bits", entry.name, sentence, figures, 6.02 * (FULL_BITS - bits))


_RULES: tuple[Callable[[TensorFigures], Cause | None], ...] = (_clipping, _too_wide, _one_sided, _outliers, _dead)


def _made(
    cause: str,
    tensor: str,
    sentence: str,
    figures: Mapping[str, float],
    severity: float,
    remedy: str | None = None,
) -> Cause:
    text = CAUSES[cause]
    remedy = remedy or text.remedy
    page = f"{MANUAL}#{cause.replace('_', '-')}"
    return Cause(tensor, cause, sentence, figures, severity, remedy, REMEDIES[remedy], text.reference, page)


@cache
def manual() -> Mapping[str, str]:
    """Return the sections of the troubleshooting manual by the cause: Markdown, its title first."""
    text = resources.files("quantviz.layerwise.diagnosis").joinpath("manual.md").read_text(encoding="utf-8")
    _, *parts = _LABEL.split(text)
    return {label.replace("-", "_"): part.strip() for label, part in zip(parts[::2], parts[1::2], strict=True)}


def _span(entry: TensorFigures) -> float:
    return max(entry.high, 0.0) - min(entry.low, 0.0)


def _grid_span(entry: TensorFigures) -> float:
    return float((entry.site.high - entry.site.low).max())


def _reach(entry: TensorFigures) -> float:
    """Return how far values fill the side of the grid that they fill most, as a part of it."""
    low, high = float(entry.site.low.min()), float(entry.site.high.max())
    below = entry.low / low if low < 0 and entry.low < 0 else 0.0
    above = entry.high / high if high > 0 and entry.high > 0 else 0.0
    return max(below, above)
