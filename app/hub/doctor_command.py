"""`./run doctor`: what is wrong with this machine or data directory, and what to do about it."""

from __future__ import annotations

import argparse
import logging
import shutil
import textwrap
from pathlib import Path

import msgspec

from app.domain.errors import OperatorInputError
from app.hub.data_directory import DataDirectory, default_directory
from app.hub.doctor.examination import examine
from app.hub.doctor.patient import patient_of
from app.protocol.api.doctor import DoctorReport, Finding, FindingState

_LEAST_WIDTH = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run doctor`."""
    parser.add_argument("--data", type=Path, default=default_directory(), metavar="DIR", help="data directory")
    parser.add_argument("--json", action="store_true", help="the report as JSON, as GET /v1/doctor answers it")


def run(args: argparse.Namespace) -> int:
    """Print the findings. 0: nothing failed, 1: something did; raises OperatorInputError where it can not look."""
    directory = DataDirectory(args.data.resolve())
    if directory.root.exists() and not directory.root.is_dir():
        raise OperatorInputError(f"{directory.root} is no directory; name another with --data")
    # What the stores would write to a log is in the findings.
    logging.disable(logging.CRITICAL)
    try:
        report = examine(patient_of(directory))
    finally:
        logging.disable(logging.NOTSET)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        _print(report)
    return 1 if report.state is FindingState.FAILED else 0


def _print(report: DoctorReport) -> None:
    width = max(_LEAST_WIDTH, min(120, shutil.get_terminal_size((120, 24)).columns))
    longest = max(len(finding.check) for finding in report.findings)
    for finding in report.findings:
        print(_line(finding, longest, width))
    counts = {state: sum(finding.state is state for finding in report.findings) for state in FindingState}
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    print(f"\n{len(report.findings)} checks in {report.took_ms / 1000:.1f} s: {said}")


def _line(finding: Finding, longest: int, width: int) -> str:
    shown = finding.state.upper() if finding.state is FindingState.FAILED else finding.state
    head = f"{shown:<8} {finding.check:<{longest}}  "
    text = finding.measured + (f"\n-> {finding.advice}" if finding.advice else "")
    lines = [piece for part in text.splitlines() for piece in textwrap.wrap(part, max(30, width - len(head)))]
    return head + f"\n{' ' * len(head)}".join(lines)
