"""The short way to a server: every framing of HTTP/1.1, in pieces of every size; anything else is an error."""

import asyncio

import pytest

from zephyr_data.feedback.wire import Wire

OK = b"HTTP/1.1 200 OK\r\n"
GOOD = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", True),
    "names in any case": (OK + b"CONTENT-length:5\r\n\r\nhello", True),
    "chunks": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n2;x=1\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        True,
    ),
    "chunks with trailers": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        True,
    ),
    "until the end": (OK + b"\r\nhello", False),
    "told to continue first": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 5\r\n\r\nhello",
        True,
    ),
    "told to close": (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", False),
    "old version": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", False),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", True),
    "more than was announced": (OK + b"Content-Length: 5\r\n\r\nhelloHTTP", False),
}
BAD = {
    "nothing": (b"", "closed after 0 bytes"),
    "half a head": (OK + b"Content-Le", "closed after 27 bytes"),
    "cut": (OK + b"Content-Length: 50\r\n\r\nhello", "closed after 5 bytes"),
    "cut chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "closed after 6 bytes"),
    "no last chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "closed after 5"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "it begins with"),
    "bad header": (OK + b"Content Length 5\r\n\r\nhello", "a header is"),
    "space before the colon": (OK + b"Content-Length : 5\r\n\r\nhello", "a header is"),
    "two lengths": (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "is '5, 6'"),
    "negative length": (OK + b"Content-Length: -5\r\n\r\nhello", "content-length is '-5'"),
    "bad chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nhello", "a chunk begins with"),
    "long chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", "longer than its"),
    "other coding": (OK + b"Transfer-Encoding: gzip\r\n\r\nhello", "unknown transfer-encoding"),
    "compressed": (OK + b"Content-Encoding: gzip\r\n\r\nhello", "compressed unasked: gzip"),
    "endless head": (OK + b"x: " + b"y" * 70_000, "the head does not end"),
}


class Scripted:
    """Answers each request with the same bytes, in pieces of `size`, and closes if it is told to."""

    def __init__(self, answer, size=1 << 20, closes=True):
        self.answer, self.size, self.closes = answer, size, closes
        self.requests = []
        self.connections = 0

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append((head, await reader.readexactly(length)))
                for at in range(0, len(self.answer), self.size):
                    writer.write(self.answer[at : at + self.size])
                    await writer.drain()
                    if self.size < 100:
                        await asyncio.sleep(0)
                if self.closes:
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def talk(script, work):
    serving = []

    async def serve(reader, writer):
        serving.append(asyncio.current_task())
        await script.serve(reader, writer)

    async def run():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        wire = Wire("127.0.0.1", server.sockets[0].getsockname()[1], "/v1", {"Host": "h"})
        try:
            return await work(wire)
        finally:
            wire.close()
            await asyncio.gather(*serving)
            server.close()
            await server.wait_closed()

    return asyncio.run(run())


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
@pytest.mark.parametrize("name", GOOD)
def test_every_framing_in_pieces(name, size):
    answer, keeps = GOOD[name]
    ends = name == "until the end"
    script = Scripted(answer, size, closes=ends)

    async def twice(wire):
        return [await wire.post(b"{}"), await wire.post(b"[1]")]

    for reply in talk(script, twice):
        assert (reply.status, reply.content) == (200, b"hello")
    assert [body for _, body in script.requests] == [b"{}", b"[1]"]
    # what comes byte by byte after the answer is seen too late for the answer, not for the connection
    assert script.connections == (1 if keeps else 2)


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_an_error(name, size):
    answer, message = BAD[name]
    if size == 1 and len(answer) > 1000:
        size = 1000

    async def once(wire):
        with pytest.raises(ConnectionError, match=message):
            await wire.post(b"{}")

    talk(Scripted(answer, size), once)


def test_request_is_what_was_given():
    script = Scripted(GOOD["length"][0])

    async def once(wire):
        await wire.post(b'{"a":1}')

    talk(script, once)
    ((head, body),) = script.requests
    assert head == (
        b"POST /v1 HTTP/1.1\r\nHost: h\r\naccept-encoding: identity\r\ncontent-length: 7\r\n\r\n"
    )
    assert body == b'{"a":1}'


def test_status_and_headers_come_back():
    script = Scripted(
        b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 2\r\n\r\nno"
    )

    async def once(wire):
        return await wire.post(b"{}")

    reply = talk(script, once)
    assert (reply.status, reply.content) == (429, b"no")
    assert reply.headers == {"retry-after": "7", "x-a": "1, 2", "content-length": "2"}


def test_late_answer_is_nobodys():
    """Else the late answer to one question would become the answer to the next."""

    class Slow(Scripted):
        async def serve(self, reader, writer):
            try:
                while True:
                    await reader.readuntil(b"content-length: 4\r\n\r\n")
                    late = await reader.readexactly(4) == b"slow"
                    await asyncio.sleep(0.3 if late else 0)
                    writer.write(OK + b"Content-Length: 1\r\n\r\n" + (b"L" if late else b"N"))
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

    async def work(wire):
        answers = [(await wire.post(b"fast")).content]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await wire.post(b"slow")
        answers.append((await wire.post(b"fast")).content)
        await asyncio.sleep(0.3)
        return [*answers, (await wire.post(b"fast")).content]

    assert talk(Slow(b""), work) == [b"N"] * 3


async def until_closed(wire):
    while wire._idle[0].reusable:
        await asyncio.sleep(0.01)


def test_connection_that_the_server_closed_meanwhile_is_replaced():
    script = Scripted(GOOD["length"][0], closes=True)

    async def twice(wire):
        await wire.post(b"{}")
        await until_closed(wire)
        return await wire.post(b"{}")

    assert talk(script, twice).content == b"hello"
    assert script.connections == 2


def test_bytes_that_nobody_asked_for_end_the_connection():
    class Talkative(Scripted):
        async def serve(self, reader, writer):
            self.connections += 1
            await reader.readuntil(b"\r\n\r\n{}")
            writer.write(OK + b"Content-Length: 1\r\n\r\na")
            await asyncio.sleep(0.02)
            writer.write(OK + b"Content-Length: 1\r\n\r\nb")
            await reader.read()
            writer.close()

    script = Talkative(b"")

    async def twice(wire):
        one = await wire.post(b"{}")
        if wire._idle:
            await until_closed(wire)
        return one.content, (await wire.post(b"{}")).content

    assert talk(script, twice) == (b"a", b"a")
    assert script.connections == 2


def test_many_at_once_each_get_their_own():
    class Echo(Scripted):
        async def serve(self, reader, writer):
            self.connections += 1
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                    body = await reader.readexactly(length)
                    await asyncio.sleep(0.001 * (len(body) % 3))
                    writer.write(OK + b"Content-Length: %d\r\n\r\n" % length + body)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

    script = Echo(b"")

    async def many(wire):
        async def work(worker):
            for n in range(20):
                text = b"%d-%d" % (worker, 10**n)
                assert (await wire.post(text)).content == text

        await asyncio.gather(*[work(w) for w in range(10)])

    talk(script, many)
    assert script.connections == 10
