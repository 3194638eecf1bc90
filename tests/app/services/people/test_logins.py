"""Logging in against a real registry, on SQLite and PostgreSQL."""

from __future__ import annotations

import contextlib
import logging

import argon2
import pytest
from argon2 import _password_hasher

from app.domain.errors import NotAllowed, OperatorInputError, TooManyAttempts
from app.domain.people import ROLE_SCOPES, Principal, Role, Scope
from app.services.people.administration import Administration, first_operator
from app.services.people.attempts import LockOuts
from app.services.people.grants import Grants
from app.services.people.logins import Caller, LogInRefused, Logins
from app.services.people.passwords import Cost, Passwords
from app.services.people.third_parties import ThirdParties
from app.services.people.tokens import TokenTable
from app.stores.registry.faults import NameTakenError, RefusedChangeError, UnknownNameError
from app.stores.registry.operators import OperatorChange, Operators

HERE = Caller("192.0.2.1", "test")
HOUR_US = 3_600_000_000
QUICK = Cost(1, 64, 1)
GOOD = "three quiet geese"
ADMIN = Principal("admin", ROLE_SCOPES[Role.ADMIN], operator_id=1, role=Role.ADMIN)


class CountingRegistry:
    """Counts the transactions of another registry."""

    def __init__(self, registry):
        self._registry = registry
        self.transactions = []

    @contextlib.contextmanager
    def reading(self):
        self.transactions.append("read")
        with self._registry.reading() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self):
        self.transactions.append("write")
        with self._registry.writing() as connection:
            yield connection


class Desk:
    """What a hub has of people, on one registry; a second one is a restart."""

    def __init__(self, registry, clock, cost=QUICK):
        self.registry = CountingRegistry(registry)
        self.passwords = Passwords(cost)
        self.tokens = TokenTable(clock)
        self.operators = Operators(self.registry)
        self.grants = Grants(self.registry, self.tokens, clock)
        self.lock_outs = LockOuts(lambda: 5, lambda: 15 * 60_000_000, clock)
        self.logins = Logins(
            self.operators, self.grants, self.passwords, self.lock_outs, session_us=lambda: 12 * HOUR_US, now_us=clock
        )
        self.administration = Administration(self.operators, self.grants, self.passwords, self.lock_outs, clock)
        self.third_parties = ThirdParties(self.grants, clock)
        self.load()

    def load(self):
        self.lock_outs.load(self.operators.attempts())
        self.grants.load()

    async def log_in(self, name, password=GOOD):
        return await self.logins.log_in(name, password, HERE)


@pytest.fixture
def desk(registry, clock):
    opened = []

    def make(cost=QUICK):
        opened.append(Desk(registry, clock, cost))
        return opened[-1]

    first = make()
    first.again = make
    first.operators.create("admin", Role.ADMIN, first.passwords.hashed(GOOD), actor="hub", at_us=clock())
    first.operators.create("Claire", Role.SUPPORT, first.passwords.hashed(GOOD), actor="hub", at_us=clock())
    yield first
    for one in opened:
        one.passwords.close()


async def test_a_log_in_is_a_token_for_its_time_and_outlives_a_restart(desk, clock):
    begun = await desk.log_in("claire")

    assert begun.principal.name == "Claire"
    assert begun.principal.scopes == ROLE_SCOPES[Role.SUPPORT]
    restarted = desk.again()
    for one in (desk, restarted):
        assert one.tokens.principal_of(begun.token) == begun.principal
    clock.now_us += 12 * HOUR_US - 1
    assert desk.tokens.principal_of(begun.token) is not None
    clock.now_us += 1
    assert desk.tokens.principal_of(begun.token) is None
    assert desk.again().tokens.principal_of(begun.token) is None


