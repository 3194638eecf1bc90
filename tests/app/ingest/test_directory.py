"""Readings find the key of their supply period by module time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.domain.keys import CollectionLevel
from app.ingest.directory import NO_KEY, ModuleEntry
from tests.app.ingest.readings import directory_of, periods


def route(directory, slot, *times):
    keys, levels = directory.route(np.full(len(times), slot), np.array(times))
    return list(keys), list(levels)


def test_current_and_older_periods_and_gaps():
    directory = directory_of(A=periods((11, 100, 200), (12, 300, None)), B=periods((21, 0, None)))

    assert route(directory, 0, 99, 100, 199, 200, 299, 300, 10**15)[0] == [NO_KEY, 11, 11, NO_KEY, NO_KEY, 12, 12]
    assert route(directory, 1, 0, 500)[0] == [21, 21]
    assert route(directory, 0, 250)[1] == [CollectionLevel.NONE]


def test_a_changed_pairing_takes_effect():
    directory = directory_of(A=periods((11, 0, None)))
    directory.put([ModuleEntry("A", periods((11, 0, 500), (12, 500, None)))])

    assert directory.slot("A") == 0
    assert route(directory, 0, 499, 500)[0] == [11, 12]


def test_a_module_without_periods_has_no_key():
    directory = directory_of(A=periods())

    assert route(directory, 0, 5) == ([NO_KEY], [CollectionLevel.NONE])


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=8, unique=True), st.lists(st.integers(-10, 1010), max_size=30)
)
def test_routing_agrees_with_the_periods_themselves(starts, times):
    starts.sort()
    spans = [(n + 1, a, b) for n, (a, b) in enumerate(zip(starts, [*starts[1:], None], strict=True))]
    supply = periods(*spans)
    directory = directory_of(A=supply)

    for time in times:
        period = supply.at(time)
        assert route(directory, 0, time)[0] == [period.key if period else NO_KEY]


def test_many_modules_keep_their_slots():
    directory = directory_of(**{f"M{n}": periods((n + 1, 0, None)) for n in range(3000)})

    assert len(directory) == 3000
    assert all(directory.serial(directory.slot(f"M{n}")) == f"M{n}" for n in range(0, 3000, 97))
    assert route(directory, 2999, 1)[0] == [3000]
