from __future__ import annotations

import errno
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stores.errors import FailPointError
from app.stores.failpoints import FailAction, FailPoint, FailPoints, FailRule, parse_fail_points, parse_fail_rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("journal_synced:kill", FailRule(FailPoint.JOURNAL_SYNCED, FailAction.KILL)),
        ("journal_written:kill@3", FailRule(FailPoint.JOURNAL_WRITTEN, FailAction.KILL, first=3, last=3)),
        ("journal_sync:stall=60", FailRule(FailPoint.JOURNAL_SYNC, FailAction.STALL, stall_s=60.0)),
        (
            "delta_commit:error=ENOSPC@2",
            FailRule(FailPoint.DELTA_COMMIT, FailAction.ERROR, errno=errno.ENOSPC, first=2, last=2),
        ),
        ("vacuum:error=EIO@2+", FailRule(FailPoint.VACUUM, FailAction.ERROR, errno=errno.EIO, first=2, last=None)),
        ("rollup:stall=0.5@1-3", FailRule(FailPoint.ROLLUP, FailAction.STALL, stall_s=0.5, first=1, last=3)),
    ],
)
def test_rules(text, rule):
    assert parse_fail_rule(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "nowhere:kill",
        "vacuum",
        "vacuum:kill=3",
        "vacuum:stall",
        "vacuum:stall=x",
        "vacuum:stall=1e9",
        "vacuum:error=ENOTHING",
        "vacuum:error=errorcode",
        "vacuum:error=3",
        "vacuum:kill@0",
        "vacuum:kill@3-2",
        "vacuum:kill@",
    ],
)
def test_what_is_no_rule_is_named(text):
    with pytest.raises(FailPointError, match=re.escape(repr(text))):
        parse_fail_points(text)


@given(st.text(max_size=40))
def test_any_text_is_rules_or_an_error(text):
    try:
        rules = parse_fail_points(text)
    except FailPointError:
        return
    assert all(isinstance(rule, FailRule) for rule in rules)


def test_each_rule_acts_at_its_times():
    seen = []
    points = FailPoints(
        parse_fail_points("vacuum:kill@2, vacuum:stall=3@1-2,rollup:error=EROFS@2+"),
        kill=lambda: seen.append("kill"),
        sleep=seen.append,
    )
    for _ in range(3):
        points.passing(FailPoint.VACUUM)
    assert seen == [3.0, "kill", 3.0]
    points.passing(FailPoint.ROLLUP)
    for _ in range(2):
        with pytest.raises(OSError, match="Read-only") as problem:
            points.passing(FailPoint.ROLLUP)
        assert problem.value.errno == errno.EROFS


def test_off_unless_asked():
    for point in FailPoint:
        FailPoints.from_environment({}).passing(point)
    assert FailPoints.from_environment({"WATTDECK_FAIL_POINT": "vacuum:kill"}) is not None
