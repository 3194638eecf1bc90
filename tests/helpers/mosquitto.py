"""A Mosquitto of its own for a test: an external broker that can be killed and started again."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from broker.options import Tls
from device_sim.bench.peers import free_port, mosquitto_binary

BINARY = mosquitto_binary()
REASON = "Mosquitto is not installed (apt-get install mosquitto)"
START_S = 10.0


class Mosquitto:
    """Started by `start`; `kill` is kill -9. Sessions outlive a `stop`, not a kill: it saves seldom."""

    def __init__(self, folder: Path, *, tls: Tls | None = None, lines: Sequence[str] = ()) -> None:
        assert BINARY is not None, REASON
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._configuration = folder / "mosquitto.conf"
        written = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {folder}/",
            "max_queued_messages 0",
            "max_inflight_messages 0",
            *lines,
        ]
        if not any(line.startswith("password_file") for line in lines):
            written.append("allow_anonymous true")
        if os.name == "posix" and os.geteuid() == 0:
            # Else it becomes the user mosquitto, who can read no file of ours.
            written.append("user root")
        if tls is not None:
            written += [f"certfile {tls.certificate}", f"keyfile {tls.key}"]
        self._configuration.write_text("\n".join(written) + "\n", encoding="utf-8")

    def start(self) -> None:
        """Start, or start again on the same port with what it had saved."""
        assert BINARY is not None
        self._process = subprocess.Popen(
            [BINARY, "-c", str(self._configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, "Mosquitto does not listen"
                assert self._process.poll() is None, "Mosquitto has ended"
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """End it in good order: it saves its sessions."""
        self._end(kill=False)

    def kill(self) -> None:
        """kill -9."""
        self._end(kill=True)

    def _end(self, *, kill: bool) -> None:
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait(START_S)
            self._process = None


def password_file(folder: Path, user: str, password: str) -> Path:
    """A file of users for Mosquitto, made by its own tool."""
    tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
    path = folder / "users"
    subprocess.run([tool, "-b", "-c", str(path), user, password], check=True, capture_output=True)
    return path
