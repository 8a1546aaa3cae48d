"""The rows of a finished study, by model, bit-width and protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from quantviz.study.specs.plan import PROPERTY_COLUMNS
from quantviz.study.tables import read_columns, read_table

if TYPE_CHECKING:
    import pandas as pd


class Results:
    """All rows of a study, in the order of its pieces.

    Args:
        path: of results.parquet.
        columns: those to read, or None for all; model, setting and protocol always are. Of ``PROPERTY_COLUMNS`` those
            that the file has are read.

    Raises:
        tables.BROKEN: the file is damaged, or a number in it is none that a study has.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        keys = ("model", "setting", "protocol")
        wanted = None if columns is None else [*keys, *(name for name in columns if name not in keys)]
        if wanted is not None and not {*PROPERTY_COLUMNS}.isdisjoint(wanted):
            there = read_columns(path)
            wanted = [name for name in wanted if name in there or name not in PROPERTY_COLUMNS]
        self._table = table = read_table(path, wanted)
        _check_numbers(table)
        self._parts: dict[tuple[str, str, str], pa.Table] = {}
        for model in pc.unique(table["model"]).to_pylist():
            of_model = table.filter(pc.field("model") == model)
            for setting in pc.unique(of_model["setting"]).to_pylist():
                of_setting = of_model.filter(pc.field("setting") == setting)
                for protocol in pc.unique(of_setting["protocol"]).to_pylist():
                    self._parts[model, setting, protocol] = of_setting.filter(pc.field("protocol") == protocol)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that were read."""
        return tuple(self._table.column_names)

    def frame(self) -> pd.DataFrame:
        """Return all rows and columns as a data frame; numbers, flags and classes that do not exist are missing."""
        import pandas as pd

        kinds = {pa.int32(): pd.Int32Dtype(), pa.bool_(): pd.BooleanDtype()}
        frame: pd.DataFrame = self._table.to_pandas(types_mapper=kinds.get)
        return frame

    def rows(self, model: str, setting: str, protocol: str) -> int:
        """Return the number of rows, 0 where there are none."""
        part = self._parts.get((model, setting, protocol))
        return 0 if part is None else int(part.num_rows)

    def numbers(self, model: str, setting: str, protocol: str, column: str) -> npt.NDArray[np.float64]:
        """Return a column of numbers or flags as float64 (n,), NaN where there is none, flags as 0 and 1."""
        values = self._parts[model, setting, protocol][column]
        # Arrow casts flags to float64 only by way of an integer; all three keep what is missing.
        values = values.cast(pa.int32() if values.type == pa.bool_() else pa.float64())
        return np.asarray(values.to_numpy(), np.float64)

    def texts(self, model: str, setting: str, protocol: str, column: str) -> list[str]:
        """Return a column of text."""
        texts: list[str] = self._parts[model, setting, protocol][column].to_pylist()
        return texts

    def filled(self, model: str, setting: str, protocol: str, column: str) -> npt.NDArray[np.bool_]:
        """Return where a column of text has some, bool (n,)."""
        texts = self._parts[model, setting, protocol][column]
        return np.asarray(pc.not_equal(texts, "").to_numpy(), bool)

    def pictures_by_text(self, column: str) -> dict[str, int]:
        """Return each text of a column, but for the empty one, with how many pictures have it in any row."""
        pictures: dict[str, set[int]] = {}
        for part in self._parts.values():
            some = part.filter(pc.field(column) != "")
            for text, picture in zip(some[column].to_pylist(), some["index"].to_pylist(), strict=True):
                pictures.setdefault(text, set()).add(picture)
        return {text: len(places) for text, places in pictures.items()}


_RANGES = {
    "_sim": (0.0, 1.0),
    "_cc": (-1.0, 1.0),
    "_kld": (0.0, np.inf),
    "_probability": (0.0, 1.0),
    **dict.fromkeys(PROPERTY_COLUMNS, (0.0, 1.0)),
}
_SLACK = 1e-6


def _check_numbers(table: pa.Table) -> None:
    """Refuse numbers that are not finite, or outside what their metric can have: no study of ours wrote them."""
    for name in table.column_names:
        column = table[name].drop_null()
        if not pa.types.is_floating(column.type) or not len(column):
            continue
        low, high = next((ends for tail, ends in _RANGES.items() if name.endswith(tail)), (-np.inf, np.inf))
        found = pc.min_max(column).as_py()  # which leaves NaN out
        if not pc.all(pc.is_finite(column)).as_py():
            raise ValueError(f"column {name} holds a number that is not finite")
        if found["min"] < low - _SLACK or found["max"] > high + _SLACK:
            raise ValueError(f"column {name} holds numbers from {found['min']:g} to {found['max']:g}")
