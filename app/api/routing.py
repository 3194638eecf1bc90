"""Our routes: Litestar's, each with what it needs and with the problems it may answer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from litestar import delete, get, patch, post, put
from litestar.concurrency import sync_to_thread as run_in_thread
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec

from app.api.problems import READING_PROBLEMS, WRITING_PROBLEMS

Route = Callable[[Callable[..., Any]], HTTPRouteHandler]
T = TypeVar("T")


def reading(path: str, opt: dict[str, Any], *, answers: ResponseSpec | None = None, **options: Any) -> Route:
    """A GET. `opt` is `access.needs(...)` or `access.public()`; `answers` describes the answer of a stream."""
    responses = READING_PROBLEMS if answers is None else {**READING_PROBLEMS, 200: answers}
    return _route(get, path, opt, responses, options)


def making(path: str, opt: dict[str, Any], **options: Any) -> Route:
    """A POST."""
    return _route(post, path, opt, WRITING_PROBLEMS, options)


def editing(path: str, opt: dict[str, Any], **options: Any) -> Route:
    """A PATCH; takes If-Match."""
    return _route(patch, path, opt, WRITING_PROBLEMS, options)


def putting(path: str, opt: dict[str, Any], **options: Any) -> Route:
    """A PUT: the whole of something, whether it was there or not."""
    return _route(put, path, opt, WRITING_PROBLEMS, options)


def removing(path: str, opt: dict[str, Any], **options: Any) -> Route:
    """A DELETE."""
    return _route(delete, path, opt, WRITING_PROBLEMS, options)


def _route(
    kind: Callable[..., Any],
    path: str,
    opt: dict[str, Any],
    responses: dict[int, ResponseSpec],
    options: dict[str, Any],
) -> Route:
    if options.get("sync_to_thread"):
        # Litestar 2.25 wraps such a handler once more for each later method of the same path, and then answers with a
        # coroutine; a coroutine function of our own stays as it is.
        rest = {name: value for name, value in options.items() if name != "sync_to_thread"}
        return lambda handler: kind(path, opt=opt, responses=responses, **rest)(_in_thread(handler))
    return lambda handler: kind(path, opt=opt, responses=responses, **options)(handler)


def _in_thread(handler: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    @functools.wraps(handler)
    async def call(**values: Any) -> T:
        return await run_in_thread(handler, **values)

    return call
