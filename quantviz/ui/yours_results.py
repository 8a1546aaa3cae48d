"""What the page "Your network" shows beside the maps: what differs between two files, and what goes with what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from quantviz.comparison.transfer import FilesResult
from quantviz.specs import Comparison, GivenQuant
from quantviz.ui.plain import plain


def show_findings(comparison: Comparison) -> None:
    """Say what differs between two files and should not, before anything is read off the maps."""
    details = comparison.quant.details if isinstance(comparison.quant, GivenQuant) else {}
    for finding in details.get("findings", []):
        st.warning(plain(finding), icon=":material/difference:")


def show_files(result: FilesResult) -> None:
    """Show what the files are, and which of their tensors are the same."""
    st.subheader("The two files")
    described = pd.DataFrame({name: _facts(known) for name, known in result.files.items()})
    st.table(described.map(plain))
    matches = result.pair["matches"]
    differing = sum(not match["same_shape"] for match in matches)
    words = f"{len(matches)} tensors of the float file have a counterpart in the quantized one"
    st.caption(f"{words}; {differing} of another shape." if differing else f"{words}, all of the same shape.")
    with st.expander("Which tensors are the same"):
        st.dataframe(pd.DataFrame([_match(match) for match in matches]), width="stretch", hide_index=True)


def _facts(known: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines of the table of files."""
    form, logits = known["input"], known["logits"]
    height, width = (form[name] or "any" for name in ("height", "width"))
    operators = sorted(known["operators"].items(), key=lambda entry: -entry[1])
    return {
        "file": known["file"],
        "format": f"{known['format']}, {known['bits']}",
        "opset": str(known["opset"]),
        "input": f"{form['name']}: {form['dtype']} {form['layout']}, {height} x {width}",
        "classes": f"{logits['classes']}{', after a softmax' if logits['output_is_softmax'] else ''}",
        "operators": ", ".join(f"{count} {name}" for name, count in operators),
        "sha256": f"{known['sha256'][:16]} …",
    }


def _match(match: Mapping[str, Any]) -> dict[str, str]:
    same = "yes" if match["same_shape"] else "no"
    return {"float": match["float"], "quantized": match["quantized"], "matched": match["how"], "same shape": same}
