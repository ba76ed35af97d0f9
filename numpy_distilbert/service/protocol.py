"""What clients send and receive: requests are read and checked, answers and errors are written in JSON.

Memory and time are bounded by limits on the bytes and seconds of a body, the bytes of all bodies, the characters of a
text and of all texts together, the number of requests, the seconds and characters of an answer, and the connections.
Source: requests and answers of the hub's question-answering task, which huggingface_hub's InferenceClient speaks.
"""

import asyncio
import json
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..arguments import check_integer
from ..inputs import Settings, read_pair
from ..qa import QuestionAnswerer
from .batcher import Job

TEXT_CHARACTERS = 500_000  # of a question or a context
MAX_OPTIONS = {"top_k": 100, "max_answer_len": 100, "max_question_len": 100}  # answers and tokens
KNOWN = "inputs", "parameters", "options", "model"  # in a request
REQUEST_SECONDS, ANSWER_SECONDS = 10, 60  # for a client to send its request, for the service to answer it
RETRY_SECONDS = DISCONNECT_SECONDS = 1
BODIES = 16  # of the longest allowed, may arrive at a time
PIECE = 2**16  # bytes of a response
MAX_CONNECTIONS, OTHER_DESCRIPTORS = 1000, 64
BACKLOG, ACCEPTED_AT_ONCE = 64, 16  # connections that wait to be accepted; that asyncio accepts in a turn of its loop
ERROR_CHARACTERS = 300


class Limits(NamedTuple):
    """Limits of a service: the bytes of a request's body, and the number of requests at a time."""

    max_body: int
    queue: int


async def read_body(request: Request, limit: int, held: Counter[str]) -> bytes:
    """The body of a request. held["bytes"]: of all bodies that are arriving. Raises HTTPException: 408 if it does not
    arrive in time, 413 if it is too long, 503 if too many arrive at a time.
    """
    try:
        return await asyncio.wait_for(_whole_body(request, limit, held), REQUEST_SECONDS)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"The body did not arrive within {REQUEST_SECONDS} s.") from None


async def _whole_body(request: Request, limit: int, held: Counter[str]) -> bytes:
    """The body. If it is too long it is still read to its end, or its sender would not read why it is refused."""
    body, size = bytearray(), 0
    try:
        async for part in request.stream():
            size += len(part)
            if size <= limit:
                body += part
                held["bytes"] += len(part)
                if held["bytes"] > BODIES * limit:
                    raise busy(f"Too much is being sent to the service. Try again in {RETRY_SECONDS} s.")
    finally:
        held["bytes"] -= len(body)
    if size > limit:
        raise HTTPException(413, f"The body has {size} bytes, at most {limit} are taken.")
    return bytes(body)


def read_question(body: bytes) -> tuple[str, str, Mapping[str, Any]]:
    """Question, context and parameters of {"inputs": {"question", "context"}, "parameters": {...}}, or of the form
    without inputs that some of the hub's clients send, {"question", "context", "parameters"}. Their "options" and
    "model" are ignored. Raises HTTPException: 400 not JSON, 413 too long, 422 something else wrong.
    """
    try:
        request = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"The body is not JSON in UTF-8 ({error}).") from error
    with unprocessable():
        if not isinstance(request, Mapping) or not {"inputs", "question"} & request.keys():
            raise ValueError('The body must be {"inputs": {"question": ..., "context": ...}, "parameters": {...}}.')
        inputs = request.get("inputs")
        for name in request:
            if name not in KNOWN and (inputs is not None or name not in ("question", "context")):
                raise ValueError(f"{name} has no meaning here. Give inputs and parameters.")
        question, context = read_pair(request, "the body") if inputs is None else read_pair(inputs, "inputs")
        parameters = request.get("parameters")
        if not isinstance(parameters, Mapping | None):
            raise TypeError(f"parameters must be an object, got {type(parameters).__name__}.")
    for name, text in (("question", question), ("context", context)):
        if len(text) > TEXT_CHARACTERS:
            raise HTTPException(413, f"{name} has {len(text)} characters, at most {TEXT_CHARACTERS} are taken.")
    return question, context, parameters or {}


def read_settings(qa: QuestionAnswerer, parameters: Mapping[str, Any]) -> Settings:
    """The settings in a question's parameters, which must be options. Raises HTTPException 422 if they are not."""
    with unprocessable():
        settings = qa.settings(parameters)
        if settings.batch_size is not None:
            raise ValueError("batch_size has no meaning here. Leave it out.")
        for name, most in MAX_OPTIONS.items():
            if getattr(settings, name) > most:
                raise ValueError(f"{name} must be at most {most}, got {getattr(settings, name)}.")
    return settings


