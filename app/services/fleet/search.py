"""Search by any identifier: texts of modules and sites, folded, and what of them a question fits."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from app.domain.folding import folded
from app.services.fleet.table import FleetTable
from app.services.fleet.texts import Fit, TextPile, Texts
from app.stores.registry.fleet_rows import FleetRow, SiteRow

MOST_RESULTS = 50
# Numbers as bills print them, in groups: 0914 1234 5678 90.
_GROUPED = re.compile(r"[0-9][0-9 .-]*[0-9]")
# Site 12 is the owner -12, a module its row: 0 is a module, no site.


class Attribute(enum.IntEnum):
    """What of a module or site was searched, the likelier meant first."""

    SERIAL = 0
    METER_SERIAL = 1
    DELIVERY_POINT = 2
    SITE_ID = 3
    HOLDER = 4
    POSTCODE = 5
    STREET = 6
    CITY = 7


@dataclasses.dataclass(frozen=True, slots=True)
class Hit:
    """A module, or a site that has none, and which attribute of it fits how."""

    attribute: Attribute
    fit: Fit
    serial: str | None
    site_id: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class SearchIndex:
    """An immutable state of what can be searched, of one table's modules."""

    table: FleetTable
    texts: Texts

    def find(self, question: str) -> list[Hit]:
        """The best hits, each module once: exact before beginning before inside, then by attribute."""
        hits: dict[tuple[str | None, int | None], Hit] = {}
        for hit in self._hits(question):
            hits.setdefault((hit.serial, None if hit.serial else hit.site_id), hit)
            if len(hits) == MOST_RESULTS:
                break
        return list(hits.values())

    def _hits(self, question: str) -> Iterator[Hit]:
        wanted = folded(question)
        if not wanted:
            return
        questions = [wanted]
        if _GROUPED.fullmatch(wanted):
            questions.append(re.sub(r"[ .-]", "", wanted))
        matches = [self.texts.find(one) for one in dict.fromkeys(questions)]
        for fit in Fit:
            for match in matches:
                fitting = np.flatnonzero(match.fits == fit)
                labels = match.labels[fitting]
                for at in fitting[np.argsort(labels, kind="stable")]:
                    yield from self._hits_of(int(match.owners[at]), Attribute(int(match.labels[at])), fit)

    def _hits_of(self, owner: int, attribute: Attribute, fit: Fit) -> Iterator[Hit]:
        table = self.table
        if owner >= 0:
            if owner < len(table):
                site = int(table.numbers["site_id"][owner])
                yield Hit(attribute, fit, table.serial(owner), site if site > 0 else None)
            return
        rows = table.rows_of_site(-owner)
        if not len(rows):
            yield Hit(attribute, fit, None, -owner)
        for row in rows[:MOST_RESULTS]:
            yield Hit(attribute, fit, table.serial(int(row)), -owner)


class SearchTexts:
    """Takes modules and sites over as they change; one thread at a time."""

    def __init__(self) -> None:
        self._pile = TextPile()

    def put_modules(self, modules: Iterable[FleetRow], rows: Sequence[int]) -> None:
        """Modules that are new or changed, and their rows in the table."""
        for row, module in zip(rows, modules, strict=True):
            texts = [(Attribute.SERIAL, module.serial)]
            texts += [(Attribute.METER_SERIAL, meter) for meter in module.meter_serials]
            texts += [(Attribute.HOLDER, token) for token in module.holders]
            self._put(row, texts)

    def put_sites(self, sites: Iterable[SiteRow]) -> None:
        """Sites that are new or changed."""
        for site in sites:
            texts = (
                (Attribute.DELIVERY_POINT, site.delivery_point),
                (Attribute.SITE_ID, str(site.id)),
                (Attribute.POSTCODE, site.postcode),
                (Attribute.STREET, site.street),
                (Attribute.CITY, site.city),
            )
            self._put(-site.id, [(attribute, text) for attribute, text in texts if text])

    def drop_sites(self, numbers: Iterable[int]) -> None:
        """Sites that are no more."""
        for number in numbers:
            self._pile.put(-number, ())

    def index(self, table: FleetTable) -> SearchIndex:
        """What can be searched now, with the modules of a table."""
        return SearchIndex(table, self._pile.texts())

    def _put(self, owner: int, texts: Iterable[tuple[Attribute, str]]) -> None:
        self._pile.put(owner, [(int(attribute), folded(text)) for attribute, text in texts])
