"""Decides whether an energy index can be true, from the one before: a six-bit checksum lets 1 fault in 64 through."""

from __future__ import annotations

import enum

# How much faster than the subscription an index may grow: breakers tolerate overload for a while.
TOLERANCE = 1.3
# For rounding, and for the time between measuring and sending.
SLACK_WH = 20
# So many equal-minded indexes in a row on a new level are believed: the meter was changed, or the first was a misread.
AGREEING_TO_MOVE = 3
_US_PER_HOUR = 3_600_000_000


class Verdict(enum.Enum):
    """What an index is judged to be."""

    ACCEPTED = "accepted"
    FELL = "fell"
    JUMPED = "jumped"


class IndexGuard:
    """Judges one index of one meter over time; a rejected value changes nothing until its like came often enough."""

    def __init__(self) -> None:
        self._last: tuple[int, int | None] | None = None
        self._candidate: tuple[int, int | None] | None = None
        self._agreeing = 0

    def judge(self, index_wh: int, now_us: int | None, ceiling_va: float) -> Verdict:
        """Judge the next index. Without a time only a fall can be seen; `ceiling_va` is the subscribed power."""
        verdict = _compare(self._last, index_wh, now_us, ceiling_va)
        if verdict is not Verdict.ACCEPTED:
            agrees = self._candidate is not None and (
                _compare(self._candidate, index_wh, now_us, ceiling_va) is Verdict.ACCEPTED
            )
            self._agreeing = self._agreeing + 1 if agrees else 1
            self._candidate = (index_wh, now_us)
            if self._agreeing < AGREEING_TO_MOVE:
                return verdict
        self._last = (index_wh, now_us)
        self._candidate = None
        self._agreeing = 0
        return Verdict.ACCEPTED


def _compare(before: tuple[int, int | None] | None, index_wh: int, now_us: int | None, ceiling_va: float) -> Verdict:
    if before is None:
        return Verdict.ACCEPTED
    before_wh, before_us = before
    if index_wh < before_wh:
        return Verdict.FELL
    if now_us is None or before_us is None or now_us < before_us:
        return Verdict.ACCEPTED
    possible_wh = ceiling_va * TOLERANCE * (now_us - before_us) / _US_PER_HOUR + SLACK_WH
    return Verdict.ACCEPTED if index_wh - before_wh <= possible_wh else Verdict.JUMPED
