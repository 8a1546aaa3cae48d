"""Which precision is safe: judged by the upper bound of flips, and by drift over the noise floor."""

from dataclasses import replace

import pytest

from quantviz import images
from quantviz.comparison import CompareRequest, Workbench
from quantviz.layerwise.precision import Precision, precision_of, smallest_within
from quantviz.specs import QuantSpec, Scores, UsageError
from quantviz.store import TensorStore


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    with TensorStore(tmp_path_factory.mktemp("precision")) as store:
        request = CompareRequest("squeezenet1_1", "untrained", QuantSpec(8, 8), saliency=None)
        return Workbench(store).compare(request, images.bundled("coffee"))


def with_cc(comparison, cc):
    return replace(comparison, scores={"quantized_v_float": Scores(None, cc, None)})


def test_flips_have_wilsons_upper_end_and_drift_is_over_the_floor(comparison):
    top = comparison.quantized.predictions
    other = replace(comparison.quantized, predictions=top[1:])
    flipped = replace(with_cc(comparison, 0.9), quantized=other)
    found = precision_of([with_cc(comparison, 1.0), flipped, with_cc(comparison, None)], floor=0.01)
    assert (found.label, found.n, found.flips, found.unscored) == ("W8A8", 3, 1, 1)
    assert found.drift == pytest.approx(0.05)
    assert found.multiple == pytest.approx(5)
    # (p + z²/2n + z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n) with p = 1/3, n = 3
    assert found.flips_high == pytest.approx(0.7923, abs=1e-4)
    assert precision_of([flipped], floor=None).multiple is None
    with pytest.raises(UsageError, match="no picture"):
        precision_of([], 0.01)


def test_the_smallest_within_the_limits_is_below_none_that_is_not():
    def one(label, flips_high, multiple):
        return Precision(label, 20, 0, flips_high, 0.01, multiple, 0)

    rows = [one("W8A8", 0.16, 1.0), one("W6A6", 0.16, 6.0), one("W5A5", 0.16, 12.0), one("W4A4", 0.16, 2.0)]
    assert smallest_within(rows, 0.2, 10)[0].label == "W6A6"  # W4A4 is within by chance: W5A5 is not
    assert smallest_within(rows, 0.2, 10)[1].startswith("W6A6 is the smallest tested precision within your limits")
    assert smallest_within(rows, 0.2, 20)[0].label == "W4A4"
    assert smallest_within(rows, 0.1, 20) == (
        None,
        "None of W8A8, W6A6, W5A5, W4A4 is within your limits on these pictures.",
    )
    assert smallest_within([one("W8A8", 0.0, None)], 1, 100)[0] is None
