"""Saved views: filter, order and columns of a page under a name; an operator's own, or shared with all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from app.domain.errors import OperatorInputError, VersionConflict
from app.stores.registry.actions import Deed, record
from app.stores.registry.faults import NameTakenError, UnknownNameError
from app.stores.registry.models import Operator, SavedView
from app.stores.registry.registry import Registry, wall_clock_us

# Of one owner; a person has a dozen.
MOST_VIEWS = 200
MOST_DEFINITION_BYTES = 20_000
# What is nested deeper could be stored, and then break every list that it is in.
MOST_LEVELS = 20
_LARGEST_ID = 2**62


@dataclasses.dataclass(frozen=True, slots=True)
class ViewFile:
    """A saved view; `owner` is the operator's name, None for the console that started the hub."""

    id: int
    page: str
    name: str
    definition: Any
    shared: bool
    owner: str | None
    mine: bool
    version: int


class SavedViews:
    """Every method blocks. `operator_id` is whose views they are; None: the console's that started the hub."""

    def __init__(self, registry: Registry, *, now_us: Callable[[], int] = wall_clock_us) -> None:
        self._registry = registry
        self._now_us = now_us

    def visible(self, operator_id: int | None, page: str | None = None) -> list[ViewFile]:
        """An operator's own views and those shared, by page and name."""
        query = _VIEWS.where(sa.or_(_owned_by(operator_id), SavedView.shared))
        if page is not None:
            query = query.where(SavedView.page == page)
        with self._registry.reading() as connection:
            rows = connection.execute(query.order_by(SavedView.page, SavedView.name, SavedView.id))
            return [_file(row, operator_id) for row in rows]

    def one(self, operator_id: int | None, number: int) -> ViewFile:
        """A view that an operator may see. Raises UnknownNameError."""
        with self._registry.reading() as connection:
            return _one(connection, operator_id, number)

    def create(
        self, actor: str, operator_id: int | None, *, page: str, name: str, definition: Any, shared: bool
    ) -> ViewFile:
        """Save a view. Raises NameTakenError when the owner has one of that name on the page, OperatorInputError."""
        text = _json(definition)
        with self._registry.writing() as connection:
            owned = sa.select(sa.func.count()).select_from(SavedView).where(_owned_by(operator_id))
            if connection.execute(owned).scalar_one() >= MOST_VIEWS:
                raise OperatorInputError(f"there are {MOST_VIEWS} views of yours already")
            _check_name(connection, operator_id, page, name)
            number = connection.execute(
                sa.insert(SavedView)
                .values(operator_id=operator_id, page=page, name=name, definition=text, shared=shared)
                .returning(SavedView.id)
            ).scalar_one()
            facts = {"page": page, "name": name, "shared": shared}
            record(connection, Deed(actor, "view.create", f"view:{number}", None, facts), self._now_us())
            return _one(connection, operator_id, number)

    def edit(
        self, actor: str, operator_id: int | None, number: int, version: int, values: Mapping[str, Any]
    ) -> ViewFile:
        """Change `name`, `definition` or `shared` of a view of one's own.

        Raises UnknownNameError for another's, VersionConflict, NameTakenError.
        """
        columns = {name: _json(value) if name == "definition" else value for name, value in values.items()}
        with self._registry.writing() as connection:
            before = _own(connection, operator_id, number)
            if values.get("name", before.name) != before.name:
                _check_name(connection, operator_id, before.page, values["name"])
            changed = connection.execute(
                sa.update(SavedView)
                .where(SavedView.id == number, SavedView.version == version)
                .values(version=SavedView.version + 1, **columns)
            )
            if changed.rowcount == 0:
                raise VersionConflict
            after = _one(connection, operator_id, number)
            deed = Deed(actor, "view.edit", f"view:{number}", _told(before), _told(after))
            record(connection, deed, self._now_us())
            return after

    def delete(self, actor: str, operator_id: int | None, number: int, version: int) -> None:
        """Remove a view of one's own. Raises UnknownNameError for another's, VersionConflict."""
        with self._registry.writing() as connection:
            before = _own(connection, operator_id, number)
            if before.version != version:
                raise VersionConflict
            connection.execute(sa.delete(SavedView).where(SavedView.id == number))
            record(connection, Deed(actor, "view.delete", f"view:{number}", _told(before)), self._now_us())


def _owned_by(operator_id: int | None) -> sa.ColumnElement[bool]:
    return SavedView.operator_id.is_(None) if operator_id is None else SavedView.operator_id == operator_id


_VIEWS = sa.select(
    SavedView.id,
    SavedView.page,
    SavedView.name,
    SavedView.definition,
    SavedView.shared,
    SavedView.operator_id,
    SavedView.version,
    Operator.name.label("owner"),
).join(Operator, Operator.id == SavedView.operator_id, isouter=True)


def _one(connection: Connection, operator_id: int | None, number: int) -> ViewFile:
    row = None
    if 0 < number < _LARGEST_ID:
        visible = sa.or_(_owned_by(operator_id), SavedView.shared)
        row = connection.execute(_VIEWS.where(SavedView.id == number, visible)).one_or_none()
    if row is None:
        raise UnknownNameError("view", str(number)[:20])
    return _file(row, operator_id)


def _own(connection: Connection, operator_id: int | None, number: int) -> ViewFile:
    found = _one(connection, operator_id, number)
    if not found.mine:
        raise UnknownNameError("view of yours", number)
    return found


def _file(row: Any, operator_id: int | None) -> ViewFile:
    return ViewFile(
        id=row.id,
        page=row.page,
        name=row.name,
        definition=msgspec.json.decode(row.definition),
        shared=row.shared,
        owner=row.owner,
        mine=row.operator_id == operator_id,
        version=row.version,
    )


def _check_name(connection: Connection, operator_id: int | None, page: str, name: str) -> None:
    taken = sa.select(SavedView.id).where(_owned_by(operator_id), SavedView.page == page, SavedView.name == name)
    if connection.execute(taken).first() is not None:
        raise NameTakenError("views", [name])


def _json(definition: Any) -> str:
    if _is_deeper(definition, MOST_LEVELS):
        raise OperatorInputError(f"the definition of a view has at most {MOST_LEVELS} levels")
    text = msgspec.json.encode(definition)
    if len(text) > MOST_DEFINITION_BYTES:
        raise OperatorInputError(f"the definition of a view has at most {MOST_DEFINITION_BYTES} bytes")
    return text.decode()


def _is_deeper(value: Any, levels: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(one, levels - 1) for one in inside)


def _told(view: ViewFile) -> dict[str, Any]:
    return {"page": view.page, "name": view.name, "shared": view.shared}
