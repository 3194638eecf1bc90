"""Every error that has a sentence for its reader, by whose fault it is."""

from __future__ import annotations


class WattdeckError(Exception):
    """Root of our errors: facts are attributes of the subclass, which makes its sentence once, in its constructor."""

    def text(self) -> str:
        """The sentence for the person in front of the screen; it never holds a secret or personal data."""
        return str(self) or (type(self).__doc__ or type(self).__name__).partition("\n")[0]


class OperatorInputError(WattdeckError):
    """Somebody asked for what can not be: a bad setting, an unknown serial, a file of the wrong kind."""


class DeviceError(WattdeckError):
    """A module, meter or gateway did what it must not, or did not answer."""


class EnvironmentFault(WattdeckError):
    """The machine or a server we stand on failed us: disk full, database unreachable, port taken."""


class BugError(WattdeckError):
    """We were wrong: something that can not happen did."""
