"""Keeps the authenticator's table in step with the registry, and ends the sessions of changed credentials."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence

from app.domain.errors import WattdeckError
from app.hub.authenticator import CredentialTable, RegistryAuthenticator
from app.hub.catching_up import CatchingUp
from app.stores import wall_clock
from app.stores.registry.records import Change, CredentialsChanged
from app.stores.registry.registry import Registry
from broker.engine import Engine

log = logging.getLogger(__name__)

# When a credential was used last is for people who look for unused ones: a minute is fine enough.
NOTE_USED_EACH_S = 60.0
# Changed credentials that are read and put into the table on the loop in parts, each a millisecond or less; for more, a
# new table is made beside it. Sessions that are ended at once, of those that a bulk action ends.
_MOST_IN_PLACE = 2000
_IN_PLACE_AT_ONCE = 100
_ENDED_AT_ONCE = 50


class CredentialFollower:
    """Owns the authenticator; reads the registry once, then each change of it."""

    def __init__(
        self,
        registry: Registry,
        *,
        allow_anonymous: bool,
        on_changed_elsewhere: Callable[[str, str], None] = lambda _serial, _by: None,
    ) -> None:
        """Read every credential; blocks.

        `on_changed_elsewhere` is told, in any thread, of modules whose credential another process has changed, and how.
        """
        self._registry = registry
        self._on_changed_elsewhere = on_changed_elsewhere
        self.authenticator = RegistryAuthenticator(
            CredentialTable(registry.credential_rows()), allow_anonymous=allow_anonymous
        )
        self._engine: Engine | None = None
        self._changed: set[str] = set()
        self._reload = False
        self._catching_up = CatchingUp(
            "credentials",
            self._catch_up,
            failing="changed credentials can not be read from the registry, the old ones stay in force",
        )

    def follow(self, engine: Engine) -> None:
        """From now on take over each change; call it on the loop."""
        self._engine = engine
        loop = asyncio.get_running_loop()

        def on_change(change: Change) -> None:
            # Called in whatever thread changed the registry.
            if isinstance(change, CredentialsChanged):
                loop.call_soon_threadsafe(self._note_changed, change.usernames)

        self._registry.subscribe(on_change)

    def reload(self) -> None:
        """Read every credential anew: another process has changed the registry."""
        self._reload = True
        self._catching_up.ask()

    async def stop(self) -> None:
        """Give up what is being read."""
        await self._catching_up.stop()

    async def run(self) -> None:
        """Write now and then who has connected, until cancelled."""
        while True:
            await asyncio.sleep(NOTE_USED_EACH_S)
            now_us = wall_clock.now_us()
            used = dict.fromkeys(self.authenticator.take_used(), now_us)
            if not used:
                continue
            try:
                await asyncio.to_thread(self._registry.note_used, used)
            except WattdeckError as error:
                log.warning("when credentials were used last could not be written: %s", error)

    def _note_changed(self, usernames: Sequence[str]) -> None:
        self._changed.update(usernames)
        self._catching_up.ask()

    async def _catch_up(self) -> None:
        changed, self._changed = self._changed, set()
        everything, self._reload = self._reload, False
        try:
            if everything or len(changed) > _MOST_IN_PLACE:
                await self._end(await self._take_all(changed, tell=everything))
            else:
                names = sorted(changed)
                for begin in range(0, len(names), _IN_PLACE_AT_ONCE):
                    part = names[begin : begin + _IN_PLACE_AT_ONCE]
                    rows = await asyncio.to_thread(self._registry.credential_rows, part)
                    await self._end(self.authenticator.replace(part, rows))
        except BaseException:
            self._changed |= changed
            self._reload |= everything
            raise

    async def _end(self, revoked: Sequence[str]) -> None:
        """End the sessions of these."""
        assert self._engine is not None
        for number, subject in enumerate(revoked, 1):
            self._engine.disconnect(subject, "credential changed")
            if number % _ENDED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _take_all(self, ours: Collection[str], *, tell: bool) -> list[str]:
        """A whole fleet's table is built beside the loop, then exchanged. Of `ours` the registry has told already."""
        before = self.authenticator.table

        def build() -> tuple[CredentialTable, list[str]]:
            table = CredentialTable(self._registry.credential_rows())
            if tell:
                for serial, by in before.changes_of_modules(table):
                    if serial not in ours and serial not in self._changed:
                        self._on_changed_elsewhere(serial, by)
            return table, list(before.revoked_by(table))

        table, revoked = await asyncio.to_thread(build)
        self.authenticator.use(table)
        return revoked
