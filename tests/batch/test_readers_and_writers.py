"""Reading and writing files of questions: every row once, in its order, or one error that says where and why."""

import csv
import datetime
import decimal
import gzip
import io
import json
import math
import tracemalloc

import pytest
from properties import HealthCheck, given, settings, st

from numpy_distilbert.batch import readers, writers
from numpy_distilbert.batch.readers import Row, read_rows
from numpy_distilbert.batch.writers import find_writer, parquet_schema, write_lines

pa = pytest.importorskip("pyarrow", reason="needs the extra 'batch'")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'batch'")

GOOD = {"question": "Who kept the log?", "context": "Maren Holt kept it."}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def lines(path, *values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def squad(*articles):
    """Each a title and paragraphs, {context: questions}."""
    return {
        "version": "1.1",
        "data": [
            {
                "title": title,
                "paragraphs": [
                    {"context": context, "qas": [{"id": f"{title}{i}", "question": q} for i, q in enumerate(questions)]}
                    for context, questions in paragraphs.items()
                ],
            }
            for title, paragraphs in articles
        ],
    }


def test_lines_keep_their_fields_and_numbers(tmp_path):
    path = tmp_path / "a.jsonl"
    first, second = GOOD | {"id": 7, "tags": ["a", None]}, GOOD | {"id": 8}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(first).encode() + b"\r\n\n  \n" + json.dumps(second).encode())
    assert list(read_rows(path)) == [Row(1, first, GOOD, None), Row(4, second, GOOD, None)]


@pytest.mark.parametrize(
    ("line", "fields", "error"),
    [
        (b"nonsense", {}, "line 2 is not JSON in UTF-8"),
        (b'{"question": "\xff"}', {}, "line 2 is not JSON in UTF-8"),
        (b"[" * 100_000, {}, "line 2 is not JSON in UTF-8"),
        (b"9" * 5000, {}, "line 2 is not JSON in UTF-8"),
        (b"[1]", {}, "line 2 must be an object with 'question' and 'context', got list"),
        (b'{"id": 3}', {"id": 3}, "line 2 has no 'question'"),
        (b'{"question": "Who?"}', {"question": "Who?"}, "line 2 has no 'context'"),
        (
            b'{"question": 1, "context": "a"}',
            {"question": 1, "context": "a"},
            "question of line 2 must be a str, got int",
        ),
        (
            b'{"question": "Who?", "context": " "}',
            {"question": "Who?", "context": " "},
            "context of line 2 must not be blank",
        ),
        (
            json.dumps(GOOD | {"score": 1}).encode(),
            {"row": GOOD | {"score": 1}},
            "line 2 has a field 'score', which the result has too. Rename it, or leave it out with --drop score.",
        ),
    ],
)
def test_a_bad_line_is_a_row_with_an_error(tmp_path, line, fields, error):
    path = tmp_path / "a.jsonl"
    good = json.dumps(GOOD).encode()
    path.write_bytes(good + b"\n" + line + b"\n" + good + b"\n")
    first, bad, last = read_rows(path)
    assert (first, last) == (Row(1, GOOD, GOOD, None), Row(3, GOOD, GOOD, None))
    assert (bad.line, bad.fields) == (2, fields) and error in bad.error


def test_a_context_of_10_mb_is_a_row_with_an_error(tmp_path):
    row = GOOD | {"id": 1, "context": "word " * 2_000_000}
    (read,) = read_rows(lines(tmp_path / "a.jsonl", row))
    assert read.fields == row and "10000000 characters, at most 5000000" in read.error


