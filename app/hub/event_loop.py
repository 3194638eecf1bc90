"""The fastest event loop this machine has: uvloop, on Windows winloop, plain asyncio where neither installs."""

from __future__ import annotations

import asyncio


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new loop, for asyncio.Runner."""
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        try:
            import winloop  # noqa: PLC0415 - Windows only
        except ImportError:
            return asyncio.new_event_loop()
        windows_loop: asyncio.AbstractEventLoop = winloop.new_event_loop()
        return windows_loop
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
