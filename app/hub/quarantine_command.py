"""`./run quarantine`: the newest refused messages, with their reasons."""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import sys
from pathlib import Path

from app.domain.errors import OperatorInputError
from app.hub.data_directory import DataDirectory, default_directory
from app.ingest.quarantine import newest_refused

_SHOWN_BYTES = 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run quarantine`."""
    add = parser.add_argument
    add("--data", type=Path, default=default_directory(), metavar="DIR", help="data directory")
    add("--most", type=int, default=20, metavar="N", help="so many, newest first")
    add("--csv", action="store_true", help="as CSV, the payload whole")


def run(args: argparse.Namespace) -> int:
    """Print them; nothing is changed."""
    directory = DataDirectory(args.data.resolve())
    if not directory.root.is_dir():
        raise OperatorInputError(f"{directory.root} is no data directory; name another with --data")
    found = newest_refused(directory.quarantine, args.most)
    if args.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("arrival", "module", "kind", "reason", "detail", "payload"))
    elif not found:
        print("nothing was refused")
    for message in found:
        arrival = dt.datetime.fromtimestamp(message.arrival_us / 1e6, dt.UTC).isoformat(timespec="milliseconds")
        if args.csv:
            payload = message.payload.decode("utf-8", "backslashreplace")
            writer.writerow((arrival, message.module, message.kind, message.reason, message.detail, payload))
            continue
        payload = ascii(message.payload[:_SHOWN_BYTES])[2:-1]
        print(f"{arrival}  {message.module}  {message.kind}: {message.reason}  {message.detail}")
        rest = " ..." if len(message.payload) > _SHOWN_BYTES else ""
        cut = f" ({message.size} bytes, cut)" if message.size > len(message.payload) else ""
        print(f"    {payload}{rest}{cut}")
    return 0
