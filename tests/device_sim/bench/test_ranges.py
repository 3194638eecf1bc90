"""Ranges hold what was added, whatever the order."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from device_sim.bench.ranges import Ranges, expand


@given(st.lists(st.integers(0, 60), max_size=80))
def test_every_number_once(numbers):
    ranges = Ranges()
    for number in numbers:
        ranges.add(number)
    parts = ranges.parts()

    assert expand(parts).tolist() == sorted(set(numbers))
    assert all(earlier[1] + 1 < later[0] for earlier, later in itertools.pairwise(parts))
