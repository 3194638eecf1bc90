"""How long commands behave: progress lines on standard error, and a low priority where that is wanted."""

from __future__ import annotations

import os
import sys

from app.stores.backup.progress import Report

# As the process that merges files has.
_NICENESS = 10


def told_on_stderr() -> Report:
    """`series 120 of 900 MB`: a line a second for what takes longer."""

    def tell(what: str, done: int, total: int) -> None:
        of_all = f" of {total / 1e6:.0f}" if total else ""
        print(f"{what} {done / 1e6:.0f}{of_all} MB", file=sys.stderr, flush=True)

    return tell


def step_back() -> None:
    """Let whatever else runs here go first."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
