"""Files of questions, streamed row by row: JSON lines and SQuAD JSON, plain or gzip, and Parquet."""

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..inputs import read_pair

CONTEXT_CHARACTERS = 5_000_000
LINE_BYTES = 2**25  # of a longer one only the number is kept
CHUNK = 2**16  # characters
DATA = re.compile(r'"data"\s*:\s*\[')
ANSWER = ("answer", "score", "start", "end")
RESULT = (*ANSWER, "error", "line")
JSON_LINES, SQUAD, PARQUET = (".jsonl", ".ndjson"), (".json",), (".parquet",)
Kind = tuple[str, ...]  # of file: the suffixes of its names


class Row(NamedTuple):
    """A row of a file: its line (in SQuAD and Parquet its number) from 1, its fields, and why it has no answer."""

    line: int
    fields: dict[str, Any]
    error: str | None


def kind_of(path: Path, *kinds: Kind) -> Kind:
    """Which of these kinds of file it is, by its name. Raises ValueError if it is none."""
    for kind in kinds:
        if path.name.lower().endswith(kind):
            return kind
    known = ", ".join(suffix for kind in kinds for suffix in kind)
    raise ValueError(f"{path}: what is in it cannot be told from its name. The name must end in one of {known}.")


def kind_of_input(path: Path) -> Kind:
    """The kind of a file to read, which may be compressed with gzip. Raises ValueError as kind_of."""
    return kind_of(path.with_name(path.name.lower().removesuffix(".gz")), JSON_LINES, SQUAD, PARQUET)


def read_rows(path: Path) -> Iterator[Row]:
    """Stream the rows of a file. Raises ValueError if it cannot be read, or is not what its name says."""
    read = {JSON_LINES: line_rows, SQUAD: squad_rows, PARQUET: parquet_rows}[kind_of_input(path)]
    try:
        yield from read(path)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def checked(line: int, fields: Any) -> Row:
    """The row, with an error if it cannot be answered."""
    row = Row(line, dict(fields) if isinstance(fields, Mapping) else {}, None)
    try:
        if not isinstance(fields, Mapping):
            got = type(fields).__name__
            raise TypeError(f"line {line} must be an object with 'question' and 'context', got {got}.")
        for name in RESULT:
            if name in fields:
                raise ValueError(f"line {line} has a field {name!r}, which the result has too. Rename it.")
        length = len(read_pair(fields, f"line {line}")[1])
        if length > CONTEXT_CHARACTERS:
            raise ValueError(f"context of line {line} has {length} characters, at most {CONTEXT_CHARACTERS} are read.")
    except (TypeError, ValueError) as error:
        return row._replace(error=str(error))
    return row


def line_rows(path: Path) -> Iterator[Row]:
    """The rows of a file of JSON lines, without the blank ones."""
    with _open(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES), b""), 1):
            if len(line) == LINE_BYTES and not line.endswith(b"\n"):
                while (rest := file.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                yield Row(number, {}, f"line {number} has more than {LINE_BYTES} bytes.")
            elif (text := line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"")).strip():
                try:
                    row = checked(number, json.loads(text.decode()))
                except (ValueError, RecursionError) as error:
                    row = Row(number, {}, f"line {number} is not JSON in UTF-8 ({error}).")
                yield row


def squad_rows(path: Path) -> Iterator[Row]:
    """The questions of a SQuAD file, each with the context of its paragraph and the title of its article."""
    number = 0
    with _open(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as text:
        for article in _articles(path, text):
            try:
                title = {"title": article["title"]} if "title" in article else {}
                for paragraph in article["paragraphs"]:
                    context = {"context": paragraph["context"]} if "context" in paragraph else {}
                    for entry in paragraph["qas"]:
                        number += 1
                        yield checked(number, title | entry | context)
            except (KeyError, TypeError) as error:
                raise ValueError(f"{path}: not as SQuAD has it after {number} questions ({error!r}).") from error


def _articles(path: Path, file: IO[str]) -> Iterator[Any]:
    """The items of "data", each read from the file when it is needed."""
    text, chunk = "", CHUNK
    while not (data := DATA.search(text)):
        if not (more := file.read(chunk)):
            raise ValueError(f"{path}: not a SQuAD file, which is a JSON object with 'data'.")
        text = text[-100:] + more  # the end may be the beginning of what DATA matches
    text = text[data.end() :]
    while not (text := text.lstrip(" \t\r\n,")).startswith("]"):
        try:
            article, end = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError) as error:
            if not (more := file.read(chunk)):
                raise ValueError(f"{path}: not JSON, or cut off ({error}).") from error
            text, chunk = text + more, 2 * chunk
        else:
            text, chunk = text[end:], CHUNK
            yield article


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file."""
    with parquet(path) as file:
        rows = (fields for batch in file.iter_batches(batch_size=64) for fields in batch.to_pylist())
        for number, fields in enumerate(rows, 1):
            yield checked(number, fields)


@contextmanager
def parquet(path: Path) -> Iterator[Any]:
    """Open a Parquet file. Raises ValueError if it is none, lacks a column, or has values that Python cannot hold."""
    pa, pq = pyarrow()
    try:
        with pq.ParquetFile(path, buffer_size=CHUNK) as file:
            names = file.schema_arrow.names
            for name in ("question", "context"):
                if name not in names:
                    raise ValueError(f"has no column {name!r}")
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"has several columns {name!r}")
            yield file
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: cannot be read as Parquet ({error}).") from error


def pyarrow() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet. Raises ValueError if they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError('pyarrow is needed for Parquet. Run: pip install "numpy-distilbert[batch]"') from error
    return pyarrow, pyarrow.parquet


def _open(path: Path) -> io.BufferedReader | gzip.GzipFile:
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if zipped else open(path, "rb")


def grouped(
    rows: Iterable[Any], max_rows: int, characters: int, fields: Callable[[Any], dict[str, Any]] = lambda row: row
) -> Iterator[list[Any]]:
    """Lists of max_rows rows, or of fewer once their texts have so many characters. fields: gives those of a row."""
    group: list[Any] = []
    n_characters = 0
    for row in rows:
        group.append(row)
        n_characters += sum(len(value) for value in fields(row).values() if isinstance(value, str))
        if len(group) == max_rows or n_characters >= characters:
            yield group
            group, n_characters = [], 0
    if group:
        yield group
