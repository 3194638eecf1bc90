"""The job that takes a copy of series in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from app.domain.errors import OperatorInputError
from app.domain.people import Scope
from app.services.jobs.context import JobContext
from app.services.jobs.kinds import JobKind, Parameters, as_parameters
from app.stores.series.copying import read_manifest
from app.stores.series.interface import SeriesStore

# One folder name, nothing that leads elsewhere.
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z", re.ASCII)


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The name of a folder below DATA/imports that SeriesStore.copy_out has made."""

    folder: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class ImportCopy(JobKind):
    """Takes a copied folder in, piece by piece, each exactly once however often the folder is asked for.

    A cancel ends it between two pieces: what was taken stays, and another job goes on where this one ended.
    """

    name: ClassVar[str] = "import"
    scopes: ClassVar[frozenset[Scope]] = frozenset({Scope.BACKUPS})

    def __init__(self, folder: Path, store: SeriesStore) -> None:
        self._folder = folder
        self._store = store

    def prepare(self, parameters: Parameters) -> Parameters:
        """See JobKind."""
        asked: Asked = as_parameters(parameters, Asked)
        read_manifest(self._path(asked.folder))
        return {"folder": asked.folder}

    def run(self, context: JobContext) -> str:
        """See JobKind."""
        path = self._path(context.parameters["folder"])
        rows = sum(read_manifest(path).rows.values())
        at = context.cursor or {"pieces": 0, "rows": 0, "taken": 0}
        for piece in self._store.copy_in_pieces(path, after=at["pieces"]):
            at = {
                "pieces": at["pieces"] + 1,
                "rows": at["rows"] + piece.rows,
                "taken": at["taken"] + piece.taken,
            }
            message = f"{at['taken']} of {at['rows']} rows so far were new"
            context.step_done(at, done=at["rows"], total=rows, message=message)
        return f"{at['taken']} of {rows} rows were new and have been taken in"

    def _path(self, name: str) -> Path:
        path = self._folder / name
        if not _FOLDER.match(name) or not path.is_dir() or path.resolve().parent != self._folder.resolve():
            raise OperatorInputError(f"{name!r} is no folder below {self._folder}; put the copy there first")
        return path
