"""The parent's token: once, soon, and only the right one."""

from __future__ import annotations

import pytest

from app.domain.errors import NotLoggedIn
from app.domain.people import Role
from app.services.people.parents_grant import ParentsGrant
from app.services.people.tokens import TokenTable

TOKEN = "t" * 43


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def made():
    clock = Clock()
    tokens = TokenTable()
    return ParentsGrant(tokens, lasts_s=60, monotonic_s=clock), tokens, clock


def test_it_is_exchanged_once_for_a_session_as_administrator(made):
    grant, tokens, _clock = made
    grant.offer(TOKEN)
    session = grant.exchange(TOKEN)

    principal = tokens.principal_of(session)
    assert (principal.name, principal.role) == ("embedded", Role.ADMIN)
    assert tokens.principal_of(TOKEN) is None, "the one-time token itself opens nothing"
    with pytest.raises(NotLoggedIn):
        grant.exchange(TOKEN)


def test_a_wrong_one_gets_nothing_and_costs_the_parent_nothing(made):
    grant, _tokens, _clock = made
    grant.offer(TOKEN)
    for wrong in ("", "x", "t" * 42, "t" * 44, "T" * 43):
        with pytest.raises(NotLoggedIn):
            grant.exchange(wrong)
    assert grant.exchange(TOKEN)


def test_its_minute_ends(made):
    grant, _tokens, clock = made
    grant.offer(TOKEN)
    clock.now_s += 59.9
    assert grant.exchange(TOKEN)
    grant.offer(TOKEN)
    clock.now_s += 60
    with pytest.raises(NotLoggedIn):
        grant.exchange(TOKEN)
    clock.now_s -= 60
    with pytest.raises(NotLoggedIn):
        grant.exchange(TOKEN)


def test_a_hub_without_a_parent_has_none(made):
    with pytest.raises(NotLoggedIn):
        made[0].exchange(TOKEN)
