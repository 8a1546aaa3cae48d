"""The Paper page's parts: the published table beside a study, the triangle check, the gap's parts, the protocol."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
import streamlit as st

from quantviz import figures
from quantviz.specs import CALIBRATED, DEVIATIONS, PAPER
from quantviz.study.published import (
    published_triangles,
    report_published,
    reproductions,
    shipped_attributions,
    study_triangles,
)
from quantviz.study.specs.plan import StudyPlan
from quantviz.study.specs.published import PRECISIONS, PUBLISHED_IMAGES, Reproduction, TriangleCheck
from quantviz.study.specs.summary import Estimate
from quantviz.ui import guarded
from quantviz.ui.attribution import show_attribution_of
from quantviz.ui.charts import show_chart
from quantviz.ui.choices import segments
from quantviz.ui.links import Linked
from quantviz.ui.studies import choose_study, summary_of, table_of

_METRICS: Final = {"CC": "cc", "SIM": "sim", "KLD": "kld"}
_COMPARISONS: Final = {
    "int8 v f32": ("int8", "quantized_v_float"),
    "int16 v f32": ("int16", "quantized_v_float"),
    "f32 v ground truth": ("f32", "float_v_saliency"),
    "int16 v ground truth": ("int16", "quantized_v_saliency"),
    "int8 v ground truth": ("int8", "quantized_v_saliency"),
}
_ABSENT: Final = "not in this study"
_PAPER_LINK: Final = "[arXiv 2403.09939](https://arxiv.org/abs/2403.09939)"
_STEPS: Final = {
    "Question": "does quantizing a vision network change where it looks?",
    "Networks": "torchvision's vgg16, resnet50, densenet121, mobilenet_v2, efficientnet_b0 and squeezenet1_1 (the "
    "table says SqueezeNet-1.0; the published code loads 1.1), with the IMAGENET1K_V1 weights.",
    "Pictures": f"{PUBLISHED_IMAGES:,} of ImageNet's validation set; which ones is not said.",
    "Maps": "Grad-CAM++ of each network's own top-1 class, at f32, int16 and int8.",
    "Numbers": "SIM, CC and KLD of each quantized map with the f32 map, and of each map with a ground truth. Their "
    "code is not published.",
    "Ground truth": "version 1 calls it human visual saliency, version 2 salient objects. ImageNet has neither, so it "
    "is predicted; by what is not said.",
}


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the page shows of the chosen study.

    Attributes:
        plan: of the study; None where none is chosen.
        rows: every published number with the study's.
        checks: the triangle check of each cell of the study.
    """

    plan: StudyPlan | None
    rows: tuple[Reproduction, ...]
    checks: tuple[TriangleCheck, ...]

    @property
    def untrained(self) -> tuple[str, ...]:
        """The study's models whose weights are random."""
        models = () if self.plan is None else self.plan.models
        return tuple(model.name for model in models if not model.weights.trained)

    @property
    def protocols(self) -> tuple[str, ...]:
        """The study's protocols, the paper's first."""
        protocols = () if self.plan is None else self.plan.protocols
        return tuple(sorted(protocols, key=lambda protocol: protocol != PAPER))

    def name(self, model: str) -> str:
        """Return a model's name, marked where its weights are random."""
        return f"{model} (UNTRAINED)" if model in self.untrained else model


def choose() -> Numbers:
    """Draw the choice of a study and return its numbers beside the published ones; without a study, those alone."""
    linked = Linked()
    with st.sidebar:
        st.subheader("Study", divider="gray")
        chosen = choose_study(linked)
    linked.show_ignored()
    if chosen is not None:
        with guarded():
            return _numbers(chosen[1])
    return Numbers(None, reproductions(), ())


