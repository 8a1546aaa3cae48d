"""Rows to and from Parquet files whose bytes depend on the rows alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from quantviz.specs import limits, utf8
from quantviz.study.specs.plan import FAITHFUL_COLUMNS, PROPERTY_COLUMNS, SIMULATION_COLUMNS
from quantviz.study.specs.row import StudyRow

_KINDS = {
    "int": pa.int32(),
    "int | None": pa.int32(),
    "float | None": pa.float64(),
    "bool | None": pa.bool_(),
    "str": pa.string(),
}
_TRUTH_ERROR = "truth_error"
_GROUPS = ("simulation", "faithful", "properties", "truth")  # attributes of a row that hold columns, in their order
SCHEMA = pa.schema(
    [
        pa.field(entry.name, _KINDS[str(entry.type)], "None" in str(entry.type))
        for entry in fields(StudyRow)
        if entry.name not in (*_GROUPS, _TRUTH_ERROR)
    ]
)
"""One column an attribute of ``StudyRow``; some studies have further ones, see ``schema_of``."""

BROKEN = (OSError, pa.ArrowException, ValueError)
"""What reading a damaged file raises."""

_GROUP = 16_384
_SETTINGS = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True, "version": "2.6"}


def schema_of(
    truth: Sequence[str],
    simulation: Sequence[str] = (),
    faithful: Sequence[str] = (),
    properties: Sequence[str] = (),
) -> pa.Schema:
    """Return the columns of a study.

    Args:
        truth: its columns of agreement with ground truth; where there are any, ``truth_error`` follows them.
        simulation: its columns that compare the simulated with the deployed network, before those.
        faithful: its columns of faithfulness, between the two.
        properties: its columns on the pictures themselves, after these.
    """
    names = (*simulation, *faithful, *properties)
    further = [pa.field(name, pa.bool_() if name.endswith("_flipped") else pa.float64()) for name in names]
    if truth:
        further += [*(pa.field(name, pa.float64()) for name in truth), pa.field(_TRUTH_ERROR, pa.string(), False)]
    return pa.schema([*SCHEMA, *further]) if further else SCHEMA


def write_rows(path: Path, rows: Sequence[StudyRow], notes: Mapping[str, str]) -> None:
    """Write one row group of rows, with notes in the file's metadata; the columns are those of the first row."""
    groups = {name: tuple(getattr(rows[0], name)) if rows else () for name in _GROUPS}
    schema, own = schema_of(**groups), {name for group in groups.values() for name in group}
    further = [{**row.truth, **row.simulation, **row.faithful, **row.properties} for row in rows]
    columns = [
        [values[name] for values in further] if name in own else [_written(getattr(row, name)) for row in rows]
        for name in schema.names
    ]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    write_tables(path, [pa.Table.from_arrays(arrays, schema=schema)], notes)


def _written(value: object) -> object:
    """Return a value as Parquet takes it: a text may tell a file's name that is no UTF-8."""
    return utf8(value).decode() if isinstance(value, str) else value


def write_tables(path: Path, tables: Iterable[pa.Table], notes: Mapping[str, str]) -> None:
    """Write tables one after the other, gathered to row groups of a size that does not depend on theirs."""
    waiting: list[pa.Table] = []
    rest = iter(tables)
    first = next(rest, SCHEMA.empty_table())
    with pq.ParquetWriter(path, first.schema.with_metadata(dict(notes)), **_SETTINGS) as writer:
        for table in chain([first], rest):
            waiting.append(table)
            while sum(part.num_rows for part in waiting) > _GROUP:
                whole = pa.concat_tables(waiting)
                writer.write_table(whole.slice(0, _GROUP).combine_chunks(), row_group_size=_GROUP)
                waiting = [whole.slice(_GROUP)]
        if waiting:
            writer.write_table(pa.concat_tables(waiting).combine_chunks(), row_group_size=_GROUP)


def read_notes(path: Path) -> tuple[dict[str, str], int]:
    """Return a file's notes and its number of rows, without reading these.

    Raises:
        BROKEN: it is no Parquet file, or not with these columns.
    """
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        names = schema.names[len(SCHEMA) :]
        optional = SIMULATION_COLUMNS, FAITHFUL_COLUMNS, PROPERTY_COLUMNS
        known = [[name for name in group if name in names] for group in optional]
        if not schema.equals(schema_of(names[sum(map(len, known)) : -1], *known)):
            raise ValueError("its columns are not those of a study")
        notes = {name.decode(): value.decode() for name, value in (schema.metadata or {}).items()}
        return notes, file.metadata.num_rows


def with_columns(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return a table with further columns of numbers before those of the ground truth, without any number.

    Args:
        table: of a study's rows.
        names: the columns of ``PROPERTY_COLUMNS`` that it should have; those that it has stay.
    """
    if not (lacking := [name for name in names if name not in table.column_names]):
        return table
    start = len(SCHEMA)
    start += sum(name in (*SIMULATION_COLUMNS, *FAITHFUL_COLUMNS, *names) for name in table.column_names[start:])
    for place, name in enumerate(lacking, start):
        table = table.add_column(place, pa.field(name, pa.float64()), pa.nulls(table.num_rows, pa.float64()))
    return table


def read_columns(path: Path) -> tuple[str, ...]:
    """Return the names of a file's columns.

    Raises:
        BROKEN: it is no Parquet file.
    """
    return tuple(pq.read_schema(path).names)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a file's rows, its checksums tested.

    Raises:
        BROKEN: it is damaged.
    """
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        if file.metadata.num_rows > limits.STUDY_ROWS or size > limits.STUDY_BYTES:
            raise ValueError(f"it has {file.metadata.num_rows:,} rows of {size:,} bytes, more than a study may have")
    return pq.read_table(path, columns=columns, page_checksum_verification=True).replace_schema_metadata(None)
