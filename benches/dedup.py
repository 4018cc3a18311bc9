"""How fast near-duplicates are found, how well, and in how much memory, beside the usual Python tools in one run.

    python benches/dedup.py peers                  # text to verified clusters, beside rensa and datasketch; quality
    python benches/dedup.py stage                  # the dedup stage with one worker and with two
    python benches/dedup.py keys                   # exact duplicates alone: keys of all chats, and who equals whom
    python benches/dedup.py scale                  # 1, 4 and 16 times the rows, made by seeded edits: time and memory
    python benches/dedup.py scale --same-mix       # the same sizes, with 16 versions of each row at every size
    python benches/dedup.py peers --rows 10000     # evenly spaced rows

`peers` plants edited copies with `../shared/bench/peers.py plant`, computes every true pair with its `truth`, and runs its
`dedup --verify` on the same rows (`ZEPHYR_DATA_PEERS` names the interpreter that has rensa and datasketch). Timed are
CPU seconds on one thread from texts in memory to verified pairs or clusters; reading is not. `stage` and `scale` run
every stage in a process of its own; peak memory is the operating system's figure for it. Copies change what there is to
find, not only how much there is: with `--same-mix` it is the same at every size. A virtual machine may get memory from its
host at the first touch, at a cost that is not the stage's: `--touch` writes and removes as much before each run. Figures go
to standard output as JSON lines, and with `--json FILE` to a file as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute
from figures import environment, writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHARED = Path(os.environ.get("ZEPHYR_DATA_SHARED", "../shared/data"))
PEERS = os.environ.get("ZEPHYR_DATA_PEERS", sys.executable)
CHATS = SHARED / "chats_single_turn.jsonl.zst"
ALL = (CHATS, SHARED / "chats_multi_turn_train.jsonl.zst")

STAGE = """
import json, resource, sys, time
from zephyr_data import _core
from zephyr_data.config import Config
stage, source, out, workers, limit = sys.argv[1:]
config = Config.load({"dedup": {"memory_limit": int(limit)}}, {})
ignore = lambda *_: None
start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
if stage == "clean":
    _core.clean([source], out, config.read, config.clean, int(workers), ignore)
else:
    _core.dedup(out, config.dedup_options(), int(workers), ignore)
wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
peak, start_mb = (usage.ru_maxrss * 1024 // 10**6 for usage in (after, before))
print(json.dumps({"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "peak_mb": peak, "start_mb": start_mb}))
"""


def read_chats(path: Path) -> Iterator[dict[str, object]]:
    """The rows of a file of peers.py."""
    import zstandard

    with path.open("rb") as file:
        for line in zstandard.open(file, "rt", encoding="utf-8"):
            yield json.loads(line)


def all_rows() -> Iterator[dict[str, object]]:
    """The rows of both shared files."""
    return itertools.chain.from_iterable(map(read_chats, ALL))


def assistant_text(row: dict[str, object]) -> str:
    """What peers.py compares."""
    messages = row["messages"]
    assert isinstance(messages, list)
    return "\n".join(turn["content"] for turn in messages if turn["role"] == "assistant")


def cpu_of(work: Callable[[], object]) -> tuple[float, object]:
    """CPU seconds of a call, and its result."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    result = work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, result


def peers(*arguments: object) -> list[dict[str, object]]:
    """Runs peers.py; its JSON lines."""
    program = SHARED.parent / "bench" / "peers.py"
    command = [PEERS, str(program), *map(str, arguments)]
    # It also fails when an engine is not installed; that engine's line says so.
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if '"engine"' not in done.stdout:
        raise SystemExit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if '"engine"' in line]


def beside_peers(options: argparse.Namespace, say: Callable[[dict[str, object]], None]) -> None:
    """Speed and quality on planted edits."""
    from zephyr_data import _core

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planted, truth = folder / "planted.jsonl.zst", folder / "truth.jsonl"
        rows = ["--rows", options.rows] if options.rows else []
        peers("plant", CHATS, *rows, "--copies", options.copies, "--output", planted)
        peers("truth", planted, "--output", truth)
        chats = list(read_chats(planted))
        texts = pa.array([assistant_text(row) for row in chats])
        megabytes = sum(len(str(text).encode()) for text in texts.to_pylist()) / 1e6

        def measure() -> None:
            for engine, find in (
                ("zephyr-data: clusters", _core.near_duplicates),
                ("zephyr-data: all pairs", _core.near_pairs),
            ):
                seconds, found = cpu_of(lambda find=find: pa.record_batch(find(texts)))
                assert isinstance(found, pa.RecordBatch)
                line = {
                    "engine": engine,
                    "text_mb": round(megabytes, 1),
                    "cpu_s": round(seconds, 3),
                    "mb_per_cpu_s": round(megabytes / seconds, 1),
                    "found": found.num_rows,
                }
                if engine.endswith("pairs"):
                    path = folder / "pairs.jsonl"
                    path.write_text(
                        "".join(
                            json.dumps(
                                {"a": chats[pair["other"]]["id"], "b": chats[pair["row"]]["id"]}
                            )
                            + "\n"
                            for pair in found.to_pylist()
                        )
                    )
                    line["score"] = peers("score", "--truth", truth, "--pairs", path)[0]["result"]
                say(line)

        # Ours before and after the peers, so that a machine that slows down shows.
        measure()
        engines = ["--engines", "rensa", "datasketch-xxh32"]
        shown = ("engine", "text_mb", "cpu_s", "mb_per_cpu_s", "result", "skipped", "failed")
        for line in peers("dedup", planted, "--verify", "--truth", truth, *engines):
            say({key: line[key] for key in shown if key in line})
        measure()


def exact_keys(options: argparse.Namespace, say: Callable[[dict[str, object]], None]) -> None:
    """Canonical keys of chats in Arrow memory and the first of equal ones, three times on one thread."""
    from zephyr_data import _core
    from zephyr_data.tokenizer import messages_type

    chats = [row["messages"] for row in itertools.islice(all_rows(), options.rows or None)]
    messages = pa.array(chats, messages_type())
    contents = pa.compute.struct_field(messages.flatten(), "content")
    megabytes = pa.compute.sum(pa.compute.binary_length(contents)).as_py() / 1e6
    for _ in range(3):
        seconds, found = cpu_of(lambda: pa.array(_core.exact_duplicates(messages)))
        assert isinstance(found, pa.Array)
        copies = sum(first != row for row, first in enumerate(found.to_pylist()))
        say(
            {
                "engine": "zephyr-data: exact keys",
                "rows": len(chats),
                "text_mb": round(megabytes, 1),
                "cpu_s": round(seconds, 3),
                "mb_per_cpu_s": round(megabytes / seconds, 1),
                "found": copies,
            }
        )


def run_stage(stage: str, source: Path, out: Path, workers: int, limit: int) -> dict[str, object]:
    """One stage in a process of its own."""
    command = [sys.executable, "-c", STAGE, stage, str(source), str(out), str(workers), str(limit)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, object] = json.loads(done.stdout)
    return figures


def touch_memory(out: Path) -> None:
    """Lets the system have the memory for what `dedup` will write: its output, and words as long as its input."""
    size = sum(path.stat().st_size for path in (out / "clean").glob("*.arrow"))
    block, path = b"x" * (1 << 20), out / "touched"
    with path.open("wb") as file:
        for _ in range(2 * size // len(block) + 1):
            file.write(block)
    path.unlink()


def counts(out: Path) -> dict[str, object]:
    """What the dedup stage counted."""
    found: dict[str, object] = json.loads((out / "dedup" / "manifest.json").read_text())["counts"]
    return {key: found[key] for key in ("rows_in", "rows_out", "dropped")}


def stage_alone(options: argparse.Namespace, say: Callable[[dict[str, object]], None]) -> None:
    """The dedup stage with one worker, two, and one again."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        source = write_edited(Path(name) / "rows.jsonl", 1, options.rows)
        run_stage("clean", source, out, 2, options.memory_limit)
        for workers in (1, 2, 1, 2):
            (out / "dedup" / "manifest.json").unlink(missing_ok=True)
            figures = run_stage("dedup", source, out, workers, options.memory_limit)
            say({"stage": "dedup", "workers": workers, **figures, **counts(out)})


def write_edited(path: Path, times: int, rows: int) -> Path:
    """The rows and `times - 1` copies of each with word edits at a rate of 0 to 5 %, seeded; for `dedup` to find again."""
    rng = random.Random(5)
    with path.open("w", encoding="utf-8") as file:
        for copy in range(times):
            for number, row in enumerate(itertools.islice(all_rows(), rows or None)):
                messages = row["messages"]
                assert isinstance(messages, list)
                if copy:
                    rate = rng.uniform(0, 0.05)
                    for turn in messages:
                        words = turn["content"].split(" ")
                        for _ in range(round(rate * len(words))):
                            words[rng.randrange(len(words))] = f"e{rng.randrange(100_000)}"
                        turn["content"] = " ".join(words)
                line = {"id": f"{copy}/{number}", "messages": messages}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return path


def scale(options: argparse.Namespace, say: Callable[[dict[str, object]], None]) -> None:
    """Time and memory at 1, 4 and 16 times the rows, and the exponent of the growth."""
    points: list[tuple[int, float]] = []
    for times in options.times:
        with tempfile.TemporaryDirectory() as name:
            out = Path(name) / "out"
            copies, rows = times, options.rows
            if options.same_mix:
                copies, total = max(options.times), options.rows or sum(1 for _ in all_rows())
                rows = total * times // copies
            source = write_edited(Path(name) / "rows.jsonl", copies, rows)
            run_stage("clean", source, out, 2, options.memory_limit)
            source.unlink()
            if options.touch:
                touch_memory(out)
            figures = run_stage("dedup", source, out, options.workers, options.memory_limit)
            line = {
                "times": times,
                "same_mix": options.same_mix,
                "touched": options.touch,
                "workers": options.workers,
                "limit_mb": options.memory_limit // 10**6,
            }
            say({**line, **figures, **counts(out)})
            points.append((times, float(str(figures["cpu_s"]))))
    if len(points) > 1:
        (small, first), (large, last) = points[0], points[-1]
        say({"exponent": round(math.log(last / first) / math.log(large / small), 3)})


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["peers", "keys", "stage", "scale"])
    parser.add_argument("--rows", type=int, default=0, help="so many rows (default: all)")
    parser.add_argument("--copies", type=int, default=4000, help="planted copies of `peers`")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="sizes of `scale`")
    parser.add_argument("--same-mix", action="store_true", help="as many versions at every size")
    parser.add_argument("--touch", action="store_true", help="touch the memory of `scale` before")
    parser.add_argument("--workers", type=int, default=1, help="threads of `scale`")
    parser.add_argument("--memory-limit", type=int, default=2_000_000_000, help="bytes")
    parser.add_argument("--json", type=Path, help="append the figures to this file")
    options = parser.parse_args()

    say = writer(options.json)
    say(environment("dedup.py", ("zephyr-data", "pyarrow")))
    modes = {"peers": beside_peers, "keys": exact_keys, "stage": stage_alone, "scale": scale}
    modes[options.what](options, say)


if __name__ == "__main__":
    main()
