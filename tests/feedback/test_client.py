"""The short way sends what the `openai` client would have sent; proxies, https and redirects go the client's own way."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import openai
import pytest

from zephyr_data.feedback import client as module
from zephyr_data.feedback.client import Client

BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": 'Grüße "\u2028" \U0001f600'}],
    "n": 1.5,
}
# each way writes these for its own connection
CONNECTION = {"accept-encoding", "connection", "content-length"}


@pytest.fixture
def recorder():
    """A server that remembers path, headers and body of each request; `replies` may say otherwise than 200."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): text for name, text in self.headers.items()}
            self.server.seen.append((self.path, headers, body))
            status, headers = self.server.replies.get(self.path, (200, {}))
            self.send_response(status)
            for name, value in {"Content-Length": "2", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"{}")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.seen, server.replies = [], {}
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def post(base_url, bodies=(BODY,), key="sk-1"):
    async def run():
        client = Client(base_url, key, timeout_s=5, connections=2)
        await client.open()
        short = client._wire is not None
        replies = [await client.post(body) for body in bodies]
        await client.close()
        return short, replies

    return asyncio.run(run())


def without_connection(headers):
    return {name: text for name, text in headers.items() if name not in CONNECTION}


def test_short_way_sends_what_the_client_sends(recorder, monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "my-org")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "my-project")

    async def plain():
        async with openai.AsyncOpenAI(
            base_url=f"{recorder.url}/a/v1?v=2", api_key="sk-1", max_retries=0, timeout=5
        ) as client:
            await client.post("/chat/completions", body=BODY, cast_to=httpx2.Response)

    asyncio.run(plain())
    short, _ = post(f"{recorder.url}/a/v1?v=2")
    assert short
    (path, theirs, their_body), (our_path, ours, our_body) = recorder.seen
    assert our_path == path
    assert without_connection(ours) == without_connection(theirs)
    assert ours["authorization"] == "Bearer sk-1"
    assert ours["openai-organization"] == "my-org"
    assert json.loads(our_body) == json.loads(their_body) == BODY
    assert our_body == their_body


def test_client_is_prepared_once(recorder, monkeypatch):
    calls = []
    prepared = module.prepared_request

    async def counted(arguments):
        calls.append(1)
        return await prepared(arguments)

    monkeypatch.setattr(module, "prepared_request", counted)
    post(f"{recorder.url}/v1", [BODY] * 5)
    assert len(calls) == 1
    assert len(recorder.seen) == 5


def test_redirect_is_followed_the_clients_way(recorder):
    recorder.replies["/v1/chat/completions"] = (307, {"Location": "/moved/v1/chat/completions"})
    short, replies = post(f"{recorder.url}/v1", [BODY, BODY])
    assert short
    assert [r.status for r in replies] == [200, 200]
    assert [path for path, _, _ in recorder.seen].count("/moved/v1/chat/completions") == 2
    assert json.loads(recorder.seen[-1][2]) == BODY


def test_proxy_of_the_environment_is_used(recorder, monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", recorder.url)
    short, (reply,) = post("http://model.invalid/v1")
    assert not short
    assert reply.status == 200
    assert "model.invalid" in recorder.seen[0][0] + recorder.seen[0][1]["host"]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert post(f"{recorder.url}/v1")[0]


def test_https_goes_the_clients_way():
    async def run():
        client = Client("https://127.0.0.1:1/v1", "sk-1", timeout_s=5, connections=2)
        await client.open()
        assert client._wire is None
        with pytest.raises(ConnectionError):
            await client.post(BODY)
        await client.close()

    asyncio.run(run())


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_both_ways_return_the_same_refusals(recorder, monkeypatch, status):
    recorder.replies["/v1/chat/completions"] = (status, {"Retry-After": "3"})
    _, (short,) = post(f"{recorder.url}/v1")
    monkeypatch.setattr(module, "proxied", lambda _: True)
    _, (whole,) = post(f"{recorder.url}/v1")
    assert short.status == whole.status == status
    assert short.content == whole.content
    assert short.headers.get("retry-after") == whole.headers.get("retry-after") == "3"