@pytest.mark.parametrize("length", [63, 64, 65, 127, 128, 129, 1000])
def test_of_a_line_without_end_only_the_number_is_kept(tmp_path, monkeypatch, length):
    monkeypatch.setattr(readers, "LINE_BYTES", 64)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * length + b"\n1\n" + b"y" * length)
    long, short, last = read_rows(path)
    assert short.line == 2 and "got int" in short.error
    expected = "is not JSON" if length < 64 else "has more than 64 bytes"
    assert (long.line, long.fields, last.line) == (1, {}, 3) and expected in long.error and expected in last.error


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONL.gz", "a.ndjson"])
def test_gzip_is_known_by_its_content(tmp_path, name):
    path = lines(tmp_path / name, GOOD, GOOD)
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(list(read_rows(path))) == 2


def test_squad_is_read_an_article_at_a_time(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps(squad(("Tower", {"Maren Holt kept it.": ["Who?", "What?"]}), ("Sea", {"It is grey.": ["How?"]}))),
        encoding="utf-8",
    )
    assert [row.fields for row in read_rows(path)] == [
        {"title": "Tower", "id": "Tower0", "question": "Who?", "context": "Maren Holt kept it."},
        {"title": "Tower", "id": "Tower1", "question": "What?", "context": "Maren Holt kept it."},
        {"title": "Sea", "id": "Sea0", "question": "How?", "context": "It is grey."},
    ]
    assert [row.line for row in read_rows(path)] == [1, 2, 3]


