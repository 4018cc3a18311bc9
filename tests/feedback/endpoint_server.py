"""An OpenAI-compatible chat endpoint on loopback that answers deterministically and misbehaves on command.

As a model it answers with a text made from a hash of model and prompt. As a judge it reads the code of the request and
grades every text by a hash of the text, so its verdicts do not depend on the order. It knows AlpacaEval's prompts too:
there the longer output wins, in text and in log-probabilities of `m` and `M`.

Faults by name: 429 (Retry-After: 0.2), 429-bare, 500, 502, 503, html, empty, cut, hang, length, filter, no-usage, drop, 400,
401, echo-key. `server.fault` decides per request number, from 1.
"""

import hashlib
import json
import math
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EXAMPLE = re.compile(r"^([A-Z2-7]{6}) (text \d+|overall|score|verdict): [NX]$", re.MULTILINE)
STATUS = {"429": 429, "429-bare": 429, "500": 500, "502": 502, "503": 503, "400": 400, "401": 401}


def number(*parts):
    return int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:4], "big")


def judge(prompt):
    """The verdict lines for a prompt of this project, or None if it is not one."""
    wanted = EXAMPLE.findall(prompt)
    if not wanted:
        return None
    lines = []
    for tag, label in wanted:
        name = {"overall": "text", "score": "text"}.get(label, label)
        if label == "verdict":
            grades = [number(block(prompt, tag, f"text {side}")) for side in "AB"]
            value = "tie" if grades[0] % 5 == 0 else "AB"[grades[1] > grades[0]]
        else:
            value = 1 + number(block(prompt, tag, name)) % 5
        lines.append(f"{tag} {label}: {value}")
    return "I have read them all.\n\n" + "\n".join(lines)


def block(prompt, tag, name):
    found = re.search(f"<<<{tag} {name}>>>\n(.*?)\n?<<<{tag} end of {name}>>>", prompt, re.DOTALL)
    return found.group(1) if found else ""


def answer(request):
    prompt = request["messages"][-1]["content"]
    verdict = judge(prompt)
    if verdict is None and len(request["messages"]) > 2:
        verdict = judge(request["messages"][1]["content"])
    if verdict is not None:
        return verdict
    outputs = re.findall(r'"output": """(.*?)"""', prompt, re.DOTALL)
    if len(outputs) == 2:
        return "m" if len(outputs[0]) >= len(outputs[1]) else "M"
    n = number(request["model"], prompt)
    return f"Answer {n} of {request['model']}. " + "More words. " * (n % 7)


def completion(request, text):
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
    }
    outputs = re.findall(r'"output": """(.*?)"""', request["messages"][-1]["content"], re.DOTALL)
    if request.get("logprobs"):
        p = (
            1 / (1 + math.exp((len(outputs[1]) - len(outputs[0])) / 200))
            if len(outputs) == 2
            else 0.5
        )
        top = [
            {"token": token, "logprob": math.log(max(q, 1e-12)), "bytes": [ord(token)]}
            for token, q in (("m", p), ("M", 1 - p))
        ]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [choice],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def reply(self, status, body, headers=(), content_type="application/json", announce=0):
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        head = {"Content-Type": content_type, "Content-Length": str(len(raw) + announce)}
        self.send_response(status)
        for name, value in (*head.items(), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append(request)
            server.authorizations.append(self.headers.get("Authorization"))
            server.arrived.append(time.monotonic())
            fault = server.fault(len(server.requests))
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            time.sleep(server.latency)
            self.misbehave(fault, request)
        finally:
            with server.lock:
                server.in_flight -= 1

    def misbehave(self, fault, request):  # noqa: C901
        body = completion(request, self.server.answer(request))
        choice = body["choices"][0]
        if fault in STATUS:
            headers = [("Retry-After", "0.2")] if fault == "429" else []
            return self.reply(STATUS[fault], {"error": {"message": f"told to {fault}"}}, headers)
        if fault == "echo-key":
            return self.reply(
                400, {"error": {"message": f"bad key {self.headers['Authorization']}"}}
            )
        if fault == "html":
            return self.reply(200, "<html><body>Gateway</body></html>", content_type="text/html")
        if fault == "drop":
            self.close_connection = True
            return None
        if fault == "hang":
            time.sleep(self.server.hang)
        if fault == "empty":
            choice["message"]["content"] = ""
        if fault == "length":
            choice["finish_reason"] = "length"
        if fault == "filter":
            choice["finish_reason"] = "content_filter"
            choice["message"]["content"] = None
        if fault == "no-usage":
            del body["usage"]
        if fault == "cut":
            self.close_connection = True
            return self.reply(200, json.dumps(body)[:80], announce=100)
        return self.reply(200, body)


class EndpointServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.requests = []
        self.authorizations = []
        self.arrived = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.latency = 0.0
        self.hang = 5.0
        self.answer = answer
        self.fault = lambda _: None

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def fail_first(self, *faults):
        """The first requests meet these faults, all later ones none."""
        self.fault = lambda count: faults[count - 1] if count <= len(faults) else None

    def handle_error(self, request, client_address):
        pass  # a client that gave up waiting is part of the tests
