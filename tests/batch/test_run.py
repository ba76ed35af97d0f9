"""Files answered: the same file whatever computes it, and however often it was cut short."""

import csv
import gzip
import io
import json
import logging
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from types import SimpleNamespace

import pytest
from conftest import blas_threads, forks, posix

from numpy_distilbert import files
from numpy_distilbert.batch import engines, readers
from numpy_distilbert.batch import run as batch_run
from numpy_distilbert.batch.engines import Answering, ModelSource
from numpy_distilbert.batch.run import Summary, answer_file
from numpy_distilbert.cli import batching, main

pa = pytest.importorskip("pyarrow", reason="needs the extra 'batch'")
pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'batch'")
pytest.importorskip("distributed", reason="needs the extra 'batch'")
NAMES = ["Maren Holt", "Ove Lind", "Tora Dahl", "Nils Berg"]
DEEDS = ["kept the log", "lit the lamp", "rang the bell", "rowed to the mainland for oil"]


def questions(count, seed=0):
    """Rows of different lengths, one in twenty of several windows."""
    some = random.Random(seed)
    for i in range(count):
        told = [
            f"In {some.randint(1850, 1900)} {some.choice(NAMES)} {some.choice(DEEDS)}."
            for _ in range(some.choice([1, 2, 6]))
        ]
        yield {
            "id": i,
            "question": f"Who {some.choice(DEEDS)}?",
            "context": " ".join(told) + " The sea was grey." * (40 * (i % 20 == 19)),
        }


