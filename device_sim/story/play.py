"""Plays a story to a hub of its own, and checks what the hub then shows."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from device_sim.faults.catalogue import fault_of
from device_sim.faults.fault import Undo
from device_sim.modules.clock import WorldClock
from device_sim.modules.mqtt import Address
from device_sim.story.cast import Cast, PowerMaker, check_places, plan_homes, simple_home
from device_sim.story.checking import Checker, Look
from device_sim.story.script import Expectation, Story, StoryMistake, TimedFault
from device_sim.story.tools import StoryHub, StoryTools

# Everybody must have had a reading acknowledged before the story's clock starts.
_READY_S = 60.0
_LOOK_EACH_S = 0.25
# However fast a story runs, a busy machine gets this long for what it must show.
_LEAST_PATIENCE_S = 4.0
# From a module's mind to an answer of the API: a commit, and room.
_ON_ITS_WAY_S = 1.5
Tell = Callable[[str], None]


class StoryFailed(RuntimeError):
    """The story could not be played to its end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """An expectation and what became of it. `seen_s` is when in the story it was seen, None when it never was."""

    at_s: float
    say: str
    met: bool
    seen_s: float | None
    seen: str


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """How a story went."""

    story: str
    seed: int
    speed: float
    modules: int
    checks: Sequence[Check]
    # Of all the modules together.
    tally: dict[str, int]

    @property
    def met(self) -> int:
        """How many expectations were met."""
        return sum(check.met for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """`expectations` and `met` are counts; the rest says more."""
        return {
            "expectations": len(self.checks),
            "met": self.met,
            "story": self.story,
            "seed": self.seed,
            "speed": self.speed,
            "modules": self.modules,
            "checks": [dataclasses.asdict(check) for check in self.checks],
            "tally": self.tally,
        }


async def play(
    story: Story,
    path: Path,
    tools: StoryTools,
    data_dir: Path,
    *,
    speed: float,
    tell: Tell,
    make_power: PowerMaker = simple_home,
) -> Report:
    """Play it from the first connection to the last expectation. Raises StoryMistake, StoryFailed, WattdeckError."""
    homes = plan_homes(story)
    check_places(story, homes, lambda what: StoryMistake(path, what))
    credentials = await asyncio.to_thread(
        tools.prepare_demonstration, data_dir, homes, period_ms=round(story.period_s * 1000)
    )
    world = WorldClock(speed)
    hub = await asyncio.to_thread(tools.start_demonstration, data_dir, scale=speed, origin_us=world.origin_us)
    try:
        cast = Cast(story, homes, credentials, world, Address(*hub.address("mqtt")), make_power)
        report = await _Performance(story, tools, hub, cast, world, tell).run()
        await asyncio.to_thread(hub.sigterm)
        return report
    finally:
        await asyncio.to_thread(hub.kill)


class _Performance:
    """One showing."""

    def __init__(
        self, story: Story, tools: StoryTools, hub: StoryHub, cast: Cast, world: WorldClock, tell: Tell
    ) -> None:
        self._story = story
        self._tools = tools
        self._hub = hub
        self._cast = cast
        self._world = world
        self._tell = tell
        self._began_us = 0

    async def run(self) -> Report:
        lives = [asyncio.create_task(self._life(number)) for number in range(len(self._cast.modules))]
        try:
            await self._ready(lives)
            self._began_us = self._world.now_us()
            self._tell(f"{self._story.title}: {len(lives)} modules on stage, x{self._world.scale:g}")
            checks = await self._act(lives)
        finally:
            for life in lives:
                life.cancel()
            await asyncio.gather(*lives, return_exceptions=True)
        modules = self._cast.modules
        names = ("measured", "acknowledged", "resent", "forgotten", "garbage", "connects", "boots")
        tally = {name: sum(getattr(module.tally, name) for module in modules) for name in names}
        tally["dropped"] = sum(module.outbox.dropped for module in modules)
        return Report(self._story.title, self._story.seed, self._world.scale, len(modules), checks, tally)

    async def _life(self, number: int) -> None:
        # Not all in one instant: a neighbourhood has been there for long.
        await self._world.sleep(number / len(self._cast.modules) * self._story.period_s)
        await self._cast.modules[number].run()

    async def _ready(self, lives: Sequence[asyncio.Task[None]]) -> None:
        async with asyncio.timeout(_READY_S):
            while not all(module.tally.acknowledged for module in self._cast.modules):
                self._look_after(lives)
                await asyncio.sleep(_LOOK_EACH_S)

    def _look_after(self, lives: Sequence[asyncio.Task[None]]) -> None:
        for life in lives:
            if life.done():
                life.result()
        if not self._hub.running():
            raise StoryFailed("the hub has ended:\n" + self._hub.last_words())

    async def _act(self, lives: Sequence[asyncio.Task[None]]) -> list[Check]:
        faults = [asyncio.create_task(self._fault(one)) for one in self._story.faults]
        checks = [asyncio.create_task(self._check(one)) for one in self._story.expect]
        try:
            while any(not task.done() for task in checks) or self._at_s() < self._story.length_s:
                self._look_after(lives)
                for task in (*faults, *checks):
                    if task.done():
                        task.result()
                await asyncio.sleep(_LOOK_EACH_S)
            return [task.result() for task in checks]
        finally:
            for task in (*faults, *checks):
                task.cancel()
            await asyncio.gather(*faults, *checks, return_exceptions=True)

    async def _fault(self, timed: TimedFault) -> None:
        await self._until(timed.at_s)
        target = self._cast.target(timed.where)
        undo: Undo = fault_of(timed.fault).start(target, timed.words)
        self._tell(f"{self._at_s():6.1f} s  {timed.fault} begins: {len(target.modules)} modules")
        if timed.for_s is None:
            return
        try:
            await self._until(timed.at_s + timed.for_s)
        finally:
            undo()
        self._tell(f"{self._at_s():6.1f} s  {timed.fault} ends")

    async def _check(self, wanted: Expectation) -> Check:
        await self._until(wanted.at_s)
        loop = asyncio.get_running_loop()
        checker = Checker(
            lambda path, parameters: self._tools.ask(self._hub, path, parameters),
            self._began_us,
            self._world.now_us,
            round(self._story.period_s * 1e6),
            round((self._story.period_s + _ON_ITS_WAY_S * self._world.scale) * 1e6),
        )
        modules = self._cast.those(wanted.where)
        give_up = loop.time() + max(_LEAST_PATIENCE_S, self._world.real_s(wanted.within_s))
        while True:
            seen_s = self._at_s()
            look: Look = await checker.look(wanted, modules)
            if look.holds or loop.time() > give_up:
                break
            await asyncio.sleep(_LOOK_EACH_S)
        say = wanted.say or _in_words(wanted)
        self._tell(f"{seen_s:6.1f} s  {'met    ' if look.holds else 'NOT MET'}  {say}: {look.seen}")
        return Check(wanted.at_s, say, look.holds, round(seen_s, 1) if look.holds else None, look.seen)

    async def _until(self, at_s: float) -> None:
        await self._world.sleep(at_s - self._at_s())

    def _at_s(self) -> float:
        return (self._world.now_us() - self._began_us) / 1e6


def _in_words(wanted: Expectation) -> str:
    if wanted.states is not None:
        return ", ".join(f"{count} {state}" for state, count in wanted.states.items())
    if wanted.events is not None:
        return f"{wanted.events} {wanted.events.of} {wanted.events.kind}"
    if wanted.statistic is not None:
        return f"{wanted.statistic.name} {wanted.statistic}"
    names = ("rssi_dbm", "frame_gap_ms", "lost_readings", "late_readings", "completeness", "quarantined")
    return next(f"{name} {bounds}" for name in names if (bounds := getattr(wanted, name)) is not None)
