"""The web application: its routes and the server. The event loop does the I/O, batcher.py computes beside it."""

import asyncio
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from uvicorn import Config, Server

from .. import __version__
from ..parameters import tree_leaves
from ..qa import QuestionAnswerer, Search
from . import protocol
from .access import guarded
from .batcher import BATCH_TOKENS, Batcher, Job, Words

ALL_CHARACTERS = 4 * protocol.TEXT_CHARACTERS  # of all requests: tokens take many times the bytes of their text
SWITCH_SECONDS = 0.0005  # that a step of a forward pass waits for a thread that tokenizes; by default it is 0.005
PAGE = Path(__file__).parent / "page"
# By suffix: Windows' registry may map them to anything, and with nosniff a script that is text/plain does not run.
PAGE_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
PAGE_HEADERS = {
    # Nothing from other hosts, nothing inline, and no text that becomes HTML even if the script has a mistake.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def project_urls() -> dict[str, str]:
    """The public URLs of this package by label, as in "Source": URL. Empty if it has none or is not installed."""
    try:
        urls = metadata("numpy-distilbert").get_all("Project-URL", [])
    except PackageNotFoundError:
        return {}
    return dict(url.split(", ", 1) for url in urls)


class Service:
    """The handlers of all routes, for one model."""

    def __init__(self, qa: QuestionAnswerer, model: str, limits: protocol.Limits) -> None:
        """model: its name."""
        self._qa, self._model, self._limits = qa, model, limits
        # of requests that are being answered: how many, and the characters of their texts; of others the bytes so far
        self._held: Counter[str] = Counter()
        self._batcher = Batcher(qa)

    def application(self) -> Starlette:
        """The routes, and the queue, which runs as long as they are served."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            running = asyncio.create_task(self._batcher.run())
            yield
            running.cancel()

        routes = [
            Route("/", self.root, methods=["GET", "POST"]),
            Route("/search", self.search, methods=["POST"]),
            Route("/page/{name}", self.page),
            Route("/healthz", self.health),
            Route("/info", self.info),
        ]
        handlers: Any = {HTTPException: protocol.refusal, Exception: protocol.failure}
        return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)

    async def root(self, request: Request) -> Response:
        """GET: the page. POST: the best answer, or with top_k above 1 the list of the best, as in Python."""
        return await (self._ask(request, self._call) if request.method == "POST" else self.page(request))

    async def search(self, request: Request) -> Response:
        """What QuestionAnswerer.search() finds, with the probabilities of the words; see Words.result()."""
        return await self._ask(request, self._search)

    async def page(self, request: Request) -> Response:
        """A file of the page, index.html if none is named. Raises HTTPException 404 for any other."""
        name = request.path_params.get("name", "index.html")
        if name not in {path.name for path in PAGE.iterdir() if path.suffix in PAGE_TYPES}:
            raise HTTPException(404)
        return FileResponse(PAGE / name, headers=PAGE_HEADERS, media_type=PAGE_TYPES[Path(name).suffix])

    async def health(self, _: Request) -> Response:
        """Report that the service takes requests."""
        return protocol.json_response({"status": "ok"})

    async def info(self, _: Request) -> Response:
        """The model, its configuration, the limits, the number of requests that are being answered, and links."""
        model = self._qa.model
        limits = {"characters": protocol.TEXT_CHARACTERS, "seconds": protocol.ANSWER_SECONDS}
        known = {
            "model": self._model,
            "version": __version__,
            "dtype": model.dtype.name,
            "parameters": sum(array.size for array in tree_leaves(model.parameters)),
            "config": asdict(model.config),
            "limits": self._limits._asdict() | protocol.MAX_OPTIONS | limits | {"batch_tokens": BATCH_TOKENS},
            "requests": self._held["requests"],
            "links": project_urls(),
        }
        return protocol.json_response(known)

    def _call(self, question: str, context: str, parameters: Mapping[str, Any]) -> Callable[[], Job]:
        """A function that makes the job of a call. Raises HTTPException 422 for other parameters."""
        settings = protocol.read_settings(self._qa, parameters)
        return lambda: Job(self._qa.windows(question, context, settings), Search(context, settings))

    def _search(self, question: str, context: str, parameters: Mapping[str, Any]) -> Callable[[], Job]:
        """A function that makes the job of a search. Raises as _call() does."""
        top_k, read = protocol.read_search(parameters)

        def job() -> Job:
            qa = self._qa
            words = Words(question, qa.documents(context), qa.settings({}), qa.calibration, top_k, read)
            return Job(words.windows(), words)

        return job

    async def _ask(
        self, request: Request, kind: Callable[[str, str, Mapping[str, Any]], Callable[[], Job]]
    ) -> Response:
        with ExitStack() as held:  # until the answer is written
            try:
                body = await protocol.read_body(request, self._limits.max_body, self._held)
                question, context, parameters = protocol.read_question(body)
                del body
                make_job = kind(question, context, parameters)
                self._hold(held, "requests", 1, self._limits.queue)
                self._hold(held, "characters", len(question) + len(context), ALL_CHARACTERS)
                job = await asyncio.to_thread(make_job)  # as it tokenizes
                self._batcher.put(job)
                answer = await protocol.wait_for(job, request)
            except ClientDisconnect:
                return Response(status_code=499)  # no client sees it
            return protocol.Answered(answer, held.pop_all().close)

    def _hold(self, held: ExitStack, what: str, amount: int, most: int) -> None:
        """Count an amount of what is held, until held is closed. Raises HTTPException 503 if that is more than most."""
        if self._held[what] + amount > most:
            retry = f"Try again in {protocol.RETRY_SECONDS} s."
            raise protocol.busy(f"The service holds {self._held[what]} {what} already, at most {most}. {retry}")
        self._held[what] += amount
        held.callback(self._held.subtract, {what: amount})


class _Server(Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and let more connections wait than are accepted at once, for which uvicorn has one number."""
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(protocol.BACKLOG)


def serve(
    qa: QuestionAnswerer,
    model: str,
    listener: socket.socket,
    limits: protocol.Limits,
    ready: Callable[[], None],
    hosts: Collection[str] = (),
    origins: Collection[str] = (),
) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the requests that are being answered. model: its name; ready: called
    as soon as a signal would end the service that way; hosts, origins: see guarded().
    """
    app = guarded(Service(qa, model, limits).application(), hosts, origins)
    longest = protocol.REQUEST_SECONDS + protocol.ANSWER_SECONDS  # some clients never read
    quiet: Any = {
        "log_level": "warning",
        "backlog": protocol.ACCEPTED_AT_ONCE,
        "access_log": False,
        "server_header": False,
    }
    server = _Server(Config(app, http=protocol.Connection, ws="none", timeout_graceful_shutdown=longest, **quiet))
    sys.setswitchinterval(SWITCH_SECONDS)
    # uvicorn sets this handler too while it runs; then it raises the signal again, which must not kill this process
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        ready()
        with suppress(KeyboardInterrupt):
            server.run([listener])
    finally:
        signal.signal(signal.SIGTERM, before)