def write(path, rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def model(shallow_model):
    return ModelSource.find(str(shallow_model))


@pytest.fixture
def verb(shallow_model):
    """The start of a call."""
    return ["batch", "--model", str(shallow_model)]


@pytest.fixture
def program(verb):
    """The same, in a process of its own."""
    return [sys.executable, "-m", "numpy_distilbert", *verb]


@pytest.fixture
def run(model):
    """Answers a file, by the threads of this process if no engine is given."""

    def run(source, output, engine=None, **options):
        return answer_file(source, output, model, engine or engines.thread_pool(model), **options)

    return run


@pytest.fixture(scope="module")
def example(tmp_path_factory, model):
    """A file of five blocks, two rows of it bad, and its output by the threads of this process."""
    folder = tmp_path_factory.mktemp("example")
    rows = [*questions(270)]
    rows[100] = "nonsense"
    rows[200] = {"question": "Who?"}
    source = write(folder / "in.jsonl", rows)
    summary = answer_file(source, folder / "out.jsonl", model, engines.thread_pool(model))
    assert summary == Summary(270, 268, 2, 0) and sorted(path.name for path in folder.iterdir()) == [
        "in.jsonl",
        "out.jsonl",
    ]
    return source, (folder / "out.jsonl").read_bytes()


def test_each_row_has_its_fields_and_the_answer_of_the_pipeline(example, model):
    source, output = example
    written = [json.loads(line) for line in output.splitlines()]
    for line, given, got in zip(range(1, 271), source.read_text(encoding="utf-8").splitlines(), written, strict=True):
        if line == 101:
            assert list(got) == ["error", "line"] and got["line"] == 101 and "not JSON" in got["error"]
        elif line == 201:
            assert got == {"question": "Who?", "error": "line 201 has no 'context'.", "line": 201}
        else:
            row = json.loads(given)
            assert list(got) == ["id", "question", "context", "answer", "score", "start", "end"]
            assert {name: got[name] for name in row} == row
    some = [written[i] for i in (0, 19, 62, 63, 64, 269)]
    for got, answer in zip(
        some, engines.load(model)([{name: row[name] for name in ("question", "context")} for row in some]), strict=True
    ):
        assert {name: got[name] for name in answer} == answer | {"score": pytest.approx(answer["score"], abs=1e-5)}


def test_the_empty_answer_may_compete(tmp_path, run, shallow):
    rows = [{"question": f"Who {i}?", "context": text} for i, text in enumerate(("Ada", "\0", "Ada and Bo " * 30))]
    run(write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", how=Answering(no_answer=True))
    expected = [shallow(row, handle_impossible_answer=True) for row in rows]
    assert [row["answer"] for row in read(tmp_path / "out.jsonl")] == [answer.answer for answer in expected]
    scores = [row["score"] for row in read(tmp_path / "out.jsonl")]
    assert scores == pytest.approx([answer.score for answer in expected], abs=1e-5)


@pytest.mark.parametrize("no_answer", [False, True])
def test_long_contexts_are_searched_in_the_passages_asked_for(tmp_path, run, shallow, no_answer):
    sea = " ".join(f"On day {day} the sea was grey, and wave {7 * day} came in." for day in range(120))
    rows = [
        {"question": "Who was the harbour master?", "context": f"{sea} The harbour master was Ove Lind."},
        {"question": "Who?", "context": "\0"},
        {"question": "What came in on day 31?", "context": sea},
    ]
    run(write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", how=Answering(no_answer, read=2))
    for row in read(tmp_path / "out.jsonl"):
        found = shallow.search(row["question"], row["context"], top_k=1, read=2)
        score, start, end = row["score"], row["start"], row["end"]
        assert row["answer"] == row["context"][start:end]
        if not found or (no_answer and found.best is None):
            assert (row["answer"], score) == ("", pytest.approx(found.no_answer * no_answer, abs=1e-5))
        else:
            assert (row["answer"], start) == (found[0].answer, found[0].start)
            assert score == pytest.approx(found[0].score, abs=1e-5)


def test_a_run_is_not_resumed_with_other_options(tmp_path, run, monkeypatch):
    source, output = write(tmp_path / "in.jsonl", [*questions(70)]), tmp_path / "out.jsonl"
    monkeypatch.setattr("numpy_distilbert.batch.run.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(source, output)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="the work of a run with another input, model, version or options"):
        run(source, output, resume=True, how=Answering(read=4))
    assert run(source, output, resume=True).kept == 70


@pytest.mark.parametrize("cores", [1, 3])
def test_the_number_of_threads_does_not_change_a_bit(example, tmp_path, monkeypatch, cores, model):
    monkeypatch.setattr(engines, "n_cores", lambda: cores)
    answer_file(example[0], tmp_path / "out.jsonl", model, engines.thread_pool(model))
    assert (tmp_path / "out.jsonl").read_bytes() == example[1]


@pytest.mark.parametrize(
    "platform, limited, start",
    [
        pytest.param("linux", True, "fork", marks=forks),
        pytest.param("linux", False, "spawn", marks=pytest.mark.slow),  # a BLAS that threadpoolctl does not know
        ("darwin", True, "spawn"),
        pytest.param("win32", True, "spawn", marks=pytest.mark.slow),
    ],
)
def test_processes_do_not_change_a_bit(example, tmp_path, monkeypatch, model, platform, limited, start):
    monkeypatch.setattr(engines, "sys", SimpleNamespace(platform=platform, version_info=sys.version_info))
    monkeypatch.setattr(engines, "is_limited", lambda: limited)
    started = []
    monkeypatch.setattr(engines, "get_context", lambda method: started.append(method) or get_context(method))
    assert answer_file(example[0], tmp_path / "out.jsonl", model, engines.process_pool(model, 2)) == Summary(
        270, 268, 2, 0
    )
    assert (tmp_path / "out.jsonl").read_bytes() == example[1] and started == [start]


def test_a_process_that_is_not_forked_has_one_blas_thread(monkeypatch, model, two_blas_threads):
    monkeypatch.setattr(engines, "is_limited", lambda: False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with engines.process_pool(model, 1) as (executor, _):
        assert executor.submit(blas_threads).result() == [1]
    assert blas_threads() == [2]


@pytest.mark.parametrize("threads", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_the_threads_of_blas_do_not_change_a_bit(example, tmp_path, threads, program):
    environment = os.environ | {"OPENBLAS_NUM_THREADS": threads}
    subprocess.run([*program, str(example[0]), "-o", str(tmp_path / "out.jsonl")], env=environment, check=False)
    assert (tmp_path / "out.jsonl").read_bytes() == example[1]


def loaded():
    return list(engines._loaded)


@forks
def test_processes_share_the_weights_that_are_here(monkeypatch, model):
    monkeypatch.setattr(engines, "_loaded", {})
    with engines.process_pool(model, 2) as (executor, n_workers):
        assert n_workers == 2 and executor.submit(loaded).result() == [model]


def test_threads_that_need_the_model_at_once_load_it_once(monkeypatch, model, shallow):
    together, loads = Barrier(3), []

    def from_pretrained(folder):
        loads.append(folder)
        with suppress(BrokenBarrierError):  # as nobody else comes here
            together.wait(timeout=0.3)
        return shallow

    monkeypatch.setattr(engines, "_loaded", {})
    monkeypatch.setattr(engines.QuestionAnswerer, "from_pretrained", from_pretrained)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(engines.load, [model] * 3)) == [shallow] * 3
    assert len(loads) == 1


def test_a_block_ends_with_its_rows_or_its_characters():
    def lengths(*contexts):
        asked = [{"question": "", "context": "x" * length} for length in contexts]
        rows = [readers.Row(i, fields, fields, None) for i, fields in enumerate(asked)]
        assert sizes(rows) == sizes([row._replace(fields={}) for row in rows])  # with --drop
        return sizes(rows)

    def sizes(rows):
        return [len(block.rows) for block in batch_run.blocks(rows, Path("out.jsonl.parts"))]

    assert lengths(*[1] * 130) == [64, 64, 2]
    assert lengths(2**20, 2**20 - 1, 1, 5) == [1, 2, 1]
    assert lengths() == []
    assert sizes([readers.Row(1, {}, {}, "bad")] * 65) == [64, 1]
    assert sizes([readers.Row(1, {"context": "x" * 2**20}, {}, "bad")] * 2) == [1, 1]


def test_no_more_than_a_few_blocks_are_in_flight(tmp_path, run):
    source, most = write(tmp_path / "in.jsonl", [GOOD] * 64 * 20), []

    class Counts(ThreadPoolExecutor):
        waiting = 0

        def submit(self, _, pairs):
            self.waiting += 1
            most.append(self.waiting)
            future = super().submit(lambda: [ANSWER] * len(pairs))
            future.add_done_callback(self.done)
            return future

        def done(self, _):
            self.waiting -= 1

    @contextmanager
    def counting():
        with Counts(2) as executor:
            yield executor, 2

    assert run(source, tmp_path / "out.jsonl", counting()).answered == 64 * 20
    assert len(most) == 20 and max(most) <= 4


GOOD = {"question": "Who kept the log?", "context": "Maren Holt kept it."}
ANSWER = {"answer": "Maren Holt", "score": 0.5, "start": 0, "end": 10}


@contextmanager
def told(answer, meanwhile=lambda: None):
    """An engine that gives this answer to everything."""

    class Tells(ThreadPoolExecutor):
        def submit(self, _, pairs):
            return super().submit(lambda: [answer] * len(pairs))

    with Tells(1) as executor:
        yield executor, 1
    meanwhile()


def test_parts_of_another_input_are_not_taken_for_its_own(tmp_path, run):
    """Somebody changes the input while it is read, and changes it back."""
    first, second = [GOOD], [{"question": "Who?", "context": "Ada was here."}]
    source, output = write(tmp_path / "in.jsonl", first), tmp_path / "out.jsonl"

    @contextmanager
    def swapped():
        write(source, second)
        with told({"answer": "Ada", "score": 0.5, "start": 0, "end": 3}, lambda: write(source, first)) as engine:
            yield engine

    with pytest.raises(ValueError, match="has changed since the run began"):
        run(source, output, swapped())
    run(source, output, told(ANSWER), resume=True)
    assert read(output) == [GOOD | ANSWER]


def test_rows_whose_other_fields_change_meanwhile_have_no_output(tmp_path, run):
    source = write(tmp_path / "in.jsonl", [GOOD | {"id": 1}])
    changes = told(ANSWER, lambda: write(source, [GOOD | {"id": 2}]))
    with pytest.raises(ValueError, match="has changed since the run began"):
        run(source, tmp_path / "out.jsonl", changes)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("content", ["", "nonsense", '{"sha256": "0", "answers": []}'])
def test_a_part_that_is_broken_is_computed_again(tmp_path, monkeypatch, content, run):
    source, output = write(tmp_path / "in.jsonl", [GOOD]), tmp_path / "out.jsonl"
    end_at(monkeypatch, "results")
    with pytest.raises(KeyboardInterrupt):
        run(source, output, told(ANSWER))
    (tmp_path / "out.jsonl.parts" / "00000000.json").write_text(content, encoding="utf-8")
    assert run(source, output, told(ANSWER), resume=True) == Summary(1, 1, 0, 0)
    assert read(output) == [GOOD | ANSWER]


@posix
def test_an_output_keeps_its_permissions(tmp_path, run):
    source, output = write(tmp_path / "in.jsonl", [GOOD]), tmp_path / "out.jsonl"
    output.write_text("", encoding="utf-8")
    output.chmod(0o600)
    run(source, output, told(ANSWER), force=True)
    assert output.stat().st_mode & 0o777 == 0o600 and read(output) == [GOOD | ANSWER]


# cut short, and resumed


@pytest.mark.parametrize(
    ("engine", "kills"),
    [
        ([], (1,)),
        pytest.param([], (0, 0, 1, 1, 2, 2, 3, 3), marks=pytest.mark.slow),
        pytest.param(["--workers", "2"], (0, 0, 1, 1, 2, 2, 3, 3), marks=[pytest.mark.slow, forks]),
    ],
)
def test_killed_at_any_moment_it_resumes_to_the_same_file(example, tmp_path, kills, engine, program):
    source, expected = example
    output, parts = tmp_path / "out.jsonl", tmp_path / "out.jsonl.parts"
    call = [*program, str(source), "-o", str(output), "--resume", "--force", "--json", *engine]
    some, kept = random.Random(len(engine)), {}
    for blocks in kills:
        process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and len(list(parts.glob("0*.json"))) <= blocks:
            time.sleep(0.005)
        time.sleep(some.random() * 0.1)
        process.kill()
        process.communicate()
        for name, changed in kept.items():
            if (parts / name).exists():  # unless it was quick enough to finish
                assert (parts / name).stat().st_mtime_ns == changed
        kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("0*.json")}
        if not (parts / "begun.json").exists():  # it was clearing up
            kept = {}
        assert not output.exists() or output.read_bytes() == expected
    done = subprocess.run(call, capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and output.read_bytes() == expected
    assert json.loads(done.stdout)["kept"] >= 64 or not kept
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


class Refuses(ThreadPoolExecutor):
    def submit(self, *_):
        raise AssertionError("nothing is left to compute")


@contextmanager
def nothing():
    with Refuses() as executor:
        yield executor, 1


def end_at(monkeypatch, name, after=0):
    """That function of batch/run.py raises when it has been called so often, once."""
    function, calls = getattr(batch_run, name), []

    def ends(*arguments):
        calls.append(arguments)
        if len(calls) > after:
            monkeypatch.setattr(batch_run, name, function)
            raise KeyboardInterrupt
        return function(*arguments)

    monkeypatch.setattr(batch_run, name, ends)


def test_finished_blocks_are_kept_and_counted(tmp_path, monkeypatch, run):
    source, output = write(tmp_path / "in.jsonl", questions(200)), tmp_path / "out.jsonl"
    end_at(monkeypatch, "_write", 3)  # what it was begun with, and two blocks
    with pytest.raises(KeyboardInterrupt):
        run(source, output)
    assert not output.exists()
    assert run(source, output, resume=True) == Summary(200, 200, 0, 128)


def test_ended_after_the_last_block_nothing_is_computed_again(tmp_path, monkeypatch, run):
    source, output = write(tmp_path / "in.jsonl", questions(70)), tmp_path / "out.jsonl"
    end_at(monkeypatch, "results")
    with pytest.raises(KeyboardInterrupt):
        run(source, output)
    assert run(source, output, nothing(), resume=True) == Summary(70, 70, 0, 70)
    assert len(read(output)) == 70 and len(list(tmp_path.iterdir())) == 2


def test_the_output_of_an_earlier_run_is_not_taken_for_this_one(tmp_path, monkeypatch, run):
    source, output = write(tmp_path / "in.jsonl", questions(2)), tmp_path / "out.jsonl"
    output.write_text("of an earlier run", encoding="utf-8")
    replace = os.replace

    def ends(here, there):
        if there == output:
            monkeypatch.setattr(os, "replace", replace)
            raise KeyboardInterrupt
        replace(here, there)

    monkeypatch.setattr(os, "replace", ends)
    with pytest.raises(KeyboardInterrupt):
        run(source, output, force=True)
    assert output.read_text(encoding="utf-8") == "of an earlier run"
    with pytest.raises(ValueError, match=r"exists\. Choose another output, or replace it with --force"):
        run(source, output, resume=True)
    assert run(source, output, resume=True, force=True) == Summary(2, 2, 0, 2)
    assert len(read(output)) == 2


def test_a_run_that_was_not_finished_is_not_thrown_away(tmp_path, monkeypatch, run):
    source, output = write(tmp_path / "in.jsonl", questions(5)), tmp_path / "out.jsonl"
    end_at(monkeypatch, "results")
    with pytest.raises(KeyboardInterrupt):
        run(source, output)
    with pytest.raises(
        ValueError, match=r"holds the work of an interrupted run\. Continue with --resume, or delete it"
    ):
        run(source, output)
    write(source, questions(6))
    with pytest.raises(ValueError, match="the work of a run with another input, model, version or options"):
        run(source, output, resume=True)


def test_what_is_in_the_way_and_not_ours_stays(tmp_path, run):
    source, mine = write(tmp_path / "in.jsonl", questions(2)), tmp_path / "out.jsonl.parts"
    mine.write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="is in the way, and not from an earlier run"):
        run(source, tmp_path / "out.jsonl")
    mine.unlink()
    mine.mkdir()
    (mine / "notes.txt").write_text("mine", encoding="utf-8")
    for resume in (False, True):
        with pytest.raises(ValueError, match="is in the way, and not from an earlier run"):
            run(source, tmp_path / "out.jsonl", resume=resume)
    assert (mine / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("rows", [1, 2, 3, 70])
def test_an_input_that_changes_meanwhile_has_no_output(tmp_path, rows, run):
    source = write(tmp_path / "in.jsonl", questions(2))

    @contextmanager
    def changing():
        with ThreadPoolExecutor(1) as executor:
            yield executor, 1
        write(source, questions(rows, seed=1))

    with pytest.raises(ValueError, match="has changed since the run began"):
        run(source, tmp_path / "out.jsonl", changing())
    assert not (tmp_path / "out.jsonl").exists()


def part_way(monkeypatch, run, source, output):
    """A run that was ended when all was computed; what was at OUT is still there."""
    end_at(monkeypatch, "results")
    with pytest.raises(KeyboardInterrupt):
        run(source, output, told(ANSWER), force=True)


def clearing_up(monkeypatch, run, source, output):
    """A run that was ended when its output was in its place, and some of OUT.parts removed."""
    unlink = Path.unlink

    def ends(path, **options):
        if path.name == "00000000.json":
            raise KeyboardInterrupt
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", ends)
    with pytest.raises(KeyboardInterrupt):
        run(source, output, told(ANSWER))
    monkeypatch.setattr(Path, "unlink", unlink)
    assert (output.parent / "out.jsonl.parts/00000000.json").exists()


EXISTS, HOLDS = "exists. Choose another output, or replace it with --force", "Continue with --resume, or delete it"


@pytest.mark.parametrize(
    ("exists", "parts", "options", "outcome"),
    [
        # OUT is there, OUT.parts are of, options: the rows that were kept, or why not
        (False, None, {}, 0),
        (False, None, {"resume": True}, 0),
        (False, None, {"force": True}, 0),
        (False, part_way, {}, HOLDS),
        (False, part_way, {"force": True}, HOLDS),
        (False, part_way, {"resume": True}, 2),
        (True, None, {}, EXISTS),
        (True, None, {"resume": True}, EXISTS),
        (True, None, {"force": True}, 0),
        (True, None, {"resume": True, "force": True}, 0),
        (True, part_way, {}, EXISTS),
        (True, part_way, {"resume": True}, EXISTS),
        (True, part_way, {"force": True}, HOLDS),
        (True, part_way, {"resume": True, "force": True}, 2),
        (True, clearing_up, {}, EXISTS),
        (True, clearing_up, {"resume": True}, EXISTS),
        (True, clearing_up, {"force": True}, 0),
        (True, clearing_up, {"resume": True, "force": True}, 0),
        (False, clearing_up, {"resume": True}, 0),
        (False, clearing_up, {}, 0),
    ],
)
def test_what_becomes_of_an_output_and_of_parts(tmp_path, monkeypatch, run, exists, parts, options, outcome):
    source, output = write(tmp_path / "in.jsonl", [GOOD | {"id": i} for i in range(2)]), tmp_path / "out.jsonl"
    if exists and parts is not clearing_up:
        output.write_text("mine", encoding="utf-8")
    if parts:
        parts(monkeypatch, run, source, output)
    if not exists:
        output.unlink(missing_ok=True)
    before = output.read_bytes() if exists else None
    if isinstance(outcome, str):
        with pytest.raises(ValueError, match=re.escape(outcome)):
            run(source, output, nothing(), **options)
        assert (output.read_bytes() if output.exists() else None) == before
        if parts is part_way:
            assert run(source, output, nothing(), resume=True, force=True).kept == 2
    else:
        assert run(source, output, told(ANSWER), **options) == Summary(2, 2, 0, outcome)
        assert [row["answer"] for row in read(output)] == ["Maren Holt"] * 2
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_an_output_that_appears_meanwhile_is_not_replaced(tmp_path, run):
    source, output = write(tmp_path / "in.jsonl", [GOOD]), tmp_path / "out.jsonl"
    with pytest.raises(ValueError, match=EXISTS):
        run(source, output, told(ANSWER, lambda: output.write_text("mine", encoding="utf-8")))
    assert output.read_text(encoding="utf-8") == "mine"
    assert run(source, output, nothing(), resume=True, force=True).kept == 1


def test_a_finished_output_is_replaced_if_asked(tmp_path, run):
    source, output = write(tmp_path / "in.jsonl", questions(3)), tmp_path / "out.jsonl"
    assert run(source, output, resume=True) == Summary(3, 3, 0, 0)
    write(source, questions(2))
    for resume in (False, True):
        assert run(source, output, resume=resume, force=True) == Summary(2, 2, 0, 0)
        assert len(read(output)) == 2


@forks
def test_workers_end_with_a_parent_that_was_killed(tmp_path, program):
    source = write(tmp_path / "in.jsonl", questions(2000))
    process = subprocess.Popen([*program, str(source), "-o", str(tmp_path / "out.jsonl"), "--workers", "2"])
    parts = tmp_path / "out.jsonl.parts"
    until(lambda: list(parts.glob("0*.json")), process)
    workers = children(process.pid)
    assert len(workers) == 2
    process.kill()
    process.wait()
    until(lambda: not any(alive(worker) for worker in workers))


def until(condition, process=None):
    """Wait for it, a minute at most, and not for a process that has ended before."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end and (process is None or process.poll() is None)
        time.sleep(0.02)


def children(parent):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and alive(int(name)):
            with open(f"/proc/{name}/stat", encoding="utf-8") as file:
                found += [int(name)] * (int(file.read().rsplit(")", 1)[1].split()[1]) == parent)
    return found


def alive(process):
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def heed_ctrl_c():
    """As on a terminal; a shell has what it starts in the background ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


STOPS = "numpy-distilbert: stopped; {} of {} rows are kept. Run the same command with --resume to continue.\n"


def interrupt(call, when, number=signal.SIGINT, **options):
    """Ctrl-C when that is so: what it printed as errors, its exit status, and its workers then."""
    process = subprocess.Popen(call, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c, **options)
    try:
        until(when, process)
        workers = children(process.pid)
        process.send_signal(number)
        return process.communicate(timeout=10)[1].decode(), process.returncode, workers
    finally:
        process.kill()


@forks
def test_an_interrupt_ends_the_workers_and_what_they_compute(tmp_path, program):
    long = {"question": "Who?", "context": "Grey sea. " * 110_000}  # blocks that no pipe holds: some wait to be sent
    source = write(tmp_path / "in.jsonl", [*questions(64), *[long] * 6])
    parts = tmp_path / "out.jsonl.parts"
    call = [*program, str(source), "-o", str(tmp_path / "out.jsonl"), "--workers", "2"]
    errors, status, workers = interrupt(call, lambda: list(parts.glob("0*.json")))
    assert (errors, status) == (STOPS.format(64, 70), 130)
    assert len(workers) == 2 and not any(alive(worker) for worker in workers)
    assert not (parts / "00000001.json").exists()


SPAWNS = """
import sys
from types import SimpleNamespace
from numpy_distilbert import cli
from numpy_distilbert.batch import engines
engines.sys = SimpleNamespace(platform="darwin", version_info=sys.version_info)
sys.exit(cli.main(sys.argv[1:]))
"""


@forks
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_processes_that_are_not_forked_end_with_their_parent(tmp_path, verb, number):
    long = {"question": "Who?", "context": "Grey sea. " * 110_000}
    source, output = write(tmp_path / "in.jsonl", [*[GOOD] * 64, *[long] * 6]), tmp_path / "out.jsonl"
    call = [sys.executable, "-c", SPAWNS, *verb, str(source), "-o", str(output), "--workers", "2"]
    errors, status, started = interrupt(call, lambda: list(tmp_path.glob("out.jsonl.parts/0*.json")), number)
    assert (errors, status) == ((STOPS.format(64, 70), 130) if number == signal.SIGINT else (errors, -number))
    assert len(started) == 3  # two workers, and a process of multiprocessing's that frees what they share
    until(lambda: not any(alive(process) for process in started))


def test_a_signal_just_after_a_file_is_in_place_leaves_it_there(tmp_path, monkeypatch):
    def interrupted(part, target):
        part.replace(target)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), files.write_whole(tmp_path / "whole") as file:
        file.write("whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("whole", "whole")]


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_answered_at_once_though_threads_compute(tmp_path, program, number):
    long = {"question": "Who?", "context": "Grey sea. " * 400_000}  # minutes
    source, output = write(tmp_path / "in.jsonl", [*[GOOD] * 64, long]), tmp_path / "out.jsonl"
    call = [*program, str(source), "-o", str(output)]
    began = time.monotonic()
    errors, status, _ = interrupt(call, lambda: list(tmp_path.glob("out.jsonl.parts/0*.json")), number)
    assert (errors, status) == (STOPS.format(64, 65), 128 + number) and time.monotonic() - began < 60
    assert sorted(path.name for path in (tmp_path / "out.jsonl.parts").iterdir()) == ["00000000.json", "begun.json"]
    errors, status, _ = interrupt([*call, "--resume"], lambda: (tmp_path / "out.jsonl.parts/lock").exists(), number)
    assert status == 128 + number and (not errors or "stopped; " in errors)


@posix
@pytest.mark.parametrize("to", ["-", "out.jsonl"])
def test_a_signal_leaves_no_copy_of_standard_input(tmp_path, program, to):
    (tmp_path / "tmp").mkdir()
    call = [*program, "-", "-o", to]
    given = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "cwd": tmp_path}
    given["env"] = os.environ | {
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONPATH": str(Path(batch_run.__file__).parents[2]),
    }
    copies = lambda: [*tmp_path.rglob("in.jsonl")]  # noqa: E731
    errors, status, _ = interrupt(call, copies, signal.SIGTERM, **given)
    assert (errors, status) == ("numpy-distilbert: stopped; this run has computed nothing yet.\n", 143)
    assert [path.name for path in tmp_path.rglob("*")] == ["tmp"]


# one run to an output


def test_of_two_runs_to_one_output_the_second_is_refused(tmp_path, run):
    source, output = write(tmp_path / "in.jsonl", [GOOD]), tmp_path / "out.jsonl"
    message = "another batch is writing this output. Wait, or choose another output"

    def second():
        for resume in (False, True):
            with pytest.raises(ValueError, match=message):
                run(source, output, nothing(), resume=resume)

    assert run(source, output, told(ANSWER, second)) == Summary(1, 1, 0, 0)
    assert read(output) == [GOOD | ANSWER] and len(list(tmp_path.iterdir())) == 2


@posix
def test_two_processes_begun_together_do_not_disturb_each_other(tmp_path, program):
    source = write(tmp_path / "in.jsonl", questions(200))
    call = [*program, str(source), "-o", str(tmp_path / "out.jsonl")]
    both = [subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = sorted((process.wait(timeout=100), *process.communicate()) for process in both)
    assert ended[0] == (0, "200 of 200 rows answered, 0 failed\n", "")
    assert ended[1][0] == 2 and ended[1][2].count("\n") == 1
    assert "is writing this output" in ended[1][2] or "exists. " in ended[1][2]  # if the first was very quick


@forks
def test_workers_that_outlive_a_killed_process_do_not_keep_its_lock(tmp_path, program, run):
    source, output = write(tmp_path / "in.jsonl", questions(1000)), tmp_path / "out.jsonl"
    process = subprocess.Popen([*program, str(source), "-o", str(output), "--workers", "2"])
    until(lambda: list(tmp_path.glob("out.jsonl.parts/0*.json")), process)
    workers = children(process.pid)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    process.kill()
    process.wait()
    assert all(alive(worker) for worker in workers) and (tmp_path / "out.jsonl.parts/lock").exists()
    assert run(source, output, told(ANSWER), resume=True).kept >= 64
    for worker in workers:
        os.kill(worker, signal.SIGCONT)


SUBMITS_MUCH = """
import sys
from numpy_distilbert import cli
from numpy_distilbert.batch import engines, run

class Pool(engines.ProcessPoolExecutor):
    submitted = 0

    def submit(self, *arguments):
        self.submitted += 1
        if self.submitted == 16:
            open(sys.argv[-1] + ".submitted", "w").close()
        return super().submit(*arguments)

run.AHEAD, engines.ProcessPoolExecutor = 8, Pool
sys.exit(cli.main(sys.argv[1:]))
"""


@forks
def test_an_interrupt_ends_blocks_that_no_worker_has_taken(tmp_path, verb):
    row = {"question": "Who?", "context": "Grey sea. " * 1000}
    source, output = write(tmp_path / "in.jsonl", [row] * 64 * 20), tmp_path / "out.jsonl"
    call = [sys.executable, "-c", SUBMITS_MUCH, *verb, str(source), "--workers", "2", "-o", str(output)]
    errors, status, workers = interrupt(call, (tmp_path / "out.jsonl.submitted").exists)
    assert (errors, status) == (STOPS.format(0, 1280), 130)
    assert len(workers) == 2 and not any(alive(worker) for worker in workers)


def test_threads_begin_no_block_after_one_failed(tmp_path, monkeypatch, run):
    begun = []

    def fail(*_):
        begun.append(1)
        time.sleep(0.3)
        raise ValueError("too much")

    monkeypatch.setattr(batch_run, "AHEAD", 8)
    monkeypatch.setattr(batch_run, "answer_block", fail)
    monkeypatch.setattr(engines, "n_cores", lambda: 1)
    with pytest.raises(batch_run.Stopped, match=r"\(ValueError: too much\). Continue with --resume"):
        run(write(tmp_path / "in.jsonl", [GOOD] * 64 * 8), tmp_path / "out.jsonl")
    assert 1 <= len(begun) <= 2


@forks
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_a_worker_that_dies_is_one_line_and_the_rest_is_kept(tmp_path, program, number):
    source, output = write(tmp_path / "in.jsonl", questions(1000)), tmp_path / "out.jsonl"
    call = [*program, str(source), "-o", str(output), "--workers", "2"]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    until(lambda: list((tmp_path / "out.jsonl.parts").glob("0*.json")), process)
    os.kill(children(process.pid)[0], getattr(signal, number))
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed, errors.count("\n")) == (1, "", 1)
    assert "a block could not be computed (BrokenProcessPool" in errors and "Continue with --resume" in errors
    assert list((tmp_path / "out.jsonl.parts").glob("0*.json"))


# bad rows, bad calls


def test_the_call_prints_what_it_did(tmp_path, capsys, verb):
    source, output = write(tmp_path / "in.jsonl", questions(3)), tmp_path / "out.jsonl"
    assert main([*verb, str(source), "-o", str(output)]) == 0
    assert capsys.readouterr() == ("3 of 3 rows answered, 0 failed\n", "")
    write(source, [*questions(3), "nonsense"])
    assert main([*verb, str(source), "-o", str(output), "--json", "--force"]) == 1
    assert json.loads(capsys.readouterr().out) == {"rows": 4, "answered": 3, "errors": 1, "kept": 0}


def test_the_call_says_what_was_kept(tmp_path, capsys, verb, monkeypatch):
    call = [*verb, write(tmp_path / "in.jsonl", questions(2)), "--output", tmp_path / "out.jsonl"]
    monkeypatch.setattr("numpy_distilbert.batch.run.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([*map(str, call)])
    monkeypatch.undo()
    assert main([*map(str, call), "--resume"]) == 0
    assert capsys.readouterr().out == "2 of 2 rows answered, 0 failed, 2 kept from before\n"


def test_the_call_says_that_a_file_has_no_rows(tmp_path, capsys, verb):
    source = str(write(tmp_path / "in.jsonl", []))
    assert main([*verb, source, "-o", str(tmp_path / "out.jsonl")]) == 0
    said = f"numpy-distilbert: {source}: has no rows.\n"
    assert capsys.readouterr() == ("0 of 0 rows answered, 0 failed\n", said)


def test_progress_is_told_of_reading_answering_and_writing(tmp_path, monkeypatch, run):
    monkeypatch.setattr(batch_run, "STEP", 100)
    source, output, told_of = write(tmp_path / "in.jsonl", [GOOD] * 200), tmp_path / "out.jsonl", []
    end_at(monkeypatch, "_write", 2)  # what it was begun with, and a block
    with pytest.raises(KeyboardInterrupt):
        run(source, output, told(ANSWER))
    run(source, output, told(ANSWER), resume=True, progress=lambda *now: told_of.append(now))
    assert told_of[:3] == [("reading", done, 0, 0) for done in (0, 100, 200)]
    assert told_of[3:5] == [("answering", 0, 200, 0), ("answering", 64, 200, 64)]
    assert told_of[-4:] == [("answering", 200, 200, 64), *(("writing", done, 200, 0) for done in (0, 100, 200))]


def test_the_bar_says_how_fast_it_goes_and_how_long_yet(monkeypatch):
    drawn, now = [], iter([10.0, 11.0, 15.0, 24.0])
    monkeypatch.setattr(batching, "draw_bar", lambda *bar: drawn.append(bar))
    monkeypatch.setattr(batching.time, "monotonic", lambda: next(now))
    draw = batching._progress()
    for rows in (
        ("reading", 1024, 0, 0),
        ("answering", 0, 900, 0),
        ("answering", 100, 900, 100),
        ("answering", 500, 900, 100),
    ):
        draw(*rows)
    assert drawn[:2] == [(0, 1, "reading, 1024"), (0, 900, "answering, 0 of 900, just begun")]
    assert drawn[2:] == [
        (100, 900, "answering, 100 of 900, just begun"),
        (500, 900, "answering, 500 of 900, 44 a second, 0:00:09 left"),
    ]


def test_what_stops_it_is_said_on_a_line_of_its_own_and_logging_is_left_as_it_was(tmp_path, monkeypatch, capsys, verb):
    source = write(tmp_path / "in.jsonl", ["nonsense"])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(logging.root.manager, "disable", logging.INFO)
    with pytest.raises(SystemExit, match="1"):
        main([*verb, str(source), "-o", str(tmp_path / "out.jsonl"), "--strict"])
    shown = capsys.readouterr().err
    assert "reading, 0" in shown and re.search(r"\r +\rnumpy-distilbert: line 1 [^\r]*\n\Z", shown)
    assert logging.root.manager.disable == logging.INFO


def test_strict_stops_at_the_first_bad_row_before_anything_is_computed(tmp_path, capsys, verb):
    source = write(tmp_path / "in.jsonl", [*questions(3), "nonsense", "nonsense"])
    with pytest.raises(SystemExit, match="1"):
        main([*verb, str(source), "-o", str(tmp_path / "out.jsonl"), "--strict"])
    assert "line 4 is not JSON" in capsys.readouterr().err and len(list(tmp_path.iterdir())) == 1


def test_a_file_without_a_good_row_has_an_output_of_errors(tmp_path, run):
    source = write(tmp_path / "in.jsonl", ["1"] * 70)
    assert run(source, tmp_path / "out.jsonl", nothing()) == Summary(70, 0, 70, 0)
    assert [row["line"] for row in read(tmp_path / "out.jsonl")] == list(range(1, 71))


def test_an_empty_file_has_an_empty_output(tmp_path, run):
    assert run(write(tmp_path / "in.jsonl", []), tmp_path / "out.jsonl") == Summary(0, 0, 0, 0)
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    run(tmp_path / "in.jsonl", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


@posix
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["IN", "-o", "out.txt"], "out.txt: its format cannot be told from its name"),
        (["IN", "-o", "out.json"], "The name must end in one of .jsonl, .ndjson, .csv, .parquet"),
        (["IN", "-o", "out.jsonl.gz"], "out.jsonl.gz: its format cannot be told from its name"),
        (["none.jsonl", "-o", "IN", "--force"], "none.jsonl: cannot be read (No such file"),
        (["none.jsonl", "-o", "IN"], "in.jsonl: exists. Choose another output, or replace it with --force"),
        (["IN", "-o", "-", "--resume"], "nothing is kept of a run with -o -. Name a file, or leave --resume out"),
        (["pipe.jsonl", "-o", "out.jsonl"], "pipe.jsonl: is not a regular file"),
        (["IN", "-o", "pipe.jsonl"], "pipe.jsonl: is not a regular file"),
        (["IN", "-o", "folder.jsonl"], "folder.jsonl: is not a regular file"),
        (["IN", "-o", "nowhere/out.jsonl"], "nowhere: no such folder. Create it, or choose another output"),
        (["IN", "-o", "IN/out.jsonl"], "in.jsonl: no such folder"),
        (["none.jsonl", "-o", "out.jsonl"], "none.jsonl: cannot be read"),
        (["IN", "-o", "out.jsonl", "--workers", "0"], "--workers must be at least 1"),
        (["IN", "-o", "out.jsonl", "--read", "0"], "--read must be at least 1"),
        (["IN", "-o", "out.jsonl", "--workers", "2", "--scheduler", "tcp://a:1"], "not allowed with argument"),
        (["IN", "-o", "out.jsonl", "--scheduler", "nonsense://"], "nonsense://: no scheduler answers there"),
        (["IN", "-o", "out.jsonl", "--model", "nowhere/at/all"], "nowhere/at/all"),
        (["IN", "-o", "IN"], "is the input"),
    ],
)
def test_a_bad_call_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, message, verb):
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "in.jsonl", questions(1))
    before = source.read_bytes()
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    arguments = [argument.replace("IN", "in.jsonl") for argument in arguments]
    try:
        status = main([*verb, *arguments])
    except SystemExit as stopped:
        status = stopped.code
    errors = capsys.readouterr().err
    assert status in (1, 2) and message in errors and errors.count("\n") == 1
    assert source.read_bytes() == before and not (tmp_path / "out.jsonl").exists()


def test_a_full_disk_is_one_line_and_nothing_is_lost(example, tmp_path, run, program):
    resource = pytest.importorskip("resource", reason="this system has no limits on the size of a file")
    source, expected = example
    output = tmp_path / "out.jsonl"
    for size in (4000, 20_000):  # of a file: in the blocks, and in the output
        call = [*program, str(source), "-o", str(output), "--resume"]
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
        done = subprocess.run(call, preexec_fn=limit, capture_output=True, encoding="utf-8")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert "the output could not be written (File too large)" in done.stderr and not output.exists()
    assert run(source, output, resume=True).kept > 0
    assert output.read_bytes() == expected


@pytest.mark.parametrize("extra", ["pyarrow", "distributed"])
def test_without_the_extra_it_is_named(tmp_path, monkeypatch, capsys, extra, verb):
    monkeypatch.setitem(sys.modules, extra, None)
    source = str(write(tmp_path / "in.jsonl", questions(1)))
    call = ["-o", str(tmp_path / "out.parquet")]
    if extra == "distributed":
        call = ["-o", str(tmp_path / "out.jsonl"), "--scheduler", "tcp://127.0.0.1:1"]
    assert main([*verb, source, *call]) == 2
    assert f"{extra} is needed" in capsys.readouterr().err


# formats


def test_standard_input_is_read_and_not_kept(tmp_path, run, program):
    source = write(tmp_path / "in.jsonl", questions(3))
    expected = tmp_path / "expected.jsonl"
    run(source, expected)
    for content in (source.read_bytes(), gzip.compress(source.read_bytes())):
        call = [*program, "-", "-o", str(tmp_path / "out.jsonl"), "--force"]
        done = subprocess.run(call, input=content, capture_output=True)
        assert done.returncode == 0 and (tmp_path / "out.jsonl").read_bytes() == expected.read_bytes()
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (OSError(28, "No space left on device"), 1, "the output could not be written (No space left on device)"),
        (ValueError("broken"), 2, "broken"),
    ],
)
def test_standard_input_that_cannot_be_copied_leaves_no_file(
    tmp_path, monkeypatch, capsys, verb, error, status, message
):
    def copy(source, target):
        target.write(source.read(10))
        raise error

    monkeypatch.setattr(shutil, "copyfileobj", copy)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no more than a part of this"), encoding="utf-8"))
    assert main([*verb, "-", "-o", str(tmp_path / "out.jsonl")]) == status
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") <= 1 and not list(tmp_path.iterdir())


