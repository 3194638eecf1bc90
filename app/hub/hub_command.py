"""`./run hub`: the hub alone, for a server or as the console's child."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from app.domain.broker_url import is_broker_url, parse_broker_url
from app.domain.errors import OperatorInputError
from app.domain.settings import Settings, catalogue
from app.hub.configuration import Layers, load_layers
from app.hub.data_directory import DataDirectory, HubLock, default_directory
from app.hub.event_loop import new_event_loop
from app.hub.logs import HubLogs
from app.hub.parents_token import read_parents_token
from app.stores.wall_clock import FASTEST, Pace, follow, now_us

log = logging.getLogger(__name__)

SET_HELP = "any setting, above all other sources; may be repeated; docs/operating.md lists them with their defaults"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run hub`; a flag that is not given leaves the setting as file and environment have it."""
    add = parser.add_argument
    rows = catalogue()

    def flag(name: str, key: str, what: str, **options: Any) -> None:
        shown = rows[key].default if rows[key].default != "" else "none"
        add(name, help=f"{what} (setting {key}, default: {shown})", **options)

    add("--data", type=Path, default=default_directory(), metavar="DIR", help="data directory")
    flag("--mqtt-port", "listen.mqtt_port", "modules' MQTT port, 0 takes a free one", type=int, metavar="N")
    flag("--api-port", "listen.api_port", "port of the API, 0 takes a free one", type=int, metavar="N")
    flag("--serial", "serial.url", "a meter: /dev/ttyUSB0, COM3, socket://host:port", metavar="URL")
    flag(
        "--broker",
        "hub.engine",
        "broker engine: native, amqtt, or mqtt[s]://[user@]host[:port] of a broker that runs elsewhere",
        metavar="ENGINE",
    )
    add(
        "--token-fd",
        type=int,
        metavar="N",
        help="a pipe with a line that lets the program that starts this hub in as administrator; for consoles",
    )
    add("--simulated", action="store_true", help="a demonstration: only on a new data directory, which stays marked")
    add(
        "--clock-scale",
        type=float,
        default=1.0,
        metavar="N",
        help="a demonstration's clock runs so many times as fast as this machine's; native engine only",
    )
    add(
        "--clock-origin",
        type=int,
        metavar="US",
        help="when both clocks showed the same, UTC microseconds since 1970 (default: the start)",
    )
    add("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE", help=SET_HELP)


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C; 0 when everything was sealed, 1 when the hub ended by a fault of ours."""
    named = args.broker is not None and is_broker_url(args.broker)
    layers = load_layers(
        args.data.resolve(),
        flags={
            "listen.mqtt_port": args.mqtt_port,
            "listen.api_port": args.api_port,
            "serial.url": args.serial,
            "hub.engine": "external" if named else args.broker,
            "external.url": args.broker if named else None,
        },
        assignments=args.assignments,
    )
    settings = layers.load().settings
    if named and parse_broker_url(args.broker).password is not None:
        print(
            "wattdeck: everybody on this machine can read a password on a command line; "
            "external.password_file keeps it in a file",
            file=sys.stderr,
        )
    parents_token = None if args.token_fd is None else read_parents_token(args.token_fd)
    directory = DataDirectory(args.data.resolve())
    directory.make()
    _follow_clock(args, directory, settings)
    lock = HubLock(directory)
    lock.take()
    try:
        logs = HubLogs(settings.hub.log_level, directory.logs)
        try:
            _warn_of_openness(settings)
            return _run_loop(directory, settings, lock, parents_token, logs, layers)
        finally:
            logs.close()
    finally:
        lock.release()


def _follow_clock(args: argparse.Namespace, directory: DataDirectory, settings: Settings) -> None:
    """Mark a demonstration and take its clock. Raises OperatorInputError."""
    if args.simulated:
        if settings.registry.url:
            raise OperatorInputError("a demonstration keeps its registry in its own data directory, not on a server")
        directory.mark_simulated()
    if args.clock_scale == 1 and args.clock_origin is None:
        return
    if not directory.is_simulated:
        raise OperatorInputError("--clock-scale and --clock-origin are for a demonstration: give --simulated too")
    if settings.hub.engine != "native":
        raise OperatorInputError("a demonstration's clock needs --broker native")
    if not 1 <= args.clock_scale <= FASTEST:
        raise OperatorInputError(f"--clock-scale is a number from 1 to {FASTEST:g}")
    follow(Pace(args.clock_scale, now_us() if args.clock_origin is None else args.clock_origin))


# A thread that computes leaves the interpreter to the loop after this long, not after the usual 5 ms. While 10,000
# modules are changed, the loop's 99th percentile of lag is 15 ms then, not 50 (measured on a busy machine).
_SWITCH_S = 0.001


def _run_loop(
    directory: DataDirectory,
    settings: Settings,
    lock: HubLock,
    parents_token: str | None,
    logs: HubLogs,
    layers: Layers,
) -> int:
    from app.hub.hub import running_hub  # noqa: PLC0415 - the stores' libraries take a second to import; mistakes show before

    sys.setswitchinterval(_SWITCH_S)
    _calm_garbage_collection()

    async def main() -> int:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGINT"):
            if os.name == "nt":
                signal.signal(getattr(signal, name), lambda *_: loop.call_soon_threadsafe(stopping.set))
            else:
                loop.add_signal_handler(getattr(signal, name), stopping.set)
        async with running_hub(directory, settings, layers, lines_dropped=lambda: logs.dropped) as hub:
            if hasattr(signal, "SIGHUP"):
                loop.add_signal_handler(signal.SIGHUP, hub.reload)
            if parents_token is not None:
                hub.platform.parents_grant.offer(parents_token)
            hub.failure.add_done_callback(lambda _failure: stopping.set())
            _calm_garbage_collection()
            lock.say(hub.addresses, hub.platform.api)
            _tell_first_password(hub.platform.people.first_password)
            _say(
                f"data {directory.root}",
                *(f"listening {name} {host} {port}" for name, (host, port) in hub.addresses.items()),
                "ready",
            )
            ends = [asyncio.create_task(event.wait()) for event in (stopping, hub.platform.stop_asked)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            log.info("stopping")
        return 1 if hub.failure.done() else 0

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())


def _tell_first_password(password: str | None) -> None:
    """On standard output, which is the terminal of whoever starts the hub for the first time; never in the log."""
    if password is not None:
        print("This is the first start: log in as admin with this one-time password, and choose your own then.")
        print("It is not shown again; `./run operator reset admin` makes another one.")
        print(f"admin-password {password}")


def _warn_of_openness(settings: Settings) -> None:
    if settings.broker.allow_anonymous:
        log.warning("broker.allow_anonymous is set: everybody who reaches the port may publish and read everything")
    if settings.api.metrics_open:
        log.warning("api.metrics_open is set: every program of this machine may read the counters")
    if not settings.privacy.purpose_required:
        log.warning("privacy.purpose_required is off: personal data are shown without a stated purpose")


def _calm_garbage_collection() -> None:
    """A full collection over a fleet's sessions holds the loop for 100 ms (70,000 tracked objects measured).

    What the start made stays for good, and what connections leave behind is freed without the collector: they make no
    cycles. So it looks seldom, for what libraries leave.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


def _say(*lines: str) -> None:
    """Tell who started us; nobody need be left to read it."""
    try:
        print("\n".join(lines), flush=True)
    except OSError:
        # What is buffered has nowhere to go, and must not fail once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
