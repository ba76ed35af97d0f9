"""Rows with their results, as JSON lines, CSV or Parquet; other fields are copied."""

import csv
import io
import json
import os
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

from . import readers
from .readers import CSV, PARQUET, RESULT, Kind, grouped, kind_of_input, pyarrow, read_rows

GROUP_ROWS, GROUP_CHARACTERS = 4096, 2**24  # of a Parquet row group
Results = Iterator[dict[str, Any]]  # of each row its fields, and its answer or error


def find_writer(source: Path, kind: Kind, drop: Collection[str] = ()) -> Callable[[IO[bytes], Results], None]:
    """The function that writes a file of this kind. Raises ValueError if it cannot hold the fields of source."""
    if kind is PARQUET:
        schema = parquet_schema(source, drop)
        if kind_of_input(source) is PARQUET:
            return partial(write_columns, source=source, schema=schema)
        return partial(write_parquet, schema=schema)
    if kind is CSV:
        names = dict.fromkeys(name for row in read_rows(source, drop) for name in row.fields)
        delimiter = readers.csv_delimiter(source) if kind_of_input(source) is CSV else ","
        return partial(write_csv, names=[*names, *RESULT], delimiter=delimiter)
    return write_lines


def write_lines(file: IO[bytes], results: Results) -> None:
    """Write JSON lines in UTF-8. Values that JSON lacks become text (such as a date of Parquet) or null (NaN)."""
    for record in results:
        try:
            line = json.dumps(record, ensure_ascii=False, default=json_value, allow_nan=False).encode()
        except ValueError:  # NaN or infinity, or half a surrogate pair, which UTF-8 cannot hold
            without_nan = json.loads(json.dumps(record, default=json_value), parse_constant=lambda _: None)
            line = json.dumps(without_nan).encode()
        file.write(line + b"\n")


def json_value(value: Any) -> Any:
    """A value for JSON in the place of one that it lacks: that of a cell of Arrow, else its text."""
    try:
        return value.as_py()
    except AttributeError:
        return str(value)
    except (ValueError, OverflowError):  # Python has no nanoseconds and no text that is not UTF-8
        pa, _ = pyarrow()
    if isinstance(value, pa.StructScalar):
        return dict(value.items())
    if isinstance(value, pa.ListScalar):
        return list(value.values)
    return value.cast(pa.string()).as_buffer().to_pybytes().decode(errors="backslashreplace")


def write_csv(file: IO[bytes], results: Results, names: list[str], delimiter: str) -> None:
    """Write CSV in UTF-8, with the mark that Excel knows it by. Null is an empty cell, lists and objects are JSON."""
    with io.TextIOWrapper(file, "utf-8-sig", "backslashreplace", newline="") as text:
        writer = csv.writer(text, delimiter=delimiter)
        writer.writerow(names)
        for record in results:
            writer.writerow([_cell(record.get(name)) for name in names])


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    text = json.dumps(value, ensure_ascii=False, default=json_value)
    return json.loads(text) if text[0] in '"n' else text  # a text of Arrow, or null


def write_parquet(file: IO[bytes], results: Results, schema: Any) -> None:
    """Write Parquet, in row groups. schema: see parquet_schema()."""
    pa, pq = pyarrow()
    with pq.ParquetWriter(file, schema) as writer:
        for group in grouped(results, GROUP_ROWS, GROUP_CHARACTERS):
            writer.write_table(pa.Table.from_pylist(group, schema))


def write_columns(file: IO[bytes], results: Results, source: Path, schema: Any) -> None:
    """Write the columns of a Parquet file as they are, and the results beside them."""
    pa, pq = pyarrow()

    def joined() -> Iterator[Any]:
        for batch in readers.parquet_batches(table):
            found = list(islice(results, batch.num_rows))
            columns = [batch.column(name) for name in schema.names[: -len(RESULT)]]
            columns += [pa.array([record.get(name) for record in found], schema.field(name).type) for name in RESULT]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    with readers.parquet(source) as table, pq.ParquetWriter(file, schema) as writer:
        for group in grouped(joined(), GROUP_ROWS, GROUP_CHARACTERS, lambda batch: int(batch.nbytes)):
            writer.write_table(pa.Table.from_batches(group))


def parquet_schema(path: Path, drop: Collection[str] = ()) -> Any:
    """The Arrow schema of a file's rows and of the result. Raises ValueError if Parquet cannot hold them."""
    pa, _ = pyarrow()
    types = (pa.string(), pa.float64(), pa.int64(), pa.int64(), pa.string(), pa.int64())
    result = [pa.field(name, kind) for name, kind in zip(RESULT, types, strict=True)]
    if kind_of_input(path) is PARQUET:
        with readers.parquet(path) as file:
            fields = [field for field in file.schema_arrow if field.name not in drop]
            metadata = file.schema_arrow.metadata
        for field in fields:
            if field.name in RESULT:
                advice = f"Rename it, or leave it out with --drop {field.name}."
                raise ValueError(f"{path}: has a column {field.name!r}, which the result has too. {advice}")
        return pa.schema([*fields, *result], metadata)
    try:
        schema = pa.schema([])
        for group in grouped((row.fields for row in read_rows(path, drop)), GROUP_ROWS, GROUP_CHARACTERS):
            names = dict.fromkeys(name for fields in group for name in fields)
            columns = {name: pa.array([fields.get(name) for fields in group]) for name in names}
            schema = pa.unify_schemas([schema, pa.table(columns).schema], promote_options="permissive")
        schema = pa.schema([*schema, *result])
        # a trial run: values that Parquet cannot hold show before anything is computed
        with open(os.devnull, "wb") as nowhere:
            write_parquet(nowhere, (row.fields for row in read_rows(path, drop)), schema)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise ValueError(f"{path}: Parquet cannot hold its fields as columns ({error}). Write JSON lines.") from error
    return schema
