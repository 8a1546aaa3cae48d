"""The verdict on two maps: decided by the drift over the noise floor, in one place."""

import pytest

from quantviz.specs import Attention, Verdict

FLOOR = 0.004


@pytest.mark.parametrize(
    ("floors", "attention"),
    [
        (0, Attention.SAME),
        (2.99, Attention.SAME),
        (3.01, Attention.NEARLY),
        (9.99, Attention.NEARLY),
        (10.01, Attention.PARTLY),
        (29.9, Attention.PARTLY),
        (30.1, Attention.ELSEWHERE),
        (120, Attention.ELSEWHERE),
    ],
)
def test_the_drift_in_noise_floors_decides(floors, attention):
    verdict = Verdict.of(1 - floors * FLOOR, FLOOR)
    assert verdict.attention is attention
    assert verdict.ratio == pytest.approx(floors)
    assert verdict.words.startswith("looks ")


def test_the_same_drift_is_called_otherwise_on_another_picture():
    assert Verdict.of(0.95, 0.018).attention is Attention.SAME
    assert Verdict.of(0.95, 0.002).attention is Attention.PARTLY


def test_a_floor_of_next_to_nothing_makes_no_large_multiple():
    assert Verdict.of(0.9999, 0.0).attention is Attention.SAME
    assert Verdict.of(0.9989, 1e-6).ratio == pytest.approx(0.0011 / 0.0015)


def test_a_picture_that_moves_by_itself_is_unstable_unless_all_is_lost():
    for cc in (1.0, 0.9, 0.51):
        verdict = Verdict.of(cc, 0.051)
        assert verdict.attention is Attention.UNSTABLE
        assert "unstable" in verdict.sentence
        assert "noise floor 0.051" in verdict.sentence
    assert Verdict.of(0.49, 0.051).attention is Attention.ELSEWHERE
    assert Verdict.of(0.49, 0.04).attention is Attention.ELSEWHERE
    assert Verdict.of(0.51, 0.04).attention is Attention.PARTLY


@pytest.mark.parametrize(("cc", "attention"), [(0.99, "same"), (0.97, "nearly_same"), (0.9, "partly_elsewhere")])
def test_without_a_floor_a_typical_one_is_taken(cc, attention):
    verdict = Verdict.of(cc)
    assert (verdict.attention, verdict.ratio) == (attention, None)
    assert verdict.sentence.endswith(f"(CC {cc:.3f}).")


def test_maps_without_evidence_have_no_verdict():
    verdict = Verdict.of(None, FLOOR)
    assert (verdict.attention, verdict.drift, verdict.numbers) == (Attention.UNKNOWN, None, "")
    assert verdict.sentence == "cannot be compared: a map carries no evidence."


def test_a_correlation_that_rounding_takes_above_one_is_no_drift():
    assert Verdict.of(1 + 1e-9, FLOOR).drift == 0


def test_numbers_are_a_readers():
    assert Verdict.of(0.9953, FLOOR).sentence == "looks at the same places (CC 0.995, 1.2 × the noise floor)."
    assert Verdict.of(-0.25, FLOOR).numbers == "CC −0.250, 312 × the noise floor"
