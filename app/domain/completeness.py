"""What should have come, what did, and why the rest is missing: the rules, without any store."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]

# Sequence numbers count modulo this (docs/protocol.md): a step is taken modulo it, so a wrap is a step of 1.
SEQUENCE_MODULUS = 1 << 32
# A forward step beyond this (48 days at 1 Hz) is a counter that was set anew, not a loss.
LARGEST_LOSS = 1 << 22

# A reading that arrives this long after its time comes after its 10-minute bucket may have been closed.
LATE_LAG_MS = 60_000

# Median gap above this many periods: the module is late.
LATE_FACTOR = 1.5
# No fresh reading for this many periods, or this long where periods are short.
SILENT_PERIODS = 3
SILENT_FLOOR_US = 3_000_000
OFFLINE_FLOOR_US = 60_000_000


class Reason(enum.IntFlag):
    """Why a bucket is not simply complete; several may hold."""

    LOST = 1 << 0  # the sequence has gaps: sent, never arrived
    LATE = 1 << 1  # some arrived more than LATE_LAG_MS after their time, or re-sent
    DUPLICATED = 1 << 2  # the same reading came more than once
    REBOOTED = 1 << 3  # boot_id changed: what was lost around it can not be counted
    SEQUENCE_BROKEN = 1 << 4  # the sequence went back or jumped within one boot
    NO_SEQUENCE = 1 << 5  # no sequence numbers: lost can not be told from never sent
    METER_LINK = 1 << 6  # the module spoke, its meter did not
    NO_CLOCK = 1 << 7  # stamped on arrival, or by a clock never set
    PERIOD_LEARNED = 1 << 8  # expected stands on the median gap, not on a declared period
    PARTLY_PAIRED = 1 << 9  # the key began or ended within the bucket
    INDEX_FELL = 1 << 10  # an energy index fell: meter changed or reset; that step counts no energy
    MIXED_POWER = 1 << 11  # both W and VA occur
    OPEN = 1 << 12  # the bucket is not over yet: expected counts what was due so far
    MERGED = 1 << 13  # late data were added after the raw readings were gone: duplicates can not be told


class Step(enum.Enum):
    """How one reading follows the one before it, by boot and sequence."""

    IN_ORDER = "in order"
    DUPLICATE = "duplicate"
    LOSS = "loss"
    REBOOT = "reboot"
    BROKEN = "broken"


class Verdict(enum.IntEnum):
    """State of a module's stream, worst last."""

    FRESH = 0
    LATE = 1
    SILENT = 2
    OFFLINE = 3


def expected_count(paired_us: int, period_us: int | None) -> int | None:
    """Readings due in this much paired time, to the nearest; None when the period is unknown."""
    if not period_us:
        return None
    return (2 * paired_us + period_us) // (2 * period_us)


def sequence_step(
    before: tuple[int | None, int | None], after: tuple[int | None, int | None]
) -> tuple[Step | None, int]:
    """How (boot_id, seq) `after` follows `before`, and how many are lost between; (None, 0) without numbers."""
    (boot_before, seq_before), (boot_after, seq_after) = before, after
    if seq_before is None or seq_after is None:
        return None, 0
    if boot_before != boot_after:
        return Step.REBOOT, 0
    step = (seq_after - seq_before) % SEQUENCE_MODULUS
    if step == 0:
        return Step.DUPLICATE, 0
    if step == 1:
        return Step.IN_ORDER, 0
    if step <= LARGEST_LOSS:
        return Step.LOSS, step - 1
    return Step.BROKEN, 0


def learned_period_us(times_us: Sequence[int]) -> int | None:
    """The period of a source that declares none: the lower median of the gaps between sorted times; None below two."""
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(times_us))
    return gaps[(len(gaps) + 1) // 2 - 1] if gaps else None


def verdict(
    *,
    session_open: bool,
    foreign: bool,
    will_received: bool,
    age_us: int,
    period_us: int,
    median_gap_us: int | None,
) -> Verdict:
    """The state of one stream. `age_us` is since the newest fresh reading, `session_open` our modules' MQTT session.

    A foreign module may sit behind a gateway: it has no session of its own, so its last will or its age decide.
    """
    return Verdict(
        int(
            verdicts(
                session_open=np.array([session_open]),
                foreign=np.array([foreign]),
                will_received=np.array([will_received]),
                age_us=np.array([age_us], np.int64),
                period_us=np.array([period_us], np.int64),
                median_gap_us=np.array([-1 if median_gap_us is None else median_gap_us], np.int64),
            )[0]
        )
    )


def verdicts(
    *,
    session_open: npt.NDArray[np.bool_],
    foreign: npt.NDArray[np.bool_],
    will_received: npt.NDArray[np.bool_],
    age_us: Int64s,
    period_us: Int64s,
    median_gap_us: Int64s,
) -> npt.NDArray[np.int8]:
    """`verdict` over whole columns; a median gap below 0 is unknown."""
    silence = SILENT_PERIODS * period_us
    offline: Any = np.where(foreign, will_received | (age_us > np.maximum(OFFLINE_FLOOR_US, silence)), ~session_open)
    silent = age_us > np.maximum(SILENT_FLOOR_US, silence)
    late = median_gap_us > LATE_FACTOR * period_us
    result = np.select([offline, silent, late], [Verdict.OFFLINE, Verdict.SILENT, Verdict.LATE], Verdict.FRESH)
    return result.astype(np.int8)
