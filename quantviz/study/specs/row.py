"""A row of a study: the result of one quantized network on one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StudyRow:
    """What one quantized network makes of one picture, beside the float network; None where there is no such thing.

    Attributes:
        index: the picture's place in the plan.
        sha256: the picture's.
        model: architecture.
        setting: the label of the bit-widths.
        scheme: words of ``spec_of``.
        protocol: as in ``StudyPlan``.
        float_class: class that the float map explains.
        quantized_class: class that the quantized map explains.
        float_top1: the float network's most probable class.
        float_probability: its softmax probability.
        quantized_top1: the quantized network's most probable class.
        quantized_probability: its softmax probability.
        label: the picture's class.
        float_correct: the float top-1 is the label.
        quantized_correct: the quantized top-1 is the label.
        flipped: the two top-1 classes differ.
        quantized_v_float_sim: agreement of the maps, as in ``Scores``, and so on for each comparison and metric.
        float_degenerate: why the float map carries no evidence, or "".
        quantized_degenerate: the same of the quantized map.
        saliency_degenerate: the same of the saliency.
        error: why there is no result, in one sentence, or "".
        truth: column of ``StudyPlan.truth_columns`` -> agreement with the user's ground truth, if the study has any.
        truth_error: why the picture's ground truth cannot be used, or "".
        simulation: column of ``StudyPlan.simulation_columns`` -> agreement of the simulated with the deployed map, the
            latter in the place of the ground truth of ``Scores``, and whether the two networks' top-1 classes differ;
            None under the other protocols, which have no deployed network.
        faithful: column of ``StudyPlan.faithful_columns`` -> how faithful each network's own map is to it, as
            ``cam.faithfulness`` scores it; None without a map.
        properties: column of ``StudyPlan.property_columns`` -> a property of the picture as the network sees it, in
            [0, 1]: the mean luma of the crop (Rec. 601), and the share of the crop's pixels inside the ground truth's
            boxes or mask; None without a picture, and without a ground truth that can be used; {} in older studies.
    """

    index: int
    sha256: str
    model: str
    setting: str
    scheme: str
    protocol: str
    float_class: int | None = None
    quantized_class: int | None = None
    float_top1: int | None = None
    float_probability: float | None = None
    quantized_top1: int | None = None
    quantized_probability: float | None = None
    label: int | None = None
    float_correct: bool | None = None
    quantized_correct: bool | None = None
    flipped: bool | None = None
    quantized_v_float_sim: float | None = None
    quantized_v_float_cc: float | None = None
    quantized_v_float_kld: float | None = None
    float_v_saliency_sim: float | None = None
    float_v_saliency_cc: float | None = None
    float_v_saliency_kld: float | None = None
    quantized_v_saliency_sim: float | None = None
    quantized_v_saliency_cc: float | None = None
    quantized_v_saliency_kld: float | None = None
    float_degenerate: str = ""
    quantized_degenerate: str = ""
    saliency_degenerate: str = ""
    error: str = ""
    truth: Mapping[str, float | None] = field(default_factory=dict)
    truth_error: str = ""
    simulation: Mapping[str, float | bool | None] = field(default_factory=dict)
    faithful: Mapping[str, float | None] = field(default_factory=dict)
    properties: Mapping[str, float | None] = field(default_factory=dict)