def show_table(numbers: Numbers) -> None:
    """Show the figure and the table of published and reproduced numbers, and what of them can be compared."""
    st.markdown(f"### {_headline(numbers)}")
    metric = _METRICS[segments("Score", list(_METRICS), "metric")]
    show_chart(
        figures.agreement_figure(numbers.rows, metric, numbers.untrained),
        "agreement",
        heading=f"Mean {metric.upper()} of quantized and float maps, published and reproduced",
        caption="A dot is a mean over pictures, a bar its 95 % interval: of the published means mean ± 1.96 sd / "
        f"√{PUBLISHED_IMAGES:,}, which is narrower than the dot. CC and SIM have no unit; KLD is in nats.",
        stem=f"quantviz-paper-{metric}",
    )
    if numbers.untrained:
        st.warning(
            f"UNTRAINED (random) weights, a sanity control and not a model: {', '.join(numbers.untrained)}.",
            icon=":material/casino:",
        )
    _comparable(numbers.plan)
    st.subheader("Published and reproduced", anchor=False)
    chosen = segments("Comparison", list(_COMPARISONS), "compared")
    st.table(_beside(numbers, *_COMPARISONS[chosen]))
    if numbers.plan is not None:
        st.caption(
            "Mean ± standard deviation over the pictures. Where a map carries no evidence a picture is not scored; the "
            "number of pictures then stands behind the mean. How the paper counted such maps is not known."
        )
    with st.expander("The published Table 1"):
        st.table(_published(numbers.rows))
    data = json.dumps(report_published(numbers.rows, (*published_triangles(), *numbers.checks)), indent=2)
    st.download_button(
        "Numbers (JSON)",
        data,
        "quantviz-paper.json",
        "application/json",
        key="download_paper",
        on_click="ignore",
        icon=":material/download:",
    )


def show_triangle(numbers: Numbers) -> None:
    """Show which published SIM values can be, and that a study's are."""
    checks = published_triangles()
    outside = [check for check in checks if not check.holds]
    st.markdown(
        f"### {len(outside)} of the {len(checks)} published SIM values of quantized maps with the ground truth cannot "
        "be means over the same pictures as the rest of their columns."
    )
    st.markdown(
        "1 − SIM is a distance (the total variation of the two maps, each scaled to sum 1), and distances obey the "
        "triangle inequality. If a quantized map is close to the float map, it is about as far from the ground truth "
        "as the float map is. So on one set of pictures, whatever the ground truth,"
    )
    st.latex(
        r"\left|\,\overline{\mathrm{SIM}}(q, t) - \overline{\mathrm{SIM}}(f, t)\,\right| \le 1 - "
        r"\overline{\mathrm{SIM}}(q, f)"
    )
    st.markdown("with *q* the quantized map, *f* the float map and *t* the ground truth.")
    show_chart(
        figures.triangle_figure(checks),
        "published_triangle",
        heading="Which published means are possible",
        caption="A bar holds the means that the published SIM of float v ground truth (tick) and of quantized v float "
        f"leave possible. Rounding to three decimals can explain {checks[0].tolerance:.4f} at most. SIM has no unit.",
        stem="quantviz-paper-triangle",
    )
    st.table(_triangle_table(checks))
    _explained(checks)
    st.subheader("The same check of this study", anchor=False)
    _study_check(numbers)


def show_gap() -> None:
    """Show the shipped attributions of the gap between the two protocols, and how to make one."""
    shipped = {attribution.model: attribution for attribution in shipped_attributions()}
    if shipped:
        show_attribution_of(shipped[segments("Model", list(shipped), "gap")])
    st.subheader("On your own pictures", anchor=False)
    st.markdown(
        "The tab *The paper's protocol* of the page Diagnose measures the same of pictures that you choose, or:"
    )
    st.code("quantviz attribute photos/ --model mobilenet_v2 --limit 100 --json attribution.json", language="bash")
    st.page_link("pages/diagnose.py", label="Diagnose", icon=":material/troubleshoot:")


def show_protocol() -> None:
    """Show what the paper did, and in what the published code differs from the calibrated protocol."""
    st.markdown(
        f"Kerkouri, Tliba, Chetouani and Bruno, *Quantization Effects on Neural Networks Perception* ({_PAPER_LINK}), "
        "published Table 1 and the code that makes the maps."
    )
    st.table(pd.DataFrame({"what": list(_STEPS), "how": list(_STEPS.values())}).set_index("what"))
    st.subheader("Seven deviations", anchor=False)
    st.markdown(
        "The published code departs from the calibrated protocol (eval mode, ranges calibrated once and then frozen) "
        "in seven steps. Each can be switched on alone on the page Compare (protocol *chosen*)."
    )
    names = [name.replace("_", " ") for name in DEVIATIONS]
    st.table(pd.DataFrame({"switch": names, "what it does": list(DEVIATIONS.values())}).set_index("switch"))
    st.page_link("pages/method.py", label="Method: Protocols", icon=":material/menu_book:")