def test_standard_output_has_the_rows_and_nothing_else(tmp_path, example, program):
    source, expected = example
    done = subprocess.run([*program, "-", "-o", "-"], input=source.read_bytes(), capture_output=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, expected) and not list(tmp_path.iterdir())
    assert done.stderr == b"268 of 270 rows answered, 2 failed\n"


def test_standard_output_in_the_same_process(tmp_path, capsysbinary, verb):
    source = write(tmp_path / "in.jsonl", [GOOD | {"id": 1}])
    assert main([*verb, str(source), "-o", "-", "--json", "--drop", "context", "question", "unknown"]) == 0
    printed, errors = capsysbinary.readouterr()
    assert list(json.loads(printed)) == ["id", "answer", "score", "start", "end"]
    assert json.loads(errors) == {"rows": 1, "answered": 1, "errors": 0, "kept": 0}


@posix
def test_a_reader_that_has_had_enough_ends_it_silently(tmp_path, program):
    write(tmp_path / "in.jsonl", [{"question": "Who?", "context": "", "other": "x" * 1000}] * 1000)
    call = f"{shlex.join(program)} - -o - < in.jsonl | head -1"
    environment = os.environ | {"PYTHONPATH": str(Path(batch_run.__file__).parents[2])}
    done = subprocess.run(call, shell=True, capture_output=True, cwd=tmp_path, env=environment)
    assert done.stdout.count(b"\n") == 1 and done.stderr == b""


