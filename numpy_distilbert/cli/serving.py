"""serve."""

import argparse
import socket
from functools import partial
from pathlib import Path

from ..arguments import check_integer
from ..checkpoint import hub
from ..qa import QuestionAnswerer
from .terminal import MODEL_HELP, Result, Verbs, add_verb, warn


def add_verbs(verbs: Verbs) -> None:
    """Add the verb serve."""
    statuses = {0: "stopped by Ctrl-C or SIGTERM", 130: "stopped by Ctrl-C before it was ready"}
    serve = add_verb(verbs, "serve", _serve, "answer questions over HTTP, and on a web page", "--port 8080", statuses)
    serve.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="the port, or 0 for any (default: %(default)s)")
    hosts = "other names of the service, such as its proxy's; requests for any other name are refused"
    serve.add_argument("--allow-host", metavar="NAME", nargs="+", default=[], help=hosts)
    origins = "let pages of this origin ask, such as https://example.org; pages of other origins are refused"
    serve.add_argument("--allow-origin", metavar="ORIGIN", nargs="+", default=[], help=origins)
    body = "the longest body of a request; a longer one is refused with status 413 (default: %(default)s)"
    serve.add_argument("--max-body", metavar="BYTES", type=int, default=2_000_000, help=body)
    queue = "the most requests to hold at a time; any more are refused with status 503 (default: %(default)s)"
    serve.add_argument("--queue", metavar="N", type=int, default=128, help=queue)


def _serve(arguments: argparse.Namespace) -> Result:
    """Answer questions over HTTP, in the form of the Hugging Face hub's question-answering API, and on a web page.
    Ctrl-C or SIGTERM ends it, once the requests that it has accepted are answered.
    """
    try:
        from ..service.access import ORIGIN, address_of, host_of
        from ..service.application import serve
        from ..service.protocol import Limits
    except ImportError as error:
        raise ValueError(f'{error.name} is needed to serve. Run: pip install "numpy-distilbert[serve]"') from error
    limits = Limits(check_integer("--max-body", arguments.max_body, 1), check_integer("--queue", arguments.queue, 1))
    if not 0 <= arguments.port <= 65535:
        raise ValueError(f"--port must be from 0 to 65535, got {arguments.port}.")
    for host in arguments.allow_host:
        if not address_of(host) and (not host or host_of(host) != host.lower()):
            raise ValueError(f"--allow-host must be a name or an address, without a port, got {host!r}.")
    for origin in arguments.allow_origin:
        if not ORIGIN.fullmatch(origin):
            raise ValueError(f"--allow-origin must be an origin such as https://example.org, got {origin!r}.")
    family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
    try:
        listener = socket.create_server((arguments.host, arguments.port), family=family, backlog=1024)
    except OSError as error:
        raise ValueError(f"{arguments.host} port {arguments.port}: cannot listen there ({error.strerror}).") from error
    with listener:
        host = f"[{arguments.host}]" if family == socket.AF_INET6 else arguments.host
        qa = QuestionAnswerer.from_pretrained(arguments.model, split_special_tokens=True)  # texts are not trusted
        name = hub.DEFAULT if arguments.model is None else Path(arguments.model).name
        url = f"http://{host}:{listener.getsockname()[1]}"
        hosts = [arguments.host, *arguments.allow_host]
        ready = partial(warn, f"{url} answers. Ctrl-C ends it.")
        serve(qa, name, listener, limits, ready, hosts, [origin.lower() for origin in arguments.allow_origin])
    return "stopped", 0
