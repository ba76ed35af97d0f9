"""The command line as a user meets it: real processes, pipes and a terminal."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from contextlib import suppress

import pytest
from conftest import posix
from test_squad import SQUAD

from numpy_distilbert import Answer, __version__
from numpy_distilbert.cli import asking, batching, checkpoints, evaluating, lab, main, serving, training
from numpy_distilbert.cli.asking import _shown
from numpy_distilbert.cli.terminal import progress

QUESTION = "Who wrote it?"
CONTEXT = "The log was kept for forty years. Most of it was written by Maren Holt, in pencil. Nobody read it."


def run(*arguments, text=b""):
    command = [sys.executable, "-m", "numpy_distilbert", *arguments]
    return subprocess.run(command, input=text, capture_output=True, timeout=120)


def on_a_terminal(*arguments):
    """What a terminal is sent."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "numpy_distilbert", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    while True:
        try:
            chunk = os.read(controller, 4096)
        except OSError:  # how Linux tells that the other side is closed
            chunk = b""
        if not chunk:
            break
        shown += chunk
    os.close(controller)
    assert process.wait(timeout=120) == 0
    return shown.decode()


def test_ask_prints_the_answer_its_score_and_its_sentence():
    done = run("ask", QUESTION, "--context", CONTEXT)
    assert (done.returncode, done.stderr) == (0, b"")
    answer, sentence = done.stdout.decode().splitlines()
    assert answer.startswith("Maren Holt  (0.")
    assert sentence == "    Most of it was written by Maren Holt, in pencil."


def test_ask_highlights_the_answer_on_a_terminal():
    shown = on_a_terminal("ask", QUESTION, "--context", CONTEXT)
    assert "written by \x1b[1;7mMaren Holt\x1b[0m, in pencil." in shown


def test_a_hostile_text_does_not_steer_the_terminal():
    shown = on_a_terminal(
        "ask",
        QUESTION,
        "--context",
        "It was \x1b[2J written by Maren\x1b]0;x\x07 Holt \u202e in\n\npencil.",
        "--top-k",
        "9",
    )
    for control in ("\x1b[2J", "\x1b]", "\x07", "\u202e"):
        assert control not in shown


