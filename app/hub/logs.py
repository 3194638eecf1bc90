"""Where the hub's log goes: a bounded file in the data directory and stderr, neither of which may ever hold it up."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import queue
import sys
import threading
from pathlib import Path

FILE_NAME = "hub.log"
# Five files of ten megabytes: a week of an ordinary hub, an hour of one in trouble.
FILE_BYTES = 10_000_000
OLDER_FILES = 4
_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
# Lines that wait for a slow disk or a reader that stands still; the newest are dropped above that, and counted.
_MOST_WAITING = 10_000
# At the end: longer than a disk that works takes, shorter than anybody waits.
_FLUSH_S = 1.0
_END = None
_STDERR = 2


class _Patient(logging.Handler):
    """Hands each line to a thread of its own, which writes it with another handler; `dropped` counts what could not."""

    def __init__(self, target: logging.Handler, name: str) -> None:
        super().__init__()
        self.dropped = 0
        self._target = target
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(_MOST_WAITING)
        self._gone = False
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._gone:
            return
        # Made here: what is logged may change before the thread comes to it.
        line = logging.makeLogRecord({**record.__dict__, "msg": self._text(record), "args": None, "exc_info": None})
        line.exc_text = line.stack_info = None
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def end(self) -> None:
        """Write what waits, within a second."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(_END)
        self._thread.join(_FLUSH_S)
        self._gone = True

    def _text(self, record: logging.LogRecord) -> str:
        try:
            text = record.getMessage()
        except (TypeError, ValueError) as error:
            text = f"{record.msg!r} (its arguments do not fit: {error})"
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        return text

    def _write(self) -> None:
        while (line := self._waiting.get()) is not _END:
            try:
                self._target.emit(line)
            except BrokenPipeError:
                # Who read it has ended: a hub outlives the console that started it.
                self._gone = True
                return
            except OSError:
                self.dropped += 1


class _Stderr(logging.Handler):
    """Writes to the descriptor itself: a thread that stands in sys.stderr would hold the interpreter up at its end."""

    def emit(self, record: logging.LogRecord) -> None:
        text = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
        while text:
            text = text[os.write(_STDERR, text) :]


class _File(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise error
        super().handleError(record)


class HubLogs:
    """The root logger's handlers, from construction to `close`."""

    def __init__(self, level: str, folder: Path) -> None:
        """A folder that can not be written costs the file, not the hub."""
        root = logging.getLogger()
        self._handlers = [_Patient(_made(_Stderr()), "log to stderr")]
        trouble = None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = _File(
                folder / FILE_NAME,
                maxBytes=FILE_BYTES,
                backupCount=OLDER_FILES,
                encoding="utf-8",
                # Of text that no encoding has, as broken messages bring it.
                errors="backslashreplace",
            )
            self._handlers.append(_Patient(_made(file), "log to file"))
        except OSError as error:
            trouble = error
        self._before = root.handlers[:]
        root.handlers[:] = self._handlers
        root.setLevel(level)
        # They would go to sys.stderr themselves.
        logging.captureWarnings(capture=True)
        # Their routine says nothing to an operator; what strangers send is counted, not told line by line.
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        if trouble is not None:
            logging.getLogger(__name__).warning("no log file in %s: %s", folder, trouble.strerror)

    @property
    def dropped(self) -> int:
        """Lines that could not be written somewhere: a full disk, a reader of stderr that is gone or stands still."""
        return sum(handler.dropped for handler in self._handlers)

    def close(self) -> None:
        """Write what waits; the handlers before are back."""
        logging.captureWarnings(capture=False)
        logging.getLogger().handlers[:] = self._before
        for handler in self._handlers:
            handler.end()


def _made(handler: logging.Handler) -> logging.Handler:
    handler.setFormatter(logging.Formatter(_FORMAT))
    return handler
