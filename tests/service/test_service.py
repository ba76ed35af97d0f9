"""The service: a real one over a real socket, asked by the hub's client, and by clients that mean ill."""

import asyncio
import http.client
import json
import math
import mimetypes
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="needs the extra 'serve'")
pytest.importorskip("huggingface_hub", reason="needs the extra 'hub'")
pytest.importorskip("hypothesis", reason="needs the extra 'test'")

from conftest import posix
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from properties import HealthCheck, given, settings, st
from uvicorn import Config, Server

from numpy_distilbert import CheckpointError, Documents, QuestionAnswerer
from numpy_distilbert.cli import main
from numpy_distilbert.qa import Search
from numpy_distilbert.service import application, batcher, protocol
from numpy_distilbert.service.access import guarded
from numpy_distilbert.service.application import Service
from numpy_distilbert.service.batcher import FILL_TOKENS, Batcher, Job, Words

PROGRAM = [sys.executable, "-m", "numpy_distilbert"]
TOWER = "The tower is old. Maren Holt kept its log."
SENTENCES = [
    "Maren Holt kept the log of the tower.",
    "The lamp was lit in 1871.",
    "Her dog Bris sat in the bow.",
    "The oil came from the mainland.",
    "On Sundays the bell was rung twice.",
]
QUESTIONS = ["Who kept the log?", "When was the lamp lit?", "Where did the oil come from?", "What was the dog called?"]
LONG = " ".join(SENTENCES * 2000)  # some hundred windows


@contextmanager
def running(*arguments, **options):
    """Its URL and its process, which is ended if it still runs. options: of Popen."""
    command = [*PROGRAM, "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", **options)
    try:
        line = process.stderr.readline()
        assert "http://" in line, line
        yield line.split()[1], process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def service():
    with running() as (url, process):
        yield url
        process.terminate()
        output, errors = process.communicate(timeout=60)
        if sys.platform != "win32":  # where that ends it at once
            assert (process.returncode, output, errors) == (0, "stopped\n", "")  # whatever the tests sent


@contextmanager
def connection(url, timeout=60):
    opened = http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout)
    try:
        yield opened
    finally:
        opened.close()


def send(url, body, path="/", method="POST"):
    """Status, headers and JSON of the answer."""
    with connection(url) as opened:
        opened.request(method, path, body if isinstance(body, (bytes, type(None))) else json.dumps(body))
        response = opened.getresponse()
        return response.status, response.headers, json.loads(response.read())


def asking(question="Who kept the log?", context=TOWER, **parameters):
    return {"inputs": {"question": question, "context": context}, "parameters": parameters}


def same(given, expected):
    """Whether they are the same answers; in other company a logit is rounded otherwise."""
    given, expected = ([one] if isinstance(one, dict) else one for one in (given, expected))
    scores = [answer["score"] for answer in expected]
    return [{**a, "score": 0} for a in given] == [{**a, "score": 0} for a in expected] and [
        answer["score"] for answer in given
    ] == pytest.approx(scores, abs=2e-5)


def test_the_example_of_its_documentation_is_true(service):
    text = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")
    body = re.search(r"^    curl \S+ -d '(.+)'$", text, re.MULTILINE)[1]
    expected = json.loads(re.search(r"```json\n(.+)\n```", text)[1])
    given = send(service, body.encode())[2]
    for answer in given:
        answer["score"] = round(answer["score"], 4)
    assert given == expected


# the hub's client


def test_the_hubs_client_gets_the_answer_of_the_pipeline(service, embedded):
    answer = InferenceClient(model=service).question_answering(question="Who kept the log?", context=TOWER)
    assert same(
        {name: getattr(answer, name) for name in ("score", "start", "end", "answer")}, embedded(QUESTIONS[0], TOWER)
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {"top_k": 3},
        {"top_k": 3, "align_to_words": False},
        {"max_answer_len": 1},
        {"handle_impossible_answer": True},
        {"max_seq_len": 16, "doc_stride": 4},
        {"max_question_len": 2},
    ],
)
def test_the_hubs_client_gets_its_parameters(service, embedded, parameters):
    answers = InferenceClient(model=service).question_answering(
        question=QUESTIONS[3], context=" ".join(SENTENCES), **parameters
    )
    assert isinstance(answers, list) == ("top_k" in parameters)
    expected = embedded(question=QUESTIONS[3], context=" ".join(SENTENCES), **parameters)
    assert same([dict(answer) for answer in answers] if isinstance(answers, list) else dict(answers), expected)


def test_the_hubs_client_says_what_was_wrong(service):
    with pytest.raises(HfHubHTTPError, match="top_k must be at least 1, got 0") as caught:
        InferenceClient(model=service).question_answering(question="Who?", context=TOWER, top_k=0)
    assert caught.value.response.status_code == 422


PAIR = asking()["inputs"]
SENT = {  # recorded from clients of the hub that were given the address of a service
    "huggingface_hub 0.17 to 0.25": PAIR,
    "huggingface_hub 0.26 and 0.27": {"inputs": PAIR},
    "huggingface_hub 0.28 to 0.31": {"inputs": None, "parameters": {}, **PAIR},
    "huggingface_hub since 0.32": {"inputs": PAIR, "parameters": {}},
    "@huggingface/inference 2.6": {"inputs": PAIR, "parameters": {"top_k": 1}, "options": {"use_cache": False}},
    "@huggingface/inference 2.7 and 2.8": {"inputs": PAIR, "model": "some/model"},
    "@huggingface/inference since 3": {"inputs": PAIR},
}


@pytest.mark.parametrize("body", SENT.values(), ids=SENT)
def test_what_clients_of_the_hub_send_is_answered(service, embedded, body):
    status, _, answer = send(service, body)
    assert status == 200 and same(answer, embedded(QUESTIONS[0], TOWER))


