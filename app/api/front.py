"""What every request passes before the application: the bound on connections, the Host header, the counters."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from app.api.counters import ApiCounters
from app.api.page import policy_of
from app.domain.hosts import HostNames
from app.protocol.api.common import API_MAJOR, API_MINOR, VERSION_HEADER, Problem

# Instead of a status: the answer was given.
_WHOLE = -1
_BUSY = Problem(
    "urn:wattdeck:problem:busy", "Busy", 503, "too many connections to this hub at once (api.max_connections)"
)
_WRONG_HOST = Problem(
    "urn:wattdeck:problem:wrong-host",
    "Not this host",
    421,
    "this hub does not go by that name; use its address, or add the name to api.names",
)


class Front:
    """An ASGI application around another."""

    def __init__(
        self, app: ASGIApp, counters: ApiCounters, names: HostNames, most_connections: Callable[[], int]
    ) -> None:
        self._app = app
        self._counters = counters
        self._names = names
        self._most_connections = most_connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                self._counters.answered(status, time.perf_counter() - began)
                status = _WHOLE

        refusal = self._refusal(scope)
        try:
            if refusal is not None:
                await _refuse(scope, counted, refusal)
            else:
                await self._app(scope, receive, counted)
        finally:
            if status != _WHOLE:
                self._counters.events.requests_unanswered += 1

    def _refusal(self, scope: Scope) -> Problem | None:
        if self._counters.connections > self._most_connections():
            self._counters.events.refused_busy += 1
            return _BUSY
        # HTTP/1.1 has always one (the parser sees to it), and no browser speaks 1.0.
        host = next((value for name, value in scope["headers"] if name == b"host"), None)
        if host is not None and not self._names.allow(host.decode("latin-1")):
            self._counters.events.refused_host += 1
            return _WRONG_HOST
        return None


async def _refuse(scope: Any, send: Send, problem: Problem) -> None:
    body = msgspec.json.encode(problem)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        (VERSION_HEADER.lower().encode(), f"{API_MAJOR}.{API_MINOR}".encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", policy_of(scope["path"]).encode()),
    ]
    if problem.status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
