"""Keeps the authenticator's table in step with the registry, and ends the sessions of changed credentials."""

from __future__ import annotations

import asyncio
import logging
import time

from app.domain.errors import WattdeckError
from app.hub.authenticator import CredentialTable, RegistryAuthenticator
from app.stores.registry.records import Change, CredentialsChanged
from app.stores.registry.registry import Registry
from broker.engine import Engine

log = logging.getLogger(__name__)

# When a credential was used last is for people who look for unused ones: a minute is fine enough.
NOTE_USED_EACH_S = 60.0


class CredentialFollower:
    """Owns the authenticator; reads the registry once, then each change of it."""

    def __init__(self, registry: Registry, *, allow_anonymous: bool) -> None:
        """Read every credential; blocks."""
        self._registry = registry
        self.authenticator = RegistryAuthenticator(
            CredentialTable(registry.credential_rows()), allow_anonymous=allow_anonymous
        )
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, engine: Engine) -> None:
        """From now on take over each change; call it on the loop."""
        loop = asyncio.get_running_loop()

        def on_change(change: Change) -> None:
            # Called in whatever thread changed the registry.
            if isinstance(change, CredentialsChanged):
                loop.call_soon_threadsafe(self._begin, engine, change.usernames)

        self._registry.subscribe(on_change)

    def reload(self, engine: Engine) -> None:
        """Read every credential anew: another process has changed the registry."""
        self._begin(engine, None)

    async def run(self) -> None:
        """Write now and then who has connected, until cancelled."""
        while True:
            await asyncio.sleep(NOTE_USED_EACH_S)
            now_us = time.time_ns() // 1000
            used = dict.fromkeys(self.authenticator.take_used(), now_us)
            if not used:
                continue
            try:
                await asyncio.to_thread(self._registry.note_used, used)
            except WattdeckError as error:
                log.warning("when credentials were used last could not be written: %s", error)

    def _begin(self, engine: Engine, usernames: tuple[str, ...] | None) -> None:
        task = asyncio.get_running_loop().create_task(self._take(engine, usernames), name="credentials")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, engine: Engine, usernames: tuple[str, ...] | None) -> None:
        try:
            if usernames is None:
                revoked = await self._take_all()
            else:
                rows = await asyncio.to_thread(self._registry.credential_rows, usernames)
                revoked = self.authenticator.replace(usernames, rows)
        except WattdeckError as error:
            log.error("changed credentials could not be read, the old ones stay in force: %s", error)
            return
        for subject in revoked:
            engine.disconnect(subject, "credential changed")

    async def _take_all(self) -> list[str]:
        """A whole fleet's table is built beside the loop, then exchanged."""
        before = self.authenticator.table

        def build() -> tuple[CredentialTable, list[str]]:
            table = CredentialTable(self._registry.credential_rows())
            return table, list(before.revoked_by(table))

        table, revoked = await asyncio.to_thread(build)
        self.authenticator.use(table)
        return revoked
