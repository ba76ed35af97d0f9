"""The service: questions over HTTP, those that wait together answered together, and a page to ask them on.

The event loop reads requests and writes answers; one thread beside it does all arithmetic, pass after pass. A pass takes a
window of each waiting request in turn until BATCH_TOKENS are together; what has windows left goes to the end of the queue.
So a request that comes alone starts at once, and a long document does not hold up the short questions beside it.

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
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from uvicorn import Config, Server

from . import __version__
from .parameters import arrays
from .qa import Options, QuestionAnswerer, Search, read_pair, span_probabilities
from .schedule import Array
from .tokenizer import Encoding

BATCH_TOKENS = 2048  # of one forward pass
TEXT_CHARACTERS = 500_000  # of a question or a context
TOP_K = 100
BODY_SECONDS, ANSWER_SECONDS = 30, 60
RETRY_SECONDS = 1
LOWEST = 1e-4  # probability of a word that is told
HUNG_UP = 499  # the status of a request nobody waits for any more, which nobody sees
PAGE = Path(__file__).parent / "page"
PAGE_HEADERS = {
    # Nothing from elsewhere, nothing inline, and no text that becomes HTML even if the script had a mistake.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types",
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
        self._words: dict[tuple[int, int], Array] = {}  # by their characters

    def add(self, window: Encoding, start_logits: Array, end_logits: Array) -> None:
        """As Search, and a word of several windows has its highest probability."""
        super().add(window, start_logits, end_logits)
        probabilities = np.stack([span_probabilities(logits, window) for logits in (start_logits, end_logits)])
        words: dict[int | None, list[int]] = {}  # the tokens of each
        for i, sequence in enumerate(window.sequence_ids):
            if sequence == 1:
                words.setdefault(window.word_ids[i], []).append(i)
        for tokens in words.values():
            both = probabilities[:, tokens].sum(axis=1)
            if both.max() >= LOWEST:
                characters = window.offsets[tokens[0]][0], window.offsets[tokens[-1]][1]
                self._words[characters] = np.maximum(both, self._words.get(characters, 0))

    def result(self) -> Any:
        """{"answers": a list, "words": [[start, end, probability to start, probability to end], ...]}, as they stand."""
        answers = super().result()
        words = [[*characters, *both.tolist()] for characters, both in sorted(self._words.items())]
        return {"answers": answers if isinstance(answers, list) else [answers], "words": words}


class Job:
    """A question on its way through the queue: what is left to read, what was found, and what comes of it."""

    def __init__(self, windows: Callable[[], Iterator[Encoding]], search: Search) -> None:
        self.windows = with_last(windows)
        self.search = search
        self.answer: Future[Any] = Future()


def with_last(windows: Callable[[], Iterator[Encoding]]) -> Iterator[tuple[Encoding, bool]]:
    """Each window, and whether it is the last. Nothing is computed before the first is taken."""
    ahead = windows()
    window = next(ahead)
    for following in ahead:
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
            for (job, window, last), (start_logits, end_logits) in zip(taken, logits):
                job.search.add(window, start_logits, end_logits)
                if last:
                    answer = job.search.result()
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
        self._held = 0  # requests
        self._batcher = Batcher(qa)

    def application(self) -> Starlette:
        """The routes, and the queue that runs as long as they are served."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            running = asyncio.create_task(self._batcher.run())
            yield
            running.cancel()

        routes = [
            Route("/", self.answer, methods=["POST"]),
            Route("/words", self.words, methods=["POST"]),
            Route("/", self.page),
            Route("/healthz", self.health),
            Route("/info", self.info),
            Mount("/page", StaticFiles(directory=PAGE)),
        ]
        handlers: Any = {HTTPException: refusal, Exception: failure}
        return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)

    async def answer(self, request: Request) -> Response:
        """The best answer, or with top_k above 1 the list of the best, as QuestionAnswerer gives them."""
        return await self._ask(request, Search)

    async def words(self, request: Request) -> Response:
        """As Words.result."""
        return await self._ask(request, Words)

    async def page(self, _: Request) -> Response:
        """The page to ask on."""
        return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)

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
                "parameters": sum(array.size for array in arrays(model.parameters)),
                "config": asdict(model.config),
                "limits": self._limits._asdict()
                | {
                    "characters": TEXT_CHARACTERS,
                    "top_k": TOP_K,
                    "seconds": ANSWER_SECONDS,
                    "batch_tokens": BATCH_TOKENS,
                },
                "requests": self._held,
            }
        )

    async def _ask(self, request: Request, kind: type[Search]) -> Response:
        if self._held >= self._limits.queue:
            raise busy(f"{self._held} requests wait already. Try again in {RETRY_SECONDS} s.")
        self._held += 1
        try:
            try:
                body = await asyncio.wait_for(read_body(request, self._limits.max_body), BODY_SECONDS)
            except asyncio.TimeoutError:
                raise HTTPException(408, f"The body did not arrive within {BODY_SECONDS} s.") from None
            question, context, options = read_question(self._qa, body)
            job = Job(lambda: self._qa.windows(question, context, options), kind(context, options))
            self._batcher.put(job)
            return await wait_for(job, request)
        except ClientDisconnect:
            return Response(status_code=HUNG_UP)
        finally:
            self._held -= 1


async def read_body(request: Request, limit: int) -> bytes:
    """The body. One that is too long is read to its end, or its sender would not read why it was refused: HTTPException 413."""
    body, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            body += part
    if size > limit:
        raise HTTPException(413, f"The body has {size} bytes, at most {limit} are taken.")
    return bytes(body)


def read_question(qa: QuestionAnswerer, body: bytes) -> tuple[str, str, Options]:
    """Question, context and options of {"inputs": {"question", "context"}, "parameters": {...}}; the hub's own "options"
    mean nothing here. Raises HTTPException: 400 not JSON, 413 too long, 422 not that.
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
        if options.top_k > TOP_K:
            raise ValueError(f"top_k must be at most {TOP_K}, got {options.top_k}.")
    except (TypeError, ValueError) as error:
        raise HTTPException(422, str(error)) from error
    for name, text in (("question", question), ("context", context)):
        if len(text) > TEXT_CHARACTERS:
            raise HTTPException(413, f"{name} has {len(text)} characters, at most {TEXT_CHARACTERS} are taken.")
    return question, context, options


async def wait_for(job: Job, request: Request) -> Response:
    """Its answer, if it comes in time. Raises ClientDisconnect, or HTTPException 503; then the job is cancelled."""
    answer = asyncio.wrap_future(job.answer)
    gone = asyncio.create_task(hung_up(request))
    try:
        await asyncio.wait({answer, gone}, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return json_response(answer.result())
        if gone.done():
            raise ClientDisconnect
        raise busy(f"There was no answer within {ANSWER_SECONDS} s. Send a shorter text, or try again.")
    finally:
        answer.cancel()
        gone.cancel()


async def hung_up(request: Request) -> None:
    """Returns when the client has."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


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


def serve(qa: QuestionAnswerer, model: str, listener: socket.socket, limits: Limits) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what is held, and take nothing more. model: what it is called."""
    server = Server(
        Config(Service(qa, model, limits).application(), log_level="warning", access_log=False, server_header=False)
    )
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn sends it on once it has ended
    try:
        with suppress(KeyboardInterrupt):
            server.run([listener])
    finally:
        signal.signal(signal.SIGTERM, before)
