"""The fastest event loop this machine has."""

from __future__ import annotations

import asyncio
import sys
from typing import cast


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop (Linux, macOS) or winloop (Windows), asyncio's own where neither is installed."""
    if sys.platform == "win32":
        try:
            import winloop  # noqa: PLC0415 - only where it exists
        except ImportError:
            return asyncio.new_event_loop()
        return cast("asyncio.AbstractEventLoop", winloop.new_event_loop())
    try:
        import uvloop  # noqa: PLC0415 - only where it exists
    except ImportError:
        return asyncio.new_event_loop()
    return cast("asyncio.AbstractEventLoop", uvloop.new_event_loop())
