"""The command compare with another crop than the centre."""

import json

OF = ("compare", "rocket", "--model", "squeezenet1_1", "--weights", "untrained", "--saliency", "none")


def test_the_whole_picture_is_fitted_and_said(run):
    status, out, _ = run(*OF, "--crop", "fit")
    assert status == 0
    assert "The networks see the whole photograph; " in out
    status, out, _ = run(*OF, "--crop", "0,0.5", "--json", "-")
    assert status == 0
    assert json.loads(out)["preprocessing"]["place"] == [0, 0.5]


def test_a_crop_that_is_none_is_one_sentence(run):
    status, _, err = run(*OF, "--crop", "left")
    assert status == 2
    assert (
        err.strip()
        .splitlines()[-1]
        .endswith("Crop 'left' is unknown; give centre, fit, or its place from left and top as 0.2,0.5.")
    )
