"""Every place that can hold something derived from a module or a person; one without its row fails a test."""

from __future__ import annotations

import dataclasses
import enum
import fnmatch
from collections.abc import Iterable


class About(enum.StrEnum):
    """Whom what lies there can be about."""

    MODULE = "module"
    # Who holds a supply contract, or lives where one is.
    PERSON = "person"
    # Who works at the utility.
    OPERATOR = "operator"


@dataclasses.dataclass(frozen=True, slots=True)
class DataPlace:
    """One place.

    `retention` may name settings in braces. `encrypted`: on the disk, by us. `table` is the registry's; `paths` are
    patterns below the data directory; `log` a sink of log lines. It is erased by itself, with another place
    (`erased_with`), or not: then `not_erased` says why that is right.
    """

    name: str
    holds: str
    why: str
    retention: str
    about: tuple[About, ...] = ()
    encrypted: bool = False
    table: str = ""
    paths: tuple[str, ...] = ()
    log: str = ""
    erased_with: str = ""
    not_erased: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class HeldKey:
    """A series key of a subject, and of which module's readings it is; `to_us` is None while its period goes on."""

    key: int
    serial: str
    from_us: int
    to_us: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class DataSubject:
    """Whose data are looked for: a module, or a holder, by kind:name. Found once: erasing removes what says it."""

    kind: About
    name: str
    keys: tuple[HeldKey, ...]
    sites: tuple[int, ...]

    @property
    def words(self) -> str:
        """As logs name it: module:WD1 or holder:c-..."""
        return f"{'module' if self.kind is About.MODULE else 'holder'}:{self.name}"

    @property
    def serials(self) -> tuple[str, ...]:
        """The modules whose present data are the subject's: a holder's of the past are somebody else's now."""
        if self.kind is About.MODULE:
            return (self.name,)
        return tuple(sorted({held.serial for held in self.keys if held.to_us is None}))

    @property
    def spans(self) -> tuple[tuple[str, int, int], ...]:
        """(serial, from, to) in which what a module said is the subject's."""
        if self.kind is About.MODULE:
            return ((self.name, 0, _FOREVER_US),)
        return tuple(
            (held.serial, held.from_us, _FOREVER_US if held.to_us is None else held.to_us) for held in self.keys
        )

    @property
    def ended_keys(self) -> tuple[int, ...]:
        """The keys whose period is over: what they hold can be erased without losing what comes."""
        return tuple(held.key for held in self.keys if held.to_us is not None)


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """What a place holds of a subject; None is unknown (it can not be told apart there)."""

    count: int | None
    size_bytes: int | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Erased:
    """What was erased at a place, and what was left and why."""

    count: int
    left: str = ""


_FOREVER_US = 2**62


def place_of_path(path: str, places: Iterable[DataPlace]) -> DataPlace | None:
    """The place that a path below the data directory (with / between its parts) belongs to."""
    return next((place for place in places if any(fnmatch.fnmatchcase(path, one) for one in place.paths)), None)