def test_parameters_count_beside_a_question_at_the_top_level(service):
    body = {"inputs": None, "parameters": {"top_k": 2}, **PAIR}  # huggingface_hub 0.28 to 0.31
    assert len(send(service, body)[2]) == 2 and len(send(service, body, "/search")[2]["answers"]) == 2


def test_null_parameters_are_the_defaults(service, embedded):
    for body in (asking(top_k=None), asking() | {"parameters": None}):
        assert same(send(service, body)[2], embedded(QUESTIONS[0], TOWER))


# the other routes


def test_healthz(service):
    assert send(service, None, "/healthz", "GET")[::2] == (200, {"status": "ok"})


def test_info_names_the_model_and_the_limits(service, embedded):
    status, _, info = send(service, None, "/info", "GET")
    assert status == 200 and info["model"] == "distilbert-mini-uncased-squad" and info["dtype"] == "float32"
    assert info["config"]["dim"] == embedded.model.config.dim and info["requests"] == 0
    assert info["limits"]["max_body"] == 2_000_000 and info["limits"]["queue"] == 128


def test_a_search_finds_what_it_finds_in_python(service, embedded):
    context, expected = " ".join(SENTENCES), embedded.search(QUESTIONS[1], " ".join(SENTENCES))
    status, _, found = send(service, asking(QUESTIONS[1], context), "/search")
    assert status == 200 and same(found["answers"], expected) and found["answers"][0]["answer"] == "1871"
    assert found["no_answer"] == pytest.approx(expected.no_answer, abs=2e-5)
    (best,) = send(service, asking(QUESTIONS[1], context, top_k=1, read=None), "/search")[2]["answers"]
    assert same(best, expected[0])


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"read": 0}, "read must be at least 1, got 0."),
        ({"read": True}, "read must be an int, got bool."),
        ({"top_k": 101}, "top_k must be at most 100, got 101."),
        ({"max_answer_len": 3}, "'max_answer_len' has no meaning here. The parameters are top_k and read."),
    ],
)
def test_a_bad_search_has_an_error_that_says_why(service, parameters, message):
    assert send(service, asking(**parameters), "/search")[::2] == (422, {"error": message})


def test_null_parameters_of_a_search_are_defaults(service):
    assert len(send(service, asking(top_k=None), "/search")[2]["answers"]) == 3


def test_a_search_of_a_text_without_words_is_answered(service):
    empty = {"answers": [], "no_answer": 1.0, "words": []}
    assert send(service, asking(context="\0\1"), "/search")[::2] == (200, empty)


def test_a_long_text_is_searched_in_its_best_passages(service):
    found = send(service, asking("Who was the harbour master?", LONG + " The harbour master was Ove Lind."), "/search")[
        2
    ]
    assert found["answers"][0]["answer"] == "Ove Lind" and max(end for _, end, *_ in found["words"]) > len(LONG)


@pytest.mark.parametrize("read", [None, 2])
def test_words_have_the_probabilities_of_the_answers_they_start_and_end(shallow, read, monkeypatch):
    monkeypatch.setattr(batcher, "LOWEST", 0)
    context, settings = " ".join(SENTENCES * 6), shallow.settings({})
    texts = Documents(context, shallow.tokenizer, 40)
    words = Words(QUESTIONS[0], texts, settings, shallow.calibration, 10**6, read)
    windows = list(words.windows())
    assert len(windows) == (len(texts.passages) if read is None else 2) and len(texts.passages) > 3
    for window, logits in zip(windows, shallow.logits([window.ids for window in windows]), strict=True):
        words.add(window, *logits)
    found = words.result()
    told = {start: both for start, _, *both in found["words"]}
    assert sum(both[0] for both in told.values()) == pytest.approx(1 - found["no_answer"])
    assert sum(both[1] for both in told.values()) == pytest.approx(1 - found["no_answer"])
    best = found["answers"][0]
    ends = {end: both for _, end, *both in found["words"]}
    assert best["score"] <= min(told[best["start"]][0], ends[best["end"]][1])
    read_words = {int(word) for passage in words.passages for word in texts.words[passage.start : passage.stop]}
    assert len(found["words"]) == len(read_words)


def test_what_is_not_there_or_not_meant_so(service):
    assert send(service, None, "/nowhere", "GET")[::2] == (404, {"error": "Not Found"})
    assert send(service, None, "/", "PUT")[::2] == (405, {"error": "Method Not Allowed"})
    assert send(service, None, "/search", "GET")[0] == 405
    for name in ("../application.py", "%2e%2e/application.py", "..%2fapplication.py", "application.py", ""):
        assert send(service, None, f"/page/{name}", "GET")[0] == 404


@pytest.mark.parametrize("name", ["index.html", "script.js", "style.css", "icon.svg"])
def test_files_of_the_page_are_what_they_say(service, name):
    with connection(service) as opened:
        opened.request("GET", f"/page/{name}")
        response = opened.getresponse()
        assert response.status == 200 and response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.read() == (application.PAGE / name).read_bytes()


def test_the_page_takes_nothing_from_elsewhere_and_nothing_inline(service):
    with connection(service) as opened:
        opened.request("GET", "/")
        response = opened.getresponse()
        policy, page = response.headers["Content-Security-Policy"], response.read().decode()
    assert "default-src 'none'" in policy and "unsafe" not in policy and "require-trusted-types-for 'script'" in policy
    assert "://" not in page and "style=" not in page and " on" not in page.replace(" on ", "")


