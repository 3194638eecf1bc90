"""Every error as an RFC 9457 problem document, in one place."""

from __future__ import annotations

import enum
import logging
import re
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec

from app.domain.errors import (
    AccessError,
    BugError,
    DeviceError,
    EnvironmentFault,
    FileRefused,
    NotLoggedIn,
    OperatorInputError,
    TooManyAttempts,
    VersionConflict,
    VersionNeeded,
    WattdeckError,
)
from app.protocol.api.common import Problem
from app.stores.registry.faults import NameTakenError, RefusedChangeError, UnknownNameError

log = logging.getLogger(__name__)

# The nearest class of an error decides; the order does not matter.
_STATUS: dict[type[WattdeckError], int] = {
    NotLoggedIn: 401,
    AccessError: 403,
    TooManyAttempts: 429,
    UnknownNameError: 404,
    NameTakenError: 409,
    RefusedChangeError: 409,
    VersionConflict: 412,
    VersionNeeded: 428,
    OperatorInputError: 422,
    DeviceError: 502,
    EnvironmentFault: 503,
    BugError: 500,
    WattdeckError: 500,
}
_TITLES = {
    400: "The request can not be read",
    401: "Log in",
    403: "Not allowed",
    404: "Not there",
    405: "Not with this method",
    406: "No such form of answer",
    409: "In conflict with what is there",
    412: "Changed meanwhile",
    413: "Too large",
    415: "Not this kind of content",
    422: "Can not be done so",
    428: "Say which version",
    429: "Too often",
    500: "A fault of ours",
    502: "A device failed",
    503: "The machine or a server under us failed",
}
_MEDIA_TYPE = "application/problem+json"


def _described(*statuses: int) -> dict[int, ResponseSpec]:
    return {
        status: ResponseSpec(Problem, description=_TITLES[status], media_type=_MEDIA_TYPE, generate_examples=False)
        for status in statuses
    }


# What a route may answer beside what it is for. A fault of ours (500) is no part of the contract.
READING_PROBLEMS = _described(400, 401, 403, 404, 409, 422, 429, 503)
WRITING_PROBLEMS = _described(400, 401, 403, 404, 409, 412, 413, 415, 422, 428, 429, 503)


def status_of(error: WattdeckError) -> int:
    """The HTTP status of one of our errors."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def problem_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The answer to a request that failed; a fault of ours is logged with its traceback and told without it."""
    headers = {}
    if isinstance(error, WattdeckError):
        status = status_of(error)
        places = [dict(place) for place in error.places] if isinstance(error, FileRefused) else []
        problem = Problem(_name(type(error).__name__), _TITLES[status], status, error.text(), places)
        if isinstance(error, TooManyAttempts):
            headers["Retry-After"] = str(error.wait_s)
        if status >= 500:
            log.error("%s %s failed: %s", request.method, request.url.path, error, exc_info=status == 500 and error)
    elif isinstance(error, HTTPException):
        status = error.status_code
        title = _TITLES.get(status, "Failed")
        if status >= 500:
            log.error("%s %s failed", request.method, request.url.path, exc_info=error)
            problem = Problem(_name("BugError"), title, status)
        else:
            problem = Problem(_name(title), title, status, error.detail, errors=_places(error.extra))
        headers |= dict(error.headers or {})
    elif isinstance(error, RecursionError):
        # A body that is nested a thousand deep: msgspec tells of it so.
        status = 400
        log.warning("%s %s is nested too deeply", request.method, request.url.path, exc_info=error)
        problem = Problem(_name(_TITLES[status]), _TITLES[status], status, "the request is nested too deeply")
    else:
        status = 500
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        problem = Problem(_name("BugError"), _TITLES[status], status, "the hub's log says more")
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(problem), status_code=status, media_type=_MEDIA_TYPE, headers=headers)


def _name(words: str) -> str:
    """NotLoggedIn or "Not there" as the last part of a problem's type."""
    dashed = re.sub(r"(?<=[a-z])(?=[A-Z])|\s+", "-", words.removesuffix("Error")).lower()
    return f"urn:wattdeck:problem:{dashed}"


def _source(one: dict[str, Any]) -> str:
    """Query, path, header, cookie or body."""
    source = one.get("source", "")
    return str(source.value if isinstance(source, enum.Enum) else source)


def _places(extra: object) -> list[dict[str, Any]]:
    """What Litestar says of a request that does not fit; the values themselves are left out."""
    if not isinstance(extra, list):
        return []
    return [
        {"message": str(one.get("message", "")), "key": str(one.get("key", "")), "source": _source(one)}
        for one in extra
        if isinstance(one, dict)
    ]
