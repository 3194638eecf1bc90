"""A real hub in the test's loop, asked over real HTTP."""

from __future__ import annotations

import contextlib
import secrets

import httpx
import pytest

from app.domain.credentials import hash_secret
from app.domain.people import ROLE_SCOPES, Principal, Role
from app.domain.settings import ListenSettings, Settings, TlsSettings
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub

SETTINGS = Settings(
    listen=ListenSettings(mqtt_hosts=("127.0.0.1",), mqtt_port=0, mqtts_port=0, operators_port=0, api_port=0),
    tls=TlsSettings(enabled=False),
)


class ApiTrial:
    """A running hub and clients of its API, one for each role."""

    def __init__(self, hub, directory, stack):
        self.hub = hub
        self.directory = directory
        self._stack = stack
        self._clients = {}

    async def client(self, role: Role = Role.ADMIN, *, purpose: str | None = "test") -> httpx.AsyncClient:
        """A client that is let in with a role, and states a purpose with each request."""
        if (role, purpose) not in self._clients:
            self._clients[role, purpose] = await self.fresh_client(role, purpose=purpose)
        return self._clients[role, purpose]

    async def fresh_client(self, role: Role, *, purpose: str | None = "test") -> httpx.AsyncClient:
        """The same with a token that nobody else has."""
        token = secrets.token_urlsafe(32)
        principal = Principal(f"test-{role}", ROLE_SCOPES[role], role=role)
        self.hub.platform.tokens.put(hash_secret(token), principal, None)
        headers = {"Authorization": f"Bearer {token}"} | ({"Wattdeck-Purpose": purpose} if purpose else {})
        return await self._stack.enter_async_context(self.anonymous(headers))

    def anonymous(self, headers=None) -> httpx.AsyncClient:
        """A client that says nothing of itself."""
        host, port = self.hub.addresses["api"]
        return httpx.AsyncClient(base_url=f"http://{host}:{port}", headers=headers, timeout=20)


@pytest.fixture
async def trial(tmp_path):
    """A hub with nothing in it."""
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(directory, SETTINGS))
        yield ApiTrial(hub, directory, stack)