# bodies that mean ill, or nothing


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "not JSON"),
        (b"Who kept the log?", 400, "not JSON"),
        (b'{"inputs": ', 400, "not JSON"),
        (b'\xff\xfe{"inputs": 1}', 400, "UTF-8"),
        (json.dumps(asking()).encode("utf-16"), 400, "UTF-8"),
        (b'{"inputs": {"question": "Who?", "context": "\xc3("}}', 400, "UTF-8"),
        (b"[" * 1_000_000, 400, "not JSON"),
        (b'{"inputs":' * 100_000, 400, "not JSON"),
        (b"9" * 10_000, 400, "not JSON"),
        (b"null", 422, "inputs"),
        (b"[]", 422, "inputs"),
        ({}, 422, "inputs"),
        ({"inputs": None}, 422, "the body has no 'question'"),
        ({"question": "Who?"}, 422, "the body has no 'context'"),
        ({"question": "Who?", "context": 7}, 422, "context of the body must be a str, got int"),
        (asking() | {"question": "Who?"}, 422, "question has no meaning here"),
        ({"inputs": [TOWER]}, 422, "inputs must be a dict"),
        ({"inputs": {"question": "Who?"}}, 422, "inputs has no 'context'"),
        ({"inputs": {"question": "Who?", "context": 7}}, 422, "context of inputs must be a str, got int"),
        ({"inputs": {"question": [], "context": TOWER}}, 422, "question of inputs must be a str, got list"),
        (asking(question=" \n"), 422, "question of inputs must not be blank"),
        (asking(context=""), 422, "context of inputs must not be blank"),
        (asking() | {"parameters": [1]}, 422, "parameters must be an object"),
        (asking() | {"parameter": {}}, 422, "parameter has no meaning here"),
        (asking(topk=3), 422, "topk has no meaning here"),
        (asking(top_k="3"), 422, "top_k must be an int"),
        (asking(top_k=101), 422, "top_k must be at most 100"),
        (asking(max_answer_len=101), 422, "max_answer_len must be at most 100"),
        (asking(max_question_len=101), 422, "max_question_len must be at most 100"),
        (asking() | {"x" * 10**6: 1}, 422, "xxx"),
        (asking(top_k=float("nan")), 422, "top_k must be an int"),
        (asking(max_seq_len=10**9), 422, "max_seq_len must be at most 512"),
        (asking(doc_stride=500), 422, "doc_stride must be less"),
        (asking(batch_size=8), 422, "batch_size has no meaning here"),
        (asking(context="a " * 250_001), 413, "context has 500002 characters"),
        (asking(question="a" * 500_001), 413, "question has 500001 characters"),
    ],
)  # fmt: skip
def test_a_bad_body_has_an_error_that_says_why(service, body, status, message):
    parameters = isinstance(body, dict) and set(body.get("parameters") or ())
    for path in ("/", "/search") if not parameters or parameters <= {"top_k"} else ("/",):
        given, headers, answer = send(service, body, path)
        assert (given, list(answer)) == (status, ["error"]) and message in answer["error"]
        assert len(answer["error"]) <= 300
        assert headers["Content-Type"] == "application/json"


def test_a_body_of_50_mb_is_refused_and_not_kept(tmp_path):
    with running() as (url, process):
        assert send(url, asking())[0] == 200
        before = peak(process)
        body = b'{"inputs": "' + b"x" * 50_000_000
        for chunks in (body, (body[i : i + 2**20] for i in range(0, len(body), 2**20))):  # with its length, and without
            with connection(url) as opened:
                opened.request("POST", "/", chunks)
                response = opened.getresponse()
                assert response.status == 413
                assert json.loads(response.read()) == {
                    "error": "The body has 50000012 bytes, at most 2000000 are taken."
                }
        assert peak(process) < before + 10e6


def peak(process):
    """The most memory it has held, in bytes."""
    path = Path(f"/proc/{process.pid}/status")
    if not path.exists():
        pytest.skip("the system has no /proc to read memory from")
    return int(path.read_text(encoding="utf-8").split("VmHWM:")[1].split()[0]) * 1024


def test_max_body_is_the_last_size_that_is_taken():
    body = json.dumps(asking()).encode()
    with running("--max-body", str(len(body))) as (url, _):
        assert send(url, body)[0] == 200
        assert send(url, body + b" ")[0] == 413


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["inputs", "parameters", "question", "context", "top_k", "max_seq_len"]), inner
            )
        ),
    )
)
def test_every_json_has_an_answer_or_a_named_error(service, value):
    status, _, answer = send(service, json.dumps(value).encode())
    assert status == 200 or (status == 422 and answer["error"])


@pytest.mark.parametrize(
    "context",
    [
        "<script>alert(1)</script> The keeper was Maren Holt. <img src=x onerror=alert(2)>",
        "A \ud800 half pair, and the keeper was Maren Holt.",
        "\U0001f56f\U0001f56f The keeper was Maren Holt. \U0001f56f",
        "\x00\x1b[31m The keeper was Maren Holt.",
    ],
)
def test_odd_text_is_text(service, context):
    status, _, answer = send(service, asking("Who was the keeper?", context))
    assert status == 200 and answer["answer"] == "Maren Holt" == context[answer["start"] : answer["end"]]


def test_half_a_surrogate_pair_in_an_answer_comes_back(service):
    context = "The keeper was Maren \ud800 Holt."
    assert "Maren \ud800 Holt" in send(service, asking("Who was the keeper?", context))[2]["answer"]


def test_special_tokens_in_a_context_are_plain_text(service, embedded):
    context = "Ada [SEP] wrote it. [CLS] [MASK] [PAD]"
    plain = QuestionAnswerer.from_pretrained(split_special_tokens=True)
    question = "What stands behind Ada?"
    expected = plain(question=question, context=context, top_k=5)
    assert not same(expected, embedded(question=question, context=context, top_k=5))
    assert same(send(service, asking(question, context, top_k=5))[2], expected)


