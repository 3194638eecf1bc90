"""Series to a folder of Parquet files and back."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.errors import OperatorInputError
from app.domain.resolution import DAY_US, TEN_MIN_US, floor_to
from app.stores.series.delta.files import CommitLabel
from app.stores.series.grouping import Bools, Int64s, numbers, place
from app.stores.series.intake import Intake, longer_marks
from app.stores.series.interface import CopiedPiece
from app.stores.series.overlay import Overlay
from app.stores.series.schema import INGESTED
from app.stores.series.tables import SPECS, Tables, scan_tier
from app.stores.series.tiering import Level, TierState
from app.stores.series.tiers import TIER
from app.stores.series.versions import latest, resolve

MANIFEST = "copy.json"
_FORMAT = 1

# A copy reads this much time at once, by table: some 100 MB of a large fleet's rows.
_SLICE_US = {
    "raw": TEN_MIN_US // 4,
    "registers": TEN_MIN_US,
    "aux": TEN_MIN_US // 4,
    "ten_min": 6 * TEN_MIN_US,
    "hour": DAY_US,
    "day": 31 * DAY_US,
    "fleet": 31 * DAY_US,
}
_TIERS = (Level.TEN_MIN, Level.HOUR, Level.DAY)
_BATCH_ROWS = 500_000


class Manifest(msgspec.Struct, frozen=True):
    """What a copy is. `keys` is null for all keys."""

    format: int
    copy_id: str
    start_us: int
    end_us: int
    keys: list[int] | None
    rows: dict[str, int]


class NotACopy(OperatorInputError):
    """The folder holds no copy of series, or not all of one."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"{folder}: {reason}")
        self.folder = folder


