"""What can go wrong with the registry, by fault, and how a driver's error becomes one of ours."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from sqlalchemy import exc

from app.domain.errors import BugError, EnvironmentFault, OperatorInputError


class RegistryFault(EnvironmentFault):
    """The registry's file or server failed us; `place` is the file or the URL without its password."""

    def __init__(self, place: str, detail: str) -> None:
        self.place = place
        self.detail = detail
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        return f"the registry {self.place} can not be used: {self.detail}"


class RegistryUnreachable(RegistryFault):
    """The file or server is not there, refuses us, or went away."""

    def _sentence(self) -> str:
        return f"the registry {self.place} can not be reached: {self.detail}"


class RegistryReadOnly(RegistryFault):
    """It can be read but not written."""

    def _sentence(self) -> str:
        return (
            f"the registry {self.place} can not be written ({self.detail}); "
            "check the owner and permissions of the file and its folder, and that the disk is not mounted read-only"
        )


class RegistryFull(RegistryFault):
    """The disk under it is full. What was written before is safe."""

    def _sentence(self) -> str:
        return f"the disk of the registry {self.place} is full ({self.detail}); free some space, nothing was lost"


class RegistryBusy(RegistryFault):
    """Another process holds its lock for too long."""

    def _sentence(self) -> str:
        return f"the registry {self.place} is locked by another process ({self.detail}); try again, or end that process"


class RegistryDamaged(RegistryFault):
    """Its content is not sound. It is left as it is."""

    def _sentence(self) -> str:
        return (
            f"the registry {self.place} is damaged and was left as it is ({self.detail}); "
            "restore it from a backup, or move it away to start with an empty one"
        )


class RegistryTooNew(OperatorInputError):
    """A newer Wattdeck wrote this database; this one does not touch it."""

    def __init__(self, place: str, found: int, known: int) -> None:
        self.place = place
        self.found = found
        self.known = known
        super().__init__(
            f"the registry {place} has version {found}, this Wattdeck knows versions up to {known} "
            "and did not touch it; install the newer Wattdeck again, or restore a backup made before the upgrade"
        )


class RegistryTooOld(OperatorInputError):
    """An older Wattdeck wrote this database, and it was opened only to be read."""

    def __init__(self, place: str, found: int, known: int) -> None:
        self.place = place
        self.found = found
        self.known = known
        super().__init__(
            f"the registry {place} has version {found}, this Wattdeck reads version {known}; start its hub once, "
            "which migrates it"
        )


class RegistryForeignError(OperatorInputError):
    """The database belongs to another program."""

    def __init__(self, place: str, detail: str) -> None:
        self.place = place
        super().__init__(f"{place} is no registry of Wattdeck ({detail}) and was left as it is; name another database")


class RegistryNotEmpty(OperatorInputError):
    """A registry is to be restored into a database that holds something."""

    def __init__(self, place: str) -> None:
        self.place = place
        super().__init__(f"{place} is not empty; a registry is restored into an empty database only")


class RegistryUpgradeRefused(OperatorInputError):
    """An older registry on a server: it can not be copied by us before it is changed, and nobody said to go on."""

    def __init__(self, place: str, found: int, known: int) -> None:
        self.place = place
        self.found = found
        self.known = known
        super().__init__(
            f"the registry {place} has version {found}, this Wattdeck would change it to version {known}; a database "
            "on a server can not be copied by the hub: back it up (pg_dump), then start once with "
            "--set registry.upgrade=yes"
        )


class RegistryUrlError(OperatorInputError):
    """The URL of the registry names nothing we can open."""


class UnknownNameError(OperatorInputError):
    """There is no such module, channel, credential, site, holder or key."""

    def __init__(self, what: str, name: object) -> None:
        self.what = what
        self.name = name
        super().__init__(f"there is no {what} {name}")


class NameTakenError(OperatorInputError):
    """Some of the names that were to be registered exist; nothing was registered."""

    def __init__(self, what: str, names: list[str]) -> None:
        self.what = what
        self.names = names
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        super().__init__(f"{what} already in the registry: {shown}; nothing was changed")


class RefusedChangeError(OperatorInputError):
    """A change that can not be: out of order in time, or of something that is not so."""


@contextlib.contextmanager
def faults_of(place: str) -> Iterator[None]:
    """Errors of SQLAlchemy and its drivers leave this block as a fault of the registry at `place`, or as a bug."""
    try:
        yield
    except exc.DBAPIError as error:
        # The statement and its values stay out of the sentence: they may be personal.
        raise _fault(place, error.orig, lost=error.connection_invalidated) from error
    except exc.TimeoutError as error:
        raise RegistryBusy(place, "no free connection") from error
    except exc.SQLAlchemyError as error:
        raise BugError(f"registry: {type(error).__name__}") from error


def _fault(place: str, error: BaseException | None, *, lost: bool) -> Exception:
    if isinstance(error, sqlite3.Error):
        return _sqlite_fault(place, error)
    state: str | None = getattr(error, "sqlstate", None)
    detail = str(error).partition("\n")[0]
    for start, kind in _POSTGRES_STATES:
        if state is not None and state.startswith(start):
            return kind(place, detail)
    # Without a state it never got an answer: the server is down, the name does not resolve, the network broke.
    if lost or (state is None and type(error).__name__ == "OperationalError"):
        return RegistryUnreachable(place, detail)
    return BugError(f"registry: {type(error).__name__} {state or ''}".rstrip())


# https://www.postgresql.org/docs/15/errcodes-appendix.html
_POSTGRES_STATES: tuple[tuple[str, type[RegistryFault]], ...] = (
    ("53100", RegistryFull),
    ("25006", RegistryReadOnly),
    ("42501", RegistryReadOnly),
    ("55P03", RegistryBusy),
    ("40", RegistryBusy),
    ("XX001", RegistryDamaged),
    ("XX002", RegistryDamaged),
    ("08", RegistryUnreachable),
    ("28", RegistryUnreachable),
    ("3D", RegistryUnreachable),
    ("53", RegistryUnreachable),
    ("57", RegistryUnreachable),
    ("58", RegistryUnreachable),
)

# https://www.sqlite.org/rescode.html; a name with a suffix (SQLITE_READONLY_DBMOVED) is told by its start.
_SQLITE_NAMES: tuple[tuple[str, type[RegistryFault]], ...] = (
    ("SQLITE_FULL", RegistryFull),
    ("SQLITE_READONLY", RegistryReadOnly),
    ("SQLITE_PERM", RegistryReadOnly),
    ("SQLITE_BUSY", RegistryBusy),
    ("SQLITE_LOCKED", RegistryBusy),
    ("SQLITE_CORRUPT", RegistryDamaged),
    ("SQLITE_NOTADB", RegistryDamaged),
    ("SQLITE_CANTOPEN", RegistryUnreachable),
    ("SQLITE_IOERR", RegistryUnreachable),
)


def _sqlite_fault(place: str, error: sqlite3.Error) -> Exception:
    name: str = getattr(error, "sqlite_errorname", "") or ""
    for start, kind in _SQLITE_NAMES:
        if name.startswith(start):
            return kind(place, str(error))
    return BugError(f"registry: {type(error).__name__} {name}".rstrip())