def _numbers(study: Path) -> Numbers:
    """Return the numbers of a study, kept for the session until another is chosen or its results change."""
    table = table_of(study)  # the same object as long as the files are the same
    if st.session_state.get("paper_numbers", (None,))[0] is not table:
        rows = reproductions(summary_of(study))
        st.session_state["paper_numbers"] = table, Numbers(table.plan, rows, study_triangles(table))
    numbers: Numbers = st.session_state["paper_numbers"][1]
    return numbers


def _headline(numbers: Numbers) -> str:
    rows = [
        row
        for row in numbers.rows
        if (row.precision, row.comparison, row.metric) == ("int8", "quantized_v_float", "cc")
    ]
    means = [row.published.mean for row in rows if row.published is not None]
    same = [f"{row.published.mean:.3f} for {row.model}" for row in rows if row.published is not None and row.found]
    among = f" ({_listed(same)})" if same else ""
    sentences = [
        f"At int8 the paper reports that maps of quantized and float networks agree with a mean CC of {min(means):.3f} "
        f"to {max(means):.3f}{among}."
    ]
    for protocol, words in ((PAPER, "Its protocol gives"), (CALIBRATED, "The same bits, calibrated, give")):
        estimates = {row.model: row.found[protocol] for row in rows if protocol in row.found}
        marks = [f"{_mean(one, numbers)} for {numbers.name(model)}" for model, one in estimates.items() if one.n]
        if marks:
            sentences.append(f"{words} {_listed(marks)}.")
    return " ".join(sentences)


def _mean(estimate: Estimate, numbers: Numbers) -> str:
    images = 0 if numbers.plan is None else len(numbers.plan.images)
    return f"{estimate.mean:.3f}" + ("" if estimate.n == images else f" ({estimate.n:,} of {images:,} pictures)")


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _comparable(plan: StudyPlan | None) -> None:
    if plan is None:
        st.info(
            "No study is chosen: only the published numbers are shown. `quantviz sweep` makes one, or the page Study "
            "does.",
            icon=":material/info:",
        )
        return
    saliency = plan.saliency.partition(" ")[0].replace("_", " ")  # what follows is its version
    files = [f"{model.name} ({model.weights.name})" for model in plan.models]
    st.markdown(
        "**What can be compared.** Only the rows *v f32*, and those as an indication: they need no ground truth, but "
        "they are of other pictures and weights.\n\n"
        f"- **Pictures**: {len(plan.images):,} here, {PUBLISHED_IMAGES:,} unlisted ones of ImageNet's validation set "
        f"there.\n- **Ground truth**: here a predicted saliency ({saliency}), there another "
        "that the paper does not name. Rows *v ground truth* have no common scale.\n"
        f"- **Weights**: here {_listed(files)}; there torchvision's IMAGENET1K_V1.\n"
        "- **Scores**: here the definitions of the page Metrics; the paper's code of them is not published."
    )


def _beside(numbers: Numbers, precision: str, comparison: str) -> pd.DataFrame:
    """Return one comparison as a table: a row a metric and model, a column a source."""
    plan = numbers.plan
    lines: list[dict[str, str]] = []
    for metric, name in ((name, key) for key, name in _METRICS.items()):
        for row in numbers.rows:
            if (row.precision, row.comparison, row.metric) != (precision, comparison, metric):
                continue
            line = {"metric": name, "model": numbers.name(row.model)}
            line["published"] = "not in the paper" if row.published is None else _spread(row.published.estimate)
            for protocol in numbers.protocols:
                title = f"{PRECISIONS[precision] or 'float'}, {protocol.replace('_', ' ')} protocol"
                estimate = row.found.get(protocol)
                line[title] = _ABSENT if estimate is None or plan is None else _spread(estimate, len(plan.images))
            lines.append(line)
    return pd.DataFrame(lines).set_index(["metric", "model"])


def _published(rows: Sequence[Reproduction]) -> pd.DataFrame:
    """Return the table in the paper's layout: comparison and metric down, models across."""
    titles = {place: title for title, place in _COMPARISONS.items()}
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        if row.published is not None:
            place = titles[row.precision, row.comparison], row.metric.upper()
            lines.setdefault(place, {})[row.model] = _spread(row.published.estimate)
    index = pd.MultiIndex.from_tuples(list(lines), names=["comparison", "metric"])
    return pd.DataFrame(list(lines.values()), index=index)


