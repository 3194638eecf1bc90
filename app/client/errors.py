"""What can go wrong between a console and a hub."""

from __future__ import annotations

from app.domain.errors import EnvironmentFault, WattdeckError


class HubUnreachable(EnvironmentFault):
    """The hub does not answer."""


class HubNotTrusted(EnvironmentFault):
    """What answers has another certificate than the one that was to be expected; nothing was sent to it."""


class HubDidNotStart(EnvironmentFault):
    """The hub ended, or was not ready in time."""


class HubDidNotStop(EnvironmentFault):
    """The hub still runs."""


class HubRefused(WattdeckError):
    """The hub answered with a problem: `status`, and its sentence."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(detail)
