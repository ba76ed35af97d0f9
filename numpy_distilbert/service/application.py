"""The application: the routes, and the process that serves them.

The event loop reads requests and writes answers; batcher.py computes beside it.
"""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
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
from .batcher import BATCH_TOKENS, Batcher, Job, Words
from .protocol import (
    ANSWER_SECONDS,
    MOST,
    REQUEST_SECONDS,
    RETRY_SECONDS,
    TEXT_CHARACTERS,
    Connection,
    Limits,
    busy,
    failure,
    json_response,
    read_body,
    read_question,
    refusal,
    wait_for,
)

ALL_CHARACTERS = 4 * TEXT_CHARACTERS  # of all that are held: tokens take many times the bytes of their text
CLIENT_DISCONNECTED = 499  # the status of a request nobody waits for any more, which nobody sees
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
            question, context, settings = read_question(self._qa, body)
            characters = len(question) + len(context)
            self._characters += characters
            if self._characters > ALL_CHARACTERS:
                raise busy(
                    f"The texts of {self._held - 1} requests are all it can hold. Try again in {RETRY_SECONDS} s."
                )
            windows = await asyncio.to_thread(self._qa.windows, question, context, settings)
            job = Job(windows, kind(context, settings))
            self._batcher.put(job)
            return await wait_for(job, request)
        except ClientDisconnect:
            return Response(status_code=CLIENT_DISCONNECTED)
        finally:
            self._held -= 1
            self._characters -= characters


def page_file(name: str) -> Response:
    """One of the files in PAGE."""
    path = PAGE / name
    return FileResponse(path, headers=PAGE_HEADERS, media_type=PAGE_TYPES[path.suffix])


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
