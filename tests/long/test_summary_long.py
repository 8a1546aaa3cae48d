"""The summary at the size that the project is made for."""

from study_support import cost_of_summary, synthetic_plan, synthetic_study


def test_ten_thousand_pictures_six_models_and_four_bit_widths_are_summed_up_in_a_minute(tmp_path):
    study = synthetic_study(tmp_path / "study", synthetic_plan(10_000))
    cells, seconds, mebibytes = cost_of_summary(study)
    print(f"{seconds:.1f} s, {mebibytes:.0f} MiB")
    assert cells == 24
    assert seconds < 60  # 5 were measured
    assert mebibytes < 1536  # 360 were measured
