"""What a customer has agreed to is written, and nothing else decides it."""

import numpy as np

from app.domain.keys import CollectionLevel
from app.ingest.thinning import Thinning

MINUTE_US = 60_000_000
# 2025-03-30 00:30 UTC is 01:30 in Paris; the clock goes forward at 01:00 UTC, midnight of the next day is at 22:00 UTC.
NIGHT_US = 1_743_294_600_000_000


def kept(thinning, level, *minutes, given=None, slots=None):
    count = len(minutes)
    return thinning.kept(
        np.array(slots or [0] * count),
        np.array([NIGHT_US + minute * MINUTE_US for minute in minutes], np.int64),
        np.full(count, level, np.int8),
        np.ones(count, np.bool_) if given is None else np.array(given),
    ).tolist()


def test_the_first_of_each_ten_minutes():
    thinning = Thinning("Europe/Paris")

    assert kept(thinning, CollectionLevel.TEN_MINUTES, 0, 1, 9, 10, 11, 25) == [True, False, False, True, False, True]
    assert kept(thinning, CollectionLevel.TEN_MINUTES, 26, 30) == [False, True]


def test_the_first_of_each_civil_day_also_where_it_has_23_hours():
    thinning = Thinning("Europe/Paris")
    last_minute = 21 * 60 + 29

    assert kept(thinning, CollectionLevel.DAILY, -1, 0, last_minute, last_minute + 1) == [True, False, False, True]


def test_modules_do_not_mix_and_the_other_levels_say_all_or_nothing():
    thinning = Thinning("Europe/Paris")

    assert kept(thinning, CollectionLevel.DAILY, 0, 0, 0, slots=[0, 1, 0]) == [True, True, False]
    assert kept(thinning, CollectionLevel.SECOND, 0, 0) == [True, True]
    assert kept(thinning, CollectionLevel.NONE, 0, 0) == [False, False]


def test_a_reading_that_is_refused_does_not_use_up_its_period():
    thinning = Thinning("Europe/Paris")
    far_ahead = 10**6

    assert kept(thinning, CollectionLevel.TEN_MINUTES, far_ahead, 0, given=[False, True]) == [False, True]
    assert kept(thinning, CollectionLevel.TEN_MINUTES, 10) == [True]


def test_a_changed_level_holds_at_once():
    thinning = Thinning("Europe/Paris")

    assert kept(thinning, CollectionLevel.DAILY, 0) == [True]
    assert kept(thinning, CollectionLevel.TEN_MINUTES, 1, 10) == [True, True]
