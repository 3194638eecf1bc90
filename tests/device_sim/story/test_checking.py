"""Expectations against made-up answers: each must be able to fail."""

import types

import pytest

from device_sim.story.checking import Checker
from device_sim.story.script import Bounds, EventsWanted, Expectation, StatisticWanted

BEGAN = 1_800_000_000_000_000
ROWS = [
    {"serial": "A", "state": "live", "rssi_dbm": -60, "frame_gap_ms": 1000},
    {"serial": "B", "state": "silent", "rssi_dbm": -85, "frame_gap_ms": 20_000},
    {"serial": "C", "state": "live", "rssi_dbm": None, "frame_gap_ms": None},
]
EVENTS = [
    {"module": "A", "kind": "born", "count": 1, "details": {"reset_reason": "power_on", "after": {"channel": 13}}},
    {"module": "A", "kind": "born", "count": 1, "details": {"reset_reason": "software"}},
    {"module": "B", "kind": "born", "count": 1, "details": {"reset_reason": "power_on"}},
]


def answers(path, parameters):
    asked = dict(parameters)
    if path == "/v1/modules":
        return {"items": ROWS, "total": len(ROWS)}
    if path == "/v1/events":
        assert asked["from_us"] >= BEGAN
        # Two pages.
        return {"items": EVENTS[2:], "cursor": None} if "cursor" in asked else {"items": EVENTS[:2], "cursor": "2"}
    if path == "/v1/statistics":
        return {"refused.format": 2, "refused.range": 1, "broker.connects": 9}
    if path.endswith("/readings"):
        times = (
            [1000_000, 2000_000]
            if "/B/" in path
            else [1000_000, 2000_000, *range(BEGAN, BEGAN + 58_000_000, 1_000_000)]
        )
        late = [[BEGAN, 70_000, "measured"], [BEGAN + 1, 500, "re_sent"]]
        return {"columns": ["time", "lag_ms", "origin"], "rows": [*([time, 200, "measured"] for time in times), *late]}
    raise AssertionError(path)


def modules(*serials, ledger=()):
    return [types.SimpleNamespace(serial=serial, tally=types.SimpleNamespace(ledger=set(ledger))) for serial in serials]


@pytest.mark.parametrize(
    ("wanted", "who", "holds"),
    [
        ({"states": {"live": "all"}}, "AC", True),
        ({"states": {"live": "all"}}, "AB", False),
        ({"states": {"live": 1, "silent": 1}}, "AB", True),
        ({"states": {"live": 1}}, "AX", False),
        ({"rssi_dbm": Bounds(at_least=-70)}, "A", True),
        ({"rssi_dbm": Bounds(at_least=-70)}, "AB", False),
        ({"rssi_dbm": Bounds(at_least=-70)}, "AC", False),
        ({"frame_gap_ms": Bounds(at_least=10_000)}, "B", True),
        ({"events": EventsWanted(kind="born", equals=3)}, "ABC", True),
        ({"events": EventsWanted(kind="born", equals=2, of="modules")}, "ABC", True),
        ({"events": EventsWanted(kind="born", equals=1, of="modules", details={"reset_reason": "software"})}, "ABC", True),
        ({"events": EventsWanted(kind="born", equals=1, details={"after.channel": 13})}, "ABC", True),
        ({"events": EventsWanted(kind="born", equals=0)}, "C", True),
        ({"events": EventsWanted(kind="born", equals=0)}, "A", False),
        ({"late_readings": Bounds(equals=4)}, "AB", True),
        ({"completeness": Bounds(at_least=0.9)}, "A", True),
        ({"completeness": Bounds(at_least=0.9)}, "AB", False),
        ({"quarantined": Bounds(equals=3)}, "A", True),
        ({"statistic": StatisticWanted(name="broker.connects", at_least=9)}, "A", True),
        ({"statistic": StatisticWanted(name="broker.connects", at_least=10)}, "A", False),
        ({"statistic": StatisticWanted(name="no.such")}, "A", False),
    ],
)  # fmt: skip
async def test_each_kind_holds_or_not(wanted, who, holds):
    look = await Checker(answers, BEGAN, lambda: BEGAN + 60_000_000, 1_000_000, 2_000_000).look(
        Expectation(at_s=0, **wanted), modules(*who)
    )
    assert look.holds is holds, look.seen
    assert look.seen


@pytest.mark.parametrize(("ledger", "holds"), [((1000, 2000), True), ((1000, 2000, 3000), False), ((), False)])
async def test_what_was_acknowledged_and_is_not_there_is_lost(ledger, holds):
    wanted = Expectation(at_s=0, lost_readings=Bounds(equals=0))
    look = await Checker(answers, BEGAN, lambda: BEGAN, 1_000_000, 0).look(wanted, modules("A", ledger=ledger))
    assert look.holds is holds, look.seen
