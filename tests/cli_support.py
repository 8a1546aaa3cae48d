"""What the tests of the command line share; the fixture ``run`` is in ``conftest``."""


def assert_refused(result, *parts, status=2):
    """Check that a command ended with one line on standard error, which has these parts, and printed nothing else."""
    code, out, err = result
    assert (code, out) == (status, "")
    assert err.startswith("quantviz: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err, (part, err)
