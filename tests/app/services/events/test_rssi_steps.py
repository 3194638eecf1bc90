"""Steps of the signal, seen over whole columns."""

from __future__ import annotations

import numpy as np
import pytest

from app.domain.keys import SupplyPeriods
from app.ingest.directory import ModuleDirectory, ModuleEntry
from app.ingest.live import LiveState
from app.services.events import rssi_steps
from app.services.events.rssi_steps import RssiSteps

NOW_US = 1_795_608_000_000_000
EACH_US = 5_000_000


class Trial:
    """Modules with a signal each; `pass_looks` returns what was told."""

    def __init__(self, count):
        self.modules = ModuleDirectory()
        self.modules.put(ModuleEntry(f"WD{number}", SupplyPeriods(())) for number in range(count))
        self.live = LiveState()
        self.live.reserve(count)
        self.steps = RssiSteps(self.live, self.modules, None, lambda: self.now_us)
        self.now_us = NOW_US
        self.rssi = np.full(count, -60, np.int16)
        self.silent = np.zeros(count, np.bool_)

    def pass_looks(self, looks):
        told = []
        for _ in range(looks):
            self.now_us += EACH_US
            count = len(self.rssi)
            self.live.rssi_dbm[:count] = self.rssi
            self.live.arrival_us[:count] = np.where(self.silent, self.live.arrival_us[:count], self.now_us)
            told += self.steps.look(self.now_us)
        return told


@pytest.mark.parametrize(("change", "told"), [(-20, 1), (20, 1), (-11, 1), (9, 0), (-9, 0)])
def test_a_step_is_told_once_with_its_levels(change, told):
    trial = Trial(3)
    assert trial.pass_looks(20) == []
    trial.rssi[1] += change

    found = trial.pass_looks(60)

    assert len(found) == told
    for step in found:
        assert step.slot == 1
        assert step.before_dbm == -60
        assert abs(step.after_dbm - (-60 + change)) <= 4


def test_a_short_dip_and_a_slow_drift_are_no_steps():
    trial = Trial(1)
    trial.pass_looks(20)
    trial.rssi[0] = -85
    found = trial.pass_looks(1)
    trial.rssi[0] = -60
    found += trial.pass_looks(20)
    for level in range(-60, -80, -1):
        trial.rssi[0] = level
        found += trial.pass_looks(6)

    assert found == []


def test_silence_is_no_step_and_what_comes_after_it_is_compared_with_nothing():
    trial = Trial(2)
    trial.pass_looks(20)
    trial.silent[0] = True
    found = trial.pass_looks(30)
    trial.silent[0] = False
    trial.rssi[0] = -85
    found += trial.pass_looks(30)
    trial.rssi[1] = 0  # says nothing any more

    assert found + trial.pass_looks(30) == []


def test_there_and_back_is_two_steps():
    trial = Trial(1)
    trial.pass_looks(20)
    trial.rssi[0] = -80
    there = trial.pass_looks(20)
    trial.rssi[0] = -60

    assert [step.after_dbm < step.before_dbm for step in there + trial.pass_looks(20)] == [True, False]


def test_a_step_of_a_whole_fleet_is_told_bit_by_bit_and_whole(monkeypatch):
    monkeypatch.setattr(rssi_steps, "_MOST_AT_ONCE", 10)
    trial = Trial(95)
    trial.pass_looks(20)
    trial.rssi[:] = -80
    each = [trial.pass_looks(1) for _ in range(40)]

    assert max(map(len, each)) == 10
    assert sorted(step.slot for found in each for step in found) == list(range(95))


def test_modules_may_be_added_meanwhile():
    trial = Trial(2)
    trial.pass_looks(20)
    trial.modules.put(ModuleEntry(f"WD{number}", SupplyPeriods(())) for number in range(2, 3000))
    trial.live.reserve(3000)
    trial.rssi = np.full(3000, -60, np.int16)
    trial.silent = np.zeros(3000, np.bool_)
    assert trial.pass_looks(20) == []
    trial.rssi[2999] = -90

    assert [step.slot for step in trial.pass_looks(30)] == [2999]