async def test_every_refusal_is_the_same_answer_after_the_same_work(desk, monkeypatch, caplog):
    desk.administration.create(ADMIN, "gone", Role.VIEWER, "")
    desk.operators.edit("gone", OperatorChange(disabled=True), version=1, actor="admin", at_us=1)
    work = []
    real = _password_hasher.verify_secret

    def spy(hash_, secret, type_):
        work.append(argon2.extract_parameters(hash_.decode()))
        return real(hash_, secret, type_)

    monkeypatch.setattr(_password_hasher, "verify_secret", spy)
    later = []
    monkeypatch.setattr(desk.passwords, "afterwards", later.append)
    answers, done = [], []
    caplog.set_level(logging.WARNING)
    for name, password in [
        ("claire", "wrong password 1"),
        ("nobody", "wrong password 1"),
        ("gone", "wrong password 1"),
    ]:
        work.clear()
        desk.registry.transactions.clear()
        with pytest.raises(LogInRefused) as refused:
            await desk.log_in(name, password)
        answers.append(refused.value.text())
        done.append(
            ([(p.type, p.time_cost, p.memory_cost, p.parallelism) for p in work], desk.registry.transactions[:])
        )

    assert len(set(answers)) == 1
    assert done[0] == done[1] == done[2] == ([(argon2.Type.ID, 1, 64, 1)], ["read"])
    # Only what nobody waits for differs.
    assert len(later) == 2
    assert "wrong password" not in caplog.text
    assert caplog.text.count("was refused") == 3


async def test_a_disabled_operator_with_the_right_password_gets_the_answer_of_a_wrong_one(desk):
    desk.operators.edit("claire", OperatorChange(disabled=True), version=1, actor="admin", at_us=1)

    with pytest.raises(LogInRefused):
        await desk.log_in("claire")


async def test_a_name_that_nobody_can_have_is_refused_like_any_other(desk):
    for name in ("", "a b", "x" * 1000, "\0\0", "\ud800x", "ÀÉ", "admin\n"):
        with pytest.raises(LogInRefused):
            await desk.log_in(name)


@pytest.mark.parametrize("name", ["claire", "nobody"])
async def test_five_failures_lock_a_name_even_for_the_right_password(desk, clock, name):
    for _ in range(5):
        with pytest.raises(LogInRefused):
            await desk.log_in(name, "wrong password 1")
    with pytest.raises(TooManyAttempts):
        await desk.log_in(name)
    assert desk.logins.counters.locked_names == 1
    assert desk.logins.counters.refused_logins == 6


async def test_a_lock_outlives_a_restart_and_ends_by_its_time(desk, clock):
    for _ in range(5):
        with pytest.raises(LogInRefused):
            await desk.log_in("claire", "wrong password 1")
    # What nobody waits for is written in the same threads.
    desk.passwords.close()
    restarted = desk.again()

    with pytest.raises(TooManyAttempts):
        await restarted.log_in("claire")
    assert desk.operators.get("claire").failed_logins == 5
    clock.now_us += 15 * 60_000_000
    await restarted.log_in("claire")
    assert desk.operators.get("claire").failed_logins == 0
    assert desk.operators.get("claire").locked_until_us is None


async def test_an_address_that_tries_many_names_is_slowed_down(desk, clock):
    for number in range(30):
        with pytest.raises(LogInRefused):
            await desk.log_in(f"name{number}", "wrong password 1")

    with pytest.raises(TooManyAttempts):
        await desk.log_in("claire")
    await desk.logins.log_in("claire", GOOD, Caller("192.0.2.99"))


async def test_a_hash_with_old_parameters_is_made_anew_at_a_log_in(desk):
    before = desk.operators.with_password("claire")[1]
    stronger = desk.again(Cost(2, 128, 1))

    await stronger.log_in("claire")
    after = desk.operators.with_password("claire")[1]
    await stronger.log_in("claire")

    assert "m=64,t=1,p=1" in before
    assert "m=128,t=2,p=1" in after
    assert desk.operators.with_password("claire")[1] == after


async def test_more_log_ins_than_can_wait_are_told_to_come_again(registry, clock, desk):
    full = Passwords(QUICK, most_waiting=0)
    desk.logins._passwords = full
    with pytest.raises(TooManyAttempts):
        await desk.log_in("claire")
    full.close()