def test_of_squad_no_more_is_read_at_a_time_than_an_article_needs():
    asked = []

    class File(io.StringIO):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    articles = [{"title": str(i), "paragraphs": ["x" * 3 * readers.CHUNK]} for i in range(30)]
    assert list(readers._articles("a.json", File(json.dumps({"data": articles})))) == articles
    assert max(asked) <= 4 * readers.CHUNK


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.text(max_size=8), st.dictionaries(st.text(min_size=1), st.lists(st.text(), max_size=3), max_size=3)
        ),
        max_size=4,
    ),
    st.integers(1, 50),
    st.sampled_from([None, 2]),
    st.booleans(),
)
def test_squad_is_read_as_json_reads_it(tmp_path, monkeypatch, articles, chunk, indent, ascii_only):
    monkeypatch.setattr(readers, "CHUNK", chunk)
    path, value = tmp_path / "a.json", squad(*articles)
    path.write_bytes(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace"))
    value = json.loads(path.read_bytes())
    expected = [
        {"title": article["title"], **entry, "context": paragraph["context"]}
        for article in value["data"]
        for paragraph in article["paragraphs"]
        for entry in paragraph["qas"]
    ]
    assert [row.fields for row in read_rows(path)] == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a SQuAD file"),
        ('{"version": "1.1"}', "not a SQuAD file"),
        ('{"data": [{"paragraphs": [', "not JSON, or cut off"),
        ('{"data": [{"paragraphs": []}', "not JSON, or cut off"),
        ('{"data": [{"title": "a"}]}', "not as SQuAD has it after 0 questions"),
        ('{"data": [{"paragraphs": [{"context": "a", "qas": [{}, 1]}]}]}', "not as SQuAD has it after 2 questions"),
        ('{"data": [1]}', "not as SQuAD has it after 0 questions"),
    ],
)
def test_what_is_not_squad_is_said(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        list(read_rows(path))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=20) | VALUES.map(lambda value: json.dumps(value).encode()), max_size=8))
def test_every_line_is_one_row_whatever_it_holds(tmp_path, contents):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(contents))
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    read = list(read_rows(path))
    assert [row.line for row in read] == [number for number, line in enumerate(content, 1) if line.strip()]
    out = io.BytesIO()
    write_lines(out, (row.fields | {"error": row.error} for row in read))
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        row.fields | {"error": row.error} for row in read
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "its format cannot be told from its name.*jsonl"),
        ("a.jsonl", b"\x1f\x8bnonsense", "a.jsonl: cannot be read"),
        ("a.jsonl", gzip.compress(b"1\n" * 10_000, mtime=0)[:-20], "a.jsonl: cannot be read"),
        ("a.json", b'{"data": [\xff', "a.json: cannot be read"),
        ("a.parquet", b"nonsense", "a.parquet: cannot be read as Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_said(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_rows(tmp_path / name))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_a_file_that_is_not_there_is_said(tmp_path, name):
    with pytest.raises(ValueError, match=r"cannot be read .*No such file"):
        list(read_rows(tmp_path / name))


def test_parquet_keeps_its_types(tmp_path):
    day, table = datetime.date(1893, 11, 20), tmp_path / "a.parquet"
    own = [GOOD | {"id": i, "day": day, "paid": decimal.Decimal("1.50"), "raw": b"\xff"} for i in range(100)]
    own[3]["context"] = None
    pq.write_table(pa.Table.from_pylist(own), table, row_group_size=30)
    read = list(read_rows(table))
    values = [{name: getattr(cell, "as_py", lambda c=cell: c)() for name, cell in row.fields.items()} for row in read]
    assert values == own and [row.line for row in read] == list(range(1, 101))
    assert [row.line for row in read if row.error] == [4] and "context of line 4 must be a str, got NoneType" in read[
        3
    ].error
    out = tmp_path / "b.parquet"
    result = {"answer": "Maren Holt", "score": 0.5, "start": 0, "end": 10}
    with open(out, "wb") as file:
        find_writer(table, readers.PARQUET)(file, (row.fields | result for row in read))
    written = pq.read_table(out)
    assert written.schema.names == [*own[0], "answer", "score", "start", "end", "error", "line"]
    assert written.schema.field("paid").type == pa.decimal128(3, 2) and written.schema.field("day").type == pa.date32()
    assert written.to_pylist() == [row | result | {"error": None, "line": None} for row in own]
    lines = io.BytesIO()
    write_lines(lines, [own[0]])
    assert json.loads(lines.getvalue())["day"] == "1893-11-20"


@pytest.mark.parametrize("missing", ["question", "context"])
def test_parquet_without_a_column_is_said(tmp_path, missing):
    pq.write_table(
        pa.table({name: ["a"] for name in ("question", "context") if name != missing}), tmp_path / "a.parquet"
    )
    with pytest.raises(ValueError, match=f"has no column '{missing}'"):
        list(read_rows(tmp_path / "a.parquet"))


def test_parquet_with_two_columns_of_a_name_is_said(tmp_path):
    path = tmp_path / "a.parquet"
    twice = pa.Table.from_arrays([pa.array(["a"])] * 3, ["question", "context", "question"])
    pq.write_table(twice, path)
    with pytest.raises(ValueError, match="has several columns 'question'"):
        list(read_rows(path))


def test_groups_end_with_their_texts(monkeypatch):
    assert [len(part) for part in readers.grouped([{"a": "x" * 5, "b": 7}] * 10, 4, 1000)] == [4, 4, 2]
    assert [len(part) for part in readers.grouped([{"a": "x" * 5, "b": "y"}] * 10, 4, 12)] == [2] * 5
    assert list(readers.grouped([], 4, 12)) == []


def test_a_squad_paragraph_without_its_context_is_rows_with_errors(tmp_path):
    value = squad(("Tower", {"Maren Holt kept it.": ["Who?", "What?"], "It is old.": ["How?"]}))
    del value["data"][0]["paragraphs"][0]["context"]
    (tmp_path / "a.json").write_text(json.dumps(value), encoding="utf-8")
    assert [row.error for row in read_rows(tmp_path / "a.json")] == [
        "line 1 has no 'context'.",
        "line 2 has no 'context'.",
        None,
    ]


def test_lines_become_columns_if_each_has_one_type(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "GROUP_ROWS", 2)
    path = lines(tmp_path / "a.jsonl", GOOD, GOOD | {"n": 1}, GOOD | {"n": 2.5}, GOOD | {"tags": ["a"]}, 7)
    schema = parquet_schema(path)
    assert schema.field("n").type == pa.float64() and schema.field("tags").type == pa.list_(pa.string())
    with pytest.raises(ValueError, match=r"Parquet cannot hold its fields as columns.*Write JSON lines"):
        parquet_schema(lines(path, GOOD | {"n": 1}, GOOD, GOOD, GOOD | {"n": "one"}))
    with pytest.raises(ValueError, match="Parquet cannot hold"):
        parquet_schema(lines(path, GOOD | {"n": 2**70}))
    for value in ({}, [{}]):
        with pytest.raises(ValueError, match="Parquet cannot hold"):
            parquet_schema(lines(path, GOOD | {"n": value}))
    with pytest.raises(ValueError, match="Parquet cannot hold"):
        parquet_schema(lines(path, GOOD | {"n": 2.5}, GOOD, GOOD, GOOD | {"n": 2**53 + 1}))
    assert parquet_schema(lines(path, GOOD | {"error": "none"})).names == ["row", *readers.RESULT]


def test_numbers_that_json_has_no_word_for_are_null():
    out = io.BytesIO()
    write_lines(out, [{"a": math.nan, "b": [1.5, -math.inf, "NaN"], "c": datetime.date(1871, 3, 2)}])
    assert out.getvalue() == b'{"a": null, "b": [1.5, null, "NaN"], "c": "1871-03-02"}\n'


def test_half_a_surrogate_pair_is_written_so_that_it_can_be_read(tmp_path):
    out = io.BytesIO()
    write_lines(out, [{"a": "ü \ud800"}, {"a": "ü"}])
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [{"a": "ü \ud800"}, {"a": "ü"}]
    assert out.getvalue().endswith('{"a": "ü"}\n'.encode())


# SQuAD, whose text may be hostile


def test_squad_of_one_large_article_and_many_small_ones_is_read_in_linear_time():
    """Counted in characters that are copied: 4 MB, then 20,000 articles."""
    copied = 0

    class Text(readers.JsonText):
        def _read(self):
            nonlocal copied
            more = super()._read()
            copied += len(self.text)
            return more

    content = json.dumps({"data": ["x" * 4_000_000, *[{"paragraphs": []}] * 20_000]})
    text = Text("a.json", io.StringIO(content))
    text.take("{")
    assert text.value() == "data"
    text.take(":")
    assert sum(text.value() is not None for _ in text.elements("[", "]")) == 20_001
    assert copied < 5 * len(content)


@pytest.mark.parametrize("chunk", [*range(1, 40), readers.CHUNK])
def test_only_data_of_the_outermost_object_counts(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(readers, "CHUNK", chunk)
    (tmp_path / "a.json").write_text(
        '{"meta": {"data": [], "n": [-12.5e+30, true]}, "n": 1234567890, "data" : [ {"paragraphs": [{"context": "Ada.",'
        '"qas": [{"question": "Who?", "data": []}]}]} ] , "version": 1.25 }  \n',
        encoding="utf-8",
    )
    assert [row.fields for row in read_rows(tmp_path / "a.json")] == [
        {"question": "Who?", "data": [], "context": "Ada."}
    ]


@pytest.mark.parametrize("number", ["1.25", "1e9", "-12.5E+30", "10"])
def test_a_number_that_is_read_in_two_pieces_is_one(tmp_path, number):
    for cut in range(1, len(number)):
        before = "{" + " " * (readers.CHUNK - cut - 6) + '"n": '
        (tmp_path / "a.json").write_text(before + number + ', "data": []}', encoding="utf-8")
        assert (before + number)[readers.CHUNK :] == number[cut:] and list(read_rows(tmp_path / "a.json")) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"meta": {"data": []}}', "not a SQuAD file"),
        ('[{"data": []}]', "not a SQuAD file"),
        ('{"data": {}}', r"'\{' where '\[' should be"),
        ('{"data": []', "'the end' where '}' should be"),
        ('{"data": []}}', "'}' where 'the end' should be"),
        ('{"data": []} {"data": []}', "'{' where 'the end' should be"),
        ('{"data": [], "version": nonsense}', "not JSON, or cut off"),
        ('{"data": [],}', "not JSON, or cut off"),
        ('{"data": [' + "[" * 100_000, "not JSON, or cut off"),
    ],
)
def test_squad_is_checked_to_its_end(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        list(read_rows(tmp_path / "a.json"))


def test_an_article_has_a_limit_and_blanks_between_articles_take_no_memory(tmp_path, monkeypatch):
    path = tmp_path / "a.json.gz"
    path.write_bytes(
        gzip.compress(b'{"data": [' + b" " * 5_000_000 + b'{"paragraphs": []}' + b"\n" * 5_000_000 + b"]}")
    )
    tracemalloc.start()
    assert list(read_rows(path)) == []
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    monkeypatch.setattr(readers, "ARTICLE_CHARACTERS", 1_000_000)
    for content in ('{"data": [{"title": "%s', '{"meta": "%s", "data": []}', '{"%s": []}'):
        path.write_bytes(gzip.compress((content % ("x" * 9_000_000)).encode()))
        with pytest.raises(ValueError, match="an article has more than 1000000 characters, or is not JSON"):
            list(read_rows(path))


# fields of a row


def test_a_refused_row_keeps_its_own_line_and_error(tmp_path):
    own = GOOD | {"line": "of verse", "error": "none", "id": 7}
    (row,) = read_rows(lines(tmp_path / "a.jsonl", own))
    assert row.fields == {"row": own} and "has a field 'error', which the result has too" in row.error
    (row,) = read_rows(tmp_path / "a.jsonl", ["error", "line", "context"])
    assert row == Row(1, {"question": GOOD["question"], "id": 7}, GOOD, None)


# CSV, as other programs write it


CELLS = [
    ["id", "question", "context"],
    ["1", "Who kept the log?", 'Maren, "the keeper",\r\nkept it.'],
    ["2", "How?", "ü"],
]


@pytest.mark.parametrize(
    ("content", "number"),
    [
        # Excel, "CSV UTF-8"; where the comma is the decimal point; pandas, to_csv(index=False), and with sep="\t"
        (b'\xef\xbb\xbfid,question,context\r\n1,Who kept the log?,"Maren, ""the keeper"",\r\nkept it."\r\n', 2),
        (b'\xef\xbb\xbfid;question;context\r\n1;Who kept the log?;"Maren, ""the keeper"",\r\nkept it."\r\n', 2),
        (b'id,question,context\n1,Who kept the log?,"Maren, ""the keeper"",\r\nkept it."\n', 2),
        (b'id\tquestion\tcontext\n1\tWho kept the log?\t"Maren, ""the keeper"",\r\nkept it."\n', 2),
        (b'"id","question","context"\r\n\r\n"1","Who kept the log?","Maren, ""the keeper"",\r\nkept it."', 3),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_csv_of_excel_and_pandas_is_read(tmp_path, content, number, zipped):
    path = tmp_path / ("a.csv.gz" if zipped else "a.csv")
    path.write_bytes(gzip.compress(content) if zipped else content)
    fields = dict(zip(CELLS[0], CELLS[1], strict=True))
    asked = {"question": fields["question"], "context": fields["context"]}
    assert list(read_rows(path)) == [Row(number, fields, asked, None)]


def test_csv_rows_have_the_numbers_of_their_first_lines_and_their_own_errors(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'question,context\r\nWho?,"a\r\nb"\r\n,\r\nWho?\r\nWho?,a,b\r\n\r\n,a\r\nWho?,a\r\n')
    read = list(read_rows(path))
    assert [(row.line, row.fields) for row in read if row.error] == [
        (5, {"row": ["Who?"]}),
        (6, {"row": ["Who?", "a", "b"]}),
        (8, {"question": "", "context": "a"}),
    ]
    assert [row.line for row in read if not row.error] == [2, 9]
    assert read[1].error == "line 5 has 1 fields, the first line 2."


def test_csv_of_5_million_characters_is_read(tmp_path):
    context = "word \n" * 833_333
    (tmp_path / "a.csv").write_text(f'question,context\nWho?,"{context}"\n', encoding="utf-8", newline="")
    (row,) = read_rows(tmp_path / "a.csv")
    assert row.asked["context"] == context


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty. Its first line must name the columns, 'question' and 'context' among them"),
        (b"question|context\nWho?|a\n", "its first line must name the columns"),
        (b"question,context,context\n", "several columns 'context'"),
        (b'question,context\nWho?,a\nWho?,"a\nWho?,a\n', "cannot be read from line 3 on.* Is a quote not closed"),
        (b'question,context\nWho?,"a" b"\n', "cannot be read from line 2 on.* Is a quote not closed"),
        (b"question,context\nWho?,d\xe9j\xe0 vu\n", 'In Excel, save it as "CSV UTF-8"'),
        (b"question,context\nWho?," + b"x" * 1000, "from line 2 on .a row of 1000 characters or more"),
        (b"question,context\nWho?,a\n" * 50 + b'Who?,"' + b"x\n" * 500, "from line 101 on .a row of 1000 characters"),
    ],
)
def test_what_is_not_csv_is_said(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(readers, "LINE_BYTES", 1000)
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_rows(tmp_path / "a.csv"))


def written(path, kind, result=(), drop=()):
    """What is written of a file's rows, with this result of those without an error."""
    out = io.BytesIO()
    out.close = lambda: None
    rows = (
        row.fields | ({"error": row.error, "line": row.line} if row.error else dict(result))
        for row in read_rows(path, drop)
    )
    find_writer(path, kind, drop)(out, rows)
    return out.getvalue()


RESULT = {"answer": "Maren, Holt", "score": 0.1, "start": 0, "end": 10}


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_csv_is_written_as_it_was_read(tmp_path, delimiter):
    path, rows = tmp_path / "a.csv", [*CELLS, ["3", "=1+1", "\t@x"], ["4"]]
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    content = written(path, readers.CSV, RESULT)
    assert content.startswith(b"\xef\xbb\xbfid") and content.endswith(b"\r\n")
    read = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=delimiter))
    assert read[0] == [*CELLS[0], "row", "answer", "score", "start", "end", "error", "line"]
    assert read[1:4] == [[*row, "", "Maren, Holt", "0.1", "0", "10", "", ""] for row in rows[1:4]]
    assert read[4] == [*[""] * 3, '["4"]', *[""] * 4, "line 6 has 1 fields, the first line 3.", "6"]
    assert written(path, readers.CSV, drop=["context"]).startswith(b"\xef\xbb\xbfid" + delimiter.encode() + b"question")


