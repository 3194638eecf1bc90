"""What is done to modules: registering, importing, blocking, new secrets, bulk actions."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from litestar import Response
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Example, OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import JSONBody, QueryParameter, RawBody

from app.api.access import ApiRequest, needs
from app.api.routes.modules import COLUMNS, SerialInPath, answer_of
from app.api.routing import making
from app.domain.errors import FileRefused, OperatorInputError
from app.domain.keys import CollectionLevel
from app.domain.listing import MOST_ROWS, parse_listing
from app.domain.people import Scope
from app.protocol.api.fleet import (
    BulkReport,
    BulkRequest,
    ImportProblem,
    ImportReport,
    LeftOut,
    LevelWord,
    ModuleFacts,
    NewCredential,
    NewModule,
)
from app.services.fleet.fleet import Fleet
from app.services.fleet.import_file import COLUMNS as IMPORT_COLUMNS
from app.services.fleet.import_file import ImportFile
from app.services.fleet.operations import FleetOperations
from app.services.jobs.bulk import Bulk
from app.services.jobs.jobs import Jobs
from app.stores.registry import admission
from app.stores.registry.module_edits import BulkAction
from app.stores.registry.records import NewSite, Provisioned

# More are a job's work: one transaction of so many takes a few tenths of a second in which nobody else writes.
_CHANGED_AT_ONCE = 1000
_EXAMPLE = "serial,city,street,postcode,delivery_point,tags\nWD00001,Lyon,12 rue des Lilas,69003,09141234567890,pilot\n"


@dataclasses.dataclass
class _CsvBody(Operation):
    """A route whose body is a CSV file."""

    def __post_init__(self) -> None:
        content = OpenAPIMediaType(
            schema=Schema(type=OpenAPIType.STRING), examples={"one module": Example(value=_EXAMPLE)}
        )
        self.request_body = RequestBody(
            content={"text/csv": content},
            required=True,
            description=f"UTF-8; line 1 names the columns: serial, and any of {', '.join(IMPORT_COLUMNS[1:])}; "
            "tags are separated by blanks",
        )


def module_admin_routes(fleet: Fleet, operations: FleetOperations, jobs: Jobs) -> list[HTTPRouteHandler]:
    """Blocking and new secrets end a module's session within a moment."""
    allowed = needs(Scope.FLEET_WRITE)

    @making("/v1/modules", allowed, sync_to_thread=True)
    def create(request: ApiRequest, data: JSONBody[NewModule]) -> NewCredential:
        """Register a module; its secret is told this once."""
        if data.site is not None and data.site_id is not None:
            raise OperatorInputError("give site or site_id, not both")
        site: NewSite | int | None = data.site_id
        if data.site is not None:
            site = NewSite(
                data.site.city,
                data.site.zone,
                data.site.street or None,
                data.site.postcode or None,
                data.site.delivery_point or None,
            )
        module = admission.NewModule(data.serial, site, tuple(data.tags), data.note)
        level = CollectionLevel[data.level.upper()]
        return _told(operations.create(request.user.name, module, period_ms=data.period_ms, level=level))

    @making("/v1/modules/import", allowed, sync_to_thread=True, status_code=200, operation_class=_CsvBody)
    def import_modules(
        request: ApiRequest,
        body: RawBody,
        dry_run: Annotated[bool, QueryParameter(description="only say what would be done and what is wrong")] = False,
        level: Annotated[LevelWord, QueryParameter(description="what may be kept of them")] = "second",
    ) -> ImportReport:
        """Register the modules of a CSV file with their sites, all or none; the secrets are told this once."""
        file = operations.check_import(body)
        if dry_run:
            return _report(file)
        if file.mistakes:
            raise FileRefused(
                [{"line": one.line, "column": one.column, "message": one.message} for one in file.mistakes]
            )
        admitted = operations.admit(request.user.name, file, level=CollectionLevel[level.upper()])
        return ImportReport(
            dry_run=False,
            modules=len(admitted.credentials),
            new_sites=len(admitted.new_sites),
            known_sites=file.known_sites,
            problems=[],
            credentials=[_told(given) for given in admitted.credentials],
        )

    @making("/v1/modules/{serial:str}/block", allowed, sync_to_thread=True, status_code=200)
    def block(request: ApiRequest, serial: SerialInPath) -> Response[ModuleFacts]:
        """Refuse a module from now on and end its session."""
        return answer_of(fleet, operations.block(request.user.name, serial))

    @making("/v1/modules/{serial:str}/unblock", allowed, sync_to_thread=True, status_code=200)
    def unblock(request: ApiRequest, serial: SerialInPath) -> Response[ModuleFacts]:
        """Let a module in again."""
        return answer_of(fleet, operations.unblock(request.user.name, serial))

    @making("/v1/modules/{serial:str}/rekey", allowed, sync_to_thread=True, status_code=200)
    def rekey(request: ApiRequest, serial: SerialInPath) -> NewCredential:
        """A new secret, told this once; the old one ends now, and with it the module's session."""
        return _told(operations.rekey(request.user.name, serial))

    @making("/v1/modules/bulk", allowed, sync_to_thread=True, status_code=200)
    def bulk(request: ApiRequest, data: JSONBody[BulkRequest]) -> BulkReport:
        """Block, unblock, tag, untag or re-key many modules, or with `preview` only say whom, whom not, and why.

        Up to 1,000 are changed at once, all or none; for more, and for new secrets, a job is started.
        """
        action = BulkAction(data.what)
        if (action in {BulkAction.TAG, BulkAction.UNTAG}) != (data.tag is not None):
            raise OperatorInputError("tag and untag need a tag, nothing else takes one")
        serials = _chosen(fleet, data)
        job_id = None
        if data.preview or not serials:
            outcome = operations.plan(serials, action, data.tag)
        elif action is BulkAction.REKEY or len(serials) > _CHANGED_AT_ONCE:
            outcome = operations.plan(serials, action, data.tag)
            asked = {"action": data.what, "modules": serials} | ({} if data.tag is None else {"tag": data.tag})
            job_id = jobs.start(request.user, jobs.prepare(request.user, Bulk.name, asked)).id
        else:
            outcome = operations.act(request.user.name, serials, action, data.tag)
        left_out = [LeftOut(serial, reason) for serial, reason in outcome.left_out]
        return BulkReport(data.what, data.preview, job_id, list(outcome.affected), left_out)

    return [create, import_modules, block, unblock, rekey, bulk]


def _chosen(fleet: Fleet, data: BulkRequest) -> list[str]:
    if (data.serials is None) == (data.filter is None):
        raise OperatorInputError("give serials or filter, one of them")
    if data.filter is None:
        return data.serials or []
    return fleet.select_all(parse_listing(COLUMNS, offset=0, limit=MOST_ROWS, sort="", filters=data.filter))


def _told(given: Provisioned) -> NewCredential:
    return NewCredential(given.serial, given.username, given.secret)


def _report(file: ImportFile) -> ImportReport:
    return ImportReport(
        dry_run=True,
        modules=len(file.modules),
        new_sites=len({module.site for module in file.modules if isinstance(module.site, NewSite)}),
        known_sites=file.known_sites,
        problems=[ImportProblem(one.line, one.column, one.message) for one in file.mistakes],
        credentials=[],
    )
