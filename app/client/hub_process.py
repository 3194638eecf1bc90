"""A console's own hub: started as a child that outlives it, found again by the next console, ended when asked."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from app.client.api_call import ApiPlace, call
from app.client.directory_lock import is_held
from app.client.errors import HubDidNotStart, HubDidNotStop, HubRefused, HubUnreachable
from app.protocol.hub_file import FILE_NAME, LOCK_NAME, HubFile, decode_hub_file

# The libraries take two seconds to import, a registry of a large fleet some more.
START_S = 60.0
# Archiving gets ten seconds at the end, the last commit five.
STOP_S = 30.0
_LOOK_AGAIN_S = 0.05
_TOKEN_BYTES = 32
_WORDS_KEPT = 60


@dataclasses.dataclass(frozen=True, slots=True)
class StartedHub:
    """A hub that this console has started: what it says of itself, and the token of our session as administrator."""

    file: HubFile
    token: str


def find_hub(data_dir: Path, wait_s: float = 10.0) -> HubFile | None:
    """The hub that runs on a data directory, None when none does; one that is starting is waited for.

    To use it a console logs in as anybody does: the one-time token is for the program that started it.
    Raises HubDidNotStart when a hub holds the directory and does not say in time where it listens.
    """
    give_up = time.monotonic() + wait_s
    while is_held(data_dir / LOCK_NAME):
        found = _file_of(data_dir)
        if found is not None and _is_alive(found.pid) and found.listen:
            return found
        if time.monotonic() > give_up:
            raise HubDidNotStart(f"a hub holds {data_dir} and has not said within {wait_s:g} s where it listens")
        time.sleep(_LOOK_AGAIN_S)
    return None


def start_hub(words: Sequence[str], data_dir: Path, timeout_s: float = START_S) -> StartedHub:
    """Start a hub and log in at it. `words` are those of a command line that runs it on `data_dir`.

    It goes on when this program ends, however that happens. Raises HubDidNotStart with its last words, HubUnreachable.
    """
    give_up = time.monotonic() + timeout_s
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    # Its standard input is the pipe for the token: that is inherited alike on every system, and nobody else reads it.
    process = subprocess.Popen(
        [*words, "--token-fd", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Ctrl-C in the console's terminal, and its end, are not the hub's.
        start_new_session=os.name == "posix",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    last_words = _Words(process)
    assert process.stdin is not None
    # A hub that ends before it reads says why itself.
    with contextlib.suppress(OSError), process.stdin:
        process.stdin.write(f"{token}\n".encode())
    while (found := _file_of(data_dir)) is None or found.pid != process.pid:
        if process.poll() is not None:
            raise HubDidNotStart("the hub ended before it was ready: " + last_words.text())
        if time.monotonic() > give_up:
            process.kill()
            process.wait()
            raise HubDidNotStart(f"the hub was not ready within {timeout_s:g} s: " + last_words.text())
        time.sleep(_LOOK_AGAIN_S)
    return StartedHub(found, exchange(found, token))


def exchange(hub: HubFile, one_time_token: str) -> str:
    """The token of a session for the one-time token. Raises HubUnreachable, HubRefused when it was used or is late."""
    answer = call(ApiPlace.of(hub), "POST", "/v1/session/embedded", body={"token": one_time_token})
    if not isinstance(answer, dict) or not isinstance(answer.get("token"), str):
        raise HubUnreachable("what answers at the hub's address is no hub")
    return str(answer["token"])


def stop_hub(data_dir: Path, token: str | None = None, timeout_s: float = STOP_S) -> None:
    """End the hub of a data directory, so that nothing it took is lost; return when it is over, or when none runs.

    With a session's token over the API, which writes down who asked; otherwise, and when that fails, by SIGTERM, which
    the owner of the directory may send. Raises HubDidNotStop.
    """
    give_up = time.monotonic() + timeout_s
    hub = find_hub(data_dir)
    if hub is None:
        return
    if token is None or not _asked_to_stop(hub, token):
        if os.name != "posix":
            raise HubDidNotStop("log in at the hub to end it: this system has no signal for an orderly end")
        # The lock is held, so the process id is still this hub's.
        with contextlib.suppress(ProcessLookupError):
            os.kill(hub.pid, signal.SIGTERM)
    while is_held(data_dir / LOCK_NAME):
        if time.monotonic() > give_up:
            raise HubDidNotStop(f"the hub (process {hub.pid}) still runs after {timeout_s:g} s")
        time.sleep(_LOOK_AGAIN_S)


def _asked_to_stop(hub: HubFile, token: str) -> bool:
    try:
        call(ApiPlace.of(hub), "POST", "/v1/hub/stop", token=token)
    except (HubUnreachable, HubRefused):
        return False
    return True


def _file_of(data_dir: Path) -> HubFile | None:
    try:
        return decode_hub_file((data_dir / FILE_NAME).read_bytes())
    except OSError:
        return None


def _is_alive(process_id: int) -> bool:
    if os.name != "posix":
        # There a signal of zero would end it; the lock says enough.
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Of another user, but there.
        return True
    return True


class _Words:
    """The end of what a hub prints; read on for as long as we live, so that it never waits for us.

    Also waits for the process's end, so that no dead child is left.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._lines: deque[str] = deque(maxlen=_WORDS_KEPT)
        self._thread = threading.Thread(target=self._read, name="hub output", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """After the hub's end, all of it."""
        self._thread.join(2)
        return "\n".join(self._lines)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line.decode("utf-8", "replace").rstrip())
        self._process.wait()
