"""Who may ask: anyone who calls the service by a name that it knows, except pages of another origin.

Any page that someone has open can make their browser send requests to a service on their machine. Browsers say so in
Sec-Fetch-Site, or else in Origin; and a page whose own name was made to lead here (DNS rebinding) gives it as Host.
Sources: Fetch Metadata Request Headers (W3C), section 2.3; RFC 9110, section 7.2.
"""

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request

from .protocol import json_response

HOST = re.compile(r"(?:\[([0-9a-f:.%]+)\]|([\w-]+(?:\.[\w-]+)*)\.?)(?::\d*)?", re.IGNORECASE | re.ASCII)
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/@]+")


def guarded(app: Any, hosts: Collection[str], origins: Collection[str]) -> Any:
    """Wrap an application to refuse all other requests with status 403. hosts: the names that the service is known by,
    besides those of the loopback and the address that a client connects to; origins: whose pages may ask, and read
    the answers.
    """
    names = {_same_name(host) for host in hosts}
    shared = CORSMiddleware(app, origins, ["GET", "POST"], ["Content-Type"])

    async def guard(scope: Any, receive: Any, send: Any) -> None:
        problem = _problem(Request(scope), names, origins) if scope["type"] == "http" else None
        await (shared if problem is None else json_response({"error": problem}, 403))(scope, receive, send)

    return guard


def host_of(header: str) -> str:
    """The name or address in a Host header, in lower case, without port and final dot; "" if there is none."""
    match = HOST.fullmatch(header)
    if not match or (match[1] and not address_of(match[1])):
        return ""
    return _same_name(match[1] or match[2])


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is, or None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _same_name(host: str) -> str:
    """The host in its usual spelling."""
    return str(address_of(host) or host.lower())


def _problem(request: Request, names: Collection[str], origins: Collection[str]) -> str | None:
    """Why a request is refused, or None if it is not."""
    given = request.headers.get("host", "")
    if not (host := host_of(given)):
        return "The request does not say which host it is for. Send a Host header."
    address = (request.scope.get("server") or [""])[0]
    known, ip = {*names, "localhost", _same_name(address)}, address_of(host)
    if host not in known and not (ip and ip.is_loopback):
        return f"The service does not know the name {host[:80]}. To allow it, serve with --allow-host {host[:80]}"
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    follows_link = request.method in ("GET", "HEAD") and request.headers.get("sec-fetch-mode") == "navigate"
    same = origin is None or origin.partition("://")[2] == given.lower()
    if origin in origins or follows_link or (same if site is None else site in ("same-origin", "none")):
        return None
    page = origin or "another origin"
    return f"A page of {page[:80]} may not ask this service. To allow it, serve with --allow-origin ORIGIN"
