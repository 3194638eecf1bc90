"""The job that writes readings of modules into one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pyarrow as pa

from app.domain.errors import OperatorInputError
from app.domain.people import Scope
from app.domain.resolution import DAY_US, HOUR_US, LONGEST_DAY_US, Resolution, widest_us
from app.services.jobs.context import JobContext
from app.services.jobs.kinds import JobKind, Parameters, as_parameters
from app.services.jobs.parquet_file import parquet_of
from app.services.jobs.result_file import ResultFile
from app.services.jobs.table_formats import FORMATS, PARQUET, TableFormat
from app.services.readings import shown, shown_schema
from app.stores.registry.faults import UnknownNameError
from app.stores.registry.module_choice import city_of_keys, modules_in_city, modules_with_tag
from app.stores.registry.registry import Registry
from app.stores.series.grouping import numbers
from app.stores.series.interface import SeriesReader

MOST_MODULES = 50_000
_MOST_SHOWN = 20
# A step reads this much of one key: some 20,000 readings of one a second, 4,500 buckets of ten minutes.
_RAW_STEP_US = 6 * HOUR_US
_DAYS_A_STEP = {Resolution.TEN_MIN: 31, Resolution.HOUR: 366, Resolution.DAY: 10_000}
# Readings go up to a day or so after their time; see upkeep.
_RAW_STAYS_DAYS = 2
# The year 2100.
_LATEST_US = 4_102_444_800_000_000

_WHOSE = (pa.field("serial", pa.string(), nullable=False), pa.field("channel", pa.int32(), nullable=False))

TimeUs = Annotated[int, msgspec.Meta(ge=0, le=_LATEST_US)]
Serial = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
# serial, channel, begin of the supply period, begin of the slice
Cursor = tuple[str, int, int, int]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody asks for: one of `modules`, `city`, `tag`; [start_us, end_us)."""

    start_us: TimeUs
    end_us: TimeUs
    resolution: Literal["raw", "10m", "1h", "1d"] = "raw"
    format: Literal["csv", "arrow", "parquet"] = "csv"
    modules: Annotated[list[Serial], msgspec.Meta(max_length=MOST_MODULES)] = []
    city: Annotated[str, msgspec.Meta(max_length=100)] = ""
    tag: Annotated[str, msgspec.Meta(max_length=40)] = ""


