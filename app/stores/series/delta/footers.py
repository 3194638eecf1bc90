"""Footers of a table's Parquet files, parsed once and kept within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import pyarrow.parquet as pq

from app.stores.series.delta import parquet_format
from app.stores.series.delta.files import DataFile, RowGroupIndex

# Serialised size; in memory a footer takes a few times that. A hundred merged files of 4 million rows fit.
_MAX_BYTES = 64 << 20


class Footers:
    """Least recently used footers fall out; the small row-group indexes stay for as long as the file lives."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._footers: OrderedDict[str, pq.FileMetaData] = OrderedDict()
        self._bytes = 0
        self._indexes: dict[str, RowGroupIndex] = {}

    def index(self, file: DataFile) -> RowGroupIndex:
        index = self._indexes.get(file.name)
        if index is None:
            index = self._indexes[file.name] = parquet_format.row_group_index(self.footer(file))
        return index

    def footer(self, file: DataFile) -> pq.FileMetaData:
        with self._lock:
            footer = self._footers.get(file.name)
            if footer is not None:
                self._footers.move_to_end(file.name)
                return footer
        footer = pq.read_metadata(self._directory / file.name)
        with self._lock:
            if file.name not in self._footers:
                self._footers[file.name] = footer
                self._bytes += footer.serialized_size
            while self._bytes > _MAX_BYTES and len(self._footers) > 1:
                _name, oldest = self._footers.popitem(last=False)
                self._bytes -= oldest.serialized_size
        return footer

    def forget(self, name: str) -> None:
        with self._lock:
            footer = self._footers.pop(name, None)
            if footer is not None:
                self._bytes -= footer.serialized_size
            self._indexes.pop(name, None)
