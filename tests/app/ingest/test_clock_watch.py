"""A clock that is set while the hub runs costs no reading."""

import pytest

from app.domain.reading import Reading
from app.ingest.clock_watch import ClockWatch
from app.ingest.ingest import Ingest
from app.ingest.live import LiveState
from app.ingest.quarantine import Quarantine
from app.ingest.stamping import TimeLimits
from tests.app.ingest.readings import NOW_MS, NOW_US, directory_of, periods

HOUR_US = 3_600_000_000


class Clocks:
    """A wall clock that can be set, and one that only goes on."""

    def __init__(self):
        self.wall = NOW_US
        self.monotonic = 5_000_000

    def pass_time(self, us):
        self.wall += us
        self.monotonic += us

    def watch(self):
        return ClockWatch(wall_us=lambda: self.wall, monotonic_us=lambda: self.monotonic)


def test_time_that_passes_and_drift_are_no_steps():
    clocks = Clocks()
    watch = clocks.watch()
    for _ in range(100):
        clocks.pass_time(10_000_000)
        clocks.wall += 500_000  # an absurd drift
        watch.look()

    assert (watch.forwards_us, watch.back_us) == (0, 0)


def test_steps_add_up_each_way():
    clocks = Clocks()
    watch = clocks.watch()
    for step in (HOUR_US, -2 * HOUR_US, HOUR_US):
        clocks.wall += step
        watch.look()

    assert (watch.forwards_us, watch.back_us) == (2 * HOUR_US, 2 * HOUR_US)


@pytest.mark.parametrize("step_us", [-HOUR_US, -49 * HOUR_US, HOUR_US, 49 * HOUR_US])
def test_right_readings_are_kept_after_a_step(tmp_path, step_us):
    clocks = Clocks()
    ingest = Ingest(
        directory_of(A=periods((11, 0, None))),
        LiveState(),
        Quarantine(tmp_path / "q.sqlite", 10),
        limits=TimeLimits.of(future_minutes=5, raw_days=2, resent_days=31),
        time_zone="Europe/Paris",
        buffer_rows=1000,
        clock=clocks.watch(),
    )
    clocks.wall += step_us
    ingest.take([0], [Reading(time_ms=NOW_MS, seq=1)], clocks.wall)
    chunks, _ = ingest.drain()

    assert ingest.counters.quarantined == 0
    assert sum(chunk.readings for chunk in chunks) == 1
