"""What the tests of statistics share: samples, and what of a result is compared."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

RNG = np.random.default_rng(3)
B = RNG.uniform(0.4, 0.9, 60)
A = B + RNG.normal(-0.02, 0.05, 60)
samples = st.integers(1, 30).flatmap(lambda n: arrays(np.float64, (2, n), elements=st.floats(-1, 1)))
coarse = st.integers(1, 30).flatmap(lambda n: arrays(np.int8, (2, n), elements=st.integers(-2, 2)))  # ties and zeros
quick = settings(max_examples=30, deadline=None)


def ends(interval):
    return None if interval is None else (interval.low, interval.high)
