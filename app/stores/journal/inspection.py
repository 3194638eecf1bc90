"""What a journal's folder holds, looked at beside a hub or without one; nothing is changed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from app.stores.journal import segment_format
from app.stores.journal.segment_format import Frame, Header, NotASegment

# Reading and checking that much takes seconds; more waits only where the series store has been failing for hours.
MOST_BYTES = 2_000_000_000
_RAW = "raw"


@dataclasses.dataclass(slots=True)
class JournalFound:
    """Segments and their bytes; `damaged` says of each bad place what it is. `newest_us`: the latest arrival."""

    segments: int = 0
    size_bytes: int = 0
    not_looked_at: int = 0
    torn_bytes: int = 0
    damaged: list[str] = dataclasses.field(default_factory=list)
    set_aside: int = 0
    newest_us: int | None = None


def inspect_journal(folder: Path, most_bytes: int = MOST_BYTES) -> JournalFound:
    """Every checksum of every segment, newest first, up to so many bytes. Raises OSError."""
    found = JournalFound()
    if not folder.is_dir():
        return found
    aside = folder / "damaged"
    found.set_aside = sum(1 for _file in aside.iterdir()) if aside.is_dir() else 0
    for number, path in enumerate(sorted(folder.glob("*.wal"), reverse=True)):
        try:
            size = path.stat().st_size
            if found.size_bytes + size > most_bytes:
                found.not_looked_at += 1
                continue
            data = path.read_bytes()
        except FileNotFoundError:
            # Moved to the series store since we looked.
            continue
        found.segments += 1
        found.size_bytes += len(data)
        _inspect_segment(path.name, data, found, newest=number == 0)
    return found


def _inspect_segment(name: str, data: bytes, found: JournalFound, *, newest: bool) -> None:
    try:
        header = segment_format.decode_header(data)
    except NotASegment as problem:
        # What a power cut, or a hub that is just making the file, leaves.
        if newest or not data.strip(b"\0"):
            found.torn_bytes += len(data)
        else:
            found.damaged.append(f"{name}: {problem}")
        return
    for frame in segment_format.frames(data, header.end, len(data)):
        if isinstance(frame, Frame):
            if newest or found.newest_us is None:
                _note_newest(header, frame, found)
        elif frame.last:
            # A crash tears the end of what was never promised.
            found.torn_bytes += frame.end - frame.start
        else:
            found.damaged.append(f"{name}: bytes {frame.start} to {frame.end} can not be read")


def _note_newest(header: Header, frame: Frame, found: JournalFound) -> None:
    if frame.table >= len(header.tables) or header.tables[frame.table][0] != _RAW:
        return
    batch = pa.ipc.read_record_batch(pa.py_buffer(frame.body), header.tables[frame.table][1])
    times, lags = batch.column("time").cast(pa.int64()), batch.column("lag_ms").cast(pa.int64()).fill_null(0)
    newest = pc.max(pc.add(times, pc.multiply(lags, 1000))).as_py()
    if newest is not None and (found.newest_us is None or newest > found.newest_us):
        found.newest_us = newest