def test_csv_holds_the_values_of_json(tmp_path):
    own = {"n": 1.5, "none": None, "yes": True, "tags": ["a,", {"ü": None}], "half": "\ud800"}
    path = lines(tmp_path / "a.jsonl", GOOD, GOOD | own)
    header, first, second = csv.reader(io.StringIO(written(path, readers.CSV).decode("utf-8-sig"), newline=""))
    assert header[:7] == ["question", "context", *own] and first[2:7] == [""] * 5
    assert second[2:7] == ["1.5", "", "true", '["a,", {"ü": null}]', "\\ud800"]


# Parquet, whose columns are carried


def not_utf8():
    return pa.array([b"a\xff", b"ok"]).cast(pa.binary()).view(pa.string())


def carried():
    """Columns of two rows, with cells that Python has no value for: their type, and as JSON."""
    text = not_utf8()
    return {
        "ns": (pa.array([1, 2], pa.timestamp("ns")), "1970-01-01 00:00:00.000000001"),
        "far": (pa.array([2**62, 0], pa.timestamp("us")), "<value out of range: 4611686018427387904>"),
        "text": (text, "a\\xff"),
        "kinds": (text.dictionary_encode(), "a\\xff"),
        "list": (pa.ListArray.from_arrays([0, 1, 2], text), ["a\\xff"]),
        "struct": (pa.StructArray.from_arrays([text], ["t"]), {"t": "a\\xff"}),
        "map": (pa.MapArray.from_arrays([0, 1, 2], ["k", "l"], text), [{"key": "k", "value": "a\\xff"}]),
        "small": (pa.array([1.5, None], pa.float16()), 1.5),
    }


