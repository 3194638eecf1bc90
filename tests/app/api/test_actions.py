"""Actions over HTTP."""

from __future__ import annotations

import asyncio

from app.domain.people import Role
from app.stores.registry.actions import Deed, record
from app.stores.registry.registry import Registry, wall_clock_us


async def test_who_changed_what_for_those_who_may_know(trial):
    now = wall_clock_us()

    def change():
        with Registry.open(trial.directory.registry) as registry, registry.writing() as connection:
            for number in range(3):
                record(
                    connection,
                    Deed("ann", "module.block", f"module:WD{number}", {"blocked": False}, None),
                    now + number,
                )

    await asyncio.to_thread(change)
    for role in (Role.ADMIN, Role.AUDITOR):
        client = await trial.client(role, purpose=None)
        page = (await client.get("/v1/actions", params={"filter": "subject:eq:module:WD1"})).json()
        assert (page["total"], page["items"][0]["actor"]) == (1, "ann")
        assert (await client.get(f"/v1/actions/{page['items'][0]['id']}")).json() == page["items"][0]
        assert (await client.get("/v1/actions/999")).status_code == 404
        answer = await client.get("/v1/actions.csv", params={"filter": f"at_us:lt:{now + 2}"})
        assert answer.headers["content-type"].startswith("text/csv")
        assert [line.split(",")[4] for line in answer.text.splitlines()] == [
            "subject",
            "operator:admin",
            "module:WD0",
            "module:WD1",
        ]
    for role in (Role.SUPPORT, Role.TECHNICIAN, Role.VIEWER):
        assert (await (await trial.client(role)).get("/v1/actions")).status_code == 403
