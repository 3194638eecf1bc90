"""Modules chosen by what they have in common."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from app.stores.registry.models import Channel, Key, Module, ModuleTag, Pairing, Site


def modules_with_tag(connection: Connection, tag: str) -> list[str]:
    """The serials of modules that have a tag now."""
    if "\0" in tag:
        return []
    query = sa.select(Module.serial).join_from(ModuleTag, Module).where(ModuleTag.tag == tag).order_by(Module.serial)
    return list(connection.execute(query).scalars())


def modules_in_city(connection: Connection, city: str) -> list[str]:
    """The serials of modules that supplied, or supply, a site in a city."""
    if "\0" in city:
        return []
    query = (
        sa.select(Module.serial)
        .join_from(Key, Pairing, Key.pairing_id == Pairing.id)
        .join(Site)
        .join(Channel, Key.channel_id == Channel.id)
        .join(Module)
        .where(Site.city == city)
        .distinct()
        .order_by(Module.serial)
    )
    return list(connection.execute(query).scalars())


def city_of_keys(connection: Connection, serial: str) -> dict[int, str]:
    """The city of each key of a module that is or was assigned to a site."""
    query = (
        sa.select(Key.key, Site.city)
        .join_from(Key, Pairing, Key.pairing_id == Pairing.id)
        .join(Site)
        .join(Channel, Key.channel_id == Channel.id)
        .join(Module)
        .where(Module.serial == serial)
    )
    return {row.key: row.city for row in connection.execute(query)}
