"""Who changed what: lists, a file of it, and its retention."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator

import msgspec

from app.domain.listing import Found, Listing
from app.domain.resolution import DAY_US, from_us
from app.stores.registry.action_log import ActionLog, ActionRecord

_AT_ONCE = 500
_LINES_AT_ONCE = 200
_HEADER = ("id", "time", "actor", "what", "subject", "before", "after")
# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Actions:
    """Every method blocks."""

    def __init__(self, log: ActionLog, *, now_us: Callable[[], int], keep_days: Callable[[], int]) -> None:
        self._log = log
        self._now_us = now_us
        self._keep_days = keep_days

    def found(self, listing: Listing) -> Found[ActionRecord]:
        """Some actions."""
        return self._log.found(listing)

    def get(self, number: int) -> ActionRecord:
        """One action. Raises UnknownNameError."""
        return self._log.get(number)

    def as_csv(self, listing: Listing) -> Iterator[str]:
        """Every action that meets the conditions, as CSV in pieces, oldest first."""
        lines: list[tuple[object, ...]] = [_HEADER]
        for one in self._log.all(listing):
            lines.append(_line(one))
            if len(lines) >= _LINES_AT_ONCE:
                yield _written(lines)
                lines = []
        yield _written(lines)

    def tidy(self) -> bool:
        """One bounded step of retention; whether there may be more."""
        return self._log.prune(self._now_us() - self._keep_days() * DAY_US, _AT_ONCE) == _AT_ONCE


def _line(one: ActionRecord) -> tuple[object, ...]:
    time = from_us(one.at_us).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    texts = [one.actor, one.what, one.subject, _json(one.before), _json(one.after)]
    return (one.id, time, *(f"'{text}" if text.startswith(_FORMULA) else text for text in texts))


def _json(facts: object) -> str:
    return "" if facts is None else msgspec.json.encode(facts).decode()


def _written(lines: list[tuple[object, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
