"""Files of questions, streamed row by row: JSON lines, SQuAD JSON and CSV, plain or gzip, and Parquet.

Whatever a file holds, memory holds no more than a row or an article of it, and those have limits.
"""

import codecs
import csv
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from ..files import open_gunzipped
from ..inputs import read_pair

CONTEXT_CHARACTERS = 5_000_000
LINE_BYTES = 2**25  # of a longer row only the number is kept
ARTICLE_CHARACTERS = 2**27
MOST_ROWS, BATCH_BYTES = 64, 2**29  # of Parquet, read at a time
CHUNK = 2**16  # characters
NOT_BLANK = re.compile(r"[^ \t\r\n]")
ASKED = ("question", "context")
ANSWER = ("answer", "score", "start", "end")
RESULT = (*ANSWER, "error", "line")
JSON_LINES, SQUAD, CSV, PARQUET = (".jsonl", ".ndjson"), (".json",), (".csv",), (".parquet",)
DECODER = json.JSONDecoder()
Item = TypeVar("Item")
Kind = tuple[str, ...]  # of file: the suffixes of its names


class Row(NamedTuple):
    """A row of a file: its line (in SQuAD and Parquet its number) from 1, the fields to copy to the output, its
    question and context, and why it has no answer. One that cannot be answered has no question and context here.
    """

    line: int
    fields: dict[str, Any]
    asked: dict[str, str]
    error: str | None


def kind_of(path: Path, *kinds: Kind) -> Kind:
    """Which of these kinds of file a name stands for. Raises ValueError if it is none of them."""
    for kind in kinds:
        if path.name.lower().endswith(kind):
            return kind
    known = ", ".join(suffix for kind in kinds for suffix in kind)
    raise ValueError(f"{path}: its format cannot be told from its name. The name must end in one of {known}.")


def kind_of_input(path: Path) -> Kind:
    """The kind of a file to read, which may be compressed with gzip. Raises ValueError as kind_of."""
    return kind_of(path.with_name(path.name.lower().removesuffix(".gz")), JSON_LINES, SQUAD, CSV, PARQUET)


def read_rows(path: Path, drop: Collection[str] = ()) -> Iterator[Row]:
    """Stream the rows of a file, without the fields in drop. Raises ValueError if it cannot be read, or is not what its
    name says.
    """
    kind = kind_of_input(path)
    read = {JSON_LINES: line_rows, SQUAD: squad_rows, CSV: csv_rows, PARQUET: parquet_rows}[kind]
    try:
        yield from read(path, drop)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        advice = ' In Excel, save it as "CSV UTF-8".' if kind is CSV and isinstance(error, UnicodeDecodeError) else ""
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).{advice}") from error


def checked(line: int, fields: Any, drop: Collection[str] = ()) -> Row:
    """The row, with an error if it cannot be answered. Its fields become one field, "row", if the result has the name
    of one of them too.
    """
    if not isinstance(fields, Mapping):
        got = type(fields).__name__
        return Row(line, {}, {}, f"line {line} must be an object with 'question' and 'context', got {got}.")
    copied = {name: value for name, value in fields.items() if name not in drop} if drop else dict(fields)
    if not copied.keys().isdisjoint(RESULT):
        name = next(name for name in RESULT if name in copied)
        error = f"line {line} has a field {name!r}, which the result has too. "
        return Row(line, {"row": copied}, {}, f"{error}Rename it, or leave it out with --drop {name}.")
    try:
        question, context = read_pair(fields, f"line {line}")
    except (TypeError, ValueError) as error:
        return Row(line, copied, {}, str(error))
    if len(context) > CONTEXT_CHARACTERS:
        long = f"context of line {line} has {len(context)} characters"
        return Row(line, copied, {}, f"{long}, at most {CONTEXT_CHARACTERS} are read.")
    return Row(line, copied, {"question": question, "context": context}, None)


