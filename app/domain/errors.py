"""Every error that has a sentence for its reader, by whose fault it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class WattdeckError(Exception):
    """Root of our errors: facts are attributes of the subclass, which makes its sentence once, in its constructor."""

    def text(self) -> str:
        """The sentence for the person in front of the screen; it never holds a secret or personal data."""
        return str(self) or (type(self).__doc__ or type(self).__name__).partition("\n")[0]


class OperatorInputError(WattdeckError):
    """Somebody asked for what can not be: a bad setting, an unknown serial, a file of the wrong kind."""


class FileRefused(OperatorInputError):
    """A file holds mistakes; `places` says which and where (line, column, message). Nothing was changed."""

    def __init__(self, places: Sequence[Mapping[str, str | int]]) -> None:
        self.places = places
        super().__init__(f"the file has {len(places)} mistakes; nothing was changed")


class DeviceError(WattdeckError):
    """A module, meter or gateway did what it must not, or did not answer."""


class EnvironmentFault(WattdeckError):
    """The machine or a server we stand on failed us: disk full, database unreachable, port taken."""


class BugError(WattdeckError):
    """We were wrong: something that can not happen did."""


class AccessError(WattdeckError):
    """Somebody may not do this, or not yet."""


class NotLoggedIn(AccessError):
    """There is no valid token with this request; log in."""


class NotAllowed(AccessError):
    """Your role does not include this."""


class PurposeNeeded(AccessError):
    """Personal data are shown for a purpose only: send the header Wattdeck-Purpose: code[; ticket]."""


class TooManyAttempts(AccessError):
    """Too many failed attempts; `wait_s` seconds from now the next one is looked at."""

    def __init__(self, wait_s: int) -> None:
        self.wait_s = wait_s
        super().__init__(f"too many failed attempts; try again in {wait_s} s")


class VersionNeeded(OperatorInputError):
    """An edit says which version it changes: send the header If-Match with the ETag that was read."""


class VersionConflict(OperatorInputError):
    """Somebody else changed this meanwhile; read it again, then decide. Nothing was changed."""
