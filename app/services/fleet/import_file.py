"""A file of modules to be registered: read, checked line by line, every mistake with its line and column."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import re
import time
import zoneinfo
from collections.abc import Callable, Sequence

from app.domain.credentials import is_serial
from app.domain.errors import OperatorInputError
from app.stores.registry.admission import NewModule
from app.stores.registry.records import NewSite

COLUMNS = ("serial", "city", "street", "postcode", "delivery_point", "zone", "tags", "note")
MOST_LINES = 50_000
# A file of another kind is wrong in every line; nobody reads more than this.
MOST_PROBLEMS = 200
DEFAULT_ZONE = "Europe/Paris"
_MOST_TAGS = 16
_LONGEST = {"city": 100, "street": 200, "postcode": 20, "delivery_point": 40, "zone": 64, "note": 500}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TAG = re.compile(r"[^\x00-\x20\x7f-\xa0|,;]{1,40}")
# Checked at a stretch before the loop has its turn.
_AT_ONCE = 500
_PAUSE_S = 0.0005


@dataclasses.dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong, and where. Line 1 is the header."""

    line: int
    column: str
    message: str


@dataclasses.dataclass(slots=True)
class ImportFile:
    """The modules of a file, by line, and what is wrong with it."""

    modules: list[NewModule] = dataclasses.field(default_factory=list)
    lines: list[int] = dataclasses.field(default_factory=list)
    mistakes: list[Mistake] = dataclasses.field(default_factory=list)
    known_sites: int = 0

    def note(self, line: int, column: str, message: str) -> None:
        """Something is wrong."""
        if len(self.mistakes) < MOST_PROBLEMS:
            self.mistakes.append(Mistake(line, column, message))


def read_import(
    raw: bytes,
    *,
    taken: Callable[[Sequence[str]], set[str]],
    sites_at: Callable[[Sequence[str]], dict[str, list[int]]],
) -> ImportFile:
    """Read a file; `taken` says which serials are registered, `sites_at` which sites a delivery point has.

    Raises OperatorInputError for what is no such file at all.
    """
    reader, names = _opened(raw)
    file = ImportFile()
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        for cells in reader:
            if len(rows) >= MOST_LINES:
                raise OperatorInputError(f"a file has at most {MOST_LINES} modules; import it in parts")
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(names):
                file.note(reader.line_num, "", f"{len(cells)} cells where the header has {len(names)}")
                continue
            rows.append((reader.line_num, dict(zip(names, (cell.strip() for cell in cells), strict=True))))
            if len(rows) % _AT_ONCE == 0:
                time.sleep(_PAUSE_S)
    except csv.Error as error:
        raise OperatorInputError(f"line {reader.line_num} is no CSV: {error}") from error
    registered = taken([row["serial"] for _, row in rows if is_serial(row["serial"])])
    points = sites_at(sorted({row["delivery_point"] for _, row in rows if row.get("delivery_point")} - _unfit(rows)))
    seen: dict[str, int] = {}
    homes: dict[str, NewSite] = {}
    for number, (line, row) in enumerate(rows, 1):
        _check_serial(file, line, row["serial"], registered, seen)
        _check_texts(file, line, row)
        tags = tuple(word for word in re.split(r"[\s|]+", row.get("tags", "")) if word)
        _check_tags(file, line, tags)
        site = _site(file, line, row, points, homes)
        file.modules.append(NewModule(row["serial"], site, tags, row.get("note", "")))
        file.lines.append(line)
        if number % _AT_ONCE == 0:
            time.sleep(_PAUSE_S)
    file.known_sites = len({module.site for module in file.modules if isinstance(module.site, int)})
    return file


def _opened(raw: bytes) -> tuple[csv._reader, list[str]]:  # type: ignore[name-defined]
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise OperatorInputError(f"line {line} is not UTF-8; save the file as 'CSV UTF-8'") from error
    head = text.partition("\n")[0]
    # Spreadsheets write semicolons where the comma is the decimal sign.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in head else ",", strict=True)
    try:
        names = [name.strip().casefold() for name in next(reader, [])]
    except csv.Error as error:
        raise OperatorInputError(f"line 1 is no CSV: {error}") from error
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or "serial" not in names or len(set(names)) != len(names):
        raise OperatorInputError(
            f"line 1 names the columns, each once: serial, and any of {', '.join(COLUMNS[1:])}"
            + (f"; {unknown[0][:40]!r} is none of them" if unknown else "")
        )
    return reader, names


def _unfit(rows: Sequence[tuple[int, dict[str, str]]]) -> set[str]:
    """Delivery points that no database is asked for."""
    points = {row["delivery_point"] for _, row in rows if "delivery_point" in row}
    return {point for point in points if len(point) > _LONGEST["delivery_point"] or _CONTROL.search(point)}


def _check_serial(file: ImportFile, line: int, serial: str, registered: set[str], seen: dict[str, int]) -> None:
    if not is_serial(serial):
        file.note(line, "serial", f"{serial[:40]!r} can be no serial: 1 to 32 letters, digits, and _ . - inside")
    elif serial in registered:
        file.note(line, "serial", f"{serial} is registered already")
    elif serial in seen:
        file.note(line, "serial", f"{serial} stands in line {seen[serial]} too")
    else:
        seen[serial] = line


def _check_texts(file: ImportFile, line: int, row: dict[str, str]) -> None:
    for column, most in _LONGEST.items():
        text = row.get(column, "")
        if len(text) > most:
            file.note(line, column, f"has {len(text)} characters, {most} are the most")
        if _CONTROL.search(text):
            file.note(line, column, "holds a control character")
    zone = row.get("zone", "")
    if zone and not _is_zone(zone):
        file.note(line, "zone", f"{zone[:64]!r} is no IANA time zone such as Europe/Paris")


def _check_tags(file: ImportFile, line: int, tags: Sequence[str]) -> None:
    if len(set(tags)) > _MOST_TAGS:
        file.note(line, "tags", f"a module has at most {_MOST_TAGS} tags")
    for tag in tags:
        if not _TAG.fullmatch(tag):
            file.note(line, "tags", f"{tag[:40]!r} can be no tag: 1 to 40 characters without , ; | and blanks")


def _site(
    file: ImportFile, line: int, row: dict[str, str], points: dict[str, list[int]], homes: dict[str, NewSite]
) -> NewSite | int | None:
    """Where a module is: lines of one delivery point share a site, and one that is registered is taken."""
    point = row.get("delivery_point", "")
    known = points.get(point, ())
    if len(known) > 1:
        file.note(line, "delivery_point", f"{len(known)} sites have it; pair this module by hand")
        return None
    if known:
        return known[0]
    given = [name for name in ("street", "postcode", "delivery_point", "zone") if row.get(name)]
    if not row.get("city"):
        if given:
            file.note(line, "city", f"a site needs a city; this line has a {given[0]} without one")
        return None
    site = NewSite(
        city=row["city"],
        zone=row.get("zone") or DEFAULT_ZONE,
        street=row.get("street") or None,
        postcode=row.get("postcode") or None,
        delivery_point=point or None,
    )
    if point and homes.setdefault(point, site) != site:
        file.note(line, "delivery_point", "another line has it with another address")
    return site


@functools.lru_cache(256)
def _is_zone(zone: str) -> bool:
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