def test_parquet_columns_are_carried_as_they_are(tmp_path):
    path, columns = tmp_path / "a.parquet", carried()
    asked = {name: pa.array([text] * 2) for name, text in GOOD.items()}
    table = pa.table(asked | {name: column for name, (column, _) in columns.items()}, metadata={"by": "us"})
    pq.write_table(table, path)
    out = pq.read_table(io.BytesIO(written(path, readers.PARQUET, RESULT, ["context"])))
    assert out.column_names == ["question", *columns, *readers.RESULT] and out.schema.metadata[b"by"] == b"us"
    for name, (column, _) in columns.items():
        assert out[name].combine_chunks().equals(column), name
    first, _ = map(json.loads, written(path, readers.JSON_LINES).splitlines())
    assert first == GOOD | {name: value for name, (_, value) in columns.items()}
    cells = next(csv.DictReader(io.StringIO(written(path, readers.CSV).decode("utf-8-sig"), newline="")))
    assert (cells["ns"], cells["text"], cells["list"], cells["small"]) == (
        "1970-01-01 00:00:00.000000001",
        "a\\xff",
        '["a\\\\xff"]',
        "1.5",
    )


def test_a_context_of_parquet_that_is_not_utf8_is_a_row_with_an_error(tmp_path):
    pq.write_table(pa.table({"question": ["Who?"] * 2, "context": not_utf8()}), tmp_path / "a.parquet")
    first, second = read_rows(tmp_path / "a.parquet")
    assert "context of line 1 must be a str, got StringScalar" in first.error and second.error is None


