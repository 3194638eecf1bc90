"""Keeps the authenticator's table in step with the registry, and ends the sessions of changed credentials."""

from __future__ import annotations

import asyncio
import logging

from app.domain.errors import WattdeckError
from app.hub.authenticator import CredentialTable, RegistryAuthenticator
from app.stores.registry.records import Change, CredentialsChanged
from app.stores.registry.registry import Registry
from broker.engine import Engine

log = logging.getLogger(__name__)


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

    def _begin(self, engine: Engine, usernames: tuple[str, ...] | None) -> None:
        task = asyncio.get_running_loop().create_task(self._take(engine, usernames), name="credentials")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, engine: Engine, usernames: tuple[str, ...] | None) -> None:
        try:
            rows = await asyncio.to_thread(self._registry.credential_rows, usernames)
        except WattdeckError as error:
            log.error("changed credentials could not be read, the old ones stay in force: %s", error)
            return
        named = self.authenticator.usernames() | {row.username for row in rows} if usernames is None else usernames
        for subject in self.authenticator.replace(named, rows):
            engine.disconnect(subject, "credential changed")
