"""Live state shows each module's newest value, and the last five minutes of power."""

import numpy as np

from app.domain.reading import Reading
from app.ingest.live import LiveState
from tests.app.ingest.readings import NOW_MS, NOW_US, columns_of


def updated(live, *readings, slots=None, arrival_us=NOW_US, personal=True):
    columns = columns_of(*readings, slots=slots, arrival_us=arrival_us)
    everything = np.ones(len(columns), np.bool_)
    live.update(columns, everything, everything if personal else ~everything)
    return live


def test_the_newest_time_wins_whatever_the_order():
    live = updated(
        LiveState(),
        Reading(time_ms=NOW_MS, apparent_va=1, rssi_dbm=-60, drawn_wh=5),
        Reading(time_ms=NOW_MS + 1000, apparent_va=2),
        Reading(time_ms=NOW_MS + 500, apparent_va=3, rssi_dbm=-99),
    )

    assert live.power[0] == 2
    live = updated(live, Reading(time_ms=NOW_MS - 5000, apparent_va=9))
    assert live.power[0] == 2
    assert live.rssi_dbm[0] == -99
    assert live.drawn_wh[0] == 5
    assert live.received[0] == 4


def test_modules_do_not_mix():
    live = updated(
        LiveState(), Reading(time_ms=NOW_MS, apparent_va=1), Reading(time_ms=NOW_MS, apparent_va=2), slots=[3, 1]
    )

    assert (live.power[3], live.power[1]) == (1, 2)
    assert np.isnan(live.power[0])


def test_the_ring_holds_five_minutes_and_shows_gaps():
    live = LiveState()
    for second in (0, 1, 3, 298):
        updated(
            live, Reading(time_ms=NOW_MS + second * 1000, apparent_va=100 + second), arrival_us=NOW_US + second * 10**6
        )
    recent = live.recent_power(0, NOW_US + 299 * 10**6)

    assert list(recent[:2]) == [100, 101]
    assert np.isnan(recent[2])
    assert recent[3] == 103
    assert recent[298] == 398
    assert np.isnan(recent[299])
    later = live.recent_power(0, NOW_US + 310 * 10**6)
    assert np.nansum(later) == 398


def test_without_consent_there_is_health_but_no_power():
    live = updated(LiveState(), Reading(time_ms=NOW_MS, apparent_va=7, drawn_wh=5, rssi_dbm=-70), personal=False)

    assert np.isnan(live.power[0])
    assert live.drawn_wh[0] == -1
    assert live.rssi_dbm[0] == -70
    assert np.isnan(live.recent_power(0, NOW_US)).all()


def test_a_short_frame_clears_nothing():
    live = updated(LiveState(), Reading(time_ms=NOW_MS, apparent_va=7, rssi_dbm=-70))
    live = updated(live, Reading(time_ms=NOW_MS + 1000, current_a=3))

    assert live.power[0] == 7
    assert live.rssi_dbm[0] == -70
    assert live.time_us[0] == NOW_US + 1_000_000


def test_a_clock_that_is_ahead_does_not_end_what_the_others_show():
    live = LiveState()
    for second in range(3):
        updated(live, Reading(time_ms=NOW_MS + second * 1000, apparent_va=100), arrival_us=NOW_US + second * 10**6)
    updated(live, Reading(time_ms=NOW_MS + 302_000, apparent_va=7), slots=[1], arrival_us=NOW_US + 2 * 10**6)

    assert np.nansum(live.recent_power(0, NOW_US + 2 * 10**6)) == 300
    updated(live, Reading(time_ms=NOW_MS + 3000, apparent_va=100), arrival_us=NOW_US + 3 * 10**6)
    assert np.nansum(live.recent_power(0, NOW_US + 3 * 10**6)) == 400
