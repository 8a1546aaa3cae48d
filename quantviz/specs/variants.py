"""The quantized networks that stand beside a float one, and how commands and files name their protocols."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from quantviz.specs.errors import UsageError
from quantviz.specs.quantization import CALIBRATED, DEVIATIONS, PAPER, GivenQuant, QuantSpec

DEPLOYED: Final = "deployed"
"""How commands, rows and files name the protocol of deployed networks."""

GIVEN: Final = "given"
"""How rows and files name the protocol of networks that came to us quantized, as files."""

PROTOCOLS: Final = (CALIBRATED, PAPER, DEPLOYED)
"""The protocols with a name of their own; others are written ``calibrated+NAME+NAME``."""

_BITS = 8
_BARE, _SHORT = re.compile(r"\d{1,3}", re.ASCII), re.compile(r"(?:W(\d{1,3}))?(?:A(\d{1,3}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Variant:
    """A quantized network that stands beside the float one.

    Attributes:
        quant: its bits, scheme and protocol; those of its simulation where it is deployed.
        deployed: integer kernels run the network, all but its gradient; else torch simulates it in float.

    Raises:
        UsageError: integer kernels do not run the scheme of a deployed network as it is.
    """

    quant: QuantSpec
    deployed: bool = False

    def __post_init__(self) -> None:
        if self.deployed:
            check_deployable(self.quant)

    @property
    def label(self) -> str:
        """The short name of its bit-widths, ``"W8A8"``: what rows call the setting."""
        return self.quant.label

    @property
    def name(self) -> str:
        """Its name in messages: ``"W8A8"``, or ``"deployed W8A8"``."""
        return f"deployed {self.label}" if self.deployed else self.label

    @property
    def protocol(self) -> str:
        """The name of its protocol in commands, rows and files."""
        return DEPLOYED if self.deployed else self.quant.protocol

    @property
    def sequential(self) -> bool:
        """True where its observers go on from picture to picture, so that a map depends on the pictures before."""
        return "online_ranges" in self.quant.deviations

    @property
    def protocol_words(self) -> tuple[str, ...]:
        """What its protocol does, in a few sentences."""
        if self.deployed:
            return ("W8A8 on ONNX Runtime's integer kernels; else as under the calibrated protocol.",)
        if not self.quant.deviations:
            return (
                "Eval mode, batch norm folded, ranges calibrated once and then frozen; both maps explain the float "
                "top-1.",
            )
        differences = (words for name, words in DEVIATIONS.items() if name in self.quant.deviations)
        return ("Differs from the calibrated protocol in this:", *differences)


@dataclass(frozen=True, slots=True)
class FileVariant:
    """A quantized network that came as a file, beside the float one.

    Attributes:
        label: what rows call the setting: its name in the network's card.
        file: the file's name.
        sha256: of the file's bytes, in hex.
        bits: of its weights and activations, and its format, in short words: ``"W8A8 QDQ"``.
        layer: tensor that its maps are taken at; "" where it is found by the float network's layer.
    """

    label: str
    file: str
    sha256: str
    bits: str
    layer: str = ""

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.label

    @property
    def quant(self) -> GivenQuant:
        """What is known of its quantization."""
        return GivenQuant(self.label, {"source": "file", "name": self.file, "sha256": self.sha256, "bits": self.bits})

    @property
    def deployed(self) -> bool:
        """False: it is no deployed form of a network that we simulate."""
        return False

    @property
    def protocol(self) -> str:
        """The name of its protocol in rows and files."""
        return GIVEN

    @property
    def sequential(self) -> bool:
        """False: a file has no observers."""
        return False

    @property
    def protocol_words(self) -> tuple[str, ...]:
        """What its protocol does, in a sentence."""
        return ("Quantized ONNX files as they are, run by ONNX Runtime; both maps explain the float top-1.",)


AnyVariant = Variant | FileVariant


def variants_of(protocol: str, quants: Sequence[QuantSpec]) -> tuple[Variant, ...]:
    """Return the variants that run under a protocol: one for each bit-width, or for each that can be deployed.

    Args:
        protocol: its name in commands and files, ``DEPLOYED`` or as in ``QuantSpec``.
        quants: the bit-widths and their scheme under the calibrated protocol, one at least.

    Raises:
        UsageError: the protocol is unknown, or integer kernels run none of the bit-widths.
    """
    if protocol != DEPLOYED:
        try:
            return tuple(Variant(replace(quant, protocol=protocol)) for quant in quants)
        except UsageError as error:
            raise UsageError(f"{str(error).rstrip('.')}; or {DEPLOYED}.") from None
    reasons = [_undeployable(quant) for quant in quants]
    if all(reasons):
        raise UsageError(
            f"Protocol {DEPLOYED!r} runs W8A8 with symmetric weights and affine activations, not "
            f"{', '.join(dict.fromkeys(reasons))}; add that bit-width and scheme, or leave the protocol out."
        )
    return tuple(Variant(quant, deployed=True) for quant, reason in zip(quants, reasons, strict=True) if not reason)


def check_deployable(quant: QuantSpec) -> None:
    """Refuse a scheme that integer kernels do not run as it is.

    Raises:
        UsageError: it is not W8A8 throughout with symmetric weights and affine activations, calibrated.
    """
    if reason := _undeployable(quant):
        raise UsageError(
            f"Deployed int8 runs W8A8 with symmetric weights and affine activations under the calibrated protocol, "
            f"not {reason}; use that scheme or leave deployed int8 out."
        )


def parse_bits(text: str) -> tuple[int | None, int | None]:
    """Return (weight bits, activation bits) of a short name; None stands for float.

    ``"8"`` is W8A8, ``"W4"`` weight-only, ``"A8"`` activations only, ``"W4A8"`` itself.

    Raises:
        UsageError: the text is none of these; the widths themselves are judged by ``QuantSpec``.
    """
    word = text.strip().upper()
    if match := _BARE.fullmatch(word):
        return int(match[0]), int(match[0])
    match = _SHORT.fullmatch(word)
    if match is None or not word:
        raise UsageError(f"Bits {text!r} are unknown; use 8 for W8A8, W4 for weight-only, A8 or W4A8, say.")
    weight, act = (int(number) if number else None for number in match.groups())
    return weight, act


def _undeployable(quant: QuantSpec) -> str:
    """Return which part of a scheme integer kernels do not run as it is, in a few words; "" where they run it."""
    if quant.layer_bits or (quant.weight_bits, quant.act_bits) != (_BITS, _BITS):
        return quant.label
    if quant.scheme != "symmetric":
        return f"an {quant.scheme} weight grid"
    if quant.act_scheme != "affine":
        return f"a {quant.act_scheme} activation grid"
    return "" if quant.protocol == CALIBRATED else f"protocol {quant.protocol!r}"
