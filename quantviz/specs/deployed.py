"""The deployed protocol of studies, and which quantization integer kernels run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quantviz.specs.errors import UsageError
from quantviz.specs.quantization import CALIBRATED, QuantSpec

DEPLOYED: Final = "deployed"
"""A protocol of studies: the network on integer kernels but for its gradient, all else as under the calibrated one."""

_BITS = 8


def undeployable(quant: QuantSpec) -> str:
    """Return what of a scheme integer kernels do not run as it is, in a few words; "" where they do."""
    if quant.layer_bits or (quant.weight_bits, quant.act_bits) != (_BITS, _BITS):
        return quant.label
    if quant.scheme != "symmetric":
        return f"an {quant.scheme} weight grid"
    if quant.act_scheme != "affine":
        return f"a {quant.act_scheme} activation grid"
    return "" if quant.protocol == CALIBRATED else f"protocol {quant.protocol!r}"


def check_protocols(protocols: Sequence[str], quants: Sequence[QuantSpec]) -> None:
    """Refuse the deployed protocol where nothing could run under it.

    Raises:
        UsageError: integer kernels run none of the bit-widths.
    """
    reasons = [undeployable(quant) for quant in quants]
    if DEPLOYED in protocols and all(reasons):
        raise UsageError(
            f"Protocol {DEPLOYED!r} runs W8A8 with symmetric weights and affine activations, not "
            f"{', '.join(dict.fromkeys(reasons))}; add that bit-width and scheme, or leave the protocol out."
        )
