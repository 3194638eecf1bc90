"""`./run sim story FILE`: play a story to a hub of its own, and check what the platform must show."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from device_sim.story.play import Report, StoryFailed, play
from device_sim.story.script import read_story
from device_sim.story.tools import StoryTools

SPEEDS = (1, 10, 60)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run sim story`."""
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="a story, YAML; resources/stories has some")
    add("--speed", type=int, choices=SPEEDS, default=1, help="so many times as fast as life")
    add("--headless", action="store_true", help="say nothing while it is played; only the result")
    add("--json", action="store_true", help="the result as JSON: expectations, met, and what was seen of each")
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="a new data directory, which is kept and marked as simulated (default: one that is removed afterwards)",
    )


def run(args: argparse.Namespace, tools: StoryTools) -> int:
    """0 when every expectation was met, 1 when one was not, 2 when the story could not be played."""
    story = read_story(args.file)

    def tell(line: str) -> None:
        if not args.headless:
            print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="wattdeck-story-") as temporary:
        data_dir = args.data.resolve() if args.data is not None else Path(temporary) / "data"
        try:
            report = asyncio.run(play(story, args.file, tools, data_dir, speed=args.speed, tell=tell))
        except (StoryFailed, TimeoutError) as error:
            print(
                f"wattdeck: the story could not be played: {str(error) or 'it was not ready in time'}", file=sys.stderr
            )
            return 2
    _print(report, as_json=args.json)
    return 0 if report.met == len(report.checks) else 1


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.as_json(), indent=1))
        return
    for check in report.checks:
        print(f"{'met' if check.met else 'NOT MET':8} {check.at_s:7.1f} s  {check.say}: {check.seen}")
    print(f"expectations {len(report.checks)}, met {report.met}")