# the queue


class Counting(QuestionAnswerer):
    """Remembers how many windows each pass had, and can be told to fail, or to wait in its passes."""

    def __init__(self, qa):
        super().__init__(qa.model, qa.tokenizer)
        self.passes, self.fail, self.may_pass = [], False, threading.Event()
        self.may_pass.set()

    def logits(self, windows, batch_size=None):
        self.passes.append(len(windows))
        assert self.may_pass.wait(60)
        if self.fail:
            raise CheckpointError("broken")
        return super().logits(windows, batch_size)


def job(qa, context, question="Who kept the log?"):
    options = qa.settings({})
    return Job(qa.windows(question, context, options), Search(context, options))


def answered(qa, *jobs, until=None):
    """The jobs in the order they ended; all were waiting when the queue began to run."""

    async def run():
        batcher, ended = Batcher(qa), []
        for one in jobs:
            one.answer.add_done_callback(lambda _, one=one: ended.append(one))
            batcher.put(one)
        task = asyncio.create_task(batcher.run())
        await asyncio.wait([asyncio.wrap_future(one.answer) for one in jobs], timeout=60)
        task.cancel()
        return ended

    return asyncio.run(run())


def test_requests_that_wait_together_are_one_pass(shallow):
    qa = Counting(shallow)
    jobs = [job(qa, context) for context in SENTENCES * 4]
    answered(qa, *jobs)
    assert qa.passes == [20]
    for one, context in zip(jobs, SENTENCES * 4, strict=True):
        assert same(json.loads(one.answer.result()), shallow("Who kept the log?", context))


def test_a_pass_has_a_budget_of_tokens(shallow, monkeypatch):
    monkeypatch.setattr("numpy_distilbert.service.batcher.BATCH_TOKENS", 4 * shallow.settings({}).max_seq_len)
    qa = Counting(shallow)
    jobs = [job(qa, LONG[:2_000]) for _ in range(7)]
    windows = len(list(job(shallow, LONG[:2_000]).windows))
    answered(qa, *jobs)
    assert max(qa.passes) <= 5 and sum(qa.passes) == 7 * windows  # the last of a pass may exceed it


def test_a_long_document_that_is_alone_is_computed_in_batches_for_all_cores(shallow, monkeypatch):
    monkeypatch.setattr("numpy_distilbert.service.batcher.n_cores", lambda: 8)
    qa = Counting(shallow)
    answered(qa, job(qa, LONG[:20_000]))
    windows = len(list(job(shallow, LONG[:20_000]).windows))
    most = math.ceil(8 * FILL_TOKENS / shallow.settings({}).max_seq_len)
    assert qa.passes[:-1] == [most] * (windows // most) and sum(qa.passes) == windows > most


def test_a_short_question_waits_for_no_more_than_a_window_of_each_long_document(shallow, monkeypatch):
    monkeypatch.setattr("numpy_distilbert.service.batcher.FILL_TOKENS", 0)
    qa = Counting(shallow)
    long, other, short = job(qa, LONG[:10_000]), job(qa, LONG[:10_000]), job(qa, TOWER)
    ended = answered(qa, long, other, short)
    windows = len(list(job(shallow, LONG[:10_000]).windows))
    assert ended[0] is short and qa.passes == [3, *[2] * (windows - 1)]
    assert same(json.loads(long.answer.result()), shallow("Who kept the log?", LONG[:10_000]))


@pytest.mark.parametrize("where", ["windows", "add", "result"])
def test_an_error_of_one_job_is_its_own(shallow, where, monkeypatch):
    def fail(*_):
        raise CheckpointError("broken")

    jobs = [job(shallow, TOWER) for _ in range(3)]
    if where == "windows":
        jobs[1].windows = (fail() for _ in range(1))
    else:
        setattr(jobs[1].search, where, fail)
    answered(shallow, *jobs)
    assert [type(one.answer.exception()) for one in jobs] == [type(None), CheckpointError, type(None)]


def test_new_questions_and_long_documents_take_turns(shallow, monkeypatch):
    monkeypatch.setattr("numpy_distilbert.service.batcher.n_cores", lambda: 8)
    qa = Counting(shallow)

    async def run():
        batcher = Batcher(qa)
        long = job(qa, LONG[:10_000])
        batcher.put(long)
        ended = []
        for _ in range(6):  # there is always a new one
            batcher.put(job(qa, TOWER))
            batcher._pass()
            ended.append(qa.passes[-1])
        return ended

    passes = asyncio.run(run())
    # both, and as nothing else waits more of the long one; a window of it; the two that came meanwhile; and so on
    assert passes[0] > 2 and passes[1:] == [1, 2, 1, 2, 1]


def test_nothing_is_computed_for_a_job_that_was_cancelled(shallow):
    qa = Counting(shallow)
    gone = job(qa, TOWER)
    gone.answer.cancel()
    answered(qa, gone, job(qa, TOWER))
    assert qa.passes == [1]


def test_a_pass_that_fails_is_the_end_of_its_jobs_alone(shallow):
    qa = Counting(shallow)

    async def run():
        batcher = Batcher(qa)
        task = asyncio.create_task(batcher.run())
        qa.fail = True
        jobs = [job(qa, TOWER), job(qa, LONG[:10_000])]
        for one in jobs:
            batcher.put(one)
        answers = [asyncio.wrap_future(one.answer) for one in jobs]
        await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), 60)
        qa.fail = False
        after = job(qa, TOWER)
        batcher.put(after)
        await asyncio.wait_for(asyncio.wrap_future(after.answer), 60)
        task.cancel()
        return jobs, after

    jobs, after = asyncio.run(run())
    assert all(isinstance(one.answer.exception(), CheckpointError) for one in jobs)
    assert same(json.loads(after.answer.result()), shallow("Who kept the log?", TOWER)) and qa.passes[1:] == [1]


