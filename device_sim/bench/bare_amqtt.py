"""amqtt by itself, as a yardstick: `python -m device_sim.bench.bare_amqtt PORT`; anonymous, no plugin of ours."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import uvloop
from amqtt.broker import Broker


async def _serve(port: int) -> None:
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": -1}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    await end.wait()


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    uvloop.run(_serve(int(sys.argv[1])))