def copy_out(
    tables: Tables, overlay: Overlay, folder: Path, start_us: int, end_us: int, keys: Collection[int] | None
) -> int:
    """See SeriesStore.copy_out; raises OperatorInputError when the folder is there already."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise NotACopy(folder, "is there already; a copy needs a new folder") from None
    wanted = None if keys is None else sorted(set(keys))
    rows = {name: _write(tables, overlay, folder, name, start_us, end_us, wanted) for name in _SLICE_US}
    if wanted is not None:
        # Of the fleet's sums nobody is a part alone.
        rows.pop("fleet", None)
    manifest = Manifest(_FORMAT, secrets.token_hex(16), start_us, end_us, wanted, rows)
    unfinished = folder / f"{MANIFEST}.new"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    # Named last: a folder without it is no copy.
    unfinished.rename(folder / MANIFEST)
    return sum(rows.values())


def _write(
    tables: Tables, overlay: Overlay, folder: Path, name: str, start_us: int, end_us: int, keys: list[int] | None
) -> int:
    if name == "fleet" and keys is not None:
        return 0
    count = 0
    schema = TIER if name in _TIERS else SPECS[name].schema
    with pq.ParquetWriter(folder / f"{name}.parquet", schema, compression="zstd") as writer:
        for begin, end in _slices(tables, overlay, name, start_us, end_us):
            if name in _TIERS:
                rows = resolve(scan_tier(tables, name, keys, begin, end))
            elif name == "fleet":
                rows = latest(tables.scan("fleet", start_us=begin, end_us=end))
            else:
                rows = overlay.ingested(name, keys, begin, end)
            if rows.num_rows:
                writer.write_table(rows.select(schema.names))
                count += rows.num_rows
    return count


def _slices(tables: Tables, overlay: Overlay, name: str, start_us: int, end_us: int) -> Iterator[tuple[int, int]]:
    """Ranges that hold all of a table's rows of [start_us, end_us), none where there are surely no rows."""
    low, high = end_us, start_us
    for file in tables[name].files():
        low, high = min(low, file.min_us), max(high, file.max_us + 1)
    if name in INGESTED:
        for times in overlay.tail_times(name):
            low, high = min(low, int(times.min())), max(high, int(times.max()) + 1)
    begin, end = max(low, start_us), min(high, end_us)
    width = _SLICE_US[name]
    while begin < end:
        border = min((begin // width + 1) * width, end)
        yield begin, border
        begin = border


def pieces_in(tables: Tables, state: TierState, intake: Intake, folder: Path, after: int = 0) -> Iterator[CopiedPiece]:
    """See SeriesStore.copy_in_pieces. Between two pieces the caller may let others write."""
    manifest = read_manifest(folder)
    app_id = f"copy-{manifest.copy_id}"
    number = 0
    for name in INGESTED:
        for rows in _batches(folder, name, manifest):
            number += 1
            if number <= after:
                continue
            kept = _without_covered(state, folder, {name: rows})
            fresh = intake.append(CommitLabel(app_id, number), kept)
            yield CopiedPiece(rows.num_rows, kept[name].num_rows if fresh else 0)
    for tier in _TIERS:
        for rows in _batches(folder, tier, manifest):
            number += 1
            if number > after:
                yield CopiedPiece(
                    rows.num_rows, _take_tier(tables, state, tier, rows, CommitLabel(app_id, number), manifest)
                )
    for rows in _batches(folder, "fleet", manifest):
        number += 1
        if number > after:
            fresh = tables["fleet"].append(rows, label=CommitLabel(app_id, number)) is not None
            yield CopiedPiece(rows.num_rows, rows.num_rows if fresh else 0)


def _take_tier(
    tables: Tables, state: TierState, tier: Level, rows: pa.Table, label: CommitLabel, manifest: Manifest
) -> int:
    wanted = _wanted(tables, state, tier, rows)
    version = pa.array(np.full(wanted.num_rows, state.next_version(0), np.int64))
    wanted = wanted.set_column(TIER.get_field_index("version"), TIER.field("version"), version)
    if wanted.num_rows and tier is Level.TEN_MIN and manifest.rows.get("hour", 0) == 0:
        # Before they are there: a crash in between finds nothing new in this piece, and would not mark it.
        state.mark(longer_marks(state, wanted))
    return wanted.num_rows if tables.append_tier(tier, wanted, label) is not None else 0


def read_manifest(folder: Path) -> Manifest:
    """A copy's own description; raises NotACopy."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise NotACopy(folder, f"holds no {MANIFEST}, so no finished copy") from None
    except msgspec.DecodeError as problem:
        raise NotACopy(folder, f"{MANIFEST} is damaged: {problem}") from None
    if manifest.format != _FORMAT:
        raise NotACopy(folder, f"format {manifest.format} is not {_FORMAT}")
    for name, rows in manifest.rows.items():
        if name not in _SLICE_US:
            raise NotACopy(folder, f"unknown table {name!r}")
        try:
            found = pq.read_metadata(folder / f"{name}.parquet").num_rows
        except (OSError, pa.ArrowInvalid) as problem:
            raise NotACopy(folder, f"{name}.parquet is damaged: {problem}") from None
        if found != rows:
            raise NotACopy(folder, f"{name}.parquet holds {found} rows instead of {rows}")
    return manifest


def _batches(folder: Path, name: str, manifest: Manifest) -> Iterator[pa.Table]:
    if not manifest.rows.get(name):
        return
    schema = TIER if name in _TIERS else SPECS[name].schema
    with pq.ParquetFile(folder / f"{name}.parquet") as file:
        for batch in file.iter_batches(_BATCH_ROWS):
            yield pa.Table.from_batches([batch]).cast(schema).combine_chunks()


def _without_covered(state: TierState, folder: Path, rows: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """Without readings older than the raw table here, where the copy brings their bucket ready made."""
    floor = state.raw_floor
    kept = {}
    for name, table in rows.items():
        times = numbers(table, "time")[0]
        old = times < floor
        if old.any():
            made = _made_buckets(folder, Level.TEN_MIN, table)
            old &= _among(numbers(table, "key")[0], floor_to(times, TEN_MIN_US) // TEN_MIN_US, *made)
        kept[name] = table.filter(pa.array(~old)) if old.any() else table
    return kept


def _made_buckets(folder: Path, tier: str, near: pa.Table) -> tuple[Int64s, Int64s]:
    times = numbers(near, "time")[0]
    low, high = (
        pa.scalar(int(edge), pa.int64()).cast(SPECS["raw"].schema.field("time").type)
        for edge in (times.min() - TEN_MIN_US, times.max() + 1)
    )
    rows = pq.read_table(
        folder / f"{tier}.parquet", columns=["key", "time"], filters=[("time", ">=", low), ("time", "<", high)]
    )
    return _sorted_pairs(rows)


def _wanted(tables: Tables, state: TierState, tier: Level, rows: pa.Table) -> pa.Table:
    """The copied rows that say more than what is here, and that readings just copied will not be made into."""
    times = numbers(rows, "time")[0]
    keys = numbers(rows, "key")[0]
    distinct = np.unique(keys).tolist()
    here = resolve(scan_tier(tables, tier, distinct, int(times.min()), int(times.max()) + 1))
    here_keys, here_slots = numbers(here, "key")[0], numbers(here, "time")[0]
    low = int(times.min())
    ids, found = place(keys, (times - low) // TEN_MIN_US, here_keys, (here_slots - low) // TEN_MIN_US)
    keep = np.ones(len(keys), np.bool_)
    if len(here_keys):
        received = numbers(here, "received")[0]
        keep &= ~(found & (received[ids] >= numbers(rows, "received")[0]))
    erased = np.array(sorted(state.erased), np.int64)
    keep &= ~np.isin(keys, erased)
    return rows.filter(pa.array(keep))


def _sorted_pairs(rows: pa.Table) -> tuple[Int64s, Int64s]:
    keys, slots = numbers(rows, "key")[0], numbers(rows, "time")[0] // TEN_MIN_US
    order = np.lexsort((slots, keys))
    return keys[order], slots[order]


def _among(keys: Int64s, slots: Int64s, pair_keys: Int64s, pair_slots: Int64s) -> Bools:
    found: Bools = place(keys, slots, pair_keys, pair_slots)[1]
    return found
