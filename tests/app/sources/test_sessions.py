"""Which modules have a session open."""

from __future__ import annotations

import pytest

from app.sources.sessions import Sessions
from broker.engine import Access, ClientInfo


def module(serial: str, client_id: str = "") -> ClientInfo:
    return ClientInfo(client_id or serial, Access(serial, "module"), "127.0.0.1", "mqtt", 4)


@pytest.fixture
def slots() -> dict[str, int]:
    return {"A": 0, "B": 1}


@pytest.fixture
def sessions(slots) -> Sessions:
    return Sessions(slots.get)


def test_a_session_is_open_until_it_ends(sessions):
    sessions.opened(module("B"))

    assert sessions.open_now(2).tolist() == [False, True]
    sessions.closed(module("B"), "lost")
    assert sessions.open_now(2).tolist() == [False, False]
    assert sessions.heard(2).tolist() == [False, True]


def test_of_several_sessions_the_last_one_counts(sessions):
    sessions.opened(module("A"))
    sessions.opened(module("A", "A/logs"))
    sessions.closed(module("A"), "disconnect")

    assert sessions.is_open("A")
    sessions.closed(module("A", "A/logs"), "disconnect")
    assert not sessions.is_open("A")
    assert sessions.count == 0


def test_an_end_that_is_told_before_its_begin_leaves_nothing_open(sessions):
    sessions.closed(module("A"), "slow")
    sessions.opened(module("A"))

    assert sessions.open_now(1).tolist() == [False]
    assert sessions.count == 0


def test_a_module_that_gets_its_slot_later_is_shown_then(sessions, slots):
    sessions.opened(module("NEW"))
    slots["NEW"] = 5000
    assert not sessions.open_now(5001)[5000]

    sessions.adopted()

    assert sessions.open_now(5001)[5000]


def test_who_came_and_went_before_it_had_a_slot_is_not_kept(sessions):
    sessions.opened(module("GUEST"))
    sessions.closed(module("GUEST"), "lost")

    assert sessions._slotless == set()


def test_an_anonymous_module_is_told_by_its_client_id_and_others_are_no_module(sessions):
    sessions.opened(ClientInfo("A/1", Access("anonymous", "anonymous"), "127.0.0.1", "mqtt", 4))
    sessions.opened(ClientInfo("B", Access("gateway", "source"), "127.0.0.1", "mqtt", 4))

    assert sessions.open_now(2).tolist() == [True, False]
