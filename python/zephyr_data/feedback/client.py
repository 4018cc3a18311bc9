"""The `openai` client, with a short way to servers at hand.

What a request consists of is the client's business: address, key, organisation and project from
the environment, its headers. All of it is the same for every request of an endpoint, so where the
server is reached by plain HTTP the client prepares it once, and only the body changes; `wire.py`
sends it. The client's whole way costs 0.72 ms of CPU a request, which holds one core at 1,300
requests a second; a local server with 200 requests in flight and 50 ms of latency gives 4,000.

Everything else (https, a proxy, a server that redirects) goes the client's whole way: a service on
the internet answers after seconds, and there its caution is worth more than its time.

Answers come back raw, whatever their status; `endpoint.py` sorts them.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx2
import openai

from zephyr_data.feedback.wire import Reply, Wire

if TYPE_CHECKING:
    import ssl

PATH = "/chat/completions"
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# what belongs to one body or one connection, and is written there
OWN_HEADERS = frozenset({"content-length", "accept-encoding", "connection"})
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Client:
    """Posts chat requests to one endpoint."""

    def __init__(self, base_url: str, key: str, *, timeout_s: float, connections: int) -> None:
        self._arguments: dict[str, Any] = {
            "base_url": base_url,
            "api_key": key,
            "max_retries": 0,
            "timeout": timeout_s,
        }
        self._timeout_s = timeout_s
        self._connections = connections
        self._wire: Wire | None = None
        self._whole: openai.AsyncOpenAI | None = None

    async def open(self) -> None:
        """Finds out which way requests go."""
        request = await prepared_request(self._arguments)
        if request.url.scheme == "http" and not proxied(request.url.host):
            headers = {n: v for n, v in request.headers.items() if n.lower() not in OWN_HEADERS}
            target = request.url.raw_path.decode("ascii")
            self._wire = Wire(request.url.host, request.url.port or 80, target, headers)

    async def post(self, body: dict[str, Any]) -> Reply:
        """Sends one request and reads its answer to the end.

        Raises:
            TimeoutError: There was no whole answer in time.
            OSError: There was no connection, or it broke.
        """
        async with asyncio.timeout(self._timeout_s):
            if self._wire is not None:
                reply = await self._wire.post(_encode(body).encode())
                if reply.status not in REDIRECTS:
                    return reply
                self._wire.close()
                self._wire = None
            return await self._post_whole(body)

    async def _post_whole(self, body: dict[str, Any]) -> Reply:
        if self._whole is None:
            transport = fast_transport(self._timeout_s, self._connections)
            self._whole = openai.AsyncOpenAI(**self._arguments, http_client=transport)
        try:
            response = await self._whole.post(PATH, body=body, cast_to=httpx2.Response)
        except openai.APIStatusError as error:
            response = error.response
        except openai.APIError as error:
            cause = error.__cause__ or error
            # a refused connection comes as a time-out too (`ConnectTimeout`)
            if isinstance(cause, (httpx2.ReadTimeout, httpx2.WriteTimeout)):
                raise TimeoutError from error
            raise ConnectionError(f"{type(cause).__name__}: {cause}") from error
        return Reply(response.status_code, response.headers, response.content)

    async def close(self) -> None:
        """Closes the connections."""
        if self._wire is not None:
            self._wire.close()
        if self._whole is not None:
            await self._whole.close()


def fast_transport(timeout_s: float, connections: int) -> httpx2.AsyncClient | None:
    """The client's transport over aiohttp where installed: 0.6 of the default's CPU a request."""
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    try:
        return openai.DefaultAioHttpClient(timeout=timeout_s, limits=limits, verify=tls_context())
    except RuntimeError:
        return None


async def prepared_request(arguments: dict[str, Any]) -> httpx2.Request:
    """The request that the `openai` client makes of an empty body, caught before it leaves."""
    caught: list[httpx2.Request] = []

    def catch(request: httpx2.Request) -> httpx2.Response:
        caught.append(request)
        return httpx2.Response(200, json={})

    nowhere = httpx2.AsyncClient(transport=httpx2.MockTransport(catch), trust_env=False)
    async with openai.AsyncOpenAI(**arguments, http_client=nowhere) as client:
        await client.post(PATH, body={}, cast_to=httpx2.Response)
    return caught[0]


def proxied(host: str) -> bool:
    """Whether the environment names a proxy on the way to a host (`HTTP_PROXY`, `NO_PROXY`, ...)."""
    proxies = urllib.request.getproxies()
    if "http" not in proxies and "all" not in proxies:
        return False
    return not urllib.request.proxy_bypass(host)


@cache
def tls_context() -> ssl.SSLContext:
    """One context for all endpoints: loading the certificates takes a tenth of a second."""
    return httpx2.create_ssl_context()
