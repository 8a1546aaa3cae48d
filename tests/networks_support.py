"""The networks that tests run on: a few in every run, all of them in ``make long``."""

import pytest

from quantviz import networks


def some_networks(*quick, of=tuple(networks.MODELS)):
    """Return the parameters of a test that runs on each network of ``of``; all but the ``quick`` ones are slow."""
    assert set(quick) <= set(of)
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in of]
