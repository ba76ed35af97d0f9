"""Files of questions, row after row, however many there are.

JSON lines, SQuAD JSON (an article at a time), plain or gzip, and Parquet.
"""

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
TAIL = 100  # characters that may hold the beginning of what DATA matches


class Row(NamedTuple):
    """A row of a file: its line, in SQuAD and Parquet its number, from 1; its own fields; and why it has no answer."""

    line: int
    fields: dict[str, Any]
    error: str | None


def kind_of(path: Path, kinds: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Which of these kinds of file it is, by its name. Raises ValueError if it is none."""
    name = path.name.lower()
    for kind in kinds:
        if name.endswith(kind):
            return kind
    known = ", ".join(suffix for kind in kinds for suffix in kind)
    raise ValueError(f"{path}: what is in it cannot be told from its name. Let it end in one of {known}.")


def kind_of_input(path: Path) -> tuple[str, ...]:
    """The same of a file to read, which may be in gzip."""
    return kind_of(path.with_name(path.name.lower().removesuffix(".gz")), (JSON_LINES, SQUAD, PARQUET))


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, as they are read. Raises ValueError if it cannot be read, or is not what its name says."""
    kind = kind_of_input(path)
    rows = (line_rows if kind is JSON_LINES else squad_rows if kind is SQUAD else parquet_rows)(path)
    try:
        yield from rows
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def checked(line: int, fields: Any) -> Row:
    """The row, with its error if it cannot be answered."""
    if not isinstance(fields, Mapping):
        return Row(
            line, {}, f"line {line} must be an object with 'question' and 'context', got {type(fields).__name__}."
        )
    fields = dict(fields)
    for name in RESULT:
        if name in fields:
            return Row(line, fields, f"line {line} has a field {name!r}, which the result has too. Rename it.")
    try:
        _, context = read_pair(fields, f"line {line}")
        if len(context) > CONTEXT_CHARACTERS:
            raise ValueError(
                f"context of line {line} has {len(context)} characters, at most {CONTEXT_CHARACTERS} are read."
            )
    except (TypeError, ValueError) as error:
        return Row(line, fields, str(error))
    return Row(line, fields, None)


def line_rows(path: Path) -> Iterator[Row]:
    """The rows of JSON lines; blank lines are none."""
    with _open(path) as file:
        number = 0
        while line := file.readline(LINE_BYTES):
            number += 1
            if len(line) == LINE_BYTES and not line.endswith(b"\n"):
                while (rest := file.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                yield Row(number, {}, f"line {number} has more than {LINE_BYTES} bytes.")
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                fields = json.loads(line.decode())
            except (ValueError, RecursionError) as error:
                yield Row(number, {}, f"line {number} is not JSON in UTF-8 ({error}).")
                continue
            yield checked(number, fields)


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
        more = file.read(chunk)
        if not more:
            raise ValueError(f"{path}: not a SQuAD file, which is a JSON object with 'data'.")
        text = text[-TAIL:] + more
    text = text[data.end() :]
    while True:
        text = text.lstrip(" \t\r\n,")
        if text.startswith("]"):
            return
        try:
            article, end = json.JSONDecoder().raw_decode(text)
            text, chunk = text[end:], CHUNK
        except (ValueError, RecursionError) as error:
            more = file.read(chunk)
            if not more:
                raise ValueError(f"{path}: not JSON, or cut off ({error}).") from error
            text, chunk = text + more, 2 * chunk
            continue
        yield article


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file."""
    number = 0
    with parquet(path) as file:
        for batch in file.iter_batches(batch_size=64):
            for fields in batch.to_pylist():
                number += 1
                yield checked(number, fields)


@contextmanager
def parquet(path: Path) -> Iterator[Any]:
    """The file, open, with the columns that are needed. Raises ValueError for another, or if Python cannot hold it."""
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


def cut(
    rows: Iterable[Any], most: int, characters: int, fields: Callable[[Any], dict[str, Any]] = lambda row: row
) -> Iterator[list[Any]]:
    """The rows in lists of at most so many, or of fewer once their texts have so many characters. fields: of a row."""
    part: list[Any] = []
    held = 0
    for row in rows:
        part.append(row)
        held += sum(len(value) for value in fields(row).values() if isinstance(value, str))
        if len(part) == most or held >= characters:
            yield part
            part, held = [], 0
    if part:
        yield part