def line_rows(path: Path, drop: Collection[str]) -> Iterator[Row]:
    """The rows of a file of JSON lines, without the blank ones."""
    with open_gunzipped(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES), b""), 1):
            if len(line) == LINE_BYTES and not line.endswith(b"\n"):
                while (rest := file.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                yield too_long(number)
            elif (text := line.removeprefix(codecs.BOM_UTF8 if number == 1 else b"")).strip():
                try:
                    row = checked(number, json.loads(text.decode()), drop)
                except (ValueError, RecursionError) as error:
                    row = Row(number, {}, {}, f"line {number} is not JSON in UTF-8 ({error}).")
                yield row


def too_long(line: int) -> Row:
    """A row that is too long: only its number is kept."""
    return Row(line, {}, {}, f"line {line} has more than {LINE_BYTES} bytes.")


def squad_rows(path: Path, drop: Collection[str]) -> Iterator[Row]:
    """The questions of a SQuAD file, each with the context of its paragraph and the title of its article."""
    number = 0
    with open_gunzipped(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as text:
        for article in _articles(path, text):
            try:
                title = {"title": article["title"]} if "title" in article else {}
                for paragraph in article["paragraphs"]:
                    context = {"context": paragraph["context"]} if "context" in paragraph else {}
                    for entry in paragraph["qas"]:
                        number += 1
                        yield checked(number, title | entry | context, drop)
            except (KeyError, TypeError) as error:
                raise ValueError(f"{path}: not as SQuAD has it after {number} questions ({error!r}).") from error


def _articles(path: Path, file: IO[str]) -> Iterator[Any]:
    """The items of "data" in the outermost object, each read from the file when it is needed."""
    text, found = JsonText(path, file), False
    if text.peek() == "{":
        for _ in text.elements("{", "}"):
            name = text.value()
            text.take(":")
            if name == "data":
                found = True
                for _ in text.elements("[", "]"):
                    yield text.value()
            else:
                text.value()
        text.take("")
    if not found:
        raise ValueError(f"{path}: not a SQuAD file, which is a JSON object with 'data'.")


class JsonText:
    """JSON that is read from a file as far as it is needed, and dropped once it is used."""

    def __init__(self, path: Path, file: IO[str]):
        self.path, self.file, self.text, self.position = path, file, "", 0

    def peek(self) -> str:
        """The next character that is not blank, or "" at the end of the file."""
        while not (found := NOT_BLANK.search(self.text, self.position)):
            self.position = len(self.text)
            if not self._read():
                return ""
        self.position = found.start()
        return found[0]

    def take(self, expected: str) -> None:
        """Step over the next character, or the end of the file. Raises ValueError if it is not the expected one."""
        if (character := self.peek()) != expected:
            wrong = f"{character or 'the end'!r} where {expected or 'the end'!r} should be"
            raise ValueError(f"{self.path}: not JSON, or cut off ({wrong}).")
        self.position += len(character)

    def elements(self, begin: str, end: str) -> Iterator[None]:
        """Step to each element of the array or object that begins here; the caller reads it before the next."""
        self.take(begin)
        if self.peek() != end:
            yield
            while self.peek() == ",":
                self.take(",")
                yield
        self.take(end)

    def value(self) -> Any:
        """The value that begins here. Raises ValueError if there is none, or it is too long."""
        self.peek()
        problem = "a value is not followed by anything"
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.position)
                if self.text[end : end + 1] not in ".eE":  # else it may be a number, or "", and go on in the file
                    self.position = end
                    return value
            except (ValueError, RecursionError) as error:
                problem = str(error)
            if len(self.text) - self.position > ARTICLE_CHARACTERS:
                long = f"{self.path}: an article has more than {ARTICLE_CHARACTERS} characters, or is not JSON"
                raise ValueError(f"{long} ({problem}). Split it.")
            if not self._read():
                raise ValueError(f"{self.path}: not JSON, or cut off ({problem}).")

    def _read(self) -> bool:
        """Read more in the place of what was used: as much again as is kept, so that the time for a value is linear.
        Returns whether there was more.
        """
        kept = self.text[self.position :]
        more = self.file.read(CHUNK + len(kept))
        self.text, self.position = kept + more, 0
        return bool(more)


def csv_rows(path: Path, drop: Collection[str]) -> Iterator[Row]:
    """The rows of a CSV file, without the empty ones. A row may span several lines; its number is that of the first."""
    csv.field_size_limit(LINE_BYTES)  # of the whole process, 131,072 by default
    delimiter, line, size = csv_delimiter(path), 1, 0

    def lines() -> Iterator[str]:
        nonlocal size
        while text := file.readline(LINE_BYTES):
            size += len(text)
            if size >= LINE_BYTES:
                raise csv.Error(f"a row of {LINE_BYTES} characters or more")
            yield text

    with _open_csv(path) as file:
        reader = csv.reader(lines(), delimiter=delimiter, strict=True)
        try:
            names = next(reader)
            if twice := _repeated(names):
                raise csv.Error(f"several columns {twice!r}")
            line, size = reader.line_num + 1, 0
            for cells in reader:
                if len(cells) != len(names) and any(cells):
                    error = f"line {line} has {len(cells)} fields, the first line {len(names)}."
                    yield Row(line, {"row": cells}, {}, error)
                elif any(cells):
                    yield checked(line, dict(zip(names, cells, strict=True)), drop)
                line, size = reader.line_num + 1, 0
        except csv.Error as error:
            raise ValueError(f"{path}: cannot be read from line {line} on ({error}). Is a quote not closed?") from error


def csv_delimiter(path: Path) -> str:
    """The delimiter of a CSV file: a semicolon where the comma is the decimal point, or a tab. Raises ValueError if the
    first line does not name the columns.
    """
    with _open_csv(path) as file:
        first = file.readline(LINE_BYTES)
    for delimiter in ",;\t":
        if set(ASKED) <= set(*csv.reader([first], delimiter=delimiter)):
            return delimiter
    problem = "its" if first else "is empty. Its"
    raise ValueError(f"{path}: {problem} first line must name the columns, 'question' and 'context' among them.")


def _open_csv(path: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(open_gunzipped(path), encoding="utf-8-sig", newline="")


def parquet_rows(path: Path, drop: Collection[str]) -> Iterator[Row]:
    """The rows of a Parquet file. Their fields are as Arrow has them, but for question and context."""
    with parquet(path) as file:
        batches = map(_fields, parquet_batches(file))
        for number, fields in enumerate(chain.from_iterable(batches), 1):
            yield too_long(number) if fields is None else checked(number, fields, drop)


def parquet_batches(file: Any) -> Iterator[Any]:
    """The rows of a Parquet file, some at a time: few if a single text of it may be long and stand in all of them."""
    longest = max((file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)), default=0)
    return iter(file.iter_batches(max(1, min(BATCH_BYTES // (longest + 1), MOST_ROWS)), use_threads=False))


def _fields(batch: Any) -> Iterator[dict[str, Any] | None]:
    """The fields of each row of an Arrow batch, or None of one that is too long."""
    names, large = batch.schema.names, batch.get_total_buffer_size() > LINE_BYTES
    for part in [batch.slice(i, 1) for i in range(batch.num_rows)] if large else [batch]:
        if large and sum((a.dictionary_decode() if hasattr(a, "indices") else a).nbytes for a in part) > LINE_BYTES:
            yield None
        else:
            columns = [_texts(part[name]) if name in ASKED else part[name] for name in names]
            yield from (dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True))


def _texts(column: Any) -> Any:
    """The cells of an Arrow column as str; those that are not in UTF-8 as they are."""
    try:
        return column.to_pylist()
    except ValueError:
        return list(column) if len(column) == 1 else chain(*(_texts(column[i : i + 1]) for i in range(len(column))))


@contextmanager
def parquet(path: Path) -> Iterator[Any]:
    """Open a Parquet file. Raises ValueError if it is none or lacks a column."""
    pa, pq = pyarrow()
    try:
        with pq.ParquetFile(path, buffer_size=CHUNK) as file:
            names = file.schema_arrow.names
            for name in ASKED:
                if name not in names:
                    raise ValueError(f"has no column {name!r}")
            if twice := _repeated(names):
                raise ValueError(f"has several columns {twice!r}")
            yield file
    except MemoryError:  # of Arrow's errors, the one that does not mean the file is bad
        raise
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as Parquet ({error}).") from error


def _repeated(names: list[str]) -> str | None:
    """A name that is there more than once, if any."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def pyarrow() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet. Raises ValueError if they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError('pyarrow is needed for Parquet. Run: pip install "numpy-distilbert[batch]"') from error
    return pyarrow, pyarrow.parquet


def n_characters(fields: Any) -> int:
    """How many characters the texts in these fields have."""
    return sum([len(value) for value in fields.values() if isinstance(value, str)])  # faster than a generator


def grouped(
    items: Iterable[Item], max_items: int, max_size: int, size: Callable[[Item], int] = n_characters
) -> Iterator[list[Item]]:
    """Lists of max_items items, or of fewer once their sizes add up to max_size."""
    group: list[Item] = []
    total = 0
    for item in items:
        group.append(item)
        total += size(item)
        if len(group) == max_items or total >= max_size:
            yield group
            group, total = [], 0
    if group:
        yield group
