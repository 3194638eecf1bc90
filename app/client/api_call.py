"""Single calls of a hub's API, blocking: for the start and the end of a console. Its pages use Qt's network classes."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import http.client
import json
import ssl
from typing import Any

from app.client.errors import HubNotTrusted, HubRefused, HubUnreachable
from app.protocol.api.common import API_MAJOR, API_MINOR, PURPOSE_HEADER, VERSION_HEADER
from app.protocol.hub_file import ApiFacts, HubFile

# A console shows "no answer" rather than nothing.
ANSWER_S = 10.0
# An answer to such a call has some kilobytes.
_MOST_BYTES = 16_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class ApiPlace:
    """Where an API is, and by which certificate it is known (`facts`, from the data directory)."""

    host: str
    port: int
    facts: ApiFacts

    @classmethod
    def of(cls, hub: HubFile) -> ApiPlace:
        """The API of a hub on this machine."""
        host, port = hub.address("api")
        return cls(host, port, hub.api)

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.facts.scheme}://{host}:{self.port}"


def call(
    place: ApiPlace,
    method: str,
    path: str,
    *,
    token: str | None = None,
    body: object = None,
    timeout_s: float = ANSWER_S,
    purpose: str | None = None,
) -> Any:
    """The answer's JSON, None for an empty one.

    Raises HubUnreachable, HubNotTrusted, or HubRefused for a status from 400 on.
    """
    headers = {VERSION_HEADER: f"{API_MAJOR}.{API_MINOR}", "Connection": "close"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if purpose is not None:
        headers[PURPOSE_HEADER] = purpose
    payload = None
    if body is not None:
        payload = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    connection = _connected(place, timeout_s)
    try:
        connection.request(method, path, payload, headers)
        answer = connection.getresponse()
        status, content = answer.status, answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise HubUnreachable(f"the hub at {place.url} does not answer: {type(error).__name__} {error}") from error
    finally:
        connection.close()
    try:
        found = json.loads(content) if content else None
    except ValueError as error:
        raise HubUnreachable(f"what answers at {place.url} is no hub") from error
    if status >= http.HTTPStatus.BAD_REQUEST:
        raise HubRefused(status, str(found.get("detail", "")) if isinstance(found, dict) else "")
    return found


def _connected(place: ApiPlace, timeout_s: float) -> http.client.HTTPConnection:
    if place.facts.scheme != "https":
        return http.client.HTTPConnection(place.host, place.port, timeout=timeout_s)
    # Pinned: this very certificate, whose key only that hub has. Names and authorities would say less.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(place.host, place.port, timeout=timeout_s, context=context)
    try:
        connection.connect()
    except OSError as error:
        raise HubUnreachable(f"the hub at {place.url} does not answer: {error}") from error
    certificate = connection.sock.getpeercert(binary_form=True)
    found = hashlib.sha256(certificate or b"").hexdigest()
    if not hmac.compare_digest(found, place.facts.certificate_sha256 or ""):
        connection.close()
        raise HubNotTrusted(f"{place.url} shows another certificate than the hub of this data directory has")
    return connection
