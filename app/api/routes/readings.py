"""A module's readings at any resolution as JSON, CSV or Arrow; completeness; power of the fleet and of cities."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter
from litestar.response import Stream

from app.api.access import ApiRequest, Gate, needs
from app.api.ranges import From, To
from app.api.routing import reading
from app.domain.people import Scope
from app.domain.resolution import Resolution
from app.protocol.api.readings import (
    CompletenessAnswer,
    CompletenessBucket,
    GroupPowerAnswer,
    ReadingsAnswer,
)
from app.services.group_power import GroupPower
from app.services.readings import ROWS_AT_ONCE, Asked, Readings, reason_words

ARROW_MEDIA_TYPE = "application/vnd.apache.arrow.stream"
CSV_MEDIA_TYPE = "text/csv"
Serial = Annotated[
    str,
    PathParameter(min_length=1, max_length=64, description="the module's serial", examples=[Example(value="WD00001")]),
]
Every = Annotated[
    Literal["raw", "10m", "1h", "1d"],
    QueryParameter(description="readings as they came, or buckets; days are civil days"),
]
Buckets = Annotated[Literal["10m", "1h", "1d"], QueryParameter(description="buckets to count in")]
Channel = Annotated[int, QueryParameter(ge=1, le=99, description="the module's channel")]
Table = Annotated[
    Literal["readings", "registers", "aux"],
    QueryParameter(description="readings; each supplier register's index; phases 2 and 3, injected energy, gas, water"),
]
_PERSONAL = ("consumption",)


def readings_routes(readings: Readings, groups: GroupPower, gate: Gate) -> list[HTTPRouteHandler]:
    """Consumption is a home's own: each look is noted."""
    allowed = needs(Scope.READINGS_READ, personal=_PERSONAL)

    question = {"asked": Provide(_asked, sync_to_thread=False)}

    def ask(request: ApiRequest, asked: Asked) -> tuple[pa.Schema, Iterator[pa.Table]]:
        schema, tables = readings.tables(asked)
        gate.saw(request, [f"module:{asked.serial}"])
        # What can fail, fails before the answer begins.
        first = list(itertools.islice(tables, 1))
        return schema, itertools.chain(first, tables)

    @reading(
        "/v1/modules/{serial:str}/readings",
        allowed,
        dependencies=question,
        sync_to_thread=True,
        answers=ResponseSpec(ReadingsAnswer, description="the rows", generate_examples=False),
    )
    def rows(request: ApiRequest, asked: NamedDependency[Asked]) -> Stream:
        """Readings or buckets of a module as JSON, streamed; for a day of seconds the Arrow form is much smaller."""
        schema, tables = ask(request, asked)
        return Stream(_json(asked, schema, tables), media_type="application/json")

    @reading(
        "/v1/modules/{serial:str}/readings.csv",
        allowed,
        dependencies=question,
        sync_to_thread=True,
        answers=ResponseSpec(str, description="a header, then a line for each row", media_type=CSV_MEDIA_TYPE),
    )
    def rows_as_csv(request: ApiRequest, asked: NamedDependency[Asked]) -> Stream:
        """The same as CSV: times as ISO 8601 in UTC, unknown is empty."""
        schema, tables = ask(request, asked)
        name = f"{asked.serial}-{asked.every}.csv"
        return Stream(
            _csv(schema, tables),
            media_type=CSV_MEDIA_TYPE,
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    @reading(
        "/v1/modules/{serial:str}/readings.arrow",
        allowed,
        dependencies=question,
        sync_to_thread=True,
        answers=ResponseSpec(bytes, description="an Arrow IPC stream", media_type=ARROW_MEDIA_TYPE),
    )
    def rows_as_arrow(request: ApiRequest, asked: NamedDependency[Asked]) -> Stream:
        """The same as an Arrow IPC stream, compressed with zstd."""
        schema, tables = ask(request, asked)
        return Stream(arrow_stream(schema, tables), media_type=ARROW_MEDIA_TYPE)

    @reading("/v1/modules/{serial:str}/completeness", allowed, sync_to_thread=True)
    def completeness(
        request: ApiRequest, serial: Serial, from_us: From, to_us: To, every: Buckets = "10m", channel: Channel = 1
    ) -> CompletenessAnswer:
        """What was due in a range, what came, and why the rest is missing."""
        asked = Asked(serial, channel, from_us, to_us, Resolution(every))
        found, buckets = readings.completeness(asked)
        gate.saw(request, [f"module:{serial}"])
        return CompletenessAnswer(
            serial,
            channel,
            every,
            found.share,
            found.expected,
            found.received,
            found.late,
            found.duplicate,
            found.lost,
            list(found.reasons),
            [_bucket(*row) for row in zip(*(_plain(column).to_pylist() for column in buckets.columns), strict=True)],
        )

    @reading("/v1/fleet/power-history", needs(Scope.FLEET_READ), sync_to_thread=True)
    def power_history(
        request: ApiRequest,
        from_us: From,
        to_us: To,
        city: Annotated[
            str | None,
            QueryParameter(
                max_length=100, description="a city; the whole fleet without", examples=[Example(value="Lyon")]
            ),
        ] = None,
    ) -> GroupPowerAnswer:
        """Power of the fleet or a city, at 10 s, of the last 13 months."""
        found = groups.history(city, from_us, to_us, may_see_homes=request.user.may(Scope.READINGS_READ))
        return GroupPowerAnswer(
            city,
            groups.least_homes,
            *(_plain(found[name]).to_pylist() for name in ("time", "reporting", "counted", "power_w")),
        )

    return [rows, rows_as_csv, rows_as_arrow, completeness, power_history]


def _asked(
    serial: Serial, from_us: From, to_us: To, every: Every = "raw", channel: Channel = 1, table: Table = "readings"
) -> Asked:
    return Asked(serial, channel, from_us, to_us, Resolution(every), table)


def _bucket(
    time_us: int, expected: int | None, received: int, late: int, duplicate: int, lost: int | None, reasons: int
) -> CompletenessBucket:
    return CompletenessBucket(time_us, expected, received, late, duplicate, lost, list(reason_words(reasons)))


def arrow_stream(schema: pa.Schema, tables: Iterator[pa.Table]) -> Iterator[bytes]:
    """An Arrow IPC stream in pieces, compressed with zstd."""
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for table in tables:
            writer.write_table(table)
            yield _taken(sink)
    yield _taken(sink)


def _taken(sink: io.BytesIO) -> bytes:
    made = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return made


def _csv(schema: pa.Schema, tables: Iterator[pa.Table]) -> Iterator[bytes]:
    yield (",".join(schema.names) + "\n").encode()
    options = pacsv.WriteOptions(include_header=False, quoting_style="needed")
    for table in tables:
        for batch in table.to_batches(ROWS_AT_ONCE):
            columns = [_text(column) for column in batch.columns]
            sink = io.BytesIO()
            pacsv.write_csv(pa.RecordBatch.from_arrays(columns, names=schema.names), sink, options)
            yield sink.getvalue()


def _text(column: pa.Array) -> pa.Array:
    """What CSV has no form of: moments as ISO 8601, lists as JSON."""
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column, format="%Y-%m-%dT%H:%M:%SZ")
    if pa.types.is_list(column.type):
        return pa.array(
            [None if value is None else msgspec.json.encode(value).decode() for value in column.to_pylist()],
            pa.string(),
        )
    return column


def _json(asked: Asked, schema: pa.Schema, tables: Iterator[pa.Table]) -> Iterator[bytes]:
    """A ReadingsAnswer in pieces."""
    head = {"serial": asked.serial, "channel": asked.channel, "every": asked.every.value, "columns": schema.names}
    yield msgspec.json.encode(head)[:-1] + b',"rows":['
    separator = b""
    for table in tables:
        for batch in table.to_batches(ROWS_AT_ONCE):
            if not batch.num_rows:
                continue
            columns = [_plain(column).to_pylist() for column in batch.columns]
            piece = msgspec.json.encode(list(zip(*columns, strict=True)))
            yield separator + piece[1:-1]
            separator = b","
    yield b"]}"


def _plain(column: Any) -> Any:
    """Moments as UTC microseconds, and nan as unknown: JSON has neither."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64())
    if pa.types.is_float32(column.type):
        # By way of its shortest text: 234.8 and not 234.8000030517578.
        column = column.cast(pa.string()).cast(pa.float64())
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_finite(column), column, None)
    return column
