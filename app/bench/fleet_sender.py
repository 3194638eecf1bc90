"""A fleet on the wire for benches, as a process of its own: each module's reading once a second, over few connections.

`python -m app.bench.fleet_sender HOST PORT USER MODULES CONNECTIONS`, the secret on standard input; runs until it is
ended. Packets are made once, so that sending them costs next to nothing: readings have no time of their own.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

from broker.packets import V311, Connect, Publish, encode

_SLICES = 20
# Another value each second, without making packets anew.
_VARIANTS = 3


def serial_of(number: int) -> str:
    """The serial of a module of the bench."""
    return f"LB{number:06}"


def _packets(numbers: range, variant: int) -> bytes:
    found = []
    for number in numbers:
        drawn = random.Random(number * _VARIANTS + variant)  # noqa: S311 - load
        reading = {
            "boot_id": number,
            "apparent_va": drawn.randint(50, 9000),
            "drawn_wh": 10_000_000 + number + variant,
            "voltage_v": round(drawn.uniform(225, 240), 1),
            "current_a": round(drawn.uniform(0, 40), 1),
            "rssi_dbm": drawn.randint(-90, -40),
            "frame_gap_ms": drawn.randint(950, 1100),
            "state": 0,
        }
        payload = json.dumps(reading, separators=(",", ":")).encode()
        found.append(encode(Publish(topic=f"wd/v1/m/{serial_of(number)}/tele", payload=payload), V311))
    return b"".join(found)


async def _send(address: tuple[str, int], user: str, secret: str, numbers: range, name: str) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(encode(Connect(client_id=name, version=V311, username=user, password=secret.encode()), V311))
    await reader.readexactly(4)
    step = max(1, len(numbers) // _SLICES)
    slices = [numbers[begin : begin + step] for begin in range(0, len(numbers), step)]
    variants = [[_packets(part, variant) for part in slices] for variant in range(_VARIANTS)]
    began = time.monotonic()
    second = 0
    while True:
        for at, packets in enumerate(variants[second % _VARIANTS]):
            await asyncio.sleep(began + second + at / len(slices) - time.monotonic())
            writer.write(packets)
        await writer.drain()
        second += 1


async def _main(host: str, port: int, user: str, secret: str, modules: int, connections: int) -> None:
    share = -(-modules // connections)
    await asyncio.gather(
        *(
            _send((host, port), user, secret, range(begin, min(begin + share, modules)), f"fleet-{begin}")
            for begin in range(0, modules, share)
        )
    )


if __name__ == "__main__":
    words = sys.argv[1:]
    asyncio.run(_main(words[0], int(words[1]), words[2], sys.stdin.readline().strip(), int(words[3]), int(words[4])))