@pytest.mark.parametrize("error", [MemoryError(), pa.ArrowMemoryError("malloc of size 9")])
def test_too_little_memory_is_one_line(tmp_path, monkeypatch, capsys, verb, error):
    def checked(*_):
        raise error

    monkeypatch.setattr(readers, "checked", checked)
    pq.write_table(pa.table({"question": ["Who?"], "context": ["a"]}), tmp_path / "in.parquet")
    with pytest.raises(SystemExit, match="1"):
        main([*verb, str(tmp_path / "in.parquet"), "-o", str(tmp_path / "out.jsonl")])
    errors = capsys.readouterr().err
    assert "not enough memory" in errors and errors.count("\n") == 1 and len(list(tmp_path.iterdir())) == 1


def test_csv_and_lines_have_the_same_answers(tmp_path, run):
    rows = [*questions(70)]
    source, table = write(tmp_path / "in.jsonl", rows), tmp_path / "in.csv"
    with open(table, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for given in (source, table):
        run(given, tmp_path / f"{given.name}.out.csv", drop=["context"])
    run(source, tmp_path / "out.jsonl", drop=["context"])
    assert (tmp_path / "in.csv.out.csv").read_bytes() == (tmp_path / "in.jsonl.out.csv").read_bytes()
    with open(tmp_path / "in.csv.out.csv", encoding="utf-8-sig", newline="") as file:
        got = list(csv.DictReader(file))
    expected = [row | {"error": "", "line": ""} for row in read(tmp_path / "out.jsonl")]
    assert got == [{name: str(value) for name, value in row.items()} for row in expected]
    run(table, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["answer"].to_pylist() == [row["answer"] for row in expected]


def test_fields_that_are_dropped_do_not_collide(tmp_path, run):
    source, output = (
        write(tmp_path / "in.jsonl", [GOOD | {"line": 7, "id": 1}, GOOD | {"id": 2}]),
        tmp_path / "out.jsonl",
    )
    assert run(source, output, told(ANSWER)) == Summary(2, 1, 1, 0)
    refused, answered = read(output)
    assert refused.pop("error").startswith("line 1 has a field 'line', which the result has too")
    assert refused == {"row": GOOD | {"line": 7, "id": 1}, "line": 1} and answered == GOOD | {"id": 2} | ANSWER
    assert run(source, output, told(ANSWER), force=True, drop=["line", "question", "context"]) == Summary(2, 2, 0, 0)
    assert read(output) == [{"id": 1} | ANSWER, {"id": 2} | ANSWER]


def test_parquet_and_lines_have_the_same_answers(tmp_path, run):
    rows = [*questions(70)]
    source = write(tmp_path / "in.jsonl", rows)
    run(source, tmp_path / "a.parquet")
    run(source, tmp_path / "a.jsonl")
    lines = read(tmp_path / "a.jsonl")
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [row | {"error": None, "line": None} for row in lines]
    table = pq.read_table(tmp_path / "a.parquet").select(["id", "question", "context"])
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=7)
    run(tmp_path / "in.parquet", tmp_path / "b.jsonl")
    run(tmp_path / "in.parquet", tmp_path / "b.parquet")
    assert read(tmp_path / "b.jsonl") == lines
    assert pq.read_table(tmp_path / "b.parquet").equals(pq.read_table(tmp_path / "a.parquet"))


def test_squad_rows_carry_their_ids(tmp_path, run, model):
    paragraph = {
        "context": "Ada lives in Turin.",
        "qas": [{"id": "a1", "question": "Where does Ada live?", "answers": []}],
    }
    (tmp_path / "in.json").write_text(
        json.dumps({"version": "1.1", "data": [{"title": "Ada", "paragraphs": [paragraph]}]}), encoding="utf-8"
    )
    run(tmp_path / "in.json", tmp_path / "out.jsonl")
    (row,) = read(tmp_path / "out.jsonl")
    expected = engines.load(model)("Where does Ada live?", "Ada lives in Turin.")["answer"]
    assert (row["id"], row["title"], row["answers"], row["answer"]) == ("a1", "Ada", [], expected)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads its memory in /proc")
@pytest.mark.parametrize("rows", [30_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["in.jsonl", pytest.param("in.parquet", marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_rows(tmp_path, name, rows, verb):
    program = (
        "import sys; from numpy_distilbert.cli import main; main(sys.argv[1:]); "
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    peaks = []
    for count in (1000, rows):  # without an answer: what is computed holds the same, and would take minutes
        source, row = tmp_path / name, {"question": "Who?", "context": "", "other": "x" * 500}
        if name == "in.jsonl":
            write(source, [row] * count)
        else:
            table = pa.Table.from_pylist([row | {"other": f"{i:500}"} for i in range(count)])
            pq.write_table(table, source, row_group_size=1000)
        call = [sys.executable, "-c", program, *verb, str(source), "-o", str(tmp_path / "out.jsonl")]
        peaks.append(int(subprocess.run(call, capture_output=True, encoding="utf-8").stdout.split()[-1]))
    assert peaks[1] < peaks[0] + (5000 if name == "in.jsonl" else 10_000)  # KB; 30,000 rows are 16,000


# a cluster


@contextmanager
def started_scheduler(folder):
    """The address of a Dask scheduler in a process of its own."""
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--host", "127.0.0.1"]
    command += ["--port", "0", "--scheduler-file", str(file)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: file.exists() and file.read_text(encoding="utf-8"))
        yield json.loads(file.read_text(encoding="utf-8"))["address"]
    finally:
        process.kill()
        process.wait()


@contextmanager
def started_workers(address, number, folder):
    """So many processes that work for a scheduler."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--nthreads", "1"]
    command += ["--no-dashboard", "--local-directory", str(folder)]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(number)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """Its address; it has the workers that a test starts."""
    with started_scheduler(tmp_path_factory.mktemp("scheduler")) as address:
        yield address


def test_a_cluster_that_loses_a_worker_gives_the_same_file(tmp_path, example, program, scheduler):
    source, expected = example
    output, parts = tmp_path / "out.jsonl", tmp_path / "out.jsonl.parts"
    with started_workers(scheduler, 3, tmp_path) as workers:
        call = [*program, str(source), "-o", str(output), "--scheduler", scheduler]
        process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        until(lambda: list(parts.glob("0*.json")) or process.poll() is not None)
        workers[0].kill()
        printed, errors = process.communicate(timeout=200)
    assert (process.returncode, printed) == (1, "268 of 270 rows answered, 2 failed\n"), errors
    assert output.read_bytes() == expected


def test_a_scheduler_that_is_lost_is_one_line_and_the_rest_is_kept(tmp_path, program):
    source, parts = write(tmp_path / "in.jsonl", questions(1000)), tmp_path / "out.jsonl.parts"
    with started_scheduler(tmp_path) as address, started_workers(address, 1, tmp_path):
        call = [*program, str(source), "-o", str(tmp_path / "out.jsonl"), "--scheduler", address]
        process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        until(lambda: list(parts.glob("0*.json")), process)
    printed, errors = process.communicate(timeout=100)
    assert (process.returncode, printed) == (1, "") and list(parts.glob("0*.json"))
    assert errors == "numpy-distilbert: the scheduler was lost. Continue with --resume.\n"


def test_a_cluster_with_another_model_is_refused(tmp_path, model):
    source = write(tmp_path / "in.jsonl", questions(1))
    other = ModelSource(None, "0" * 64)
    with pytest.raises(engines.CheckpointError, match="is not the model that the run began with"):
        answer_file(source, tmp_path / "out.jsonl", other, in_threads_unloaded())


@contextmanager
def in_threads_unloaded():
    with ThreadPoolExecutor(1) as executor:
        yield executor, 1


def test_a_scheduler_without_workers_is_one_line(tmp_path, monkeypatch, capsys, verb, scheduler):
    monkeypatch.setattr(engines, "CLUSTER_SECONDS", 1)
    source = str(write(tmp_path / "in.jsonl", questions(2)))
    assert main([*verb, source, "-o", str(tmp_path / "out.jsonl"), "--scheduler", scheduler]) == 2
    assert f"the scheduler has no worker. Start some: dask worker {scheduler}" in capsys.readouterr().err


def test_an_address_without_a_scheduler_is_one_line(tmp_path, monkeypatch, capsys, verb):
    monkeypatch.setattr(engines, "CLUSTER_SECONDS", 0.2)
    source = str(write(tmp_path / "in.jsonl", questions(2)))
    with socket.create_server(("127.0.0.1", 0)) as bound:
        nowhere = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
    assert main([*verb, source, "-o", str(tmp_path / "out.jsonl"), "--scheduler", nowhere]) == 2
    assert "no scheduler answers there" in capsys.readouterr().err
