"""A clock for tests of the registry."""

from __future__ import annotations

START_US = 1_800_000_000_000_000


class Ticking:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_us = START_US

    def __call__(self) -> int:
        return self.now_us
