"""Whatever happens to a channel, every moment of it belongs to exactly one key."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from app.domain.keys import BEGINNING_US, CollectionLevel, SupplyPeriod, SupplyPeriods, draw_keys
from app.stores.registry.faults import RefusedChangeError
from app.stores.registry.records import KeyChange, NewSite, PairedAs
from app.stores.registry.registry import Registry

TIMES = st.integers(min_value=0, max_value=2**62)
LEVELS = st.sampled_from(CollectionLevel)


@given(st.lists(TIMES, unique=True, min_size=1), TIMES)
def test_a_moment_is_found_as_a_linear_search_finds_it(starts: list[int], time_us: int):
    starts.sort()
    ends = [*starts[1:], None]
    periods = [
        SupplyPeriod(number + 1, start, end, CollectionLevel.SECOND, assigned=False)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    routing = SupplyPeriods(reversed(periods))

    for moment in (time_us, *starts, *(start - 1 for start in starts)):
        expected = [period for period in periods if period.covers(moment)]
        assert [routing.at(moment)] == (expected or [None])


@given(st.lists(st.tuples(TIMES, st.none() | TIMES)))
def test_overlapping_periods_are_refused(spans: list[tuple[int, int | None]]):
    periods = [
        SupplyPeriod(number + 1, start, end, CollectionLevel.NONE, assigned=False)
        for number, (start, end) in enumerate(spans)
        if end is None or end >= start
    ]
    moments = {moment for period in periods for moment in (period.from_us, period.to_us) if moment is not None}
    overlap = any(sum(period.covers(moment) for period in periods) > 1 for moment in moments)
    if overlap:
        with pytest.raises(ValueError, match="overlap"):
            SupplyPeriods(periods)
    else:
        assert all(SupplyPeriods(periods).at(m) in [p for p in periods if p.covers(m)] or [None] for m in moments)


def test_keys_are_drawn_without_repetition():
    keys = draw_keys(10_000)

    assert len(set(keys)) == len(keys) == 10_000
    assert min(keys) > 0
    assert max(keys) < 2**63


class Channel(RuleBasedStateMachine):
    """Changes in any order, at any time, against a list of (time, key) that says what must come out."""

    folder: ClassVar[Path]

    @initialize()
    def open(self) -> None:
        self.registry = Registry.open(Path(tempfile.mkdtemp(dir=self.folder)) / "registry.sqlite")
        self.sites = self.registry.add_sites([NewSite("Lyon"), NewSite("Lille")])
        self.registry.provision("WD-1")
        (first,) = self.registry.periods("WD-1").periods
        self.keys = [(BEGINNING_US, first.key)]
        self.ever = {first.key}
        self.paired = False

    @rule(at_us=TIMES, site=st.integers(0, 1), level=LEVELS)
    def pair(self, at_us: int, site: int, level: CollectionLevel) -> None:
        def change() -> KeyChange:
            return self.registry.pair("WD-1", 1, at_us, PairedAs(self.sites[site], level))

        self.expect(change, at_us, allowed=not self.paired, paired=True)

    @rule(at_us=TIMES)
    def unpair(self, at_us: int) -> None:
        self.expect(lambda: self.registry.unpair("WD-1", 1, at_us), at_us, allowed=self.paired, paired=False)

    @rule(at_us=TIMES)
    def change_meter(self, at_us: int) -> None:
        self.expect(lambda: self.registry.change_meter("WD-1", 1, at_us, "M"), at_us, allowed=self.paired, paired=True)

    @rule(at_us=TIMES, level=LEVELS)
    def change_holder(self, at_us: int, level: CollectionLevel) -> None:
        def change() -> KeyChange:
            return self.registry.change_holder("WD-1", 1, at_us, self.registry.add_holder(), level)

        self.expect(change, at_us, allowed=self.paired, paired=True)

    def expect(self, change, at_us: int, *, allowed: bool, paired: bool) -> None:
        if not allowed or at_us < self.keys[-1][0]:
            with pytest.raises(RefusedChangeError):
                change()
            return
        key = change().opened.key
        assert key not in self.ever
        self.ever.add(key)
        self.keys.append((at_us, key))
        self.paired = paired

    @invariant()
    def every_moment_has_the_key_of_the_last_change_before_it(self) -> None:
        if not hasattr(self, "registry"):
            return
        periods = self.registry.periods("WD-1")
        assert periods == self.registry.all_periods()["WD-1", 1]
        for start, _key in self.keys:
            for moment in {max(BEGINNING_US, start - 1), start, start + 1}:
                period = periods.at(moment)
                assert period is not None
                assert period.key == [key for at_us, key in self.keys if at_us <= moment][-1]
        assert periods.current is not None
        assert periods.current.assigned is self.paired

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            self.registry.close()


def test_changes_of_a_channel_in_any_order(tmp_path: Path):
    Channel.folder = tmp_path
    run_state_machine_as_test(
        Channel,
        settings=settings(
            max_examples=15,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
