"""Which columns of the registry are sealed in a backup, and whose keys they need."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from app.domain.access_chain import ERASED_SUBJECT
from app.stores.registry.erasures import SUBJECT_KINDS, erasures_of
from app.stores.registry.models import Channel, ForeignDevice, Holder, Key, Module, Pairing

Row = Mapping[str, Any]
# An access log may name what is no subject; its entries share a key then, which is never dropped.
OF_THE_LOG = "log:access"


# Devices that are no modules are nobody's yet; they share a key as well.
OF_STRANGERS = "log:devices"


class Lost(enum.Enum):
    """What becomes of a row when one of its keys is gone."""

    # It comes back without the values.
    BLANKED = "blanked"
    # It does not come back.
    DROPPED = "dropped"
    # A word stands for the value.
    NAMED = "named"


@dataclasses.dataclass(frozen=True, slots=True)
class Links:
    """Who belongs to what, as far as the subjects of rows need it."""

    # Pairing -> site; key's pairing or site -> its one holder.
    site_of_pairing: Mapping[int, int]
    holder_of_pairing: Mapping[int, str]
    holder_of_site: Mapping[int, str]
    # Serial -> the site it is paired with now.
    site_of_module: Mapping[str, int]
    # Adopted device of others -> its module's serial.
    serial_of_device: Mapping[int, str]
    # Tokens of holders who were erased: the erasures put them back into their ledger, a dump does not name them.
    forgotten_tokens: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Personal:
    """The sealed columns of a table. A row whose sealed columns are all null, or that is nobody's, is not sealed."""

    columns: tuple[str, ...]
    subjects: Callable[[Row, Links], list[str]]
    lost: Lost


def _of_module(row: Row, links: Links) -> list[str]:
    site = links.site_of_module.get(row["serial"])
    return [f"module:{row['serial']}", *(_of_place(site, links) if site is not None else [])]


def _of_place(site: int, links: Links) -> list[str]:
    holder = links.holder_of_site.get(site)
    return [f"site:{site}", *([f"holder:{holder}"] if holder else [])]


def _of_pairing(row: Row, links: Links) -> list[str]:
    holder = links.holder_of_pairing.get(row["id"])
    return [f"site:{row['site_id']}", *([f"holder:{holder}"] if holder else [])]


def _of_key(row: Row, links: Links) -> list[str]:
    subjects = [f"key:{row['key']}"]
    if row["pairing_id"] is not None:
        subjects.append(f"site:{links.site_of_pairing[row['pairing_id']]}")
    if row["holder_token"]:
        subjects.append(f"holder:{row['holder_token']}")
    return subjects


def _of_token(row: Row, _links: Links) -> list[str]:
    return [f"holder:{row['token']}"]


def _of_access(row: Row, _links: Links) -> list[str]:
    kind, _, name = row["subject"].partition(":")
    return [row["subject"] if kind in SUBJECT_KINDS and name and len(row["subject"]) <= 80 else OF_THE_LOG]


def _of_device(row: Row, links: Links) -> list[str]:
    serial = links.serial_of_device.get(row["id"])
    return [OF_STRANGERS] if serial is None else _of_module({"serial": serial}, links)


def _of_action(row: Row, links: Links) -> list[str]:
    """Only a holder's token is sealed, and not that of an erased one: it stands in the list of erasures."""
    kind, _, token = row["subject"].partition(":")
    return [row["subject"]] if kind == "holder" and token not in links.forgotten_tokens else []


# Every column marked personal in the models stands here or in LEFT_OUT (a test holds us to it); beside those, what
# says whose a key is.
PERSONAL: Mapping[str, Personal] = {
    "modules": Personal(("meter_serial",), _of_module, Lost.BLANKED),
    "sites": Personal(
        ("street", "postcode", "delivery_point"), lambda row, links: _of_place(row["id"], links), Lost.BLANKED
    ),
    "pairings": Personal(("site_id", "channel_id", "meter_serial"), _of_pairing, Lost.DROPPED),
    "token_ledger": Personal(("token",), _of_token, Lost.DROPPED),
    "holders": Personal(("token",), _of_token, Lost.DROPPED),
    "keys": Personal(("channel_id", "pairing_id", "holder_token"), _of_key, Lost.DROPPED),
    "foreign_devices": Personal(("device", "name", "facts"), _of_device, Lost.DROPPED),
    "access_log": Personal(("subject",), _of_access, Lost.NAMED),
    "actions": Personal(("subject",), _of_action, Lost.NAMED),
}
NAMED = ERASED_SUBJECT

LEFT_OUT: Mapping[str, str] = {
    "person_keys": "the latest copy stands in keyring.json, and there alone",
    "erasures": "the latest copy stands in erasures.json, and there alone",
    "sessions": "operators log in again",
    "jobs": "work half done must not go on over restored data",
}


def links_of(connection: Connection) -> Links:
    """Read within the dump's own transaction."""
    site_of_pairing = {row.id: row.site_id for row in connection.execute(sa.select(Pairing.id, Pairing.site_id))}
    holders: dict[int, set[str]] = {}
    of_sites: dict[int, set[str]] = {}
    query = sa.select(Key.pairing_id, Key.holder_token, Key.to_us).where(
        Key.pairing_id.is_not(None), Key.holder_token.is_not(None)
    )
    for pairing, holder, to_us in connection.execute(query):
        assert pairing is not None
        assert holder is not None
        holders.setdefault(pairing, set()).add(holder)
        if to_us is None:
            of_sites.setdefault(site_of_pairing[pairing], set()).add(holder)
    current = (
        sa.select(Module.serial, Pairing.site_id)
        .join_from(Pairing, Channel)
        .join(Module)
        .where(Pairing.to_us.is_(None))
        .order_by(Channel.number.desc())
    )
    return Links(
        site_of_pairing,
        _single(holders),
        _single(of_sites),
        {row.serial: row.site_id for row in connection.execute(current)},
        {row.id: row.serial for row in connection.execute(sa.select(ForeignDevice.id, Module.serial).join(Module))},
        frozenset(
            each.subject.removeprefix("holder:")
            for each in erasures_of(connection)
            if each.subject.startswith("holder:")
        ).difference(connection.execute(sa.select(Holder.token)).scalars()),
    )


def _single(found: Mapping[int, set[str]]) -> dict[int, str]:
    """Where several share something, none of them can take it from the others."""
    return {place: next(iter(names)) for place, names in found.items() if len(names) == 1}
