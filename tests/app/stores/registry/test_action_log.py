"""Actions in a real database: lists, a walk over all, retention."""

from __future__ import annotations

import pytest

from app.domain.listing import parse_listing
from app.services.actions import Actions
from app.stores.registry import action_log
from app.stores.registry.action_log import ACTION_COLUMNS, ActionLog
from app.stores.registry.actions import Deed, record
from app.stores.registry.faults import UnknownNameError

DAY_US = 86_400_000_000


@pytest.fixture
def log(registry):
    return ActionLog(registry)


@pytest.fixture
def deeds(registry, clock):
    """Ten deeds, one a day, the newest now."""
    begin = clock.now_us - 9 * DAY_US
    with registry.writing() as connection:
        for number in range(10):
            deed = Deed(f"op{number % 2}", "module.block", f"module:WD{number}", {"a": number}, None)
            record(connection, deed, begin + number * DAY_US)


def listing(*filters, sort="", limit=100):
    return parse_listing(ACTION_COLUMNS, offset=0, limit=limit, sort=sort, filters=filters)


def test_lists(log, deeds, clock):
    found = log.found(listing(limit=3))
    assert (found.total, [one.subject for one in found.rows]) == (10, ["module:WD9", "module:WD8", "module:WD7"])
    assert (found.rows[0].before, found.rows[0].after) == ({"a": 9}, None)
    assert log.found(listing("actor:eq:op1", f"at_us:ge:{clock.now_us}")).total == 1
    assert [one.subject for one in log.found(listing("subject:has:wd1", sort="at_us")).rows] == ["module:WD1"]
    assert log.get(found.rows[0].id) == found.rows[0]
    with pytest.raises(UnknownNameError):
        log.get(2**62)
    assert log.naming("module:WD3") == 1


def test_a_walk_over_all_in_pieces(log, deeds, monkeypatch):
    monkeypatch.setattr(action_log, "_ROWS_AT_ONCE", 3)

    assert [one.subject for one in log.all(listing())] == [f"module:WD{number}" for number in range(10)]
    assert [one.subject for one in log.all(listing("actor:eq:op0"))] == [
        f"module:WD{number}" for number in (0, 2, 4, 6, 8)
    ]


def test_csv_is_whole_and_harmless_in_a_spreadsheet(log, deeds, registry, clock):
    with registry.writing() as connection:
        record(connection, Deed("=cmd()", "a.b", 'x:"quoted",\n', None, {"c": "é"}), clock.now_us)
    actions = Actions(log, now_us=clock, keep_days=lambda: 400)
    text = "".join(actions.as_csv(listing()))

    assert text.startswith("id,time,actor,what,subject,before,after\n")
    assert text.count("module.block") == 10
    assert "'=cmd()" in text
    assert '"x:""quoted"",\n"' in text
    assert text.endswith(',"{""c"":""é""}"\n')


def test_retention_takes_the_oldest_in_bounded_steps(log, deeds, clock, monkeypatch):
    monkeypatch.setattr("app.services.actions._AT_ONCE", 2)
    actions = Actions(log, now_us=clock, keep_days=lambda: 5)

    assert [actions.tidy() for _ in range(3)] == [True, True, False]
    assert [one.subject for one in log.all(listing())] == [f"module:WD{number}" for number in range(4, 10)]