class Export(JobKind):
    """Readings, or buckets of them, of chosen modules or of all of a city or tag, as CSV, Arrow or Parquet.

    The file has the module's serial and channel, never a series key. Modules are chosen when the job is started.
    """

    name: ClassVar[str] = "export"
    scopes: ClassVar[frozenset[Scope]] = frozenset({Scope.READINGS_READ})
    personal: ClassVar[tuple[str, ...]] = ("readings",)

    def __init__(
        self, registry: Registry, store: SeriesReader, *, now_us: Callable[[], int], raw_days: Callable[[], int]
    ) -> None:
        """`raw_days`: how long readings are kept, so that nothing is looked for where nothing can be."""
        self._registry = registry
        self._store = store
        self._now_us = now_us
        self._raw_days = raw_days

    def prepare(self, parameters: Parameters) -> Parameters:
        """See JobKind."""
        asked: Asked = as_parameters(parameters, Asked)
        # What is still to come is not exported: the file would be another one each time.
        end_us = min(asked.end_us, self._now_us())
        start_us = asked.start_us
        if Resolution(asked.resolution) is Resolution.RAW:
            start_us = max(start_us, self._now_us() - (self._raw_days() + _RAW_STAYS_DAYS) * DAY_US)
        if asked.start_us >= end_us:
            raise OperatorInputError("the export must begin before its end, and before now")
        if sum(map(bool, (asked.modules, asked.city, asked.tag))) != 1:
            raise OperatorInputError("name modules, or a city, or a tag: one of these")
        serials = self._serials(asked)
        if len(serials) > MOST_MODULES:
            raise OperatorInputError(f"an export has at most {MOST_MODULES} modules, not {len(serials)}")
        return {
            "start_us": start_us,
            "end_us": end_us,
            "resolution": asked.resolution,
            "format": asked.format,
            "city": asked.city,
            "tag": asked.tag,
            "modules": serials,
        }

    def subjects(self, parameters: Parameters) -> Sequence[str]:
        """See JobKind."""
        return [f"module:{serial}" for serial in parameters["modules"]]

    def shown(self, parameters: Parameters) -> Parameters:
        """See JobKind."""
        modules = parameters["modules"]
        return {**parameters, "modules": modules[:_MOST_SHOWN], "modules_count": len(modules)}

    def run(self, context: JobContext) -> str:
        """See JobKind."""
        wanted = context.parameters
        resolution = Resolution(wanted["resolution"])
        # Parquet can not be gone on with: its rows are gathered as an Arrow stream, which can.
        parquet = wanted["format"] == PARQUET
        form = FORMATS["arrow" if parquet else wanted["format"]]
        file = context.result(PARQUET if parquet else form.extension, spooled=parquet)
        schema = _schema(resolution, form.extension)
        if file.length == 0:
            file.append(form.begin(schema))
        serials = wanted["modules"]
        rows = 0 if context.cursor is None else int(context.cursor["rows"])
        at: Cursor = ("", 0, 0, 0) if context.cursor is None else tuple(context.cursor["next"])
        for number, serial in enumerate(serials):
            if serial < at[0]:
                continue
            for place, read in self._steps(serial, wanted, resolution, at):
                rows += _write(file, form, schema, place[:2], read())
                # The next step begins after this one, at the earliest a microsecond later.
                following = (*place[:3], place[3] + 1)
                message = f"module {number + 1} of {len(serials)}, {rows} rows"
                context.step_done({"next": following, "rows": rows}, done=number, total=len(serials), message=message)
            message = f"module {number + 1} of {len(serials)}, {rows} rows"
            # "\0" sorts behind the serial and before every other.
            context.step_done(
                {"next": (f"{serial}\0", 0, 0, 0), "rows": rows}, done=number + 1, total=len(serials), message=message
            )
        file.append(form.end())
        if parquet:
            file.convert(lambda stream, target: parquet_of(stream, target, check=context.check))
        return f"{rows} rows of {len(serials)} modules"

    def _serials(self, asked: Asked) -> list[str]:
        if asked.modules:
            serials = sorted(set(asked.modules))
            known = {record.serial for record in self._registry.modules(serials)}
            for serial in serials:
                if serial not in known:
                    raise UnknownNameError("module", serial)
            return serials
        with self._registry.reading() as connection:
            found = modules_in_city(connection, asked.city) if asked.city else modules_with_tag(connection, asked.tag)
        if not found:
            raise OperatorInputError(f"no module is in this {'city' if asked.city else 'tag'}")
        return sorted(found)

    def _steps(
        self, serial: str, wanted: Mapping[str, Any], resolution: Resolution, at: Cursor
    ) -> Iterator[tuple[Cursor, Callable[[], pa.Table]]]:
        """The steps of one module that begin at `at` or later, in order."""
        city = wanted["city"]
        cities = self._cities(serial) if city else {}
        for (_serial, channel), periods in sorted(self._registry.all_periods([serial]).items()):
            for period in periods.periods:
                if (serial, channel, period.from_us) < at[:3] or cities.get(period.key, "") != city:
                    continue
                # Of a period that was ended in retrospect, its key still has what was stored until then. The bucket
                # in which a period begins has nothing else of its key.
                start_us = max(wanted["start_us"], period.from_us - widest_us(resolution) + 1)
                end_us = wanted["end_us"] if period.to_us is None else min(wanted["end_us"], period.to_us)
                for begin, end in self._slices(period.key, start_us, end_us, resolution):
                    place = (serial, channel, period.from_us, begin)
                    if place >= at:
                        yield place, self._reading(period.key, begin, end, resolution)

    def _reading(self, key: int, start_us: int, end_us: int, resolution: Resolution) -> Callable[[], pa.Table]:
        return lambda: self._store.read(key, start_us, end_us, resolution)

    def _slices(self, key: int, start_us: int, end_us: int, resolution: Resolution) -> Iterator[tuple[int, int]]:
        """Bounded parts of a range, none where there is nothing: a key may have begun long before its first reading."""
        if start_us >= end_us:
            return
        # The day tier is kept longest, and what is not in it yet is made for the answer.
        days = self._store.read(key, start_us - LONGEST_DAY_US, end_us, Resolution.DAY)
        midnights = numbers(days, "time")[0].tolist()
        together = _DAYS_A_STEP.get(resolution, 1)
        for number in range(0, len(midnights), together):
            run = midnights[number : number + together]
            # A day ends where the next begins; the last one of a run may have 25 hours.
            following = midnights[number + together] if number + together < len(midnights) else run[-1] + LONGEST_DAY_US
            begin, end = max(run[0], start_us), min(following, run[-1] + LONGEST_DAY_US, end_us)
            width = _RAW_STEP_US if resolution is Resolution.RAW else max(end - begin, DAY_US)
            while begin < end:
                yield begin, min(begin + width, end)
                begin += width

    def _cities(self, serial: str) -> Mapping[int, str]:
        with self._registry.reading() as connection:
            return city_of_keys(connection, serial)


def _schema(resolution: Resolution, extension: str) -> pa.Schema:
    """The columns of the file: those of the API's readings, after whose they are."""
    # CSV has no lists.
    plain = extension == FORMATS["csv"].extension
    fields = [field for field in shown_schema(resolution, "readings") if not (plain and pa.types.is_list(field.type))]
    return pa.schema([*_WHOSE, *fields])


def _write(file: ResultFile, form: TableFormat, schema: pa.Schema, whose: tuple[str, int], found: pa.Table) -> int:
    count: int = found.num_rows
    if count:
        serial, channel = whose
        columns = [pa.array([serial] * count, pa.string()), pa.array([channel] * count, pa.int32())]
        columns += shown(found, pa.schema(list(schema)[len(_WHOSE) :])).columns
        file.append(form.rows(pa.Table.from_arrays(columns, schema=schema)))
    return count
