"""The access log over HTTP: personal routes write it, auditors read it."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import dataclasses
import io

import pytest
import sqlalchemy as sa
from litestar import Request
from litestar.params import FromPath

from app.api.access import NOT_STATED, needs
from app.api.routing import reading
from app.domain.people import Role, Scope
from app.domain.settings import PrivacySettings
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.stores.registry.access_entries import AccessEntries
from app.stores.registry.faults import RegistryFull
from app.stores.registry.models import Action
from tests.app.api.conftest import SETTINGS, ApiTrial


@pytest.fixture
def looked(trial):
    """A route that shows personal data, in the hub of the trial."""
    gate = trial.hub.platform.gate

    @reading("/v1/test/homes/{count:int}", needs(Scope.PERSONAL_READ, personal=("street",)), sync_to_thread=True)
    def homes(request: Request, count: FromPath[int]) -> str:
        gate.saw(request, [f"site:{number}" for number in range(count)])
        return "Rue de la Paix"

    trial.hub.platform.app.register(homes)
    return "/v1/test/homes"


async def test_a_look_stands_in_the_log_before_it_is_answered(trial, looked):
    support = await trial.client(Role.SUPPORT, purpose="call; T-9")
    assert (await support.get(f"{looked}/2")).text == "Rue de la Paix"
    assert (await support.get(f"{looked}/2")).status_code == 200
    listed = await (await trial.client(Role.AUDITOR)).get("/v1/access-log", params={"sort": "number"})

    assert [
        (row["operator"], row["subject"], row["attributes"], row["purpose"], row["ticket"], row["count"])
        for row in listed.json()["items"]
    ] == [("test-support", f"site:{number}", ["street"], "call", "T-9", 1) for number in range(2)]


async def test_a_thousand_subjects_at_once_are_noted_while_others_are_served(trial, looked):
    support = await trial.client(Role.SUPPORT)
    assert (await support.get(f"{looked}/1000")).status_code == 200
    auditor = await trial.client(Role.AUDITOR)
    found, listed = await asyncio.gather(
        auditor.get("/v1/access-log/verification"), auditor.get("/v1/access-log", params={"limit": 1})
    )

    assert found.json() | {"head_sha256": "", "first_us": 0, "last_us": 0} == {
        "sound": True,
        "entries": 1000,
        "first_us": 0,
        "last_us": 0,
        "head_number": 1000,
        "head_sha256": "",
        "faults": [],
        "erased_entries": 0,
        "notes": [],
    }
    assert found.json()["head_sha256"] == listed.json()["items"][0]["sha256"]


async def test_without_the_log_nothing_is_shown(trial, looked, monkeypatch):
    def full(*_arguments):
        raise RegistryFull("here", "no space")

    monkeypatch.setattr(AccessEntries, "append", full)
    answer = await (await trial.client(Role.SUPPORT)).get(f"{looked}/1")

    assert answer.status_code == 503
    assert "Paix" not in answer.text


async def test_reading_the_log_is_an_action_and_is_not_done_without_it(trial, looked, monkeypatch):
    await (await trial.client(Role.SUPPORT)).get(f"{looked}/3")
    auditor = await trial.client(Role.AUDITOR)
    await auditor.get("/v1/access-log", params={"filter": "subject:eq:site:1"})
    exported = await auditor.get("/v1/access-log/export", params={"filter": "subject:ne:site:1"})
    await auditor.get("/v1/access-log/verification")

    assert exported.headers["content-type"].startswith("text/csv")
    assert [row["subject"] for row in csv.DictReader(io.StringIO(exported.text))] == ["site:0", "site:2"]
    entries = trial.hub.platform.people.audit._entries
    with entries._registry.reading() as connection:
        deeds = connection.execute(sa.select(Action.what, Action.actor).where(Action.subject == "access_log")).all()
    assert sorted(deed.what for deed in deeds) == ["access_log.export", "access_log.read", "access_log.verify"]
    assert {deed.actor for deed in deeds} == {"test-auditor"}

    def full(*_arguments):
        raise RegistryFull("here", "no space")

    monkeypatch.setattr(AccessEntries, "record_reading", full)
    for path in ("", "/export", "/verification"):
        refused = await auditor.get(f"/v1/access-log{path}")
        assert (refused.status_code, "site:" in refused.text) == (503, False)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.AUDITOR])
async def test_nobody_else_reads_the_log(trial, role):
    client = await trial.client(role)
    for path in ("", "/export", "/verification"):
        assert (await client.get(f"/v1/access-log{path}")).status_code == 403


async def test_a_clean_stop_writes_counts_and_the_next_start_finds_the_log_whole(tmp_path, caplog):
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    for round_number in range(2):
        async with contextlib.AsyncExitStack() as stack:
            hub = await stack.enter_async_context(running_hub(directory, SETTINGS))
            trial = ApiTrial(hub, directory, stack)
            auditor = await trial.client(Role.AUDITOR)
            total = (await auditor.get("/v1/access-log/verification")).json()
            assert (total["sound"], total["entries"]) == (True, 2 * round_number)
            principal, purpose = await _somebody(trial)
            for _ in range(2):
                await asyncio.to_thread(
                    hub.platform.people.access_log.note, principal, purpose, [f"site:{round_number}"], ["street"]
                )
    assert "changed from outside" not in caplog.text


async def _somebody(trial):
    from app.domain.people import Principal, Purpose

    return Principal("claire", frozenset()), Purpose("call")


async def test_where_no_purpose_is_required_the_log_says_that_none_was_stated(tmp_path):
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    settings = dataclasses.replace(SETTINGS, privacy=PrivacySettings(purpose_required=False))
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(directory, settings))
        gate = hub.platform.gate
        assert gate._purpose("").code == NOT_STATED
