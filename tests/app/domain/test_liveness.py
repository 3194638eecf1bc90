"""How a module is doing, in one word."""

from __future__ import annotations

import numpy as np
import pytest

from app.domain.liveness import LIVENESS, UNKNOWN, Liveness, liveness

S = 1_000_000


def word(*, heard=True, session_open=True, sessionless=False, age_us=0, period_us=S, gap_us=S) -> Liveness:
    found = liveness(
        heard=np.array([heard]),
        session_open=np.array([session_open]),
        sessionless=np.array([sessionless]),
        age_us=np.array([age_us], np.int64),
        period_us=np.array([period_us], np.int64),
        gap_us=np.array([gap_us], np.int64),
    )
    return LIVENESS[found[0]]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, Liveness.LIVE),
        ({"gap_us": 3 * S // 2}, Liveness.LIVE),
        ({"gap_us": 3 * S // 2 + 1}, Liveness.LATE),
        ({"gap_us": UNKNOWN}, Liveness.LIVE),
        ({"age_us": 3 * S}, Liveness.LIVE),
        ({"age_us": 3 * S + 1}, Liveness.SILENT),
        ({"age_us": 29 * S, "period_us": 10 * S, "gap_us": 10 * S}, Liveness.LIVE),
        ({"age_us": 31 * S, "period_us": 10 * S, "gap_us": 10 * S}, Liveness.SILENT),
        # A session that has sent nothing yet.
        ({"age_us": UNKNOWN, "heard": False}, Liveness.SILENT),
        # A reading that came a moment ago does not open a session.
        ({"session_open": False}, Liveness.OFFLINE),
        ({"session_open": False, "heard": False, "age_us": UNKNOWN}, Liveness.NEVER),
        # What has no session of its own is offline after a minute.
        ({"session_open": False, "sessionless": True}, Liveness.LIVE),
        ({"session_open": False, "sessionless": True, "age_us": 60 * S}, Liveness.SILENT),
        ({"session_open": False, "sessionless": True, "age_us": 60 * S + 1}, Liveness.OFFLINE),
        # Without a declared period the usual gap stands for it.
        ({"period_us": 0, "gap_us": 10 * S, "age_us": 29 * S}, Liveness.LIVE),
        ({"period_us": 0, "gap_us": 10 * S, "age_us": 31 * S}, Liveness.SILENT),
        ({"period_us": 0, "gap_us": UNKNOWN, "age_us": 2 * S}, Liveness.LIVE),
    ],
)
def test_the_word_of_one_module(facts, expected):
    assert word(**facts) == expected
