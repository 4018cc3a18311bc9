"""Throughput of `feedback complete` against a local server with 50 ms latency, 200 requests at a time.

    python benches/feedback_throughput.py [--requests 5000] [--concurrency 200] [--latency 0.05] [--repeat 3]

Prints, as JSON: requests per second of our runs (store, retries, progress and all), their share of what the latency
allows (concurrency / latency), CPU per request, peak memory, and how many requests were lost or doubled; beside them the
`openai` client as it is and a bare socket loop. The server is a process of its own and counts itself.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BODY = {
    "id": "x",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "An answer of some words."},
        }
    ],
    "usage": {"prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18},
}


def serve(latency: float) -> None:
    """Answers every request after `latency` seconds; GET returns the seen prompts and forgets them."""
    raw = json.dumps(BODY).encode()
    reply = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(raw)
        + raw
    )
    seen: list[bytes] = []

    class Connection(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport, self.buffer = transport, b""

        def data_received(self, data):
            self.buffer += data
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if head.startswith(b"GET"):
                self.buffer = rest
                text = json.dumps(
                    [json.loads(one)["messages"][-1]["content"] for one in seen]
                ).encode()
                seen.clear()
                self.transport.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text
                )
                return
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            if len(rest) < length:
                return
            seen.append(rest[:length])
            self.buffer = rest[length:]
            asyncio.get_running_loop().call_later(latency, self.transport.write, reply)

    async def main():
        server = await asyncio.get_running_loop().create_server(
            Connection, "127.0.0.1", 0, backlog=1024
        )
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


def requests_seen(port: int) -> list[str]:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
        return json.load(answer)


async def sockets(port: int, count: int, concurrency: int) -> dict[str, float]:
    numbers = iter(range(count))

    async def work():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            body = json.dumps(
                {"model": "m", "messages": [{"role": "user", "content": f"{number}"}]}
            ).encode()
            writer.write(b"POST /v1 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(
                int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            )
        writer.close()

    return await timed(work, count, concurrency)


async def openai_client(port: int, count: int, concurrency: int) -> dict[str, float]:
    """The `openai` client as it is, over its aiohttp transport, answers raw."""
    import httpx2
    import openai

    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    client = openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key="none",
        max_retries=0,
        http_client=openai.DefaultAioHttpClient(limits=limits),
    )
    numbers = iter(range(count))

    async def work():
        for number in numbers:
            body = {"model": "m", "messages": [{"role": "user", "content": f"{number}"}]}
            response = await client.post("/chat/completions", body=body, cast_to=httpx2.Response)
            json.loads(response.content)

    figures = await timed(work, count, concurrency)
    await client.close()
    return figures


async def timed(work, count: int, concurrency: int) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*[work() for _ in range(concurrency)])
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"per_second": count / seconds, "cpu_ms_per_request": cpu / count * 1e3}


OURS = """
import json, sys, time
from pathlib import Path
import openai, aiohttp, httpx2, polars
from zephyr_data.feedback import collect, complete as module
from zephyr_data.feedback.cli import complete
times = []
inner = module.collect
async def timed(jobs, asker):
    began, cpu = time.perf_counter(), time.process_time()
    await inner(jobs, asker)
    times.extend([time.perf_counter() - began, time.process_time() - cpu])
module.collect = timed
folder = Path(sys.argv[1])
began = time.perf_counter()
complete(folder / "prompts.jsonl", folder / "models.yaml", folder / "store", per_prompt=1, seed=0, max_cost=None, max_failures=0)
print(json.dumps({"sending": times[0], "cpu": times[1], "whole": time.perf_counter() - began,
    "mb": int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024}))
"""


def ours(port: int, count: int, concurrency: int, latency: float) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "prompts.jsonl").write_text(
            "".join(
                json.dumps({"id": f"{n}", "prompt": f"Prompt {n}"}) + "\n" for n in range(count)
            )
        )
        (folder / "models.yaml").write_text(
            f"models: [{{name: m, model: m, base_url: 'http://127.0.0.1:{port}/v1', concurrency: {concurrency}}}]"
        )
        done = subprocess.run(
            [sys.executable, "-c", OURS, name], capture_output=True, text=True, check=True
        )
        figures = json.loads(done.stdout.splitlines()[-1])
        stored = sum(
            line.count(b"\n")
            for line in (p.read_bytes() for p in (folder / "store/segments").iterdir())
        )
    seen = requests_seen(port)
    return {
        "per_second": count / figures["sending"],
        "share_of_possible": count / figures["sending"] * latency / concurrency,
        "cpu_ms_per_request": figures["cpu"] / count * 1e3,
        "whole_command_seconds": figures["whole"],
        "peak_mb": figures["mb"],
        "lost": count - stored,
        "doubled": len(seen) - len(set(seen)),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--serve", type=float)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        return serve(arguments.serve)
    count, concurrency, latency = arguments.requests, arguments.concurrency, arguments.latency
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(latency)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        port = int(server.stdout.readline())
        runs = [ours(port, count, concurrency, latency) for _ in range(arguments.repeat)]
        figures = {
            "requests": count,
            "concurrency": concurrency,
            "latency_s": latency,
            "possible_per_second": concurrency / latency,
            "load_average": os.getloadavg(),
            "ours": runs,
            "openai_client": asyncio.run(openai_client(port, count, concurrency)),
            "bare_sockets": asyncio.run(sockets(port, count, concurrency)),
            "python": sys.version.split()[0],
        }
        print(json.dumps(figures, indent=2))
    finally:
        server.kill()
    return None


if __name__ == "__main__":
    main()
