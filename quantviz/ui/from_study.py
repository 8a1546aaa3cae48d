"""Links from the Study page to the Compare page: one of the study's pictures, compared like one of its cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import streamlit as st

from quantviz.specs import (
    CALIBRATED,
    PAPER,
    PRESETS,
    ImageSample,
    QuantSpec,
    QuantvizError,
    UsageError,
    Variant,
    spec_of,
)
from quantviz.study.pictures import calibration_folder, pictures_folder, study_picture, weights_choice
from quantviz.study.specs.plan import StudyPlan
from quantviz.ui.plain import code
from quantviz.ui.quantization import CHOSEN, DETAIL_KEYS, IN_FLOAT
from quantviz.ui.serving import visitors_path
from quantviz.ui.studies import plan_of, study_folder

OF_STUDY = "study"
"""The choice among a model's weights that stands for the study's own file."""

_STUDY, _PICTURE, _FOLDER = "from_study", "from_picture", "from_folder"  # no widget's keys: those go with its page


@dataclass(frozen=True, slots=True)
class StudyLink:
    """A study's picture that the address names.

    Attributes:
        name: of the study.
        plan: of the study.
        index: the picture's place in it.
        elsewhere: folder of the pictures, where it is another one than the plan's.
    """

    name: str
    plan: StudyPlan
    index: int
    elsewhere: Path | None

    def read(self) -> ImageSample:
        """Return the picture.

        Raises:
            ImageError: it is not here, or is another file than the study's.
            UsageError: the study has no such picture.
        """
        return study_picture(self.plan, self.index, pictures_folder(self.plan, self.elsewhere))

    def weights(self, model: str) -> str | None:
        """Return the path of a model's weights, where the study took them from a file that is here; else None."""
        known = next((entry for entry in self.plan.models if entry.name == model), None)
        if known is None or known.weights.source != "file":
            return None
        try:
            return weights_choice(self.plan, known)
        except QuantvizError:
            return None

    def calibration(self) -> Path | None:
        """Return the folder of the study's calibration pictures, where they are not the bundled ones."""
        return calibration_folder(self.plan)


def compare_address(study: str, plan: StudyPlan, cell: tuple[str, str, str], index: int, elsewhere: Path | None) -> str:
    """Return the address, relative to the Study page's, of a picture on Compare with the settings of a cell.

    "" where Compare does not have the network: that of a card, and a file.
    """
    model, variant = plan.cell(cell)
    if model.origin or not isinstance(variant, Variant):
        return ""
    quant, ref = variant.quant, model.weights
    query: dict[str, str | list[str]] = {_STUDY: study, _PICTURE: str(index)}
    if elsewhere is not None:
        query[_FOLDER] = str(elsewhere)
    query |= {"model": model.name, "weights": OF_STUDY if ref.source == "file" else ref.name}
    query |= {"layer": model.layer, "cam": plan.cam.method}
    query |= {"weight_bits": str(quant.weight_bits or IN_FLOAT), "act_bits": str(quant.act_bits or IN_FLOAT)}
    return f"./compare?{urlencode(query | scheme_query(quant) | _protocol(variant), doseq=True)}"


def linked_picture(ignored: list[str]) -> StudyLink | None:
    """Return the picture of a study that the address names, or None; ``ignored`` gets the reason it cannot be shown."""
    name, number = (st.query_params.get(key) for key in (_STUDY, _PICTURE))
    if not name or number is None:
        return None
    try:
        plan = plan_of(study_folder(name))
    except QuantvizError as error:
        ignored.append(f"The link's study {name!r} is not available: {error}")
        return None
    if not (number.isascii() and number.isdigit() and int(number) < len(plan.images)):
        ignored.append(f"The link's picture {number!r} is not in the study, which has 0 to {len(plan.images) - 1}.")
        return None
    elsewhere = st.query_params.get(_FOLDER)
    try:
        return StudyLink(name, plan, int(number), visitors_path(elsewhere) if elsewhere else None)
    except UsageError as error:
        ignored.append(str(error))
        return None


def show_link(link: StudyLink) -> None:
    """Say which picture is shown, and offer to leave the study."""
    image = link.plan.images[link.index]
    st.markdown(f"Picture {link.index} of the study {code(link.name)}: {code(image.path)}")

    def leave() -> None:
        for key in (_STUDY, _PICTURE, _FOLDER):
            if key in st.query_params:
                del st.query_params[key]

    st.button("Choose another picture", on_click=leave, key="leave_study", icon=":material/close:")


def scheme_query(quant: QuantSpec) -> dict[str, str | list[str]]:
    """Return the Compare page's widgets for a scheme: the nearest preset, and the fields that differ."""

    def unlike(name: str) -> dict[str, str | list[str]]:
        preset = spec_of(name, quant.weight_bits, quant.act_bits)
        fields: dict[str, str | list[str]] = {
            key: str(getattr(quant, field))
            for field, key in DETAIL_KEYS.items()
            if getattr(quant, field) != getattr(preset, field)
        }
        switches = (field for field in ("equalize", "bias_correction") if getattr(quant, field))
        return fields | {field: "true" for field in switches if not getattr(preset, field)}

    name = min(PRESETS, key=lambda preset: len(unlike(preset)))
    return {"scheme": name, **unlike(name)}


def _protocol(variant: Variant) -> dict[str, str | list[str]]:
    """Return the Compare page's widgets for a variant's protocol."""
    protocol = variant.quant.protocol
    if protocol not in (CALIBRATED, PAPER):
        return {"protocol": CHOSEN, "deviations": protocol.split("+")[1:]}
    return {"protocol": protocol, **({"deployed": "true"} if variant.deployed else {})}