def _spread(estimate: Estimate, images: int | None = None) -> str:
    if estimate.mean is None:
        return "no map with evidence"
    # No-break spaces keep a mean and its deviation on one line of a narrow cell.
    text = f"{estimate.mean:.3f}" if estimate.sd is None else f"{estimate.mean:.3f}\u00a0±\u00a0{estimate.sd:.3f}"
    return text if images in (None, estimate.n) else f"{text} ({estimate.n:,} of {images:,})"


def _triangle_table(checks: Sequence[TriangleCheck]) -> pd.DataFrame:
    lines = [
        {
            "model": check.model,
            "precision": check.setting,
            "float v GT": f"{check.float_v_truth:.3f}",
            "quantized v float": f"{check.quantized_v_float:.3f}",
            "possible": f"{check.low:.3f}\u00a0to\u00a0{check.high:.3f}",
            "published": f"{check.quantized_v_truth:.3f}",
            "outside by": "–" if check.holds else f"**{check.excess:.3f}**",
        }
        for check in checks
    ]
    return pd.DataFrame(lines).set_index(["model", "precision"])


def _mixture_table(checks: Sequence[TriangleCheck]) -> pd.DataFrame:
    lines = [
        {
            "model": check.model,
            "precision": check.setting,
            "part scored 1.0": "–" if not check.share else f"{check.share:.1%}",
            "sd that this gives": "–" if check.share_sd is None else f"{check.share_sd:.3f}",
            "published sd": "–" if check.sd is None else f"{check.sd:.3f}",
        }
        for check in checks
    ]
    return pd.DataFrame(lines).set_index(["model", "precision"])


def _explained(checks: Sequence[TriangleCheck]) -> None:
    """Say what would explain the published values, and what else that would change."""
    odd = [check for check in checks if check.share is not None and check.share > 0.05]
    shares = [check.share for check in odd if check.share is not None]
    gaps = [abs(check.share_sd - check.sd) for check in odd if check.share_sd is not None and check.sd is not None]
    cells = {
        (row.precision, row.comparison, row.model): row.published
        for row in reproductions()
        if row.metric == "cc" and row.published is not None
    }
    first = odd[0]
    share, base = first.share or 0.0, cells["f32", "float_v_saliency", first.model].mean
    mean_cc = cells[first.setting, "quantized_v_saliency", first.model].mean
    st.markdown(
        "**What would explain it.** If a part of the pictures had been scored exactly 1.0 and the others as the float "
        f"maps, the published means would need {min(shares):.0%} to {max(shares):.0%} of them. Such a mixture also has "
        f"a standard deviation, and it is the published one within {max(gaps):.3f} in all {len(odd)} cells, those "
        "within the bounds included. It is not real agreement: maps that equal the ground truth would raise CC as "
        f"well, for {first.model} at {first.setting} from {base:.3f} to {share + (1 - share) * base:.3f}; the "
        f"published CC is {mean_cc:.3f}."
    )
    with st.expander("The parts and deviations"):
        st.table(_mixture_table(checks))


def _study_check(numbers: Numbers) -> None:
    if numbers.plan is None:
        st.info("No study is chosen; its numbers would be checked here.", icon=":material/info:")
        return
    protocols = [name for name in numbers.protocols if any(check.source == name for check in numbers.checks)]
    if not protocols:
        st.info("This study has no picture with all three similarities.", icon=":material/info:")
        return
    pictures = sum(check.n for check in numbers.checks)
    bad = sum(check.pictures_outside or 0 for check in numbers.checks)
    holding = sum(check.holds for check in numbers.checks)
    st.markdown(
        f"{holding} of {len(numbers.checks)} means stand together, and {pictures - bad:,} of {pictures:,} single "
        "comparisons of a picture."
    )
    protocol = segments("Protocol", protocols, "checked")
    chosen = [check for check in numbers.checks if check.source == protocol]
    show_chart(
        figures.triangle_figure(chosen, numbers.untrained),
        "study_triangle",
        heading=f"Means of this study, {protocol.replace('_', ' ')} protocol",
        caption="As above: a bar holds the means that are possible, a tick is the float network's.",
        stem="quantviz-study-triangle",
    )
