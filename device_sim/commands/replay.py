"""`./run replay FILE...`: plays captures into a hub: MQTT logs as a client, dumps of a meter's line on a port.

Exit codes: 0 everything was played and acknowledged; 1 not everything; 2 it could not begin; 130 stopped by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from app.domain.errors import EnvironmentFault, OperatorInputError
from app.protocol.captures.kind import HEAD_BYTES, CaptureKind, kind_of
from app.protocol.captures.mqtt_log import BadLine, LoggedMessage, read_log
from app.protocol.captures.shelly_status import status_messages
from device_sim.replay.line_player import Dump, LinePlayer, SerialSink, TcpListener
from device_sim.replay.mqtt_player import Counts, MqttPlayer, address_of, password_of
from device_sim.replay.pace import Pace

NOT_ALL, STOPPED = 1, 130
# A meter's line makes some hundred megabytes a week; a dump is held whole.
LARGEST_DUMP_BYTES = 512 * 1024 * 1024
_CHUNK_BYTES = 65_536
_PROGRESS_S = 5.0
_MAX = "max"


class _Recording(NamedTuple):
    path: pathlib.Path
    kind: CaptureKind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after `replay`."""
    parser.description = (
        "MQTT logs (`mosquitto_sub -v`, with or without times; the JSON of a Shelly's status) go to a hub's broker; "
        "dumps of a meter's line (TIC, P1) to whoever connects to --tcp, or to the device --serial."
    )
    parser.epilog = "exit code: 0 all was played and acknowledged; 1 not all; 2 it could not begin; 130 stopped by hand"
    add = parser.add_argument
    add("files", nargs="+", type=pathlib.Path, metavar="FILE", help="captures; each kind in the order given")
    add("--hub", metavar="HOST:PORT", help="the hub's MQTT port, for logs")
    add("--username", metavar="NAME", help="user name at the broker; without it anonymous")
    add("--password-file", type=pathlib.Path, metavar="FILE", help="holds the password in its first line")
    add("--client-id", metavar="ID", help="client id; without it the user name, or replay-PID")
    add("--mqtt-version", type=int, choices=(3, 5), default=5, help="3 is 3.1.1, for brokers that know no other")
    add("--speed", type=_speed, default="1", metavar="X|max", help="so many times faster than it was recorded")
    add(
        "--rate", type=_positive, default=10.0, metavar="N", help="messages a second, of lines without times at speed 1"
    )
    add("--loop", action="store_true", help="again and again, until stopped")
    add("--tcp", type=int, metavar="PORT", help="play dumps of a line to who connects to this port; 0 takes a free one")
    add("--tcp-host", default="127.0.0.1", metavar="HOST", help="address that --tcp listens on")
    add(
        "--serial",
        metavar="DEVICE",
        help="play dumps of a line to a serial device, such as a null modem or a pseudo-terminal",
    )
    add("--json", action="store_true", help="print the closing counts as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Play, tell how far it is on standard error, print the counts. Raises a WattdeckError when it can not begin."""
    recordings = [_recording(path) for path in args.files]
    logs = [one for one in recordings if one.kind in (CaptureKind.MQTT, CaptureKind.SHELLY_STATUS)]
    dumps = [
        Dump(_content(one.path), one.kind) for one in recordings if one.kind in (CaptureKind.TIC, CaptureKind.DSMR)
    ]
    if logs and args.hub is None:
        raise OperatorInputError(f"{logs[0].path} is a log of MQTT messages: say with --hub HOST:PORT where to")
    if dumps and args.tcp is None and args.serial is None:
        raise OperatorInputError("a dump of a meter's line needs --tcp PORT or --serial DEVICE to be played on")
    stop = threading.Event()
    counts = Counts()
    line = LinePlayer(dumps, args.speed, stop, loop=args.loop)
    failures: list[Exception] = []
    thread = _on_a_thread(lambda: _play_dumps(args, line), failures, stop) if dumps else None
    stopped = False
    progress = _Progress(counts, line)
    try:
        with progress:
            if logs:
                _play_logs(args, logs, counts, stop)
            while thread is not None and thread.is_alive():
                thread.join(0.2)
    except KeyboardInterrupt:
        stopped = True
    finally:
        stop.set()
        if thread is not None:
            thread.join(10.0)
    for failure in failures:
        raise failure
    _close(args, counts, line)
    if stopped:
        return STOPPED
    return 0 if counts.published == counts.acknowledged else NOT_ALL


def _play_logs(args: argparse.Namespace, logs: list[_Recording], counts: Counts, stop: threading.Event) -> None:
    host, port = address_of(args.hub)
    player = MqttPlayer(
        host,
        port,
        username=args.username,
        password=_password(args.password_file),
        client_id=args.client_id or args.username or f"replay-{os.getpid()}",
        stop=stop,
        version=args.mqtt_version,
    )
    player.counts = counts
    with player:
        try:
            while True:
                for log in logs:
                    player.play(_messages(log), Pace(args.speed, stop), 1 / args.rate)
                if not args.loop or stop.is_set():
                    break
        finally:
            player.settle()


def _play_dumps(args: argparse.Namespace, line: LinePlayer) -> None:
    if args.serial is not None:
        sinks: list[SerialSink] = []

        def sink_of(dump: Dump) -> SerialSink:
            for old in sinks:
                old.close()
            sinks[:] = [SerialSink(args.serial, dump)]
            return sinks[0]

        try:
            line.play_to(sink_of)
        except OSError as error:
            raise EnvironmentFault(f"serial port {args.serial}: {error}") from error
        finally:
            for sink in sinks:
                sink.close()
        return
    listener = TcpListener(args.tcp_host, args.tcp)
    try:
        print(f"listening on socket://{listener.address[0]}:{listener.address[1]}", flush=True)
        line.play_on(listener)
    finally:
        listener.close()


def _on_a_thread(play: Callable[[], None], failures: list[Exception], stop: threading.Event) -> threading.Thread:
    def guarded() -> None:
        try:
            play()
        except Exception as error:  # noqa: BLE001 - raised again by the main thread
            failures.append(error)
            stop.set()

    thread = threading.Thread(target=guarded, name="replay-line", daemon=True)
    thread.start()
    return thread


class _Progress:
    """Says every few seconds how far it is."""

    def __init__(self, counts: Counts, line: LinePlayer) -> None:
        self._counts = counts
        self._line = line
        self._ended = threading.Event()
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="replay-progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_PROGRESS_S):
            elapsed_s = time.monotonic() - self._began_s
            print(f"replay: {elapsed_s:.0f} s, {_sentence(self._counts, self._line)}", file=sys.stderr, flush=True)


def _close(args: argparse.Namespace, counts: Counts, line: LinePlayer) -> None:
    if args.json:
        print(
            json.dumps(
                {
                    "published": counts.published,
                    "acknowledged": counts.acknowledged,
                    "refused": counts.refused,
                    "bad_lines": counts.bad_lines,
                    "line_bytes": line.bytes_sent,
                    "line_rounds": line.rounds,
                }
            )
        )
    else:
        print(_sentence(counts, line))


def _sentence(counts: Counts, line: LinePlayer) -> str:
    parts = []
    if counts.published or not line.bytes_sent:
        parts.append(f"published {counts.published}, acknowledged {counts.acknowledged}")
    if counts.refused:
        parts.append(f"refused {counts.refused}")
    if counts.bad_lines:
        parts.append(f"lines that are no message {counts.bad_lines}")
    if line.bytes_sent:
        parts.append(f"bytes on the line {line.bytes_sent}")
    return ", ".join(parts)


def _recording(path: pathlib.Path) -> _Recording:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise OperatorInputError(f"{path}: {error.strerror or error}") from error
    if not head:
        raise OperatorInputError(f"{path} is empty")
    # TIC has no mark of its own: what is nothing else is a line of a Linky.
    kind = kind_of(head) or CaptureKind.TIC
    if kind is CaptureKind.SML:
        raise OperatorInputError(f"{path} is SML, which is not read yet")
    return _Recording(path, kind)


def _content(path: pathlib.Path) -> bytes:
    if path.stat().st_size > LARGEST_DUMP_BYTES:
        raise OperatorInputError(f"{path} is larger than {LARGEST_DUMP_BYTES // 2**20} MiB; cut it into pieces")
    return path.read_bytes()


def _messages(log: _Recording) -> Iterator[LoggedMessage | BadLine]:
    if log.kind is CaptureKind.SHELLY_STATUS:
        yield from status_messages(log.path.read_bytes())
        return
    with log.path.open("rb") as file:
        yield from read_log(iter(lambda: file.read(_CHUNK_BYTES), b""))


def _password(path: pathlib.Path | None) -> str | None:
    if path is None:
        return None
    try:
        return password_of(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorInputError(f"the password file can not be read: {error}") from error


def _speed(text: str) -> float | None:
    return None if text == _MAX else _positive(text)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return number
