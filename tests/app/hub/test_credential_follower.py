"""A changed credential takes effect, in the order of the changes, also when the registry fails for a while."""

from __future__ import annotations

import asyncio

import pytest

from app.domain.credentials import CredentialKind
from app.hub.catching_up import CatchingUp
from app.hub.credential_follower import CredentialFollower
from app.stores.registry.module_edits import BulkAction, ModuleEdits
from app.stores.registry.registry import Registry


class FakeEngine:
    """Remembers whose connections were closed."""

    def __init__(self):
        self.closed = asyncio.Queue()

    def disconnect(self, subject, cause):
        self.closed.put_nowait((subject, cause))
        return 1


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "registry.sqlite") as opened:
        yield opened


def may_connect(follower, given):
    return follower.authenticator.authenticate("mqtt", given.serial, given.username, given.secret.encode()) is not None


async def test_a_blocked_credential_is_refused_and_its_session_ended(registry):
    given = registry.provision("A")
    follower = CredentialFollower(registry, allow_anonymous=False)
    engine = FakeEngine()
    follower.follow(engine)
    assert may_connect(follower, given)

    await asyncio.to_thread(registry.block, "A")
    assert await asyncio.wait_for(engine.closed.get(), 20) == ("A", "credential changed")
    assert not may_connect(follower, given)
    await follower.stop()


async def test_of_many_that_are_blocked_at_once_each_session_ends(registry):
    serials = [f"WD{number:04d}" for number in range(500)]
    given = registry.provision_many([*serials, "OTHER"])
    follower = CredentialFollower(registry, allow_anonymous=False)
    engine = FakeEngine()
    follower.follow(engine)

    await asyncio.to_thread(ModuleEdits(registry).act, "eva", serials, BulkAction.BLOCK)
    closed = {(await asyncio.wait_for(engine.closed.get(), 20))[0] for _ in serials}

    assert closed == set(serials)
    assert [one.serial for one in given if may_connect(follower, one)] == ["OTHER"]
    await follower.stop()


async def test_a_registry_that_fails_leaves_no_revoked_credential_in_force(registry, monkeypatch):
    given = registry.provision("A")
    follower = CredentialFollower(registry, allow_anonymous=False)
    follower._catching_up = CatchingUp("credentials", follower._catch_up, failing="it fails", retry_s=0)
    engine = FakeEngine()
    follower.follow(engine)
    whole, failures = registry.credential_rows, [OSError(), LookupError()]

    def failing(usernames=None):
        if failures:
            raise failures.pop()
        return whole(usernames)

    monkeypatch.setattr(registry, "credential_rows", failing)
    await asyncio.to_thread(registry.block, "A")
    await asyncio.wait_for(engine.closed.get(), 20)

    assert failures == []
    assert not may_connect(follower, given)
    await follower.stop()


async def test_reload_takes_over_what_another_process_changed(registry, tmp_path):
    given = registry.provision("A")
    follower = CredentialFollower(registry, allow_anonymous=False)
    engine = FakeEngine()
    follower.follow(engine)
    with Registry.open(tmp_path / "registry.sqlite") as other:
        await asyncio.to_thread(other.block, "A")
    follower.reload()
    await asyncio.wait_for(engine.closed.get(), 20)

    assert not may_connect(follower, given)
    await follower.stop()


async def test_what_another_process_changed_is_told_once_and_by_whom_it_was_not(tmp_path, registry):
    registry.provision_many(["A", "B", "C", "OURS"])
    registry.block("C")
    told = []
    follower = CredentialFollower(
        registry, allow_anonymous=False, on_changed_elsewhere=lambda serial, by: told.append((serial, by))
    )
    engine = FakeEngine()
    follower.follow(engine)
    with Registry.open(tmp_path / "registry.sqlite") as elsewhere:
        elsewhere.provision("NEW")
        elsewhere.rotate_secret("A")
        elsewhere.block("B")
        elsewhere.unblock("C")
        elsewhere.add_credential("reader", CredentialKind.SERVICE)
    await asyncio.to_thread(registry.block, "OURS")
    follower.reload()
    closed = {(await asyncio.wait_for(engine.closed.get(), 20))[0] for _ in range(4)}
    assert closed == {"A", "B", "C", "OURS"}
    follower.reload()
    await follower._catching_up._task

    assert sorted(told) == [("A", "re-keyed"), ("B", "blocked"), ("C", "unblocked"), ("NEW", "given")]
    await follower.stop()