@contextmanager
def in_a_thread(qa, queue=128):
    """The service in this process, so that its limits on time can be set."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service = Service(qa, "mine", protocol.Limits(2_000_000, queue))
        uvicorn = Server(Config(service.application(), http=protocol.Connection, log_level="critical"))
        thread = threading.Thread(target=uvicorn.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            uvicorn.should_exit = True
            thread.join()


def test_the_end_of_an_answer_does_not_wait_for_the_acknowledgement_of_its_head(shallow, monkeypatch):
    seen = []

    class Seen(protocol.Connection):
        def connection_made(self, transport):
            super().connection_made(transport)
            accepted = transport.get_extra_info("socket")
            seen.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(protocol, "Connection", Seen)
    with in_a_thread(shallow) as url:
        assert send(url, None, "/healthz", "GET")[0] == 200
    assert len(seen) == 1 and all(seen)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("script.js", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_files_of_the_page_have_their_types_whatever_the_system_calls_them(shallow, monkeypatch, name, kind):
    mimetypes.init()
    monkeypatch.setitem(mimetypes.types_map, Path(name).suffix, "application/x-odd")
    with in_a_thread(shallow) as url, connection(url) as opened:
        opened.request("GET", f"/page/{name}")
        assert opened.getresponse().headers["Content-Type"] == kind


def test_what_fails_inside_is_a_500_and_the_service_goes_on(shallow):
    qa = Counting(shallow)
    with in_a_thread(qa) as url:
        qa.fail = True
        status, _, answer = send(url, asking())
        assert status == 500 and "CheckpointError" in answer["error"] and "broken" not in answer["error"]
        qa.fail = False
        assert send(url, asking())[0] == 200


def test_a_body_that_does_not_come_is_not_waited_for(shallow, monkeypatch):
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.2)
    with in_a_thread(shallow) as url, connection(url) as opened:
        opened.putrequest("POST", "/")
        opened.putheader("Content-Length", "100")
        opened.endheaders(b'{"inputs": ')
        response = opened.getresponse()
        assert response.status == 408 and "within 0.2 s" in json.loads(response.read())["error"]
        assert send(url, None, "/info", "GET")[2]["requests"] == 0


def test_an_answer_that_takes_too_long_is_given_up(shallow, monkeypatch):
    qa = Counting(shallow)
    monkeypatch.setattr(protocol, "ANSWER_SECONDS", 0.2)
    with in_a_thread(qa) as url:
        qa.may_pass.clear()
        status, headers, answer = send(url, asking(context=LONG))
        assert (status, headers["Retry-After"]) == (503, "1") and "within 0.2 s" in answer["error"]
        monkeypatch.setattr(protocol, "ANSWER_SECONDS", 60)
        assert_only_the_next_is_computed(qa, url)


def assert_only_the_next_is_computed(qa, url):
    """Of the job whose first pass waits, nothing more; what is asked now has the next pass for itself."""
    assert len(qa.passes) == 1 < qa.passes[0]
    qa.may_pass.set()
    assert send(url, asking())[0] == 200
    assert qa.passes[1:] == [1]


@posix
def test_a_full_queue_says_when_to_come_back_and_takes_the_place_of_who_hangs_up():
    with running("--queue", "2") as (url, process):
        with connection(url) as one, connection(url) as other:
            one.request("POST", "/", json.dumps(asking(context=LONG)))  # being computed
            other.request("POST", "/search", json.dumps(asking(context=LONG, read=None)))
            wait_until(lambda: held(url) == 2)
            status, headers, answer = send(url, asking())
            assert (status, headers["Retry-After"]) == (503, "1") and "holds 2 requests already" in answer["error"]
            other.close()
            wait_until(lambda: held(url) == 1)
            one.close()
            wait_until(lambda: held(url) == 0)
        assert send(url, asking())[0] == 200
        process.terminate()
        assert process.communicate(timeout=60) == ("stopped\n", "")  # nothing in the log of who hung up


def test_nothing_more_is_computed_for_who_hangs_up(shallow):
    qa = Counting(shallow)
    with in_a_thread(qa) as url:
        qa.may_pass.clear()
        with connection(url) as opened:
            opened.request("POST", "/", json.dumps(asking(context=LONG)))
            wait_until(lambda: qa.passes)
        wait_until(lambda: held(url) == 0)
        assert_only_the_next_is_computed(qa, url)


def test_who_sends_a_second_request_and_hangs_up_frees_its_slot(shallow):
    qa = Counting(shallow)
    with in_a_thread(qa) as url:
        qa.may_pass.clear()
        with connection(url) as opened:
            opened.request("POST", "/", json.dumps(asking()))
            wait_until(lambda: held(url) == 1)
            opened.sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        wait_until(lambda: held(url) == 0)
        qa.may_pass.set()


def test_texts_together_are_limited(shallow, monkeypatch):
    qa = Counting(shallow)
    monkeypatch.setattr(application, "ALL_CHARACTERS", len(LONG) + 100)
    with in_a_thread(qa) as url:
        qa.may_pass.clear()
        with connection(url) as opened:
            opened.request("POST", "/", json.dumps(asking(context=LONG)))
            wait_until(lambda: qa.passes)
            status, headers, answer = send(url, asking(context="a " * 100))
            assert (status, headers["Retry-After"]) == (503, "1")
            assert "characters already, at most" in answer["error"]
            qa.may_pass.set()
            assert send(url, asking())[0] == 200
        wait_until(lambda: held(url) == 0)
        assert send(url, asking(context="a " * 100))[0] == 200


def test_a_connection_without_a_request_is_closed(shallow, monkeypatch):
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.2)
    with in_a_thread(shallow) as url:
        host, port = url.removeprefix("http://").split(":")
        for sent in (b"", b"GET / HTTP/1.1\r\nHost:"):
            with socket.create_connection((host, int(port)), timeout=20) as silent:
                silent.sendall(sent)
                assert silent.recv(100) == b""


def held(url):
    return send(url, None, "/info", "GET")[2]["requests"]


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# many clients


def cases(qa):
    """Requests of all kinds with the answers they have offline."""
    some = random.Random(9)
    made = []
    for _ in range(40):
        context = " ".join(some.choices(SENTENCES, k=some.choice([1, 2, 5, 60])))
        made.append((some.choice(QUESTIONS), context, some.choice([1, 3])))
    expected = [qa(question=question, context=context, top_k=top_k) for question, context, top_k in made]
    return [(json.dumps(asking(q, c, top_k=k)), answer) for (q, c, k), answer in zip(made, expected, strict=True)]


def client(url, asked, statuses, wrong, over, seed):
    """One that asks until it is over, and hangs up now and then."""
    some = random.Random(seed)
    while not over():
        with suppress(ConnectionError), connection(url) as opened:
            for _ in range(20):
                body, expected = some.choice(asked)
                opened.request("POST", "/", body)
                if some.random() < 0.02:
                    break
                response = opened.getresponse()
                statuses[response.status] += 1
                answer = json.loads(response.read())
                if response.status == 200 and not same(answer, expected):
                    wrong.append((body, answer))
                if over():
                    break


@posix
@pytest.mark.parametrize(
    ("queue", "answers"),
    [(24, 64), pytest.param(24, 1000, marks=pytest.mark.slow), pytest.param(128, 3000, marks=pytest.mark.slow)],
)
def test_64_clients_get_right_answers_and_no_error_but_503(shallow, shallow_model, queue, answers):
    asked, statuses, wrong = cases(shallow), Counter(), []

    def over():
        return statuses[200] >= answers

    with running("--queue", str(queue), "--model", str(shallow_model)) as (url, process):
        clients = [
            threading.Thread(target=client, args=(url, asked, statuses, wrong, over, seed)) for seed in range(64)
        ]
        for one in clients:
            one.start()
        for one in clients:
            one.join(120)
        assert not any(one.is_alive() for one in clients)
        assert not wrong and statuses[200]
        assert set(statuses) == ({200} if queue == 128 else {200, 503})
        wait_until(lambda: held(url) == 0)
        process.terminate()
        assert process.communicate(timeout=60) == ("stopped\n", "") and process.returncode == 0


def ask_again(opened):
    """On the same connection, or on a new one if that is closed."""
    opened.sock or opened.connect()
    opened.request("POST", "/", json.dumps(asking()))
    opened.getresponse()


SLOW = """
import sys, time
from numpy_distilbert import QuestionAnswerer, cli

