"""The access log, for auditors. Whoever reads it stands among the actions."""

from __future__ import annotations

import itertools

from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.response import Stream

from app.api.access import ApiRequest, needs
from app.api.lists import listing_of, page_of
from app.api.routing import reading
from app.domain.access_chain import Entry
from app.domain.listing import Listing
from app.domain.people import Scope
from app.protocol.api.access_log import AccessEntryInfo, VerificationInfo
from app.protocol.api.common import Page
from app.services.access_audit import AccessAudit
from app.services.access_export import csv_pieces
from app.services.access_verification import Verification
from app.stores.registry.access_entries import COLUMNS


def access_log_routes(audit: AccessAudit) -> list[HTTPRouteHandler]:
    """Who read which attributes of whom, and why."""

    @reading(
        "/v1/access-log",
        needs(Scope.AUDIT_READ),
        dependencies={"listing": Provide(listing_of(COLUMNS), sync_to_thread=False)},
        sync_to_thread=True,
    )
    def list_entries(listing: NamedDependency[Listing], request: ApiRequest) -> Page[AccessEntryInfo]:
        """Entries of the access log, the newest first when nothing is said."""
        return page_of(audit.page(request.user, listing), _entry)

    @reading(
        "/v1/access-log/export",
        needs(Scope.AUDIT_READ),
        dependencies={"listing": Provide(listing_of(COLUMNS), sync_to_thread=False)},
        sync_to_thread=True,
        answers=ResponseSpec(str, description="a header, then a line for each entry", media_type="text/csv"),
    )
    def export(listing: NamedDependency[Listing], request: ApiRequest) -> Stream:
        """Every entry that meets the filters, as CSV, oldest first; offset, limit and sort are ignored."""
        pieces = csv_pieces(audit.each(request.user, listing))
        # What fails at once is told as a problem, not by a broken answer.
        first = list(itertools.islice(pieces, 2))
        headers = {"Content-Disposition": 'attachment; filename="access-log.csv"'}
        return Stream(itertools.chain(first, pieces), media_type="text/csv; charset=utf-8", headers=headers)

    @reading("/v1/access-log/verification", needs(Scope.AUDIT_READ), sync_to_thread=True)
    def verification(request: ApiRequest) -> VerificationInfo:
        """Read the whole chain and name every place where it was tampered with; takes seconds for a long one."""
        return verification_info(audit.verify(request.user))

    return [list_entries, export, verification]


def verification_info(found: Verification) -> VerificationInfo:
    """A verification as it travels."""
    return VerificationInfo(
        found.is_sound,
        found.entries,
        found.first_us,
        found.last_us,
        found.end.number,
        found.end.sha256.hex(),
        list(found.faults),
        list(found.notes),
        found.erased,
    )


def _entry(entry: Entry) -> AccessEntryInfo:
    look = entry.look
    return AccessEntryInfo(
        entry.number,
        look.quarter_us,
        look.at_us,
        look.operator,
        look.subject,
        look.attributes.split(","),
        look.purpose,
        look.ticket,
        look.count,
        entry.sha256.hex(),
    )
