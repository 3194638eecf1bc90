"""Stamps readings once: which time counts, what is too far off to keep, and how a reading came."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
import numpy.typing as npt

from app.domain.reading import Origin, StateBit
from app.ingest.columns import Columns

# A module whose clock shows a time before this has never set it (the platform is younger).
CLOCK_EPOCH_US = 1_577_836_800_000_000  # 2020-01-01 UTC

_DAY_US = 86_400_000_000
_MINUTE_US = 60_000_000


class Verdict(enum.IntEnum):
    """What becomes of a reading by its time."""

    KEEP = 0
    FUTURE = 1
    TOO_OLD = 2


@dataclasses.dataclass(frozen=True, slots=True)
class TimeLimits:
    """How far module time may be from arrival."""

    future_us: int
    past_us: int
    resent_us: int

    @classmethod
    def of(cls, *, future_minutes: float, raw_days: float, resent_days: float) -> TimeLimits:
        """From the units of the settings."""
        return cls(int(future_minutes * _MINUTE_US), int(raw_days * _DAY_US), int(max(raw_days, resent_days) * _DAY_US))

    def widened(self, *, forwards_us: int, back_us: int) -> TimeLimits:
        """For a clock that was set: after a step forwards right readings look old, after one back they look future."""
        return TimeLimits(self.future_us + back_us, self.past_us + forwards_us, self.resent_us + forwards_us)


def stamp(columns: Columns, limits: TimeLimits) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """The verdict and the origin of each reading; sets the time of modules whose clock was never set, and flags it."""
    never_set = columns.time_us < CLOCK_EPOCH_US
    if never_set.any():
        columns.time_us = np.where(never_set, columns.arrival_us, columns.time_us)
        flag = StateBit.CLOCK_NEVER_SET | StateBit.STAMPED_ON_ARRIVAL
        columns.state = np.where(never_set, columns.state | flag, columns.state).astype(np.int32)
    age_us = columns.arrival_us - columns.time_us
    oldest = np.where(columns.resent, limits.resent_us, limits.past_us)
    verdict = np.where(
        age_us < -limits.future_us, Verdict.FUTURE, np.where(age_us > oldest, Verdict.TOO_OLD, Verdict.KEEP)
    )
    origin = np.where(columns.resent, Origin.RESENT, Origin.MEASURED)
    return verdict.astype(np.int8), origin.astype(np.int8)
