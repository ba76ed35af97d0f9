"""Rows with their answers, as JSON lines or Parquet; other fields are copied, as the values that JSON or Arrow make."""

import json
import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from .readers import PARQUET, RESULT, grouped, kind_of_input, parquet, pyarrow, read_rows

GROUP_ROWS, GROUP_CHARACTERS = 4096, 2**24  # of a Parquet row group


def write_lines(file: IO[bytes], records: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines in UTF-8. Values that JSON lacks become text (such as a date of Parquet) or null (NaN)."""
    for record in records:
        try:
            line = json.dumps(record, ensure_ascii=False, default=str, allow_nan=False).encode()
        except ValueError:  # NaN or infinity, or half a surrogate pair, which UTF-8 cannot hold
            without_nan = json.loads(json.dumps(record, default=str), parse_constant=lambda _: None)
            line = json.dumps(without_nan).encode()
        file.write(line + b"\n")


def write_parquet(file: IO[bytes], records: Iterable[dict[str, Any]], schema: Any) -> None:
    """Write Parquet, in row groups. schema: see parquet_schema()."""
    pa, pq = pyarrow()
    with pq.ParquetWriter(file, schema) as writer:
        for group in grouped(records, GROUP_ROWS, GROUP_CHARACTERS):
            writer.write_table(pa.Table.from_pylist(group, schema))


def parquet_schema(path: Path) -> Any:
    """The Arrow schema of a file's rows and of the result. Raises ValueError if Parquet cannot hold them."""
    pa, _ = pyarrow()
    try:
        if kind_of_input(path) is PARQUET:
            with parquet(path) as file:
                schema = file.schema_arrow
        else:
            schema = pa.schema([])
            for group in grouped((row.fields for row in read_rows(path)), GROUP_ROWS, GROUP_CHARACTERS):
                names = dict.fromkeys(name for fields in group for name in fields)
                columns = {name: pa.array([fields.get(name) for fields in group]) for name in names}
                schema = pa.unify_schemas([schema, pa.table(columns).schema], promote_options="permissive")
        types = (pa.string(), pa.float64(), pa.int64(), pa.int64(), pa.string(), pa.int64())
        for name, kind in zip(RESULT, types, strict=True):
            if name in schema.names:
                raise ValueError(f"{path}: has a field {name!r}, which the result has too. Rename it.")
            schema = schema.append(pa.field(name, kind))
        # a trial run: values that Parquet cannot hold show before anything is computed
        with open(os.devnull, "wb") as nowhere, closing(row.fields for row in read_rows(path)) as rows:
            write_parquet(nowhere, rows, schema)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise ValueError(f"{path}: Parquet cannot hold its fields as columns ({error}). Write JSON lines.") from error
    return schema