async def test_an_own_new_password_ends_the_other_sessions_and_the_duty_to_change_it(desk, clock):
    password = desk.administration.reset_password(ADMIN, "claire")[1]
    other = await desk.log_in("claire", password)
    own = await desk.log_in("claire", password)
    assert own.principal.must_change_password

    with pytest.raises(NotAllowed):
        await desk.logins.change_password(own.principal, "not the old one", GOOD)
    with pytest.raises(NotAllowed):
        await desk.logins.change_password(own.principal, password, password)
    with pytest.raises(OperatorInputError):
        await desk.logins.change_password(own.principal, password, "too short")
    assert desk.tokens.principal_of(own.token).must_change_password
    await desk.logins.change_password(own.principal, password, GOOD + "!")

    for one in (desk, desk.again()):
        assert one.tokens.principal_of(other.token) is None
        assert one.tokens.principal_of(own.token).must_change_password is False
    with pytest.raises(LogInRefused):
        await desk.log_in("claire", password)
    await desk.log_in("claire", GOOD + "!")


async def test_wrong_old_passwords_lock_the_name_too(desk):
    begun = await desk.log_in("claire")
    for _ in range(5):
        with pytest.raises(NotAllowed):
            await desk.logins.change_password(begun.principal, "not the old one", "another good one")

    with pytest.raises(TooManyAttempts):
        await desk.logins.change_password(begun.principal, GOOD, "another good one")


async def test_logging_out_ends_one_session_and_everywhere_ends_all(desk):
    first, second, third = [await desk.log_in("claire") for _ in range(3)]
    admin = await desk.log_in("admin")

    desk.logins.log_out(first.principal)
    assert desk.tokens.principal_of(first.token) is None
    assert desk.tokens.principal_of(second.token) is not None
    desk.logins.log_out_everywhere(second.principal)

    for one in (desk, desk.again()):
        assert one.tokens.principal_of(second.token) is one.tokens.principal_of(third.token) is None
        assert one.tokens.principal_of(admin.token) is not None


async def test_a_changed_role_and_a_disabled_operator_are_in_force_at_once(desk):
    begun = await desk.log_in("claire")

    desk.administration.edit(ADMIN, "claire", OperatorChange(role=Role.VIEWER), 1)
    assert not desk.tokens.principal_of(begun.token).may(Scope.PERSONAL_READ)
    desk.administration.edit(ADMIN, "claire", OperatorChange(disabled=True), 2)

    assert desk.tokens.principal_of(begun.token) is None
    desk.administration.edit(ADMIN, "claire", OperatorChange(disabled=False), 3)
    assert desk.again().tokens.principal_of(begun.token) is None


async def test_a_log_in_that_races_with_a_reset_does_not_come_through(desk, monkeypatch):
    real = desk.passwords.better_hash

    def reset_meanwhile(password_hash, password):
        desk.operators.set_password("claire", password_hash + "x", one_time=True, actor="admin", at_us=1)
        return real(password_hash, password)

    monkeypatch.setattr(desk.passwords, "better_hash", reset_meanwhile)
    with pytest.raises(LogInRefused):
        await desk.log_in("claire")
    assert len(desk.tokens) == 0


async def test_a_log_in_that_races_with_a_lock_does_not_come_through(desk, monkeypatch):
    real = desk.passwords.better_hash

    def lock_meanwhile(password_hash, password):
        for _ in range(5):
            desk.lock_outs.failed("claire", is_known=True)
        return real(password_hash, password)

    monkeypatch.setattr(desk.passwords, "better_hash", lock_meanwhile)
    with pytest.raises(TooManyAttempts):
        await desk.log_in("claire")
    assert len(desk.tokens) == 0


async def test_the_oldest_of_too_many_sessions_end(desk, clock, monkeypatch):
    monkeypatch.setattr("app.stores.registry.sessions.MOST_PER_OPERATOR", 3)
    begun = []
    for _ in range(5):
        clock.now_us += 1
        begun.append(await desk.log_in("claire"))

    for one in (desk, desk.again()):
        assert [one.tokens.principal_of(session.token) is not None for session in begun] == [0, 0, 1, 1, 1]


async def test_the_use_of_tokens_is_written_in_bulk_and_expired_sessions_go(desk, clock):
    begun = await desk.log_in("claire")
    _token, secret = desk.third_parties.create(ADMIN, "billing", [Scope.HUB_READ], None)
    clock.now_us += 1000
    desk.tokens.principal_of(begun.token)
    desk.tokens.principal_of(secret)

    desk.registry.transactions.clear()
    desk.grants.tidy()
    assert len(desk.registry.transactions) <= 2
    assert desk.third_parties.get("billing").used_us == clock()
    clock.now_us += 12 * HOUR_US
    desk.grants.tidy()

    assert desk.grants.sessions.expiry(begun.principal.session_id) is None
    assert len(desk.tokens) == 1


