"""The data map as it travels over HTTP."""

from __future__ import annotations

import msgspec


class DataPlace(msgspec.Struct, frozen=True):
    """A place that can hold something derived from a module or a person.

    `about`: module, person, operator. `erased_with`: erased when that place is; `not_erased`: why it is not. Both
    empty: it is erased by itself.
    """

    name: str
    holds: str
    why: str
    retention: str
    about: list[str]
    encrypted: bool
    table: str
    paths: list[str]
    erased_with: str
    not_erased: str


class DataMap(msgspec.Struct, frozen=True):
    """Every place. `undeclared` is what was found on this hub and has no row: a fault of ours, tell us."""

    items: list[DataPlace]
    undeclared: list[str]


class HeldAt(msgspec.Struct, frozen=True):
    """What a place holds of somebody: rows, messages or files; null where it can not be told apart."""

    place: str
    count: int | None
    size_bytes: int | None
    note: str


class HeldOf(msgspec.Struct, frozen=True):
    """What every place holds of a module or holder."""

    subject: str
    items: list[HeldAt]
