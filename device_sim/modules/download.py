"""A download over HTTP(S) that goes on where it stopped."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from device_sim.modules.flash import Update

CHUNK_BYTES = 4096
LARGEST_IMAGE = 4_000_000
_LONGEST_HEAD = 16_384
_ANSWER_S = 15.0


class DownloadFailed(Exception):
    """The server says no: trying again would not help."""


class DownloadInterrupted(ConnectionError):
    """The connection ended in the middle: what came is kept, and the rest is asked for later."""


async def download(
    update: Update,
    *,
    tls: ssl.SSLContext | None,
    carry: Callable[[int], Awaitable[None]],
    told: Callable[[], Awaitable[None]],
) -> None:
    """Fill `update.received`; `carry` takes the time of the radio for each piece, `told` is called after each.

    Raises DownloadFailed, DownloadInterrupted, and what `carry` raises.
    """
    parts = urlsplit(update.url)
    secure = parts.scheme == "https"
    if parts.scheme not in {"http", "https"} or parts.hostname is None:
        raise DownloadFailed("the address is neither http nor https")
    if update.total_bytes is not None and len(update.received) >= update.total_bytes:
        return
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(
                parts.hostname,
                parts.port or (443 if secure else 80),
                ssl=(tls or ssl.create_default_context()) if secure else None,
            ),
            _ANSWER_S,
        )
    except (OSError, TimeoutError) as error:
        raise DownloadInterrupted(f"no connection: {error}") from error
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        writer.write(_request(parts.netloc, path or "/", update))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _ANSWER_S)
        left = _begin(head, update)
        while left:
            piece = await asyncio.wait_for(reader.read(min(CHUNK_BYTES, left)), _ANSWER_S)
            if not piece:
                raise DownloadInterrupted("the server closed the connection in the middle")
            await carry(len(piece))
            update.received += piece
            left -= len(piece)
            await told()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError) as error:
        raise DownloadInterrupted(str(error)) from error
    except ConnectionError as error:
        raise DownloadInterrupted(str(error)) from error
    finally:
        writer.close()


def _request(host: str, path: str, update: Update) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", "Accept-Encoding: identity"]
    if update.received:
        lines.append(f"Range: bytes={len(update.received)}-")
        if update.etag:
            # Another image under the same address begins anew instead of being glued to the old one.
            lines.append(f"If-Range: {update.etag}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _begin(head: bytes, update: Update) -> int:
    """How many bytes follow. Raises DownloadFailed, DownloadInterrupted."""
    status_line, *lines = head[:_LONGEST_HEAD].decode("latin-1").split("\r\n")
    words = status_line.split()
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if status >= 500:
        raise DownloadInterrupted(f"the server answers {status}")
    if status not in {200, 206} or not fields.get("content-length", "").isdigit():
        raise DownloadFailed(f"the server answers {status}")
    if status == 200:
        update.received.clear()
    elif not fields.get("content-range", "").startswith(f"bytes {len(update.received)}-"):
        raise DownloadFailed("the server sent another part than it was asked for")
    left = int(fields["content-length"])
    total = len(update.received) + left
    if total > LARGEST_IMAGE or (update.total_bytes is not None and total != update.total_bytes):
        raise DownloadFailed(f"an image of {total} bytes is not what was announced, or does not fit")
    update.total_bytes = total
    update.etag = fields.get("etag", update.etag)
    return left
