"""Our routes: Litestar's, each with what it needs and with the problems it may answer."""

from __future__ import annotations

from typing import Any

from litestar import delete, get, patch, post, put
from litestar.openapi.datastructures import ResponseSpec

from app.api.problems import READING_PROBLEMS, WRITING_PROBLEMS


def reading(path: str, opt: dict[str, Any], *, answers: ResponseSpec | None = None, **options: Any) -> get:
    """A GET. `opt` is `access.needs(...)` or `access.public()`; `answers` describes the answer of a stream."""
    return get(
        path, opt=opt, responses=READING_PROBLEMS if answers is None else {**READING_PROBLEMS, 200: answers}, **options
    )


def making(path: str, opt: dict[str, Any], **options: Any) -> post:
    """A POST."""
    return post(path, opt=opt, responses=WRITING_PROBLEMS, **options)


def editing(path: str, opt: dict[str, Any], **options: Any) -> patch:
    """A PATCH; takes If-Match."""
    return patch(path, opt=opt, responses=WRITING_PROBLEMS, **options)


def putting(path: str, opt: dict[str, Any], **options: Any) -> put:
    """A PUT: the whole of something, whether it was there or not."""
    return put(path, opt=opt, responses=WRITING_PROBLEMS, **options)


def removing(path: str, opt: dict[str, Any], **options: Any) -> delete:
    """A DELETE."""
    return delete(path, opt=opt, responses=WRITING_PROBLEMS, **options)
