"""`kill -9` at random moments of complete and judge: the same bytes in the end, nothing asked twice."""

import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

PROMPTS = [{"id": f"p{n:02}", "prompt": f"Tell me about number {n}."} for n in range(20)]
TABLES = ("completions.parquet", "verdicts.parquet")


class Zygote:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(int(line.split()[1]))
        self.lines.put(None)  # it died: the test need not wait for an answer

    def start(self, arguments):
        self.process.stdin.write(json.dumps([str(a) for a in arguments]) + "\n")
        self.process.stdin.flush()
        return self.wait()

    def ended(self):
        return not self.lines.empty()

    def wait(self):
        line = self.lines.get(timeout=60)
        assert line is not None, "the zygote died"
        return line

    def run(self, arguments):
        self.start(arguments)
        assert self.wait() == 0


@pytest.fixture(scope="module")
def zygote():
    one = Zygote()
    yield one
    one.process.stdin.close()
    one.process.wait(10)
    one.reader.join(10)
    one.process.stdout.close()


def stored_questions(store):
    """What the finished lines of a store asked, as the server saw it."""
    found = set()
    for segment in sorted((store / "segments").glob("*.jsonl")):
        for line in segment.read_bytes().split(b"\n")[:-1]:
            record = json.loads(line)
            if record["status"] == "ok":
                found.add((record["request"]["model"], json.dumps(record["request"]["messages"])))
    return found


def question(request):
    return request["model"], json.dumps(request["messages"])


def test_twenty_kills_change_no_byte_and_ask_nothing_twice(  # noqa: C901
    server, zygote, tmp_path, write_jsonl, write_yaml, model_options, feedback
):
    server.latency = 0.01
    kinds = [None, None, "500", None, "cut"]
    pool = [model_options(name, concurrency=2, max_attempts=20) for name in "abcde"]
    models = write_yaml("models.yaml", {"models": pool})
    judge_file = write_yaml(
        "judge.yaml", {"judge": model_options("judge", concurrency=4, max_attempts=20)}
    )
    prompts = write_jsonl("prompts.jsonl", PROMPTS)

    def commands(store):
        return (
            (
                "complete",
                prompts,
                "--models",
                models,
                "--per-prompt",
                4,
                "--seed",
                5,
                "--out",
                store,
            ),
            ("judge", store, "--judge", judge_file, "--mode", "aspects"),
        )

    quiet = tmp_path / "undisturbed"
    for command in commands(quiet):
        zygote.run(command)

    server.fault = lambda count: kinds[count % len(kinds)]
    moments = random.Random(20)
    kills = 0
    torn = 0
    store = tmp_path / "killed"
    for command, wanted in zip(commands(store), (10, 10), strict=True):
        killed_here = 0
        while True:
            already = stored_questions(store) if store.exists() else set()
            start = len(server.requests)
            goal = start + moments.randint(1, 6) if killed_here < wanted else None
            pid = zygote.start(command)
            if goal is None:
                assert zygote.wait() == 0
            else:
                while len(server.requests) < goal:
                    assert not zygote.ended(), "it ended before it could be killed"
                    time.sleep(0.001)
                time.sleep(moments.uniform(0, 0.02))
                os.kill(pid, signal.SIGKILL)
                code = zygote.wait()
                # requests that the dead process had sent may still arrive and be answered
                while server.in_flight:
                    time.sleep(0.005)
            again = [r for r in server.requests[start:] if question(r) in already]
            assert again == []
            if goal is None:
                break
            assert code == -signal.SIGKILL
            kills += 1
            killed_here += 1
            if moments.random() < 0.3:
                torn += tear(store)
    assert kills >= 20
    assert torn >= 1
    for name in TABLES:
        assert (store / name).read_bytes() == (quiet / name).read_bytes()
    for one in (quiet, store):
        feedback(
            "binarize", one, "--score", "mean_aspects", "--rejected", "random",
            "--out", one / "pairs.parquet",
        )  # fmt: skip
    pairs = (store / "pairs.parquet").read_bytes()
    assert pairs == (quiet / "pairs.parquet").read_bytes()


def tear(store):
    """A line that was being written when the power went: the start of one, without its end."""
    last = max((store / "segments").glob("*.jsonl"), default=None)
    if last is None or not last.stat().st_size:
        return 0
    first = last.read_bytes().split(b"\n")[0]
    with last.open("ab") as file:
        file.write(first[: len(first) // 2])
    return 1


def test_interrupt_leaves_a_whole_store(
    server, zygote, tmp_path, write_jsonl, write_yaml, model_options
):
    server.latency = 0.05
    models = write_yaml("models.yaml", {"models": [model_options("a", concurrency=2)]})
    store = tmp_path / "store"
    command = (
        "complete", write_jsonl("p.jsonl", PROMPTS), "--models", models, "--per-prompt", 1,
        "--out", store,
    )  # fmt: skip
    pid = zygote.start(command)
    while len(server.requests) < 5:
        time.sleep(0.002)
    os.kill(pid, signal.SIGINT)
    assert zygote.wait() != 0
    done = stored_questions(store)
    assert done
    zygote.run(command)
    assert len(stored_questions(store)) == 20


def test_second_writer_is_refused_while_the_first_works(
    server, zygote, tmp_path, write_jsonl, write_yaml, model_options, feedback
):
    from zephyr_data.errors import ZephyrDataError

    server.latency = 0.2
    models = write_yaml("models.yaml", {"models": [model_options("a", concurrency=2)]})
    command = (
        "complete", write_jsonl("p.jsonl", PROMPTS[:6]), "--models", models, "--per-prompt", 1,
        "--out", tmp_path / "store",
    )  # fmt: skip
    zygote.start(command)
    while not server.requests:
        time.sleep(0.002)
    with pytest.raises(ZephyrDataError, match="another process is writing into this store"):
        feedback(*command)
    # reading is allowed meanwhile
    assert "of 6, cost" in feedback("status", tmp_path / "store")
    assert zygote.wait() == 0
    assert "answers 6 of 6" in feedback("status", tmp_path / "store")