quick = QuestionAnswerer.logits
QuestionAnswerer.logits = lambda *arguments: (time.sleep(0.5), quick(*arguments))[1]
sys.exit(cli.main())
"""


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_ends_it_after_what_was_being_answered(number, shallow_model, monkeypatch):
    monkeypatch.setattr("test_service.PROGRAM", [sys.executable, "-c", SLOW])
    with running("--model", str(shallow_model)) as (url, process):
        opened = [http.client.HTTPConnection(url.removeprefix("http://"), timeout=60) for _ in range(32)]
        for one in opened:
            one.request("POST", "/", json.dumps(asking(context=LONG[:400])))
        wait_until(lambda: held(url) == 32)
        process.send_signal(number)
        statuses = []
        for one in opened:
            response = one.getresponse()
            statuses.append(response.status)
            assert "answer" in json.loads(response.read())
            with pytest.raises((ConnectionError, http.client.HTTPException)):
                ask_again(one)
        assert statuses == [200] * 32
        assert process.communicate(timeout=60) == ("stopped\n", "") and process.returncode == 0


@posix
def test_who_does_not_read_cannot_keep_it_from_ending(monkeypatch):
    program = (
        "import sys; from numpy_distilbert import cli; from numpy_distilbert.service import protocol; "
        "protocol.REQUEST_SECONDS = protocol.ANSWER_SECONDS = 0.5; sys.exit(cli.main())"
    )
    monkeypatch.setattr("test_service.PROGRAM", [sys.executable, "-c", program])
    with running() as (url, process):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=0.5) as deaf:
            with suppress(TimeoutError):  # when all that lies between is full
                deaf.sendall(b"GET /page/script.js HTTP/1.1\r\nHost: a\r\n\r\n" * 100_000)
            process.terminate()
            assert process.wait(timeout=30) == 0


@posix
@pytest.mark.parametrize(
    "wait", [0, *(pytest.param(wait, marks=pytest.mark.slow) for wait in (0.002, 0.005, 0.01, 0.02))]
)
def test_a_signal_right_after_it_answers_is_not_lost(wait):
    with running() as (_, process):
        time.sleep(wait)
        process.terminate()
        assert process.communicate(timeout=30) == ("stopped\n", "") and process.returncode == 0


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("ends", [interrupt, lambda: signal.raise_signal(signal.SIGTERM)])
def test_signals_mean_what_they_meant_when_the_service_has_ended(shallow, ends):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with socket.create_server(("127.0.0.1", 0)) as listener, suppress(KeyboardInterrupt):
        application.serve(shallow, "mine", listener, protocol.Limits(2_000_000, 128), ends)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# the call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "--port must be from 0 to 65535, got 65536"),
        (["--port", "-1"], "--port must be from 0 to 65535, got -1"),
        (["--host", "no.such.host.invalid", "--port", "0"], "no.such.host.invalid port 0: cannot listen there"),
        (["--queue", "0"], "--queue must be at least 1"),
        (["--max-body", "0"], "--max-body must be at least 1"),
        (["--port", "0", "--model", "nowhere/at/all"], "nowhere/at/all"),
    ],
)
def test_a_bad_call_is_one_line(arguments, message, capsys):
    assert main(["serve", *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot listen there" in capsys.readouterr().err


def test_without_the_extra_it_is_named(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "numpy_distilbert.service.application")
    monkeypatch.delattr("numpy_distilbert.service.application")
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    assert main(["serve"]) == 2
    assert 'pip install "numpy-distilbert[serve]"' in capsys.readouterr().err


def test_another_address_and_another_model(random_checkpoint):
    folder = random_checkpoint("cased")
    with running("--host", "::1", "--model", str(folder)) as (url, _):
        assert url.startswith("http://[::1]:") and send(url, None, "/info", "GET")[2]["model"] == folder.name
        assert send(url, asking())[2]["answer"]


# clients that mean harm


def resident(process):
    """The bytes of memory that a process holds, and the most it ever held."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return [int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024 for name in ("VmRSS", "VmHWM")]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_hostile_texts_take_400_mb_at_most():
    word, signs = "\U0001f56f" * 160_000, "." * 500_000
    texts = [f"Maren {word} kept it.", signs, "\u4e00" * 300_000, "a " * 250_000, "Who? " * 100_000]
    bodies = [
        json.dumps(asking(context=text, top_k=100, max_answer_len=100), ensure_ascii=False).encode() for text in texts
    ]
    with running() as (url, process), ExitStack() as opened:
        assert send(url, asking(context=TOWER))[0] == 200
        idle, _ = resident(process)
        for number in range(60):
            client = opened.enter_context(connection(url))
            path = "/search" if number % 2 else "/"
            body = bodies[number // 2 % 5]
            client.request(
                "POST", path, body if path == "/" else json.dumps(asking(context=texts[number // 2 % 5], read=None))
            )
            if number % 20 == 19:  # nobody reads
                time.sleep(3)
        time.sleep(10)
        opened.close()
        wait_until(lambda: held(url) == 0, 100)
        assert send(url, asking(context=TOWER))[0] == 200
        assert resident(process)[1] - idle < 400e6


def test_an_answer_has_a_bound(shallow, monkeypatch):
    monkeypatch.setattr("numpy_distilbert.service.batcher.ANSWERS_CHARACTERS", 10**9)
    word = "\U0001f56f" * 20_000  # one token
    with in_a_thread(shallow) as url:
        status, _, answer = send(url, asking(context=f"Maren {word} kept it.", top_k=100, max_answer_len=100))
        assert status == 422 and "characters. One may have 10000" in answer["error"]
        assert send(url, asking(context=TOWER))[0] == 200


def test_all_answers_of_a_request_have_a_bound(shallow, monkeypatch):
    monkeypatch.setattr("numpy_distilbert.service.batcher.ANSWERS_CHARACTERS", 20)
    with in_a_thread(shallow) as url:
        assert send(url, asking(context=TOWER, top_k=50))[0] == 422
        assert send(url, asking(context="Maren Holt"))[0] == 200


@posix
def test_who_does_not_read_its_answer_is_hung_up_on(shallow, monkeypatch):
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 3)
    monkeypatch.setattr("numpy_distilbert.service.batcher.ANSWER_CHARACTERS", 10**7)
    monkeypatch.setattr("numpy_distilbert.service.batcher.ANSWERS_CHARACTERS", 10**7)
    word = "\U0001f56f" * 100_000
    body = json.dumps(asking(context=f"Maren {word} kept it.", top_k=20, max_answer_len=20)).encode()
    with in_a_thread(shallow) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            assert client.recv(1) == b"H" and held(url) == 1  # until the rest is read, which it never is
            wait_until(lambda: held(url) == 0)


@pytest.mark.parametrize("first", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_a_head_that_does_not_end_is_not_waited_for(shallow, monkeypatch, first):
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.5)
    with in_a_thread(shallow) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(first)
            if first:  # its answer is read to the end below
                assert b"200 OK" in client.recv(15)
            for _ in range(4):
                client.sendall(b"G")
                time.sleep(0.05)
            assert client.recv(10_000).endswith(b'{"status": "ok"}' if first else b"") and client.recv(100) == b""


def test_bodies_that_arrive_take_no_place_in_the_queue(shallow, monkeypatch):
    with in_a_thread(shallow) as url, ExitStack() as slow:
        for _ in range(140):  # more than the queue has places
            opened = slow.enter_context(connection(url))
            opened.putrequest("POST", "/")
            opened.putheader("Content-Length", "100")
            opened.endheaders(b"{")
        assert held(url) == 0 and send(url, asking(context=TOWER))[0] == 200


def test_bodies_that_arrive_together_have_a_bound(shallow, monkeypatch):
    monkeypatch.setattr(protocol, "BODIES", 1)
    with in_a_thread(shallow) as url:
        with connection(url) as slow:
            slow.putrequest("POST", "/")
            slow.putheader("Content-Length", "2000000")
            slow.endheaders(b" " * 1_999_999)
            wait_until(lambda: send(url, asking(context="a " * 1000))[0] == 503)
        wait_until(lambda: send(url, asking(context=TOWER))[0] == 200)


# who may ask


def answered_to(url, method="POST", path="/", **headers):
    """Status and error of a request with these headers; {port} in them is that of the service."""
    headers = {name.replace("_", "-"): text.format(port=url.split(":")[-1]) for name, text in headers.items()}
    with connection(url) as opened:
        opened.putrequest(method, path, skip_host="Host" in headers)
        body = json.dumps(asking()).encode() if method == "POST" else b""
        for name, text in (headers | {"Content-Length": str(len(body))}).items():
            opened.putheader(name, text)
        opened.endheaders(body)
        response = opened.getresponse()
        text = response.read()
        return response.status, json.loads(text)["error"] if response.status == 403 else None


LINK = {"method": "GET", "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
OURS = "127.0.0.1:{port}"


@pytest.mark.parametrize(
    "headers",
    [
        *({"Host": host} for host in ("localhost:{port}", "LocalHost", "localhost.:9000", "127.0.0.1", "127.8.9.1:80")),
        *({"Host": host} for host in ("[::1]:{port}", "[0:0:0:0:0:0:0:1]")),
        *({"Sec_Fetch_Site": site} for site in ("same-origin", "none")),
        {"Host": OURS, "Origin": "http://" + OURS},
        {"Host": "localhost:80", "Origin": "https://example.org", "Sec_Fetch_Site": "same-origin"},  # behind a proxy
        LINK,  # that someone follows
    ],
)
def test_it_answers_by_its_names_and_its_own_page(service, headers):
    assert answered_to(service, **headers)[0] == 200


OTHER_NAMES = (
    "evil.example evil.example:{port} localhost.evil.example 127.0.0.1.evil.example 127.1 0.0.0.0 10.0.0.1 [::2] "
    "[localhost] localhost.. localhost:{port}@evil.example evil.example@localhost localhost/ [::1 ::1 . :{port}"
).split()


@pytest.mark.parametrize("host", [*OTHER_NAMES, ""])
def test_it_answers_no_other_name_that_may_lead_to_it(service, host):
    for method, path in (("POST", "/"), ("POST", "/search"), ("GET", "/"), ("GET", "/info"), ("GET", "/healthz")):
        status, error = answered_to(service, method, path, Host=host)
        assert status == 403 and ("--allow-host" in error or "Send a Host header" in error)


def test_a_request_without_a_host_is_refused(service):
    host, port = service.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(b"GET /info HTTP/1.0\r\n\r\n")  # in HTTP/1.1 uvicorn refuses it
        assert client.recv(12).endswith(b"403")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "cross-site", "method": "GET", "path": "/info"},
        {"Sec_Fetch_Site": "same-site", "Origin": "http://127.0.0.1:1"},  # another port
        {**LINK, "method": "POST"},  # a form
        {"Sec_Fetch_Site": "cross-site", "Origin": "http://" + OURS},
        {"Sec_Fetch_Site": "", "Origin": "https://evil.example"},
        {"Origin": "https://evil.example"},  # of a browser that does not send the others
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://" + OURS + ".evil.example"},
        {"Origin": "null"},
        {"Origin": "null", "method": "OPTIONS", "Access_Control_Request_Method": "POST"},
    ],
)
def test_a_page_of_another_origin_is_refused(service, headers):
    status, error = answered_to(service, **headers)
    assert status == 403 and "may not ask this service" in error and "--allow-origin" in error


def test_hosts_and_origins_may_be_allowed():
    allowed = ["--allow-host", "QA.example.org", "10.0.0.1", "--allow-origin", "https://Notes.example.org"]
    origin = {"Origin": "https://notes.example.org", "Sec_Fetch_Site": "cross-site"}
    with running(*allowed) as (url, _):
        for host in ("qa.example.org", "qa.example.org.:8443", "10.0.0.1:80", "localhost"):
            assert answered_to(url, Host=host)[0] == 200
            assert answered_to(url, Host=host, **origin)[0] == 200
        assert answered_to(url, Host="evil.example")[0] == 403
        assert answered_to(url, Origin="https://evil.example", Sec_Fetch_Site="cross-site")[0] == 403
        with connection(url) as opened:  # what a browser asks before it sends JSON to another origin
            asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
            opened.request("OPTIONS", "/", headers=asked | {"Origin": origin["Origin"]})
            response = opened.getresponse()
            response.read()
            assert response.status == 200
            assert response.headers["Access-Control-Allow-Origin"] == origin["Origin"]


def test_the_address_that_a_client_connects_to_is_a_name_of_the_service():
    sent = []

    async def send(message):
        sent.append(message)

    async def ask(host, server):
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", host)], "server": server}
        with suppress(TypeError):  # there is no application to call
            await guarded(None, [], [])(scope, None, send)
        return not sent

    assert asyncio.run(ask(b"192.168.1.5:8000", ("192.168.1.5", 8000)))
    assert not asyncio.run(ask(b"192.168.1.6:8000", ("192.168.1.5", 8000)))


@pytest.mark.parametrize(
    "option, value",
    [
        *(("--allow-host", value) for value in ("a:80", "http://a", "", "*")),
        *(("--allow-origin", value) for value in ("a.example", "http://a/", "null", "*")),
    ],
)
def test_a_name_or_origin_that_cannot_be_is_refused(option, value, capsys):
    assert main(["serve", "--host", "203.0.113.1", option, value]) == 2  # where nobody can listen
    assert f"{option} must be " in capsys.readouterr().err


@posix
def test_connections_beyond_the_limit_are_closed_and_logged_once():
    import resource

    def few_descriptors():
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    with running(preexec_fn=few_descriptors) as (url, process), ExitStack() as opened:
        host, port = url.removeprefix("http://").split(":")
        for _ in range(300):
            opened.enter_context(socket.create_connection((host, int(port))))
        opened.close()
        with suppress(OSError, http.client.HTTPException):
            wait_until(lambda: held(url) == 0)
        wait_until(lambda: held(url) == 0)
        process.terminate()
        output, errors = process.communicate(timeout=60)
        assert (output, process.returncode) == ("stopped\n", 0) and errors.count("\n") == 1
        assert "more than 72 connections at a time: some are closed" in errors
