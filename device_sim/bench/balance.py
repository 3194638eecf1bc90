"""What was sent against what is stored, by sequence number."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from device_sim.bench.payload import FIRST_SEQ
from device_sim.bench.plan import Finished
from device_sim.bench.ranges import expand
from device_sim.bench.tools import StoredReadings


@dataclasses.dataclass(frozen=True, slots=True)
class SomeReadings:
    """Stored readings of a part of the modules."""

    module: NDArray[np.int32]
    seq: NDArray[np.int64]
    lag_ms: NDArray[np.int64]


def of_modules(stored: StoredReadings, first: int, last: int) -> SomeReadings:
    """The readings of modules `first` (inclusive) to `last` (exclusive), renumbered from 0."""
    chosen = (stored.module >= first) & (stored.module < last)
    return SomeReadings((stored.module[chosen] - first).astype(np.int32), stored.seq[chosen], stored.lag_ms[chosen])


@dataclasses.dataclass(frozen=True, slots=True)
class Balance:
    """Counts of readings; `offered == sent + unsent` and `sent == stored + lost` hold by construction."""

    offered: int
    unsent: int
    sent: int
    stored: int
    """Different readings that were sent and are stored."""
    lost: int
    """Sent and not stored; when the hub sheds by rule, what it shed."""
    duplicated: int
    """Copies beyond the first of any stored reading."""
    unexpected: int
    """Stored although never sent: a wrong module, or a sequence number nobody used."""
    acked: int
    missing: int
    """Acknowledged and not stored."""


def balance(stored: StoredReadings, finished: Finished) -> Balance:
    """Compare what the load processes sent with what was read back, reading by reading."""
    modules = len(finished.sent)
    unsent_counts = np.zeros(modules, dtype=np.int64)
    for number, ranges in finished.unsent.items():
        unsent_counts[number] = sum(last - first + 1 for first, last in ranges)
    rounds = int((np.asarray(finished.sent, dtype=np.int64) + unsent_counts).max(initial=0))

    was_sent = np.ones((modules, rounds), dtype=bool)
    for number, ranges in finished.unsent.items():
        was_sent[number, expand(ranges) - FIRST_SEQ] = False
    was_acked = np.zeros((modules, rounds), dtype=bool)
    for number, ranges in finished.acked.items():
        was_acked[number, expand(ranges) - FIRST_SEQ] = True

    position = stored.seq - FIRST_SEQ
    known = (position >= 0) & (position < rounds) & (stored.module >= 0) & (stored.module < modules)
    place = stored.module[known].astype(np.int64) * rounds + position[known]
    copies = np.bincount(place, minlength=modules * rounds).reshape(modules, rounds)
    is_stored = copies > 0
    return Balance(
        offered=modules * rounds,
        unsent=int(unsent_counts.sum()),
        sent=int(was_sent.sum()),
        stored=int((is_stored & was_sent).sum()),
        lost=int((was_sent & ~is_stored).sum()),
        duplicated=int((copies[is_stored] - 1).sum()),
        unexpected=int((~known).sum()) + int((is_stored & ~was_sent).sum()),
        acked=int(was_acked.sum()),
        missing=int((was_acked & ~is_stored).sum()),
    )