def test_the_last_administrator_stays_one(desk, clock):
    desk.administration.create(ADMIN, "second", Role.ADMIN, "")
    second = Principal("second", ROLE_SCOPES[Role.ADMIN], operator_id=3, role=Role.ADMIN)
    for change in (OperatorChange(disabled=True), OperatorChange(role=Role.VIEWER)):
        with pytest.raises(RefusedChangeError, match="own role"):
            desk.administration.edit(ADMIN, "admin", change, 1)
    desk.administration.edit(second, "admin", OperatorChange(disabled=True), 1)
    embedded = Principal("embedded", ROLE_SCOPES[Role.ADMIN], role=Role.ADMIN)

    for change in (OperatorChange(disabled=True), OperatorChange(role=Role.VIEWER)):
        with pytest.raises(RefusedChangeError, match="last administrator"):
            desk.administration.edit(embedded, "second", change, 1)
    assert desk.operators.get("second").version == 1


def test_names_are_unique_whatever_their_case(desk):
    with pytest.raises(NameTakenError):
        desk.administration.create(ADMIN, "CLAIRE", Role.VIEWER, "")
    assert desk.administration.get("cLAIRE").name == "Claire"
    with pytest.raises(UnknownNameError):
        desk.administration.get("claire\0")


def test_a_first_operator_is_made_once(desk, registry, clock):
    assert first_operator(desk.operators, desk.passwords, clock()) is None


def test_a_token_that_keeps_people_reaches_no_further_than_its_scopes(desk):
    keeper = Principal("token:hr", frozenset({Scope.PEOPLE, *ROLE_SCOPES[Role.VIEWER]}))

    desk.administration.create(keeper, "guest", Role.VIEWER, "")
    with pytest.raises(NotAllowed):
        desk.administration.create(keeper, "boss", Role.ADMIN, "")
    with pytest.raises(NotAllowed):
        desk.administration.edit(keeper, "guest", OperatorChange(role=Role.ADMIN), 1)
    with pytest.raises(NotAllowed):
        desk.administration.reset_password(keeper, "admin")
    with pytest.raises(NotAllowed):
        desk.administration.end_sessions(keeper, "claire")
    with pytest.raises(NotAllowed):
        desk.third_parties.create(keeper, "more", [Scope.BACKUPS], None)


def test_a_token_is_let_in_until_it_expires_or_is_revoked(desk, clock):
    _made, secret = desk.third_parties.create(ADMIN, "billing", [Scope.HUB_READ], clock() + 1000)
    principal = desk.tokens.principal_of(secret)

    assert (principal.name, principal.scopes) == ("token:billing", {Scope.HUB_READ})
    assert desk.again().tokens.principal_of(secret) == principal
    with pytest.raises(NameTakenError):
        desk.third_parties.create(ADMIN, "Billing", [Scope.HUB_READ], None)
    with pytest.raises(OperatorInputError):
        desk.third_parties.create(ADMIN, "late", [Scope.HUB_READ], clock())
    with pytest.raises(NotAllowed):
        desk.third_parties.create(ADMIN, "nosy", [Scope.AUDIT_READ], None)
    clock.now_us += 1000
    assert desk.tokens.principal_of(secret) is None

    _made, secret = desk.third_parties.create(ADMIN, "other", [Scope.HUB_READ], None)
    desk.third_parties.revoke(ADMIN, "OTHER")
    for one in (desk, desk.again()):
        assert one.tokens.principal_of(secret) is None
    with pytest.raises(RefusedChangeError):
        desk.third_parties.revoke(ADMIN, "other")


def test_those_let_in_by_other_ways_stay_when_the_registry_is_read_anew(desk):
    desk.tokens.put(b"x" * 32, Principal("embedded", frozenset(), role=Role.ADMIN), None)
    desk.load()

    assert len(desk.tokens) == 1
