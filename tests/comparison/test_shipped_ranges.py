"""The activation ranges that come with the package: what calibrating gives, and of one network alone."""

from dataclasses import replace

import comparison_support
import numpy as np
import pytest

from quantviz import images
from quantviz.comparison import CompareRequest
from quantviz.quantize import calibrate
from quantviz.specs import CamSpec, Phase, QuantSpec, no_progress

bench = comparison_support.bench


@pytest.mark.parametrize("layer", [None, pytest.param("conv_head", marks=pytest.mark.slow)])
def test_they_are_what_calibrating_gives(bench, layer):
    subject = bench.subject(CompareRequest(cam=CamSpec(layer=layer)))
    shipped = subject.shipped_ranges
    with bench.networks.base(subject, QuantSpec(), no_progress).locked() as module:
        found = calibrate(module, bench.networks.batches(subject, no_progress, ""))
    assert list(shipped.limits) == list(found.limits)
    assert shipped.images == found.images == 5 * len(images.BUNDLED)
    for name, limits in found.limits.items():
        # Another processor sums in another order.
        np.testing.assert_allclose(shipped.limits[name], limits, rtol=0, atol=1e-4 * np.ptp(limits), err_msg=name)


def test_a_first_comparison_calibrates_nothing(bench):
    phases = set()
    bench.compare(
        CompareRequest(saliency=None), images.bundled("coffee"), lambda _message, _part, phase: phases.add(phase)
    )
    assert Phase.QUANTIZING in phases
    assert Phase.CALIBRATING not in phases


def test_they_stand_for_one_network_on_the_bundled_photographs_alone(bench, tmp_path):
    subject = bench.subject(CompareRequest())
    other = replace(subject.ref.preprocessing, mean=(0.5, 0.5, 0.4))
    assert replace(subject, ref=replace(subject.ref, preprocessing=other)).shipped_ranges is None
    assert replace(subject, ref=replace(subject.ref, sha256="0" * 64)).shipped_ranges is None
    pictures = replace(subject.calibration, ref=replace(subject.calibration.ref, sha256="0" * 64))
    assert replace(subject, calibration=pictures).shipped_ranges is None
    assert bench.subject(CompareRequest("squeezenet1_1", "untrained")).shipped_ranges is None
    ranges = {
        method: bench.networks.ranges(subject, replace(QuantSpec(), ranges=method), no_progress)
        for method in ("minmax", "moving_average")
    }
    assert ranges["minmax"].limits == subject.shipped_ranges.limits
    assert ranges["moving_average"].limits != subject.shipped_ranges.limits
