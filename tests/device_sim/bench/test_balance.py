"""The books close: offered = sent + unsent, sent = stored + lost."""

from __future__ import annotations

import collections

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from device_sim.bench.balance import balance
from device_sim.bench.payload import FIRST_SEQ
from device_sim.bench.plan import Finished
from device_sim.bench.ranges import Ranges
from tests.device_sim.bench.recording_hub import Stored

MODULES, ROUNDS = 3, 8
READINGS = st.tuples(st.integers(0, MODULES - 1), st.integers(FIRST_SEQ, FIRST_SEQ + ROUNDS - 1))


def parts(readings):
    found = collections.defaultdict(Ranges)
    for module, seq in sorted(readings):
        found[module].add(seq)
    return {module: ranges.parts() for module, ranges in found.items()}


@given(st.lists(READINGS, max_size=40), st.sets(READINGS), st.sets(READINGS))
def test_every_reading_is_counted_where_it_belongs(stored, unsent, acked):
    acked -= unsent
    every = {(module, FIRST_SEQ + seq) for module in range(MODULES) for seq in range(ROUNDS)}
    sent = every - unsent
    finished = Finished(
        sent=[sum(module == number for module, _ in sent) for number in range(MODULES)],
        unsent=parts(unsent),
        acked=parts(acked),
        unacked=0,
        unclosed=0,
    )
    found = balance(
        Stored(
            np.array([module for module, _ in stored], dtype=np.int32),
            np.array([seq for _, seq in stored], dtype=np.int64),
            np.zeros(len(stored), dtype=np.int64),
        ),
        finished,
    )

    if unsent != every:
        assert (found.offered, found.unsent, found.sent) == (len(every), len(unsent), len(sent))
    assert found.stored == len(set(stored) & sent)
    assert found.lost == len(sent - set(stored))
    assert found.duplicated == len(stored) - len(set(stored))
    assert found.unexpected == len(set(stored) - sent)
    assert (found.acked, found.missing) == (len(acked), len(acked - set(stored)))


def test_readings_of_strangers_are_unexpected():
    finished = Finished(sent=[2], unsent={}, acked={}, unacked=0, unclosed=0)
    stored = Stored(np.array([0, 1, 0]), np.array([FIRST_SEQ, FIRST_SEQ, FIRST_SEQ + 2]), np.array([0, 0, 0]))
    found = balance(stored, finished)

    assert (found.stored, found.lost, found.unexpected) == (1, 1, 2)
