"""A small server of firmware images that knows Range and can break off in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator


class ImageServer:
    """Serves one image at any path; each entry of `cuts` ends one answer after so many bytes."""

    def __init__(self, image: bytes) -> None:
        self.image = image
        self.cuts: list[int] = []
        self.status: int | None = None
        # The first byte that was asked for, of each request.
        self.starts: list[int] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head.split("\r\n")[1:]}
            start = int(fields["range"].removeprefix("bytes=").split("-")[0]) if "range" in fields else 0
            etag = f'"{hashlib.sha256(self.image).hexdigest()[:16]}"'
            if fields.get("if-range", etag) != etag:
                start = 0
            self.starts.append(start)
            body = self.image[start:]
            status = self.status or (206 if start else 200)
            lines = [f"HTTP/1.1 {status} OK", f"Content-Length: {len(body)}", f"ETag: {etag}", "Connection: close"]
            if start:
                lines.append(f"Content-Range: bytes {start}-{len(self.image) - 1}/{len(self.image)}")
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            writer.write(body[: self.cuts.pop(0)] if self.cuts else body)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def image_server(image: bytes) -> AsyncIterator[ImageServer]:
    found = ImageServer(image)
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    found.url = f"http://{host}:{port}/firmware?signed=1"
    try:
        yield found
    finally:
        server.close()