def test_parquet_with_a_column_of_the_result_is_said(tmp_path):
    pq.write_table(pa.table({name: ["a"] for name in ("question", "context", "error")}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"has a column 'error', which the result has too.* --drop error"):
        find_writer(tmp_path / "a.parquet", readers.PARQUET)
    find_writer(tmp_path / "a.parquet", readers.PARQUET, ["error"])


def test_a_parquet_dictionary_that_expands_is_rows_with_errors(tmp_path, monkeypatch):
    """A file of some kilobytes, every row of which is 2 MB."""
    monkeypatch.setattr(readers, "LINE_BYTES", 10**6)
    monkeypatch.setattr(readers, "BATCH_BYTES", 10**6)
    path, long = tmp_path / "a.parquet", pa.DictionaryArray.from_arrays(pa.array([0] * 64), ["x" * 2 * 10**6])
    for column in ("context", "other"):
        table = pa.table({"question": ["Who?"] * 64} | dict.fromkeys(("context", "other"), ["a"] * 64) | {column: long})
        pq.write_table(table, path, compression="zstd", store_schema=False)  # which would say that it is a dictionary
        assert path.stat().st_size < 10_000
        before, most = pa.total_allocated_bytes(), 0
        for row in read_rows(path):
            most = max(most, pa.total_allocated_bytes() - before)
            assert row.fields == {} and "has more than 1000000 bytes" in row.error
        assert row.line == 64 and most < 10**7  # 8 of them would be 16 MB


def test_a_parquet_dictionary_of_many_values_is_no_long_row(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LINE_BYTES", 1000)
    kinds = pa.array([f"kind {i}" for i in range(500)]).dictionary_encode()
    pq.write_table(
        pa.table({"question": ["Who?"] * 500, "context": ["a"] * 500, "kind": kinds}), tmp_path / "a.parquet"
    )
    assert [row.error for row in read_rows(tmp_path / "a.parquet")] == [None] * 500
