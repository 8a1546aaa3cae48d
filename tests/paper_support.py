"""What the tests of the paper's protocol share."""

from quantviz.specs import QuantSpec

PHOTOGRAPHS = ("chelsea", "coffee", "rocket")


def with_switches(*names, bits=8):
    return QuantSpec(bits, bits, protocol="+".join(["calibrated", *names]))
