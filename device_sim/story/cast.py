"""Who is in a story: homes, access points, modules; and which of them are meant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from device_sim.bench.tools import Credential
from device_sim.faults.fault import Target
from device_sim.modules.chance import seeded
from device_sim.modules.clock import WorldClock
from device_sim.modules.meter import Meter
from device_sim.modules.module import Module
from device_sim.modules.mqtt import Address
from device_sim.modules.power import PowerSource, SimpleHome
from device_sim.modules.spec import ModuleSpec
from device_sim.radio import AccessPoint, Radio, Spot
from device_sim.story.script import Story, StoryMistake, Where

_SPREAD_PPM = 20.0
# (seed, serial, how many hours the homes' day is shifted) -> a home.
PowerMaker = Callable[[int, str, float], PowerSource]


def simple_home(seed: int, serial: str, hour_shift: float) -> PowerSource:
    """The default: a home that needs nothing else."""
    return SimpleHome((seed, serial), hour_shift=hour_shift)


@dataclasses.dataclass(frozen=True, slots=True)
class HomePlan:
    """A home before it has a module."""

    serial: str
    city: str
    street: str
    address: str
    access_point: AccessPoint
    spot: Spot


def plan_homes(story: Story) -> list[HomePlan]:
    """Every home, in the order of the file; the same for the same seed."""
    homes: list[HomePlan] = []
    points = 0
    for street in story.fleet:
        chance = seeded(story.seed, street.city, street.street)
        shared = street.access_points or street.homes
        here = [
            AccessPoint(
                f"{street.street}/{number + 1}",
                ssid=f"net-{points + number}",
                bssid=_bssid(points + number),
                channel=street.channel,
            )
            for number in range(shared)
        ]
        points += shared
        homes += [
            HomePlan(
                f"SIM{len(homes) + number + 1:05d}",
                street.city,
                street.street,
                f"{number + 1} {street.street}",
                here[number % shared],
                Spot(round(chance.uniform(*street.distance_m), 1), chance.randint(*street.walls)),
            )
            for number in range(street.homes)
        ]
    return homes


class Cast:
    """The modules of a story, in the order of its homes."""

    def __init__(
        self,
        story: Story,
        homes: Sequence[HomePlan],
        credentials: Sequence[Credential],
        world: WorldClock,
        address: Address,
        make_power: PowerMaker = simple_home,
    ) -> None:
        self.homes = homes
        shift = _shift(story, world)
        secrets = {one.serial: one.secret for one in credentials}
        chance = seeded(story.seed, "cast")
        self.modules = []
        for home in homes:
            spec = ModuleSpec(
                home.serial,
                secrets[home.serial],
                city=home.city,
                street=home.street,
                home=home.address,
                period_ms=round(story.period_s * 1000),
                # The broker's clock for keep alives is the machine's.
                keep_alive_s=max(1, round(world.real_s(story.keep_alive_s))),
                drift_ppm=chance.uniform(-_SPREAD_PPM, _SPREAD_PPM),
                seed=story.seed,
            )
            radio = Radio((story.seed, home.serial), [(home.access_point, home.spot)])
            power = make_power(story.seed, home.serial, shift)
            meter = Meter((story.seed, home.serial), power, world.now_us())
            module = Module(spec, world, radio, meter, lambda: address)
            module.tally.ledger = set()
            self.modules.append(module)

    def those(self, where: Where) -> list[Module]:
        """The modules that are meant."""
        return [self.modules[number] for number in chosen(self.homes, where)]

    def target(self, where: Where) -> Target:
        """Whom a fault hits: an access point only when everybody who uses it is meant."""
        modules = self.those(where)
        meant = {module.serial for module in modules}
        users: dict[str, list[str]] = {}
        points: dict[str, AccessPoint] = {}
        for home in self.homes:
            points[home.access_point.name] = home.access_point
            users.setdefault(home.access_point.name, []).append(home.serial)
        whole = [points[name] for name, serials in users.items() if meant.issuperset(serials)]
        covered = {serial for point in whole for serial in users[point.name]}
        # Where some stay apart, each module's own radio is the fault's place.
        return Target(modules, whole if covered == meant else ())


def chosen(homes: Sequence[HomePlan], where: Where) -> list[int]:
    """Numbers of the homes that are meant."""
    found = [
        number
        for number, home in enumerate(homes)
        if where.city in {None, home.city}
        and where.street in {None, home.street}
        and where.access_point in {None, home.access_point.name}
    ]
    if where.after is not None:
        found = found[where.after :]
    return found if where.homes is None else found[: where.homes]


def check_places(story: Story, homes: Sequence[HomePlan], mistake: Callable[[str], StoryMistake]) -> None:
    """Raises StoryMistake for a fault or an expectation that means nobody."""
    faults = [fault.where for fault in story.faults]
    for kind, places in (("fault", faults), ("expectation", [one.where for one in story.expect])):
        for number, where in enumerate(places, 1):
            if not chosen(homes, where):
                raise mistake(f"{kind} {number}: there is no such home")


def _shift(story: Story, world: WorldClock) -> float:
    if story.begins_at_h is None:
        return 0.0
    return story.begins_at_h - world.now_us() / 3_600_000_000 % 24


def _bssid(number: int) -> str:
    """Locally administered, so nobody's."""
    return f"02:00:5e:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
