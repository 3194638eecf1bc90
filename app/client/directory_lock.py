"""The lock of a data directory: the operating system lets go of it when the hub that holds it dies, however it does."""

from __future__ import annotations

import os
from pathlib import Path


def take(file: int) -> None:
    """Take the lock of an open file, or raise OSError when another process has it."""
    if os.name == "nt":
        import msvcrt  # noqa: PLC0415 - Windows only

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    import fcntl  # noqa: PLC0415 - not on Windows

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(path: Path) -> bool:
    """Whether a hub holds the lock. It is taken for an instant: a hub that starts just then tries again."""
    for mode in (os.O_RDWR, os.O_RDONLY):
        try:
            file = os.open(path, mode)
        except OSError:
            continue
        break
    else:
        return False
    try:
        take(file)
    except OSError:
        return True
    finally:
        os.close(file)
    return False
