"""How a module is doing in one word: the verdict on its stream, and whether anything was ever heard of it."""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt

from app.domain.completeness import Verdict, verdicts

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

UNKNOWN = -1


class Liveness(enum.StrEnum):
    """State of a module, worst last; the order is that of `LIVENESS`."""

    # Its session is open and fresh readings come.
    LIVE = "live"
    # They come, but the gaps between them are too long.
    LATE = "late"
    # Its session is open and nothing fresh comes.
    SILENT = "silent"
    # It has no session; what has none by nature (a foreign device, a meter on a serial port) is silent for a minute, or
    # its last will says so.
    OFFLINE = "offline"
    # Nothing was ever heard of it.
    NEVER = "never"


# A word by its number in a column.
LIVENESS = tuple(Liveness)
_NEVER = LIVENESS.index(Liveness.NEVER)
# The first words stand in the order of the verdicts, so that a verdict is its word's number.
assert [word.name for word in LIVENESS[:_NEVER]] == [
    {Verdict.FRESH: "LIVE", Verdict.LATE: "LATE", Verdict.SILENT: "SILENT", Verdict.OFFLINE: "OFFLINE"}[verdict]
    for verdict in Verdict
]


def liveness(
    *,
    heard: Bools,
    session_open: Bools,
    sessionless: Bools,
    age_us: Int64s,
    period_us: Int64s,
    gap_us: Int64s,
    gone: Bools | None = None,
) -> npt.NDArray[np.int8]:
    """Numbers of `LIVENESS` over whole columns.

    `heard`: it connected or sent anything, ever. `sessionless`: it has no session of its own. `age_us` is since the
    newest reading arrived; UNKNOWN: none did, which is older than anything. `gap_us` is the usual time between two
    readings of late, UNKNOWN where too few came. A period of 0 is not known: the usual gap stands for it then, so that
    such a module can be silent and never late. `gone`: a foreign device's last will was heard.
    """
    period = np.where(period_us > 0, period_us, np.maximum(gap_us, 0))
    found = verdicts(
        session_open=session_open,
        foreign=sessionless,
        will_received=np.zeros(len(age_us), np.bool_) if gone is None else gone,
        age_us=np.where(age_us == UNKNOWN, np.iinfo(np.int64).max, age_us),
        period_us=period,
        median_gap_us=gap_us,
    )
    return np.where(heard | session_open, found, _NEVER).astype(np.int8)
