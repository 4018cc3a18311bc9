"""HTTP/1.1 for one kind of exchange: a POST over a plain connection that is kept, its answer read whole.

A local server can answer thousands of requests a second, more than a general HTTP client can put
together on one core: aiohttp takes 0.13 ms of CPU a request and the `openai` client on top of it
0.72, this 0.04. What it does not do is left to them: TLS, proxies, redirects, compression.

Strict where a guess could take half an answer for a whole one: a body ends by its length, by its
last chunk or, where neither was announced, with the connection; anything else is an error.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAD_BYTES = 64 << 10
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: .*)?")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?")
_LENGTH = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; the names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Wire:
    """Kept connections to one address."""

    def __init__(self, host: str, port: int, target: str, headers: Mapping[str, str]) -> None:
        self._host = host
        self._port = port
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
        self._head = ("\r\n".join([*lines, "accept-encoding: identity", ""])).encode("latin-1")
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()

    async def post(self, data: bytes) -> Reply:
        """Sends one request and reads its answer to the end.

        Raises:
            OSError: There was no connection, it broke, or what came is not HTTP.
        """
        connection = self._kept() or await self._connected()
        try:
            reply = await connection.exchange(
                b"%scontent-length: %d\r\n\r\n%s" % (self._head, len(data), data)
            )
        except BaseException:
            # nobody waits any longer for what may still come on it
            self._forget(connection)
            raise
        if connection.reusable:
            self._idle.append(connection)
        else:
            self._forget(connection)
        return reply

    def close(self) -> None:
        """Closes all connections."""
        for connection in list(self._all):
            self._forget(connection)
        self._idle.clear()

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
            self._forget(connection)
        return None

    async def _connected(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port)
        self._all.add(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        connection.abort()


class Connection(asyncio.Protocol):
    """One connection: a request, its answer, and so on, one at a time."""

    def __init__(self) -> None:
        self.reusable = False
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._buffer = bytearray()
        self._reset()

    def _reset(self) -> None:
        self._status = 0
        self._headers: dict[str, str] = {}
        self._length: int | None = None
        self._chunked = False
        self._keep = False
        self._body = bytearray()

    async def exchange(self, request: bytes) -> Reply:
        """Sends a request and waits for its answer."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection was closed")
        self.reusable = False
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def abort(self) -> None:
        """Closes the connection at once."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    # --- what asyncio calls -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Reads on where the last piece ended."""
        if self._waiter is None or self._waiter.done():
            self.abort()  # nothing was asked: whatever this is, it is not the next answer
            return
        self._buffer += data
        try:
            if (self._status or self._read_head()) and self._read_body():
                self._finish(keep=self._keep and not self._buffer)
        except ValueError as error:
            self._fail(f"no HTTP answer: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends an answer that only the connection ends; any other is cut."""
        self.reusable = False
        until_closed = self._status and self._length is None and not self._chunked
        if until_closed and exc is None:
            self._body += self._buffer
            self._finish(keep=False)
        else:
            place = f"after {len(self._body) + len(self._buffer)} bytes of the answer"
            self._fail(f"closed {place}" if exc is None else f"{exc} {place}")

    # --- reading ----------------------------------------------------------------------------

    def _read_head(self) -> bool:
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > HEAD_BYTES:
                    raise ValueError("the head does not end")
                return False
            lines = bytes(self._buffer[:end]).split(b"\r\n")
            del self._buffer[: end + 4]
            match = _STATUS.fullmatch(lines[0])
            if match is None:
                raise ValueError(f"it begins with {lines[0][:60]!r}")
            status = int(match.group(2))
            if status >= 200:
                break  # 1xx only say that the answer comes later
        self._status = status
        for line in lines[1:]:
            name, colon, text = line.decode("latin-1").partition(":")
            if not colon or not name or name != name.strip():
                raise ValueError(f"a header is {line[:60]!r}")
            name, text = name.lower(), text.strip()
            known = self._headers.get(name)
            self._headers[name] = text if known is None else f"{known}, {text}"
        self._frame(http_1_1=match.group(1) == b"1")
        return True

    def _frame(self, *, http_1_1: bool) -> None:
        """How the body ends, and whether the connection lives on."""
        headers = self._headers
        if headers.get("content-encoding", "identity") != "identity":
            raise ValueError(f"compressed unasked: {headers['content-encoding']}")
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked":
                raise ValueError(f"unknown transfer-encoding: {coding}")
            self._chunked = True
        elif self._status in (204, 304):
            self._length = 0
        elif (length := headers.get("content-length")) is not None:
            if not _LENGTH.fullmatch(length):
                raise ValueError(f"content-length is {length!r}")
            self._length = int(length)
        ends = self._chunked or self._length is not None
        options = headers.get("connection", "").lower()
        self._keep = ends and ("close" not in options if http_1_1 else "keep-alive" in options)

    def _read_body(self) -> bool:
        if self._chunked:
            return self._read_chunks()
        if self._length is None or len(self._buffer) < self._length:
            return False
        self._body += self._buffer[: self._length]
        del self._buffer[: self._length]
        return True

    def _read_chunks(self) -> bool:
        buffer, at = self._buffer, 0
        try:
            while (end := buffer.find(b"\r\n", at)) >= 0:
                match = _CHUNK.fullmatch(buffer[at:end])
                if match is None:
                    raise ValueError(f"a chunk begins with {bytes(buffer[at:end][:60])!r}")
                size = int(match.group(1), 16)
                if size == 0:
                    # after the last chunk come trailers, if any, and an empty line
                    closing = buffer.find(b"\r\n\r\n", end)
                    if closing < 0:
                        return False
                    at = closing + 4
                    return True
                after = end + 2 + size
                if len(buffer) < after + 2:
                    return False
                if buffer[after : after + 2] != b"\r\n":
                    raise ValueError("a chunk is longer than its size")
                self._body += buffer[end + 2 : after]
                at = after + 2
            return False
        finally:
            del buffer[:at]

    def _finish(self, *, keep: bool) -> None:
        reply = Reply(self._status, self._headers, bytes(self._body))
        self._reset()
        self.reusable = keep
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(reply)

    def _fail(self, message: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError(message))
        self.abort()
