"""`./run decode FILE`: reads a capture of a meter's line or of MQTT messages without a hub.

Exit codes: 0 something of a meter was found; 1 the file was read and holds nothing of one; 2 it can not be read.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator

from app.domain.errors import EnvironmentFault, OperatorInputError
from app.hub.capture_findings import Findings, as_json, as_table
from app.hub.mqtt_capture import read_mqtt, read_shelly_status
from app.hub.p1_capture import read_p1
from app.hub.tic_capture import read_capture
from app.hub.tic_output import tic_as_json, tic_as_table
from app.protocol.captures.kind import HEAD_BYTES, CaptureKind, kind_of
from app.protocol.dialects import Dialects

NOTHING_FOUND = 1
_STANDARD_INPUT = "standard input"
_CHUNK_BYTES = 65_536
_AUTO = "auto"
_READ = (CaptureKind.TIC, CaptureKind.DSMR, CaptureKind.MQTT, CaptureKind.SHELLY_STATUS)
# A Shelly's status is some kilobytes; what is longer is none.
_LONGEST_STATUS_BYTES = 4 * 1024 * 1024


class CaptureUnreadableError(OperatorInputError):
    """A capture file that can not be read at all."""

    def __init__(self, source: str, why: str) -> None:
        super().__init__(f"{source}: {why}")
        self.source = source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words after `decode`."""
    parser.epilog = (
        "exit code: 0 something of a meter was found; 1 the file was read and holds nothing; 2 it can not be read"
    )
    parser.add_argument(
        "file",
        type=pathlib.Path,
        metavar="FILE",
        help="the capture: bytes of a meter's line (TIC or P1), messages as `mosquitto_sub -v` prints them, or the "
        "JSON of a Shelly's status; - is standard input",
    )
    parser.add_argument(
        "--as",
        dest="kind",
        choices=(_AUTO, *(kind.value for kind in _READ)),
        default=_AUTO,
        help="what the file is; auto: looks",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--show-ids", action="store_true", help="show numbers of meters, which are personal data")


def run(args: argparse.Namespace) -> int:
    """Decode and print; the exit code, as the module says. Raises a WattdeckError for a file that can not be read."""
    source = _STANDARD_INPUT if _is_standard_input(args.file) else str(args.file)
    head, chunks = _beginning(_chunks(args.file))
    if not head:
        raise CaptureUnreadableError(source, "it is empty; nothing was captured")
    kind = (kind_of(head) if args.kind == _AUTO else CaptureKind(args.kind)) or CaptureKind.TIC
    if kind is CaptureKind.SML:
        raise CaptureUnreadableError(source, "it is SML, which is not read yet")
    if kind is CaptureKind.TIC:
        return _decode_tic(args, source, chunks)
    if kind is CaptureKind.DSMR:
        return _show(args, source, read_p1(chunks))
    if kind is CaptureKind.MQTT:
        return _show(args, source, _read_counted(chunks))
    content = b"".join(itertools.islice(chunks, _LONGEST_STATUS_BYTES // _CHUNK_BYTES))
    return _show(args, source, read_shelly_status(content, every_dialect()))


def every_dialect() -> Dialects:
    """The dialects of modules of others; imported when a file needs them."""
    from app.protocol.all_dialects import all_dialects  # noqa: PLC0415 - decoding a meter's line needs none of them

    return all_dialects()


def _beginning(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The head of a file, and the whole of it."""
    first: list[bytes] = []
    length = 0
    for chunk in chunks:
        first.append(chunk)
        length += len(chunk)
        if length >= HEAD_BYTES:
            break
    return b"".join(first), itertools.chain(first, chunks)


def _read_counted(chunks: Iterable[bytes]) -> Findings:
    length = 0

    def counted() -> Iterator[bytes]:
        nonlocal length
        for chunk in chunks:
            length += len(chunk)
            yield chunk

    found = read_mqtt(counted(), every_dialect())
    found.bytes_read = length
    return found


def _show(args: argparse.Namespace, source: str, found: Findings) -> int:
    if not found.anything:
        print(f"decode: {source}: nothing of a meter in {found.bytes_read} bytes ({found.kind})", file=sys.stderr)
    if args.json:
        print(json.dumps(as_json(found, show_ids=args.show_ids)))
    else:
        title = source if _is_standard_input(args.file) else args.file.name
        print("\n".join(as_table(found, title, show_ids=args.show_ids)))
    return 0 if found.anything else NOTHING_FOUND


def _decode_tic(args: argparse.Namespace, source: str, chunks: Iterable[bytes]) -> int:
    capture = read_capture(chunks)
    if not capture.groups_good:
        print(f"decode: {source}: no group of a meter (TIC) in {capture.bytes_read} bytes", file=sys.stderr)
        for hint in capture.hints or [_NOT_TIC]:
            print(f"decode: {hint}", file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps(tic_as_json(capture, show_ids=args.show_ids)))
    elif capture.groups_good or capture.groups_bad:
        title = source if _is_standard_input(args.file) else args.file.name
        print("\n".join(tic_as_table(capture, title, show_ids=args.show_ids)))
    return 0 if capture.groups_good else NOTHING_FOUND


def _is_standard_input(path: pathlib.Path) -> bool:
    return str(path) == "-"


_NOT_TIC = (
    "this is no TIC; if it should be: capture at 1200 baud (historique) or 9600 (standard), 7 data bits, even parity, "
    "without RTS/CTS, for some seconds, as raw bytes"
)


def _chunks(path: pathlib.Path) -> Iterator[bytes]:
    if _is_standard_input(path):
        while chunk := sys.stdin.buffer.read(_CHUNK_BYTES):
            yield chunk
        return
    if path.is_dir():
        raise CaptureUnreadableError(str(path), "is a directory; name one file")
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except FileNotFoundError:
        raise CaptureUnreadableError(str(path), "there is no such file") from None
    except PermissionError:
        raise CaptureUnreadableError(str(path), "reading it is not permitted") from None
    except OSError as error:
        raise EnvironmentFault(f"{path}: {error.strerror or error}") from error
