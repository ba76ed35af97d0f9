"""The service: questions over HTTP, those that wait together answered together, and a page to ask them on.

The event loop reads requests and writes answers. Texts become tokens in threads beside it, and one more thread does all
arithmetic, pass after pass. A pass takes a window of each waiting request in turn until BATCH_TOKENS are together; what
has windows left goes to the end of the queue. So a request that comes alone starts at once, and a long document does
not hold up the short questions beside it.

What is taken is limited so that memory and time are: bytes and seconds of a body, characters of a text and of all texts
together, requests at a time, seconds of an answer.

Source: requests and answers are those of the hub's question-answering task, which huggingface_hub's InferenceClient
speaks.
"""

import asyncio
import json
import signal
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from . import __version__
from .arguments import Array
from .inputs import read_pair
from .parameters import tree_leaves
from .qa import Options, QuestionAnswerer, Search, span_probabilities
from .tokenizer import Encoding

BATCH_TOKENS = 2048  # of one forward pass
TEXT_CHARACTERS = 500_000  # of a question or a context
ALL_CHARACTERS = 4 * TEXT_CHARACTERS  # of all that are held: tokens take many times the bytes of their text
MOST = {
    "top_k": 100,
    "max_answer_len": 100,
}  # of an answer's length in characters there is no limit but that of its words
REQUEST_SECONDS, ANSWER_SECONDS = 10, 60  # for a client to send its request, for the service to answer it
RETRY_SECONDS = HANG_UP_SECONDS = 1
LOWEST = 1e-4  # probability of a word that is told
ERROR_CHARACTERS = 300
HUNG_UP = 499  # the status of a request nobody waits for any more, which nobody sees
PAGE = Path(__file__).parent / "page"
# By suffix. Windows' registry may have anything for them, and with nosniff a script that is text/plain does not run.
PAGE_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE_HEADERS = {
    # Nothing from elsewhere, nothing inline, and no text that becomes HTML even if the script had a mistake.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Limits(NamedTuple):
    """What a service takes: bytes of a request's body; requests at a time, those being answered included."""

    max_body: int
    queue: int


class Words(Search):
    """A search that also tells how probable it is that each word starts the answer, and that it ends it."""

    def __init__(self, context: str, options: Options) -> None:
        super().__init__(context, options)
        self._words: dict[int | None, tuple[int, int, Array]] = {}  # by number: first and last character, probabilities

    def add(self, window: Encoding, start_logits: Array, end_logits: Array) -> None:
        """As Search. A word of several windows has its highest probability, one cut by a window all its characters."""
        super().add(window, start_logits, end_logits)
        probabilities = np.stack([span_probabilities(logits, window) for logits in (start_logits, end_logits)])
        words: dict[int | None, list[int]] = {}  # the tokens of each
        for i, sequence in enumerate(window.sequence_ids):
            if sequence == 1:
                words.setdefault(window.word_ids[i], []).append(i)
        for word, tokens in words.items():
            both = probabilities[:, tokens].sum(axis=1)
            first, last = window.offsets[tokens[0]][0], window.offsets[tokens[-1]][1]
            if word in self._words:
                known = self._words[word]
                first, last, both = min(first, known[0]), max(last, known[1]), np.maximum(both, known[2])
            self._words[word] = first, last, both

    def result(self) -> Any:
        """{"answers": a list, "words": [[start, end, probability to start, probability to end], ...]}."""
        answers = super().result()
        told = [word for word in self._words.values() if word[2].max() >= LOWEST]
        words = sorted([first, last, *both.tolist()] for first, last, both in told)
        return {"answers": answers if isinstance(answers, list) else [answers], "words": words}


class Job:
    """A question on its way through the queue: what is left to read, what was found, and the JSON that comes of it."""

    def __init__(self, windows: Iterator[Encoding], search: Search) -> None:
        self.windows = with_last(windows)
        self.search = search
        self.answer: Future[str] = Future()


def with_last(windows: Iterator[Encoding]) -> Iterator[tuple[Encoding, bool]]:
    """Each window, and whether it is the last."""
    window = next(windows)
    for following in windows:
        yield window, False
        window = following
    yield window, True


class Batcher:
    """The queue of jobs, and the thread that computes them."""

    def __init__(self, qa: QuestionAnswerer) -> None:
        self._qa = qa
        self._jobs: deque[Job] = deque()
        self._arrived = asyncio.Event()

    def put(self, job: Job) -> None:
        """Answer it in its turn, unless job.answer is cancelled before."""
        self._jobs.append(job)
        self._arrived.set()

    async def run(self) -> None:
        """Compute while there are jobs, and wait for the next."""
        with ThreadPoolExecutor(1) as thread:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._jobs:
                    await asyncio.get_running_loop().run_in_executor(thread, self._pass)

    def _pass(self) -> None:
        """One forward pass. What goes wrong in it is the answer to all its jobs."""
        jobs: set[Job] = set()
        try:
            taken = []
            held = 0
            while self._jobs and held < BATCH_TOKENS:
                job = self._jobs.popleft()
                if job.answer.done():  # cancelled, or failed in a pass before
                    continue
                jobs.add(job)
                window, last = next(job.windows)
                taken.append((job, window, last))
                held += len(window)
                if not last:
                    self._jobs.append(job)
            logits = self._qa.logits([window.ids for _, window, _ in taken]) if taken else []
            for (job, window, last), (start_logits, end_logits) in zip(taken, logits, strict=True):
                job.search.add(window, start_logits, end_logits)
                if last:
                    answer = json.dumps(job.search.result())
                    if job.answer.set_running_or_notify_cancel():
                        job.answer.set_result(answer)
        except Exception as error:
            for job in jobs:
                if not job.answer.done() and job.answer.set_running_or_notify_cancel():
                    job.answer.set_exception(error)


class Service:
    """What the routes do. One instance serves one model."""

    def __init__(self, qa: QuestionAnswerer, model: str, limits: Limits) -> None:
        """model: what it is called."""
        self._qa = qa
        self._model = model
        self._limits = limits
        self._held = self._characters = 0  # requests, and characters of their texts
        self._batcher = Batcher(qa)

    def application(self) -> Starlette:
        """The routes, and the queue that runs as long as they are served."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            running = asyncio.create_task(self._batcher.run())
            yield
            running.cancel()

        routes = [
            Route("/", self.root, methods=["GET", "POST"]),
            Route("/words", self.words, methods=["POST"]),
            Route("/page/{name}", self.page),
            Route("/healthz", self.health),
            Route("/info", self.info),
        ]
        handlers: Any = {HTTPException: refusal, Exception: failure}
        return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)

    async def root(self, request: Request) -> Response:
        """The page to ask on; or the best answer, with top_k above 1 the list of the best, as in Python."""
        return await self._ask(request, Search) if request.method == "POST" else page_file("index.html")

    async def words(self, request: Request) -> Response:
        """As Words.result."""
        return await self._ask(request, Words)

    async def page(self, request: Request) -> Response:
        """A file that the page consists of."""
        name = request.path_params["name"]
        if name not in {path.name for path in PAGE.iterdir() if path.suffix in PAGE_TYPES}:
            raise HTTPException(404)
        return page_file(name)

    async def health(self, _: Request) -> Response:
        """That the service takes requests."""
        return json_response({"status": "ok"})

    async def info(self, _: Request) -> Response:
        """The model, its configuration, what is taken, and how many requests are held now."""
        model = self._qa.model
        return json_response(
            {
                "model": self._model,
                "version": __version__,
                "dtype": model.dtype.name,
                "parameters": sum(array.size for array in tree_leaves(model.parameters)),
                "config": asdict(model.config),
                "limits": self._limits._asdict()
                | MOST
                | {"characters": TEXT_CHARACTERS, "seconds": ANSWER_SECONDS, "batch_tokens": BATCH_TOKENS},
                "requests": self._held,
            }
        )

    async def _ask(self, request: Request, kind: type[Search]) -> Response:
        if self._held >= self._limits.queue:
            raise busy(f"{self._held} requests wait already. Try again in {RETRY_SECONDS} s.")
        self._held += 1
        characters = 0
        try:
            body = await read_body(request, self._limits.max_body)
            question, context, options = read_question(self._qa, body)
            characters = len(question) + len(context)
            self._characters += characters
            if self._characters > ALL_CHARACTERS:
                raise busy(
                    f"The texts of {self._held - 1} requests are all it can hold. Try again in {RETRY_SECONDS} s."
                )
            windows = await asyncio.to_thread(self._qa.windows, question, context, options)
            job = Job(windows, kind(context, options))
            self._batcher.put(job)
            return await wait_for(job, request)
        except ClientDisconnect:
            return Response(status_code=HUNG_UP)
        finally:
            self._held -= 1
            self._characters -= characters


def page_file(name: str) -> Response:
    """One of the files in PAGE."""
    path = PAGE / name
    return FileResponse(path, headers=PAGE_HEADERS, media_type=PAGE_TYPES[path.suffix])


async def read_body(request: Request, limit: int) -> bytes:
    """The body. Raises HTTPException: 408 it does not come, 413 it is too long."""
    try:
        return await asyncio.wait_for(_whole_body(request, limit), REQUEST_SECONDS)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"The body did not arrive within {REQUEST_SECONDS} s.") from None


async def _whole_body(request: Request, limit: int) -> bytes:
    """One that is too long is read to its end, or its sender would not read why it is refused."""
    body, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            body += part
    if size > limit:
        raise HTTPException(413, f"The body has {size} bytes, at most {limit} are taken.")
    return bytes(body)


def read_question(qa: QuestionAnswerer, body: bytes) -> tuple[str, str, Options]:
    """Question, context and options of {"inputs": {"question", "context"}, "parameters": {...}}.

    The hub's own "options" are ignored. Raises HTTPException: 400 not JSON, 413 too long, 422 not that.
    """
    try:
        request = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"The body is not JSON in UTF-8 ({error}).") from error
    try:
        if not isinstance(request, Mapping) or "inputs" not in request:
            raise ValueError('The body must be {"inputs": {"question": ..., "context": ...}, "parameters": {...}}.')
        for name in request:
            if name not in ("inputs", "parameters", "options"):
                raise ValueError(f"{name} has no meaning here. Give inputs and parameters.")
        question, context = read_pair(request["inputs"], "inputs")
        parameters = request.get("parameters")
        if not isinstance(parameters, Mapping | None):
            raise TypeError(f"parameters must be an object, got {type(parameters).__name__}.")
        options = qa.options(parameters or {})
        if options.batch_size is not None:
            raise ValueError("batch_size has no meaning here. Leave it out.")
        for name, most in MOST.items():
            if getattr(options, name) > most:
                raise ValueError(f"{name} must be at most {most}, got {getattr(options, name)}.")
    except (TypeError, ValueError) as error:
        raise HTTPException(422, str(error)[:ERROR_CHARACTERS]) from error
    for name, text in (("question", question), ("context", context)):
        if len(text) > TEXT_CHARACTERS:
            raise HTTPException(413, f"{name} has {len(text)} characters, at most {TEXT_CHARACTERS} are taken.")
    return question, context, options


async def wait_for(job: Job, request: Request) -> Response:
    """Its answer, if it comes in time. Raises ClientDisconnect, or HTTPException 503; then the job is cancelled."""
    answer = asyncio.wrap_future(job.answer)
    gone = asyncio.create_task(hung_up(request))
    either: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(either, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return Response(answer.result(), media_type="application/json")
        if gone.done():
            raise ClientDisconnect
        raise busy(f"There was no answer within {ANSWER_SECONDS} s. Send a shorter text, or try again.")
    finally:
        answer.cancel()
        gone.cancel()


async def hung_up(request: Request) -> None:
    """Returns when the client has."""
    while True:
        with suppress(asyncio.TimeoutError):  # uvicorn reads on, and sees who is gone, with each call
            if (await asyncio.wait_for(request.receive(), HANG_UP_SECONDS))["type"] == "http.disconnect":
                return


def busy(message: str) -> HTTPException:
    """For what may go well a little later."""
    return HTTPException(503, message, {"Retry-After": str(RETRY_SECONDS)})


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Of ASCII, as a text may hold half a surrogate pair, which UTF-8 cannot."""
    return Response(json.dumps(value), status, headers, "application/json")


async def refusal(_: Request, error: HTTPException) -> Response:
    """{"error": what was wrong}."""
    return json_response({"error": error.detail}, error.status_code, error.headers)


async def failure(_: Request, error: Exception) -> Response:
    """The same for what should not happen; uvicorn logs it."""
    return json_response({"error": f"The service failed ({type(error).__name__}). Its log says more."}, 500)


class Connection(H11Protocol):
    """A connection that is closed if no request comes: uvicorn would wait for ever for the first."""

    def connection_made(self, transport: Any) -> None:
        """As the base class."""
        super().connection_made(transport)
        self.loop.call_later(REQUEST_SECONDS, self._close_if_silent)
        # Without it an answer waits until the client has acknowledged its head. asyncio sets it on sockets of its own.
        with suppress(OSError):  # macOS refuses when the client has gone already
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _close_if_silent(self) -> None:
        if self.cycle is None:
            self.transport.close()


def serve(
    qa: QuestionAnswerer, model: str, listener: socket.socket, limits: Limits, begins: Callable[[], None] = lambda: None
) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what is held, and take nothing more.

    model: what it is called; begins: is called when a signal would end it so.
    """
    config = Config(
        Service(qa, model, limits).application(),
        http=Connection,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=REQUEST_SECONDS + ANSWER_SECONDS,  # there are clients that never read
    )
    server = Server(config)
    # uvicorn does the same when it runs, and sends the signal again to the handler before, which must not end us then
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        begins()
        with suppress(KeyboardInterrupt):
            server.run([listener])
    finally:
        signal.signal(signal.SIGTERM, before)