@pytest.mark.parametrize("source", ["--context", "--file", "standard input"])
def test_ask_reads_the_context_from(source, tmp_path, monkeypatch, capsys):
    context = "Grüße!\r\nIt was written 😀 by Maren Holt in pencil."
    (tmp_path / "log.txt").write_bytes(context.encode())
    arguments = {
        "--context": ["--context", context],
        "--file": ["--file", str(tmp_path / "log.txt")],
        "standard input": [],
    }[source]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(context.encode()), encoding="utf-8"))
    assert main(["ask", QUESTION, "--json", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    (answer,) = found["answers"]
    assert found.keys() == {"answers", "no_answer"} and answer.keys() == {"score", "start", "end", "answer", "document"}
    assert context[answer["start"] : answer["end"]] == answer["answer"] == "Maren Holt"


def test_top_k_shows_and_prints_as_many_answers(capsys):
    assert main(["ask", QUESTION, "--context", CONTEXT, "--top-k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert main(["ask", QUESTION, "--context", CONTEXT, "--top-k", "3", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert len(answers) == 3 and answers[0]["answer"] == "Maren Holt"


def test_model_names_a_folder(random_checkpoint, capsys):
    main(["ask", QUESTION, "--context", CONTEXT, "--json", "--model", str(random_checkpoint("cased"))])
    other = json.loads(capsys.readouterr().out)
    main(["ask", QUESTION, "--context", CONTEXT, "--json"])
    assert other != json.loads(capsys.readouterr().out)


def test_a_long_sentence_is_cut_around_the_answer(capsys):
    main(["ask", QUESTION, "--context", "word " * 200 + "it was written by Maren Holt" + " word" * 200])
    sentence = capsys.readouterr().out.splitlines()[1]
    assert sentence.startswith("    …") and sentence.endswith("…") and "Maren Holt" in sentence and len(sentence) < 450


def test_an_answer_that_the_terminal_cannot_encode_is_shown_with_question_marks():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "numpy_distilbert", "ask", QUESTION, "--context", "Łukasz wrote it."]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"?ukasz")


@pytest.mark.parametrize(
    "context, answer, colour, shown",
    [
        ("Title\n\nIt was Ada.\n\nNext", "Ada", False, "Ada  (0.12)\n    It was Ada."),
        ("Who? It was Ada! Yes.", "Ada", False, "Ada  (0.12)\n    It was Ada!"),
        (" \n It was Ada\n", "Ada", False, "Ada  (0.12)\n    It was Ada"),
        ("See Dr. Ada Bo now. No.", "Dr. Ada", False, "Dr. Ada  (0.12)\n    See Dr. Ada Bo now."),
        (
            "It was\tA\u200dd\ta\x1b.",
            "A\u200dd\ta",
            True,
            "\x1b[1mA\u200dd a\x1b[0m  (0.12)\n    It was \x1b[1;7mA\u200dd a\x1b[0m\ufffd.",
        ),
    ],
)
def test_the_sentence_of_an_answer(context, answer, colour, shown, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")  # Windows has no colours
    monkeypatch.setattr(sys.stdout, "isatty", lambda: colour)
    start = context.index(answer)
    assert _shown(Answer(0.1234, start, start + len(answer), context)) == shown


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """A working folder with texts, and what is not one."""
    monkeypatch.chdir(tmp_path)
    texts = {
        "notes/tower.md": "# The tower\n\nIt is old.\nMaren Holt kept its log.\n",
        "notes/deeper/boat.TXT": "Ove Lind built the boat.\n",
        "notes/.hidden/secret.md": "Maren Holt kept a secret log.",
        "notes/code.py": "print('Maren Holt kept the log')",
        "bell.text": "The bell was rung on Sundays.",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_ask_reads_files_and_folders_and_says_where_the_answer_is(notes, capsys):
    assert main(["ask", "Who kept the log?", "--file", "notes", "bell.text"]) == 0
    answer, place = capsys.readouterr().out.splitlines()
    assert answer.startswith("Maren Holt  (0.")
    assert place == f"    {os.path.join('notes', 'tower.md')}:4: Maren Holt kept its log."
    assert main(["ask", "When was the bell rung?", "--file", "notes", "bell.text", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    assert (answer["answer"], answer["document"]) == ("Sundays", "bell.text")


def test_standard_input_may_be_one_of_the_files(notes, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\nThe lamp was lit in 1871."), encoding="utf-8"))
    assert main(["ask", "When was the lamp lit?", "--file", "-", "bell.text"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "    standard input:2: The lamp was lit in 1871."


def test_a_bad_file_in_a_folder_is_left_out_and_named(notes, capsys):
    (notes / "notes" / "latin1.txt").write_bytes("Caf\xe9".encode("latin1"))
    (notes / "notes" / "blank.md").write_bytes(b"\n")
    assert main(["ask", "Who kept the log?", "--file", "notes"]) == 0
    output, errors = capsys.readouterr()
    assert output.startswith("Maren Holt") and len(errors.splitlines()) == 2
    assert "latin1.txt: not UTF-8 text (byte 3). Convert it first. It is left out." in errors
    assert f"{os.path.join('notes', 'blank.md')} holds only white space. It is left out." in errors


def test_a_file_that_is_named_twice_is_one_document(notes, capsys):
    file = os.path.join("notes", "tower.md")
    for paths in ([file], [file, os.path.join(".", file), "notes", file]):
        main(["ask", "Who kept the log?", "--file", *paths, "--json"])
    once, often = (json.loads(line)["answers"][0] for line in capsys.readouterr().out.splitlines())
    assert once["score"] == pytest.approx(often["score"], abs=0.1)


@posix
def test_what_is_no_regular_file_in_a_folder_is_not_waited_for(notes, capsys):
    os.mkfifo(notes / "notes" / "pipe.txt")
    os.symlink(notes / "notes", notes / "notes" / "loop")
    assert main(["ask", "Who kept the log?", "--file", "notes"]) == 0
    assert capsys.readouterr().out.startswith("Maren Holt")


def test_a_line_that_is_not_utf_8_does_not_lose_the_questions_beside_it(notes, monkeypatch, capsys):
    questions = b"Who kept the log?\n\xff\nWho built the boat?\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(questions), encoding="utf-8"))
    assert main(["ask", "-i", "--file", "notes"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("Maren Holt") and "Ove Lind" in output


def test_a_text_that_does_not_answer_is_said_not_to(capsys):
    assert main(["ask", "How many people live in Turin?", "--context", "Turin."]) == 0
    assert capsys.readouterr().out.startswith("Probably not in this text. Nearest:\nTurin")
    assert main(["ask", "Who?", "--context", "\0"]) == 0
    assert capsys.readouterr().out == "Probably not in this text.\n"


def test_pipeline_gives_the_answer_and_score_of_the_call(embedded, capsys):
    expected = embedded(QUESTION, CONTEXT, top_k=2)
    assert main(["ask", QUESTION, "--context", CONTEXT, "--pipeline", "--top-k", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == expected
    assert main(["ask", QUESTION, "--context", CONTEXT, "--pipeline"]) == 0
    assert capsys.readouterr().out.startswith(f"Maren Holt  ({expected[0].score:.2f})\n")
    assert main(["ask", "Who?", "--context", "\0", "--pipeline"]) == 0
    assert capsys.readouterr().out == "(no answer)  (0.00)\n"


def test_read_limits_the_passages(capsys):
    context = " ".join(f"The {name} is of brass." for name in ("lamp", "bell", "door") * 99)
    outputs = []
    for read in ("1", "all"):
        assert main(["ask", "What is the bell made of?", "--context", context, "--read", read, "--json"]) == 0
        outputs.append(json.loads(capsys.readouterr().out)["answers"][0])
    assert outputs[0]["answer"] == outputs[1]["answer"] == "brass" and outputs[0]["score"] > outputs[1]["score"]


def test_interactive_asks_one_question_after_another_of_the_same_text(notes, monkeypatch, capsys):
    questions = "Who kept the log?\n\n  Who built the boat? \nWhen?"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(questions.encode()), encoding="utf-8"))
    assert main(["ask", "-i", "--file", "notes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Maren Holt") and lines[2].startswith("Ove Lind") and len(lines) in (6, 7)


def test_interactive_on_a_terminal_has_a_prompt_and_ends_with_ctrl_d(notes):
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "numpy_distilbert", "ask", "-i", "--file", "notes"]
    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE)
    os.close(terminal)
    shown = b""
    for typed in (b"Who kept the log?\n", b"\x04"):  # each after a prompt: what is typed before it may be lost
        while not shown.endswith(b"? "):
            shown += os.read(controller, 4096)
        shown += b"|"
        os.write(controller, typed)
    with suppress(OSError):  # how Linux tells that the other side is closed
        while chunk := os.read(controller, 4096):
            shown += chunk
    os.close(controller)
    assert (process.wait(timeout=120), process.stderr.read()) == (0, b"")
    process.stderr.close()
    assert shown.count(b"? ") == 2 and b"Maren Holt" in shown and shown.endswith(b"\r\n")


def test_a_text_that_is_mostly_unknown_is_warned_of_once(monkeypatch, capsys):
    text = "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 " * 8 + "Ada lives in Turin."
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Who?\nWhere?\n"), encoding="utf-8"))
    assert main(["ask", "-i", "--context", text]) == 0
    errors = capsys.readouterr().err
    assert errors == "numpy-distilbert: 62 % of this text is unknown to this checkpoint (English).\n"
    main(["ask", "Who?", "--context", "Ada lives in Turin."])
    assert capsys.readouterr().err == ""


def test_a_long_text_has_a_bar_on_a_terminal_which_goes_away():
    shown = on_a_terminal("ask", "Who wrote it?", "--context", "It was grey. " * 1200 + CONTEXT, "--read", "all")
    assert "passage 16 of " in shown and "\r" + " " * 79 + "\r" in shown and shown.rstrip().endswith("in pencil.")


def test_ctrl_c_is_status_130(monkeypatch):
    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("numpy_distilbert.cli.asking.QuestionAnswerer.from_pretrained", stop)
    assert main(["ask", "Who?", "--context", "Ada"]) == 130


def test_a_terminal_is_told_how_to_end_the_text():
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    controller, terminal = pty.openpty()
    os.write(controller, b"Maren Holt wrote it.\n\x04")
    command = [sys.executable, "-m", "numpy_distilbert", "ask", QUESTION, "--json"]
    done = subprocess.run(command, stdin=terminal, capture_output=True, timeout=120)
    os.close(controller)
    os.close(terminal)
    assert b"Ctrl-D" in done.stderr and json.loads(done.stdout)["answers"][0]["answer"] == "Maren Holt"


def test_standard_input_is_utf_8_whatever_the_locale():
    context = "Grüße! It was written by Maren Holt in pencil."
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "numpy_distilbert", "ask", QUESTION, "--json"]
    done = subprocess.run(command, input=context.encode(), capture_output=True, env=environment, timeout=120)
    (answer,) = json.loads(done.stdout)["answers"]
    assert context[answer["start"] : answer["end"]] == answer["answer"] == "Maren Holt"


@pytest.fixture
def squad_file(tmp_path):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(SQUAD), encoding="utf-8")
    return str(path)


def test_evaluate_prints_the_scores(squad_file, capsys):
    assert main(["evaluate", squad_file]) == 0
    assert capsys.readouterr() == ("exact match  100.00\nF1           100.00\nquestions    3\n", "")


def test_evaluate_prints_json(squad_file, capsys):
    assert main(["evaluate", squad_file, "--json", "--limit", "2"]) == 0
    assert json.loads(capsys.readouterr().out) == {"exact_match": 100.0, "f1": 100.0, "total": 2, "missing": 0}


def test_evaluate_keeps_the_predictions_that_score_gives_the_same_scores(squad_file, tmp_path, capsys):
    kept = tmp_path / "out.json"
    main(["evaluate", squad_file, "--predictions", str(kept)])
    scores = capsys.readouterr()
    assert json.loads(kept.read_text(encoding="utf-8")) == {"a": "Maren Holt", "b": "The tower", "c": "Turin"}
    main(["evaluate", squad_file, "--score", str(kept)])
    assert capsys.readouterr() == scores
    assert sorted(os.listdir(tmp_path)) == ["out.json", "squad.json"]


def test_predictions_that_are_missing_are_named_and_score_nothing(squad_file, tmp_path, capsys):
    (tmp_path / "some.json").write_text('{"a": "Maren Holt"}', encoding="utf-8")
    assert main(["evaluate", squad_file, "--score", str(tmp_path / "some.json"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"exact_match": 100 / 3, "f1": 100 / 3, "total": 3, "missing": 2}
    assert err.splitlines() == [f"numpy-distilbert: question {i} has no prediction and scores 0." for i in "bc"]


def test_of_many_missing_predictions_only_some_are_named(tmp_path, capsys):
    qas = [{"id": f"q{i}", "question": "Who?", "answers": [{"text": "Ada"}]} for i in range(14)]
    squad = {"version": "1.1", "data": [{"paragraphs": [{"context": "Ada.", "qas": qas}]}]}
    (tmp_path / "squad.json").write_text(json.dumps(squad), encoding="utf-8")
    (tmp_path / "none.json").write_text("{}", encoding="utf-8")
    main(["evaluate", str(tmp_path / "squad.json"), "--score", str(tmp_path / "none.json")])
    assert capsys.readouterr().err.splitlines()[9:] == [
        "numpy-distilbert: question q9 has no prediction and scores 0.",
        "numpy-distilbert: so do 4 more.",
    ]


def test_another_version_is_a_warning(tmp_path, capsys):
    (tmp_path / "squad.json").write_text(json.dumps(SQUAD | {"version": "1.2"}), encoding="utf-8")
    assert main(["evaluate", str(tmp_path / "squad.json"), "--limit", "1"]) == 0
    assert capsys.readouterr().err.endswith("squad.json: version is '1.2', needs '1.1'.\n")


def test_predictions_are_whole_or_not_there(squad_file, tmp_path, monkeypatch):
    kept = tmp_path / "out.json"
    kept.write_text("what was there", encoding="utf-8")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("numpy_distilbert.cli.evaluating.progress", stop)
    assert main(["evaluate", squad_file, "--predictions", str(kept)]) == 130
    assert kept.read_text(encoding="utf-8") == "what was there" and sorted(os.listdir(tmp_path)) == [
        "out.json",
        "squad.json",
    ]


@posix
def test_predictions_keep_what_stood_at_their_place(squad_file, tmp_path, capsys):
    real, link, fifo = (tmp_path / name for name in ("real.json", "link.json", "fifo"))
    real.write_text("what was there", encoding="utf-8")
    real.chmod(0o600)
    link.symlink_to(real)
    assert main(["evaluate", squad_file, "--predictions", str(link)]) == 0
    assert (
        link.is_symlink()
        and json.loads(real.read_text(encoding="utf-8"))["c"] == "Turin"
        and real.stat().st_mode & 0o777 == 0o600
    )
    os.mkfifo(fifo)
    assert main(["evaluate", squad_file, "--predictions", str(fifo)]) == 2
    assert fifo.is_fifo() and "fifo: cannot be written (not a regular file)" in capsys.readouterr().err


def test_predictions_that_cannot_be_written_are_status_1(squad_file, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert main(["evaluate", squad_file, "--predictions", str(tmp_path / "out.json")]) == 1
    assert capsys.readouterr().err == "numpy-distilbert: the output could not be written (No space left on device).\n"
    assert os.listdir(tmp_path) == ["squad.json"]


@posix
def test_without_standard_error_nothing_but_the_scores_is_printed(squad_file, tmp_path):
    (tmp_path / "none.json").write_text("{}", encoding="utf-8")
    command = (
        f"exec {sys.executable} -m numpy_distilbert evaluate {squad_file} --score {tmp_path}/none.json --json 2>&-"
    )
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, timeout=120)
    assert json.loads(done.stdout)["missing"] == 3


def test_a_terminal_sees_the_progress_and_then_only_the_scores(squad_file):
    shown = on_a_terminal("evaluate", squad_file)
    assert re.search(r"3 of 3.*\r +\rexact match  100.00\r\nF1           100.00\r\nquestions    3\r\n\Z", shown)


@pytest.fixture
def bar(monkeypatch, capsys):
    """What has been drawn on a terminal of 70 columns, each time the whole line."""
    monkeypatch.setattr("numpy_distilbert.cli.terminal.on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "70")

    def drawn():
        lines = capsys.readouterr().err.removeprefix("\r").split("\r")
        assert {len(line) for line in lines} <= {69, 0} and lines[-1] == ""
        return [line.rstrip() for line in lines[:-1]]

    return drawn


def test_progress_tells_rate_and_time_left(bar, monkeypatch):
    times = iter([0.0, 0.05, 30.0, 75.0, 100.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    assert list(progress(iter("abcd"), 4)) == list("abcd")
    assert bar() == [
        "███████░░░░░░░░░░░░░░░░░░░░░░░ 1 of 4, 20 a second, 0:00:00 left",
        "███████████████░░░░░░░░░░░░░░░ 2 of 4, 0 a second, 0:00:30 left",
        "██████████████████████░░░░░░░░ 3 of 4, 0 a second, 0:00:25 left",
        "██████████████████████████████ 4 of 4, 0 a second, 0:00:00 left",
        "",
    ]


def test_a_bar_is_no_longer_than_the_terminal(bar):
    list(progress(iter("abcd"), 10**40))
    assert {len(line) for line in bar()} == {69, 0}


def test_a_bar_is_of_characters_that_the_terminal_has(bar, monkeypatch):
    monkeypatch.setattr("numpy_distilbert.cli.terminal.writable", lambda text, _: "??")
    list(progress(iter("ab"), 2))
    assert [line[:30] for line in bar()] == ["###############...............", "#" * 30, ""]


def test_a_dumb_terminal_has_no_bar_and_no_colour(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    list(progress(iter("ab"), 2))
    assert main(["ask", QUESTION, "--context", CONTEXT]) == 0
    output, errors = capsys.readouterr()
    assert errors == "" and "\x1b" not in output


@pytest.mark.parametrize("value, colour", [("1", False), ("", True)])
def test_no_color_is_obeyed(value, colour, monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "linux")  # Windows has no colours
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", value)
    assert main(["ask", QUESTION, "--context", CONTEXT]) == 0
    assert ("\x1b" in capsys.readouterr().out) is colour


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"numpy-distilbert {__version__}\n"


@pytest.fixture
def verbs():
    found = {}
    for module in (asking, batching, checkpoints, evaluating, lab, serving, training):
        module.add_verbs(found)
    return found


@pytest.fixture
def shown_help(monkeypatch, capsys):
    """What a call prints and then ends with status 0, on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def shown(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        output, errors = capsys.readouterr()
        assert (stop.value.code, errors) == (0, "")
        return output

    return shown


def test_without_arguments_the_help_names_every_verb_once(verbs, shown_help):
    output = shown_help()
    assert max(map(len, output.splitlines())) <= 80
    assert sorted(re.findall(r"^  ([a-z]+) +[a-z]", output, re.MULTILINE)) == sorted(verbs)
    assert shown_help("--help") == output


def test_every_help_ends_with_an_example_that_the_verb_takes_and_its_exit_statuses(verbs, shown_help):
    statuses = {}
    for name, verb in verbs.items():
        output = shown_help(name, "--help")
        assert max(map(len, output.splitlines()[1:])) <= 84  # argparse does not break an option from its metavar
        example, listed = re.search(
            r"\nexample:\n  numpy-distilbert (.+)\n\nexit status:\n((?:  .+\n)+)\Z", output
        ).groups()
        first, *rest = shlex.split(example)
        assert first == name and verb.read(rest)
        statuses[name] = [int(line.split()[0]) for line in listed.splitlines()]
    assert statuses.pop("distill") == statuses.pop("batch") == [0, 1, 2, 130, 141, 143]
    assert set(map(tuple, statuses.values())) == {(0, 1, 2, 130, 141)}


def test_the_example_of_the_program_is_answered(shown_help, capsys):
    example = re.search(r"example:\n  numpy-distilbert (.+)\n", shown_help())[1]
    assert main(shlex.split(example)) == 0
    assert capsys.readouterr().out.startswith("Maren Holt  (0.")


WRONG = {
    "no question": (["ask"], "QUESTION is missing. Give it before --file, or ask with -i."),
    "blank question": (["ask", " ", "--context", "Ada"], "question must not be blank"),
    "blank context": (["ask", "Who?", "--context", " "], "--context must not be blank"),
    "empty standard input": (["ask", "Who?"], "standard input is empty. Give the text with --file or --context."),
    "empty context": (["ask", "Who?", "--context", ""], "--context must not be blank"),
    "two contexts": (["ask", "Who?", "--context", "a", "--file", "b"], "--file: not allowed with argument --context"),
    "no file": (["ask", "Who?", "--file", "nowhere.txt"], "nowhere.txt: cannot be read (No such file or directory)"),
    "a folder without text": (
        ["ask", "Who?", "--file", "empty"],
        "empty: holds no text in a file that ends in .md or .txt.",
    ),
    "a blank file": (["ask", "Who?", "--file", "blank.txt"], "blank.txt holds only white space."),
    "an empty file": (["ask", "Who?", "--file", "empty.txt"], "empty.txt is empty."),
    "an empty file to trace": (["trace", "Who?", "--file", "empty.txt", "-o", "x.safetensors"], "empty.txt is empty."),
    "an empty SQuAD file": (["evaluate", "empty.txt"], "empty.txt: cannot be read (it is empty)."),
    "an empty file to train on": (["distill", "empty.txt", "--out", "x"], "empty.txt: cannot be read (it is empty)."),
    "an empty recording": (
        ["compare", "empty.txt", "a.md"],
        "empty.txt: not a readable .safetensors or .npz file (it is",
    ),
    "a folder to compare": (["compare", "empty", "a.md"], "empty: not a readable .safetensors or .npz file ([Errno"),
    "a question and -i": (["ask", "Who?", "-i", "--context", "a"], "-i reads the questions from standard input. Leave"),
    "no text for -i": (
        ["ask", "-i"],
        "-i reads the questions from standard input. Give the text with --file or --context.",
    ),
    "standard input for -i": (
        ["ask", "-i", "--file", "-"],
        "-i reads the questions from standard input. Give the text",
    ),
    "two texts for the pipeline": (
        ["ask", "Who?", "--pipeline", "--file", "a.md", "b.md"],
        "--pipeline answers from one text, got 2.",
    ),
    "read 0": (["ask", "Who?", "--context", "a", "--read", "0"], "--read must be at least 1, got 0"),
    "read not a number": (
        ["ask", "Who?", "--context", "a", "--read", "x"],
        "must be a number or all, got 'x'",
    ),
    "not UTF-8": (["ask", "Who?", "--file", "latin1.txt"], "latin1.txt: not UTF-8 text (byte 3)"),
    "no model": (["ask", "Who?", "--context", "a", "--model", "nowhere"], "nowhere: no such folder"),
    "an empty model folder": (
        ["ask", "Who?", "--context", "a", "--model", "."],
        "config.json: cannot be read (No such file or directory)",
    ),
    "top_k 0": (["ask", "Who?", "--context", "a", "--top-k", "0"], "--top-k must be at least 1, got 0"),
    "top_k not a number": (["ask", "Who?", "--context", "a", "--top-k", "x"], "--top-k: invalid int value: 'x'"),
    "no SQuAD file": (["evaluate", "nowhere.json"], "nowhere.json: cannot be read (No such file or directory)"),
    "not SQuAD": (["evaluate", "latin1.txt"], "latin1.txt: not JSON"),
    "no place for predictions": (
        ["evaluate", "squad.json", "--predictions", "no/out.json"],
        "no/out.json: cannot be written (No such file or directory)",
    ),
    "a folder for predictions": (
        ["evaluate", "squad.json", "--predictions", "."],
        ".: cannot be written (not a regular file)",
    ),
    "an empty name for predictions": (
        ["evaluate", "squad.json", "--predictions", ""],
        "cannot be written (not a regular file)",
    ),
    "an empty name to score": (["evaluate", "squad.json", "--score", ""], "cannot be read (Is a directory)"),
    "predictions to make and to score": (
        ["evaluate", "squad.json", "--predictions", "a", "--score", "b"],
        "--score: not allowed with argument --predictions",
    ),
    "a model to score": (
        ["evaluate", "squad.json", "--model", ".", "--score", "b"],
        "--score takes the answers from its file. Leave --model out.",
    ),
    "limit 0": (["evaluate", "squad.json", "--limit", "0"], "--limit must be at least 1, got 0"),
    "unknown verb": (["answer"], 'no verb "answer" (see numpy-distilbert --help)'),
    "unknown option": (
        ["ask", "Who?", "--wat\nx\x1b[2J"],
        'no option "--wat x\ufffd[2J" (see numpy-distilbert ask --help)',
    ),
    "misspelt verb": (["aks", "Who?"], 'no verb "aks". Did you mean "ask"? (see numpy-distilbert --help)'),
    "misspelt option of the program": (["--verison"], 'no verb "--verison". Did you mean "--version"? (see'),
    "misspelt option": (["ask", "Who?", "--contxt=a"], 'no option "--contxt". Did you mean "--context"? (see'),
    "misspelt option that is required": (
        ["trace", "Who?", "--ouput", "x"],
        'no option "--ouput". Did you mean "--output"?',
    ),
    "misspelt option with a short form": (
        ["batch", "a.csv", "--ouput", "x"],
        'no option "--ouput". Did you mean "--output"?',
    ),
    "abbreviated option": (["ask", "Who?", "--top", "2"], 'no option "--top". Did you mean "--top-k"? (see'),
    "abbreviated option with a space": (["ask", "Who?", "--cont=a b"], 'unexpected argument "--cont=a b"'),
    "no quotes": (["ask", "Who", "wrote", "it?"], 'unexpected argument "wrote"; are quotes or --file missing? (see'),
    "one argument too many": (["info", "."], 'unexpected argument "." (see numpy-distilbert info --help)'),
    "dashes alone": (["--"], 'no verb "--" (see numpy-distilbert --help)'),
    "a file name of two lines": (["ask", "Who?", "--file", "a\nb\x1b[2J"], "a b\ufffd[2J: cannot be read"),
}


@pytest.mark.parametrize("arguments, message", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_call_is_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "latin1.txt").write_bytes("Caf\xe9".encode("latin1"))
    (tmp_path / "squad.json").write_text(json.dumps(SQUAD), encoding="utf-8")
    for name, text in {"blank.txt": "\n", "empty.txt": "", "a.md": "a", "b.md": "b"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert main(arguments) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert "\x1b" not in error
    assert error.startswith("numpy-distilbert: ") and error.count("\n") == 1 and message in error


def test_a_process_ends_with_the_status_of_its_call():
    done = run("ask", "Who?", "--context", " ")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.splitlines() == [b"numpy-distilbert: --context must not be blank, got ' '."]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a device that is always full")
def test_output_that_cannot_be_written_is_one_line_and_status_1():
    command = [sys.executable, "-m", "numpy_distilbert", "ask", QUESTION, "--context", CONTEXT]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 1
    assert done.stderr == b"numpy-distilbert: the output could not be written (No space left on device).\n"


def test_what_begins_with_dashes_is_a_value_after_two_or_with_a_space(capsys):
    for arguments in (["--context", "--a b", "Who?"], ["--context", "Ada.", "--", "--who?"]):
        assert main(["ask", *arguments]) == 0
    assert capsys.readouterr().err == ""


@posix
@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], ["ask", QUESTION, "--context", CONTEXT]])
def test_a_pipe_that_nobody_reads_is_no_error_message(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "numpy_distilbert", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@posix
def test_a_reader_that_has_enough_ends_the_questions():
    command = [sys.executable, "-m", "numpy_distilbert", "ask", "-i", "--context", CONTEXT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(b"Who wrote it?\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"Maren Holt")
        process.stdout.close()
        process.stdin.write(b"Who read it?\n")
        process.stdin.close()
        assert (process.wait(timeout=120), process.stderr.read()) == (141, b"")


@posix
@pytest.mark.parametrize(
    "closed, status, message",
    [
        ("<&-", 2, b"numpy-distilbert: standard input is closed. Give the text with --context or --file.\n"),
        (">&-", 1, b"numpy-distilbert: the output could not be written (standard output is closed).\n"),
    ],
)
def test_a_closed_stream_is_one_line(closed, status, message):
    command = f"exec {sys.executable} -m numpy_distilbert ask Who? {closed}"
    done = subprocess.run(["sh", "-c", command], input=b"Ada.", stderr=subprocess.PIPE, timeout=120)
    assert (done.returncode, done.stderr) == (status, message)


def test_the_console_script_is_the_same_program():
    script = os.path.join(sysconfig.get_path("scripts"), "numpy-distilbert")
    done = subprocess.run([script, "--version"], capture_output=True, timeout=120)
    assert done.stdout.decode().split() == ["numpy-distilbert", __version__]
