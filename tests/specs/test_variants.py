"""Variants: which protocols there are, what runs under them, and what integer kernels refuse."""

import pytest

from quantviz.specs import DEPLOYED, DEVIATIONS, PAPER, PROTOCOLS, UsageError, Variant, parse_bits, spec_of, variants_of

QUANTS = (spec_of("best", 16, 16), spec_of("standard", 8, 8), spec_of("standard", 4, None))


def test_a_protocol_has_a_variant_for_each_bit_width_that_it_runs():
    assert [variant.label for variant in variants_of(PAPER, QUANTS)] == ["W16A16", "W8A8", "W4"]
    (deployed,) = variants_of(DEPLOYED, QUANTS)
    assert deployed == Variant(QUANTS[1], deployed=True)


@pytest.mark.parametrize("protocol", [*PROTOCOLS, "calibrated+own_class"])
def test_a_variant_has_the_protocols_name_and_words(protocol):
    variant = variants_of(protocol, QUANTS)[0]
    assert variant.protocol == protocol
    assert variant.deployed == (protocol == DEPLOYED)
    assert variant.sequential == (protocol == PAPER)
    assert ("integer kernels" in variant.protocol_words[0]) == variant.deployed
    assert [words for words in variant.protocol_words if words in DEVIATIONS.values()] == [
        DEVIATIONS[name] for name in DEVIATIONS if name in variant.quant.deviations
    ]


def test_a_protocols_switches_have_one_order():
    assert variants_of("calibrated+own_class+train_mode", QUANTS)[0].protocol == "calibrated+train_mode+own_class"


@pytest.mark.parametrize(
    ("scheme", "bits", "protocol", "told"),
    [
        ("standard", (8, 4), "calibrated", "not W8A4;"),
        ("affine", (8, 8), "calibrated", "not an affine weight grid;"),
        ("naive", (8, 8), "calibrated", "not a symmetric activation grid;"),
        ("standard", (8, 8), "paper", "not protocol 'paper';"),
    ],
)
def test_what_integer_kernels_do_not_run_cannot_be_deployed(scheme, bits, protocol, told):
    quant = spec_of(scheme, *bits, protocol=protocol)
    assert Variant(quant).name == quant.label
    with pytest.raises(UsageError, match=told):
        Variant(quant, deployed=True)


def test_an_unknown_protocol_is_told_with_those_there_are():
    with pytest.raises(UsageError, match=r"'int8' is unknown; use calibrated, paper, .*; or deployed\."):
        variants_of("int8", QUANTS)


@pytest.mark.parametrize(
    ("text", "bits"),
    [("8", (8, 8)), ("W4", (4, None)), ("A8", (None, 8)), ("W4A8", (4, 8)), (" w16a16 ", (16, 16)), ("16", (16, 16))],
)
def test_short_names_of_bit_widths(text, bits):
    assert parse_bits(text) == bits


def test_activations_alone_have_a_label_that_reads_back():
    quant = spec_of("standard", None, 6)
    assert (quant.label, parse_bits(quant.label)) == ("A6", (None, 6))
    assert quant.bits_of("any") == (None, 6)
    with pytest.raises(UsageError, match="Neither weights nor activations have bits"):
        spec_of("standard", None, None)


@pytest.mark.parametrize("text", ["", "A", "W", "8A8", "W4A", "W4A8A8", "eight", "-8", "٨", "W4.5", "1000000"])
def test_what_is_no_bit_width_is_refused(text):
    with pytest.raises(UsageError, match="are unknown; use 8 for W8A8"):
        parse_bits(text)
