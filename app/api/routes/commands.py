"""Remote commands: the catalogue, sending to one or many modules, how they go."""

from __future__ import annotations

from typing import Annotated

from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter

from app.api.access import ApiRequest, needs
from app.api.lists import listing_of, page_of
from app.api.routing import making, reading
from app.domain.commands import CATALOGUE, REFUSAL_TEXTS, Argument, CommandKind
from app.domain.errors import OperatorInputError
from app.domain.ids import is_id
from app.domain.listing import Listing
from app.domain.people import Scope
from app.protocol.api.commands import (
    ArgumentInfo,
    BulkAnswer,
    BulkBody,
    BulkInfo,
    CommandInfo,
    CommandKindInfo,
    CommandResult,
    LeftOut,
    ModuleFilter,
    NewCommandBody,
)
from app.protocol.api.common import Page
from app.services.commands.sending import MODULES_AT_ONCE, Commands, Order, Preview
from app.services.jobs.bulk import Bulk, command_parameters
from app.services.jobs.jobs import Jobs
from app.stores.registry.commands import COLUMNS, CommandRecord, Selection
from app.stores.registry.faults import UnknownNameError

Serial = Annotated[
    str, PathParameter(max_length=64, description="serial of a module", examples=[Example(value="WD00001")])
]
Id = Annotated[
    str,
    PathParameter(max_length=26, description="26 characters", examples=[Example(value="01JD2Z9K3T8V5W6X7Y8Z9A0B1C")]),
]
_LISTING = {"listing": Provide(listing_of(COLUMNS), sync_to_thread=False)}


def command_routes(commands: Commands, jobs: Jobs) -> list[HTTPRouteHandler]:
    """Everything about commands. A bulk for very many is a job."""

    @reading("/v1/command-kinds", needs(Scope.FLEET_READ), sync_to_thread=False)
    def command_kinds() -> list[CommandKindInfo]:
        """The commands there are, with their arguments and the right that each needs."""
        return [_kind(kind) for kind in CATALOGUE]

    @reading("/v1/commands", needs(Scope.FLEET_READ), dependencies=_LISTING, sync_to_thread=True)
    def list_commands(listing: NamedDependency[Listing]) -> Page[CommandInfo]:
        """Commands to any module, newest first unless sorted."""
        return page_of(commands.listed(listing), _info)

    @reading("/v1/modules/{serial:str}/commands", needs(Scope.FLEET_READ), dependencies=_LISTING, sync_to_thread=True)
    def list_module_commands(serial: Serial, listing: NamedDependency[Listing]) -> Page[CommandInfo]:
        """Commands to one module, newest first unless sorted."""
        return page_of(commands.listed(listing, module=serial), _info)

    @making("/v1/modules/{serial:str}/commands", needs(Scope.COMMANDS_SEND), sync_to_thread=True)
    def send_command(request: ApiRequest, serial: Serial, data: JSONBody[NewCommandBody]) -> CommandInfo:
        """Send a command: the module gets it at once when it listens, else when it is back, unless it expires first."""
        return _info(commands.send(request.user, serial, data.name, data.arguments, data.expires_in_s))

    @reading("/v1/commands/{command_id:str}", needs(Scope.FLEET_READ), sync_to_thread=True)
    def one_command(command_id: Id) -> CommandInfo:
        """One command and what became of it."""
        return _info(commands.command(command_id))

    @making("/v1/commands/{command_id:str}/cancel", needs(Scope.COMMANDS_SEND), sync_to_thread=True, status_code=200)
    def cancel_command(request: ApiRequest, command_id: Id) -> CommandInfo:
        """Take a command back that was not sent yet."""
        return _info(commands.cancel(request.user, command_id))

    @making("/v1/commands/bulk", needs(Scope.COMMANDS_SEND), sync_to_thread=True)
    def send_bulk(request: ApiRequest, data: JSONBody[BulkBody]) -> BulkAnswer:
        """Send a command to many modules, or with `preview` say who would get it, who not, and why.

        For more than 2,000 modules a job is started that queues them; `bulk_id` is its id.
        """
        order = Order(data.name, data.arguments, _selection(data), data.expires_in_s)
        if not data.preview and len(chosen := commands.chosen(order.selection)) > MODULES_AT_ONCE:
            preview = commands.preview(request.user, order)
            modules = list(data.serials or chosen)
            parameters = command_parameters(data.name, data.arguments, data.expires_in_s) | {"modules": modules}
            job = jobs.start(request.user, jobs.prepare(request.user, Bulk.name, parameters))
            return _bulk_answer(job.id, preview, job.id)
        if data.preview:
            return _bulk_answer(None, commands.preview(request.user, order))
        sent = commands.send_bulk(request.user, order)
        return _bulk_answer(sent.bulk_id, sent.preview)

    @reading("/v1/commands/bulk/{bulk_id:str}", needs(Scope.FLEET_READ), dependencies=_LISTING, sync_to_thread=True)
    def one_bulk(request: ApiRequest, bulk_id: Id, listing: NamedDependency[Listing]) -> BulkInfo:
        """How a bulk goes: commands by state, and a page of them."""
        try:
            found = commands.bulk(bulk_id, listing)
        except UnknownNameError:
            # A job that has not queued any yet; who may not see it is told the same as if there were none.
            if not is_id(bulk_id) or jobs.get(request.user, bulk_id).kind != Bulk.name:
                raise
            return BulkInfo(bulk_id, {}, Page([], 0, listing.offset, listing.limit))
        counts = {state.value: count for state, count in found.counts.items()}
        return BulkInfo(bulk_id, counts, page_of(found.commands, _info))

    return [
        command_kinds,
        list_commands,
        list_module_commands,
        send_command,
        one_command,
        cancel_command,
        send_bulk,
        one_bulk,
    ]


def _selection(body: BulkBody) -> Selection:
    if body.all == (body.serials is not None):
        raise OperatorInputError("name either serials, or all; not both")
    if body.serials is not None:
        if body.filter is not None:
            raise OperatorInputError("a filter goes with all, not with serials")
        return Selection(tuple(body.serials))
    chosen = body.filter or ModuleFilter()
    return Selection(None, chosen.tag, chosen.city, chosen.firmware)


def _bulk_answer(bulk_id: str | None, preview: Preview, job_id: str | None = None) -> BulkAnswer:
    left_out = [
        LeftOut(reason.value, REFUSAL_TEXTS[reason], len(serials), list(serials))
        for reason, serials in preview.left_out.items()
    ]
    return BulkAnswer(
        bulk_id,
        job_id,
        len(preview.now),
        len(preview.when_back),
        sum(one.count for one in left_out),
        list(preview.now),
        list(preview.when_back),
        left_out,
    )


def _info(record: CommandRecord) -> CommandInfo:
    return CommandInfo(
        record.id,
        record.module,
        record.name,
        dict(record.arguments),
        record.state.value,
        record.sent_by,
        record.bulk_id,
        record.created_us,
        record.expires_us,
        record.sent_us,
        record.done_us,
        None if record.result is None else CommandResult(**record.result),
    )


def _kind(kind: CommandKind) -> CommandKindInfo:
    return CommandKindInfo(
        kind.name, kind.doc, [_argument(row) for row in kind.arguments], kind.scope.value, kind.repeated
    )


def _argument(row: Argument) -> ArgumentInfo:
    return ArgumentInfo(row.name, row.kind.__name__, row.doc, row.required, row.minimum, row.maximum, list(row.choices))
