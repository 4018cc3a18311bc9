"""The dedup stage killed at random moments and on a full disk: the same command goes on to the bytes of an undisturbed run.

All that the stage can do is on: exact and near-duplicates, benchmarks, the split, and a limit with which it spills.
"""

import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from zephyr_data.manifest import read_manifest

pytestmark = pytest.mark.slow

ROWS, QUESTIONS = 15_000, 12_000

PROGRAM = """
import sys
from zephyr_data import _core
from zephyr_data.config import Config

rows, benchmark, out, limit = sys.argv[1:]
options = {"memory_limit": int(limit), "decontaminate": [benchmark], "test_fraction": 0.2}
config = Config.load({"dedup": options}, {})
ignore = lambda *_: None
_core.clean([rows], out, config.read, config.clean, 2, ignore)
print("go", flush=True)
_core.dedup(out, config.dedup_options(), 2, ignore)
"""


def text(rng, length):
    return " ".join(f"w{rng.randrange(5000)}" for _ in range(length))


def edited(rng, words, edits):
    words = words.split()
    for at in rng.sample(range(len(words)), edits):
        words[at] = f"e{rng.randrange(5000)}"
    return " ".join(words)


def chats(rng, questions):
    """Chats of which many are edited copies of others, some hold a question, and some share most of their words."""
    prompts = [text(rng, 60) for _ in range(ROWS // 9)]
    answers = [text(rng, 150) for _ in range(ROWS // 3)]
    shared = text(rng, 105)
    for number in range(ROWS):
        base = rng.randrange(len(answers))
        prompt = edited(rng, prompts[base % len(prompts)], rng.randrange(2))
        answer = edited(rng, answers[base], rng.randrange(3))
        if number % 50 == 0:
            prompt = f"Solve this: {rng.choice(questions)}"
        if number % 10 == 1:  # such rows meet in the bands and are not similar, which takes long
            prompt, answer = "Go on.", f"{shared} {text(rng, 45)}"
        roles = zip(("user", "assistant"), (prompt, answer), strict=True)
        yield {"messages": [{"role": role, "content": content} for role, content in roles]}


class Runs:
    """The command that deduplicates, with a limit within which it spills."""

    def __init__(self, folder):
        rng = random.Random(8)
        questions = [text(rng, 40) for _ in range(QUESTIONS)]
        self.rows, self.benchmark = folder / "rows.jsonl", folder / "benchmark.jsonl"
        self._write(self.benchmark, ({"question": question} for question in questions))
        self._write(self.rows, chats(rng, questions))
        self.limit = 1
        # The least limit is in the message, first without what the benchmarks take, then with it.
        for _ in range(2):
            _, said = self.start(folder / "least", stderr=subprocess.PIPE).communicate()
            self.limit = int(re.search(r"must be at least (\d+) bytes", said)[1])
        self.limit += 300_000

    @staticmethod
    def _write(path, rows):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def start(self, out, **how):
        arguments = [self.rows, self.benchmark, out, self.limit]
        command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how)

    def cleaned(self, out):
        """The command's process, once it has cleaned the rows."""
        process = self.start(out)
        assert process.stdout.readline() == "go\n"
        return process

    def finish(self, out):
        process = self.start(out)
        process.communicate()
        assert process.returncode == 0
        assert not (out / ".dedup.spill").exists()
        assert not (out / ".dedup.tmp").exists()


def sizes(folder):
    try:
        return {path.name: path.stat().st_size for path in folder.iterdir()}
    except FileNotFoundError:
        return {}


class Phases:
    """What a run does, told by its files: they come one after the other, and the same run writes the same ones."""

    def __init__(self):
        self.texts = None  # bytes of the words of all rows that are compared

    def of(self, out):
        spilled = sizes(out / ".dedup.spill")
        if sizes(out / ".dedup.tmp"):
            return "writes"
        if "texts" in spilled:
            return "joins" if spilled["texts"] == self.texts else "takes words"
        if spilled:
            return "sketches"
        return "reads benchmarks" if (out / ".dedup.spill").exists() else "outside"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("faults"))


class Whole:
    """An undisturbed run: its bytes, and how many seconds each phase took."""

    def __init__(self, runs, out, digests):
        self.out, self.phases, largest = out, Phases(), 0
        # The first run tells how large the words are, the second how long each phase takes.
        for _ in range(2):
            (out / "dedup/manifest.json").unlink(missing_ok=True)
            process = runs.cleaned(out)
            begun, seconds, before = time.monotonic(), Counter(), 0
            while process.poll() is None:
                now = time.monotonic() - begun
                seconds[self.phases.of(out)] += now - before
                largest = max(largest, sizes(out / ".dedup.spill").get("texts", 0))
                before = now
                time.sleep(0.001)
            assert process.returncode == 0
            process.communicate()
            self.phases.texts = largest
        self.seconds, self.all = seconds, sum(seconds.values())
        self.digests = digests(out)


@pytest.fixture(scope="module")
def whole(runs, tmp_path_factory, digests):
    return Whole(runs, tmp_path_factory.mktemp("whole") / "out", digests)


def test_everything_is_on(whole, read_rows):
    dropped = read_manifest(whole.out / "dedup").counts["dropped"]
    assert dropped["contaminated"] > 100
    assert dropped["near_duplicate"] > 1000
    assert {row["split"] for row in read_rows(whole.out / "dedup")} == {"train", "test"}


MOMENTS = [None] * 6 + ["reads benchmarks", "sketches", "takes words", "joins", "joins", "writes"]
"""In which phase a run is killed; `None` for a moment of the whole run."""


def test_a_run_that_is_killed_goes_on_to_the_same_bytes(runs, whole, tmp_path, digests):
    chance, killed = random.Random(0), Counter()
    for number, wanted in enumerate(MOMENTS):
        out = tmp_path / f"killed-{number}"
        process = runs.cleaned(out)
        if wanted is None:
            time.sleep(chance.random() * whole.all)
        else:
            while whole.phases.of(out) != wanted and process.poll() is None:
                pass
            time.sleep(chance.random() * whole.seconds[wanted] / 2)
        process.send_signal(signal.SIGSTOP)  # what it was doing is what it is killed at
        killed[whole.phases.of(out)] += 1
        process.kill()
        process.communicate()
        runs.finish(out)
        assert digests(out) == whole.digests
    assert min(killed["reads benchmarks"], killed["joins"]) > 0
    assert killed["sketches"] + killed["takes words"] > 0


@pytest.mark.parametrize("full_at", ["the first run", "the words"])
def test_a_full_disk_is_said_and_the_same_command_goes_on(runs, whole, tmp_path, digests, full_at):
    """A limit on the size of files stands for a full disk: the first run that is spilled is larger, or only the words are."""
    out = tmp_path / "out"
    first = runs.cleaned(out)
    first.kill()
    first.communicate()
    size = 1 << 18 if full_at == "the first run" else whole.phases.texts - 1
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # noqa: E731
    full = runs.start(out, stderr=subprocess.PIPE, preexec_fn=limit)
    _, said = full.communicate()
    assert full.returncode == 1
    assert f"cannot write `{out}/.dedup.spill/" in said
    assert ("/texts" in said) == (full_at == "the words")
    assert "hint: free some space and run the same command again" in said
    assert sorted(path.name for path in out.iterdir()) == ["clean"]
    runs.finish(out)
    assert digests(out) == whole.digests
