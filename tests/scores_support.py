"""Maps of every kind for the tests of the scores, and pysaliency, imported and called without its warnings."""

import os
import warnings

import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import ndimage

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pkg_resources and numba are deprecated or missing parts
    try:
        import pysaliency
        from pysaliency import metrics as pysaliency_metrics
    except ImportError as error:
        if os.environ.get("QUANTVIZ_REQUIRE_REFERENCES"):
            raise
        pytest.skip(f"{error}: the comparisons with pysaliency need it, and a C compiler", allow_module_level=True)

KINDS = ("random", "smooth", "sparse", "levels", "spike", "negative")
SHAPES = ((1, 7), (3, 4), (12, 12), (17, 11), (40, 60))


def make_map(kind, shape, seed):
    """Return a float64 map that varies."""
    rng = np.random.default_rng(seed)
    values = {
        "random": lambda: rng.random(shape),
        "smooth": lambda: ndimage.gaussian_filter(rng.random(shape), 2.0),
        "sparse": lambda: rng.random(shape) * (rng.random(shape) < 0.1),
        "levels": lambda: rng.integers(0, 4, shape) / 4.0,
        "spike": lambda: np.zeros(shape),
        "negative": lambda: rng.normal(size=shape),
    }[kind]()
    values[tuple(rng.integers(0, side) for side in shape)] += 1.0
    return values


def maps(shapes=SHAPES, kinds=KINDS):
    """Draw a map: random, smooth, sparse, with ties, one spike or partly negative, tiny or not."""
    return st.builds(make_map, st.sampled_from(kinds), st.sampled_from(shapes), st.integers(0, 2**32 - 1))


def pairs(shapes=SHAPES, kinds=KINDS):
    """Draw two maps of one shape."""
    seeds = st.integers(0, 2**32 - 1)
    return st.sampled_from(shapes).flatmap(
        lambda shape: st.tuples(*[st.builds(make_map, st.sampled_from(kinds), st.just(shape), seeds)] * 2)
    )


def pixels(shape, count, seed):
    """Return the centres (n, 2), x before y, of ``count`` different pixels."""
    chosen = np.random.default_rng(seed).permutation(shape[0] * shape[1])[:count]
    rows, columns = np.unravel_index(chosen, shape)
    return np.stack([columns + 0.5, rows + 0.5], axis=1)


def quiet(function, *args, **kwargs):
    """Call pysaliency or PySODMetrics, whose own warnings are no concern of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


class _Fixed(pysaliency.SaliencyMapModel):
    def __init__(self, values):
        super().__init__(caching=False)
        self.values = values

    def _saliency_map(self, stimulus):
        return self.values


class _Density(pysaliency.Model):
    def __init__(self, values):
        super().__init__(caching=False)
        self.logs = np.log(values / values.sum())

    def _log_density(self, stimulus):
        return self.logs


def pysaliency_case(values, points, others=None):
    """Return a pysaliency model of a map, its stimuli, and fixations: ``others`` are those of a second image."""
    stimuli = pysaliency.Stimuli([np.zeros((*values.shape, 3)), np.ones((*values.shape, 3))])
    everything = points if others is None else np.concatenate([points, others])
    image = np.arange(len(everything)) >= len(points)
    fixations = pysaliency.Fixations.create_without_history(everything[:, 0], everything[:, 1], image.astype(int))
    return _Fixed(values), stimuli, fixations


def pysaliency_information_gain(values, baseline, points):
    """Return pysaliency's information gain in bits per fixation."""
    _, stimuli, fixations = pysaliency_case(values, points)
    return quiet(_Density(values).information_gain, stimuli, fixations, baseline_model=_Density(baseline))


__all__ = [
    "KINDS",
    "SHAPES",
    "make_map",
    "maps",
    "pairs",
    "pixels",
    "pysaliency_case",
    "pysaliency_information_gain",
    "pysaliency_metrics",
    "quiet",
]
