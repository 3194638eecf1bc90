"""Builds what people need: operators, sessions, API tokens, and the log of what they looked at."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from litestar.handlers import HTTPRouteHandler

from app.api.routes.access_log import access_log_routes
from app.api.routes.people import people_routes
from app.api.routes.session import session_routes
from app.domain.errors import WattdeckError
from app.hub.catching_up import CatchingUp
from app.services.access_audit import AccessAudit
from app.services.access_log import AccessLog
from app.services.people.administration import Administration, first_operator
from app.services.people.attempts import LockOuts
from app.services.people.grants import Grants
from app.services.people.logins import Logins
from app.services.people.passwords import Passwords
from app.services.people.third_parties import ThirdParties
from app.services.people.tokens import TokenTable
from app.stores.access_head import AccessHead
from app.stores.registry.access_entries import AccessEntries
from app.stores.registry.operators import Operators

if TYPE_CHECKING:
    from app.hub.platform import DataPath

log = logging.getLogger(__name__)

# When a token was used last is for people who look for unused ones: a minute is fine enough. Counts of repeated looks
# may be as late.
_TIDY_EACH_S = 60.0
_HOUR_US = 3_600_000_000
_MINUTE_US = 60_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class People:
    """Who may do what in a running hub, and what they looked at."""

    # The one-time password of `admin`, at a first start only.
    first_password: str | None
    access_log: AccessLog
    administration: Administration
    logins: Logins
    third_parties: ThirdParties
    audit: AccessAudit
    # Read operators, sessions and tokens anew: another process has changed the registry.
    reload: Callable[[], None]

    def routes(self) -> list[HTTPRouteHandler]:
        """The part of the API that is about them."""
        return [
            *session_routes(self.logins, self.administration, self.third_parties),
            *people_routes(self.administration, self.third_parties),
            *access_log_routes(self.audit),
        ]


async def start_people(
    path: DataPath, tokens: TokenTable, stack: contextlib.AsyncExitStack, now_us: Callable[[], int]
) -> People:
    """Load what the registry has of them, make the first operator where there is none; `stack` undoes it.

    Raises WattdeckError.
    """
    live = path.runtime_settings
    passwords = Passwords()
    stack.push_async_callback(asyncio.to_thread, passwords.close)
    operators = Operators(path.registry)
    grants = Grants(path.registry, tokens, now_us)
    lock_outs = LockOuts(
        lambda: live.now.people.login_attempts, lambda: round(live.now.people.lock_minutes * _MINUTE_US), now_us
    )
    entries = AccessEntries(path.registry)
    head = AccessHead(path.directory.access_head)
    access_log = AccessLog(entries, head, now_us)

    def load() -> None:
        lock_outs.load(operators.attempts())
        grants.load()

    def begin() -> str | None:
        load()
        access_log.start()
        return first_operator(operators, passwords, now_us())

    def tidy() -> None:
        grants.tidy()
        access_log.write_counts()

    async def tidy_now_and_then() -> None:
        while True:
            await asyncio.sleep(_TIDY_EACH_S)
            try:
                await asyncio.to_thread(tidy)
            except WattdeckError as error:
                log.warning("when tokens were used, and how often data were looked at, comes later: %s", error)

    def end() -> None:
        access_log.stop()
        try:
            grants.tidy()
        except WattdeckError as error:
            log.warning("when tokens were used last could not be written: %s", error)

    first_password = await asyncio.to_thread(begin)
    stack.push_async_callback(asyncio.to_thread, end)
    logins = Logins(
        operators,
        grants,
        passwords,
        lock_outs,
        session_us=lambda: round(live.now.people.session_hours * _HOUR_US),
        now_us=now_us,
    )
    path.supervisor.lasting("people", tidy_now_and_then)
    path.statistics.add("people", lambda: _of_people(logins, tokens))
    path.statistics.add("access_log", lambda: _of_access_log(access_log))
    reloading = CatchingUp(
        "operators",
        lambda: asyncio.to_thread(load),
        failing="changed operators can not be read from the registry, the old ones stay in force",
    )
    stack.push_async_callback(reloading.stop)
    return People(
        first_password,
        access_log,
        Administration(operators, grants, passwords, lock_outs, now_us),
        logins,
        ThirdParties(grants, now_us),
        AccessAudit(entries, head, now_us),
        reloading.ask,
    )


def _of_people(logins: Logins, tokens: TokenTable) -> Mapping[str, float]:
    return {**dataclasses.asdict(logins.counters), "tokens": len(tokens)}


def _of_access_log(access_log: AccessLog) -> Mapping[str, float]:
    more = {"breaks": access_log.breaks, "remembered": access_log.remembered}
    return {**dataclasses.asdict(access_log.counters), **more}