def read_search(parameters: Mapping[str, Any]) -> tuple[int, int | None]:
    """top_k and read from the parameters of a search. Raises HTTPException 422 for anything else."""
    with unprocessable():
        for name in parameters:
            if name not in ("top_k", "read"):
                raise ValueError(f"{name!r:.40} has no meaning here. The parameters are top_k and read.")
        top_k, read = 3 if parameters.get("top_k") is None else parameters["top_k"], parameters.get("read", 8)
        if check_integer("top_k", top_k, 1) > MAX_OPTIONS["top_k"]:
            raise ValueError(f"top_k must be at most {MAX_OPTIONS['top_k']}, got {top_k}.")
        return top_k, None if read is None else check_integer("read", read, 1)


@contextmanager
def unprocessable() -> Iterator[None]:
    """Turn a TypeError or ValueError about a request into HTTPException 422."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise HTTPException(422, str(error)[:ERROR_CHARACTERS]) from error


async def wait_for(job: Job, request: Request) -> str:
    """The answer to a job, JSON. Cancels it and raises ClientDisconnect, or HTTPException 503 after ANSWER_SECONDS."""
    answer = asyncio.wrap_future(job.answer)
    disconnected = asyncio.create_task(client_disconnected(request))
    either: set[asyncio.Future[Any]] = {answer, disconnected}
    try:
        await asyncio.wait(either, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if disconnected.done():
            raise ClientDisconnect
        raise busy(f"There was no answer within {ANSWER_SECONDS} s. Send a shorter text, or try again.")
    finally:
        answer.cancel()
        disconnected.cancel()


async def client_disconnected(request: Request) -> None:
    """Wait until the client of a request disconnects."""
    while True:
        with suppress(asyncio.TimeoutError):  # uvicorn only notices a disconnect when receive() is called again
            if (await asyncio.wait_for(request.receive(), DISCONNECT_SECONDS))["type"] == "http.disconnect":
                return


def busy(message: str) -> HTTPException:
    """Error 503, for a request that may succeed a little later."""
    return HTTPException(503, message, {"Retry-After": str(RETRY_SECONDS)})


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response in ASCII, as a text may hold half a surrogate pair, which UTF-8 cannot encode."""
    return Response(json.dumps(value), status, headers, "application/json")


async def refusal(_: Request, error: HTTPException) -> Response:
    """Handle an HTTPException: {"error": what was wrong}."""
    return json_response({"error": error.detail}, error.status_code, error.headers)


async def failure(_: Request, error: Exception) -> Response:
    """Handle any other exception with status 500; uvicorn logs it."""
    return json_response({"error": f"The service failed ({type(error).__name__}). Its log says more."}, 500)


class Answered(Response):
    """An answer that is written piece by piece. When the client has read all but the last, release is called."""

    def __init__(self, answer: str, release: Callable[[], None]) -> None:
        super().__init__(answer, media_type="application/json")
        self._release = release

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See starlette.responses.Response."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            for first in range(0, len(self.body), PIECE):
                piece, more = bytes(self.body[first : first + PIECE]), first + PIECE < len(self.body)
                await send({"type": "http.response.body", "body": piece, "more_body": more})
        finally:
            self._release()


def most_connections() -> int:
    """How many connections there may be, by the descriptors that this process may have."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # closing one that is too many takes four turns
    return max(1, min(MAX_CONNECTIONS, descriptors - 4 * ACCEPTED_AT_ONCE - OTHER_DESCRIPTORS))


class Connection(H11Protocol):
    """A connection that is closed if a request's head does not arrive within REQUEST_SECONDS, or the client reads
    nothing for so long, or there are too many. Of these uvicorn only knows a client that is silent after a request.
    """

    _late: asyncio.TimerHandle  # closes it if the head that is due, or is arriving, does not arrive
    _stalled: asyncio.TimerHandle  # closes it if the client does not read
    _most = most_connections()
    _has_refused = False

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        if len(self.connections) > self._most:
            if not Connection._has_refused:  # once: a line for each would fill the disk
                self.logger.warning("more than %d connections at a time: some are closed", self._most)
            Connection._has_refused = True
            transport.abort()
            return
        self._late = self.loop.call_later(REQUEST_SECONDS, transport.close)
        # Otherwise an answer waits until the client acknowledges its head. asyncio sets it only on its own sockets.
        with suppress(OSError):  # macOS refuses when the client has gone already
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._late.cancel()
        elif self._late.cancelled():
            self._late = self.loop.call_later(REQUEST_SECONDS, self.transport.close)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._stalled = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        self._stalled.cancel()
