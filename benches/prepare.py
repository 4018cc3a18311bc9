"""How long `prepare` takes and how much memory, beside the usual `datasets` script on the same rows in one run.

    python benches/prepare.py                   # both shared files; minutes, most of them the peer's
    python benches/prepare.py --rows 20000      # evenly spaced rows
    python benches/prepare.py --memory          # peak memory at 1, 2 and 4 times the rows
    python benches/prepare.py --peers tuned gigatoken stock

Everything runs in processes of its own, so CPU seconds and peak memory are the operating system's figures for each. A peer is
`../shared/bench/peers.py prepare --PEER --threads 1`, near-duplicates included on both sides: `stock` is the script that
people write, `tuned` and `gigatoken` the best that public parts give. Peers that need packages of their own run in the
interpreter that `$ZEPHYR_DATA_PEERS` names.

Ours holds what the peers leave out: loading the tokenizer, checking ids against transformers, manifests and report. Importing
transformers is in none of the `cpu_s`; for ours it is said as `imports_cpu_s`, because transformers imports its parts when they
are first used.
Figures go to standard output as JSON lines, and with `--json FILE` to a file as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import environment, run, writer

SHARED = Path(os.environ.get("ZEPHYR_DATA_SHARED", "../shared/data"))
INPUTS = ("chats_single_turn.jsonl.zst", "chats_multi_turn_train.jsonl.zst")
PACKAGES = ("zephyr-data", "datasets", "tokenizers", "transformers", "trl", "pyarrow")

OURS = """
import json, resource, sys
from transformers import AutoTokenizer
import zephyr_data
AutoTokenizer.from_pretrained(sys.argv[2]).apply_chat_template([{"role": "user", "content": "Hello"}])
before = resource.getrusage(resource.RUSAGE_SELF)
done = zephyr_data.prepare(sys.argv[1], tokenizer=sys.argv[2], out=sys.argv[3], workers=int(sys.argv[4]), progress=False)
after = resource.getrusage(resource.RUSAGE_SELF)
cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
stages = {name: round(stage.seconds, 3) for name, stage in done.stages.items()}
imports = round(before.ru_utime + before.ru_stime, 2)
print(json.dumps({"cpu_s": round(cpu, 2), "imports_cpu_s": imports, "wall_by_stage_s": stages, "peak_mb": after.ru_maxrss * 1024 // 10**6}))
"""


def ours(rows: Path, tokenizer: Path, out: Path, workers: int) -> dict[str, object]:
    """One run of `prepare` in a process of its own; imports are not in `cpu_s`."""
    command = [sys.executable, "-c", OURS, str(rows), str(tokenizer), str(out), str(workers)]
    result = run(command)
    figures: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    packed = json.loads((out / "packed" / "manifest.json").read_text())["counts"]
    clean = json.loads((out / "clean" / "manifest.json").read_text())["counts"]
    text_mb = clean["text_bytes"] / 1e6
    return {
        "engine": f"zephyr-data, {workers} workers",
        "rows_in": clean["rows_in"],
        "text_mb": round(text_mb, 1),
        **figures,
        "mb_per_cpu_s": round(text_mb / float(str(figures["cpu_s"])), 2),
        "train": packed["train"],
        "test": packed["test"],
        "sha256": folder_hash(out),
    }


def folder_hash(folder: Path) -> str:
    """Of all names and bytes below a folder but the report, which tells times: equal hashes mean equal results."""
    digest = hashlib.sha256()
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "report.html")
    for path in sorted(files):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def peer(kind: str, rows: Path, tokenizer: Path) -> dict[str, object]:
    """One run of a peer."""
    program = SHARED.parent / "bench" / "peers.py"
    python = os.environ.get("ZEPHYR_DATA_PEERS", sys.executable)
    command = [python, str(program), "prepare", str(rows.resolve())]
    command += ["--tokenizer", str(tokenizer.resolve()), f"--{kind}", "--threads", "1"]
    result = run(command)
    line = next(json.loads(text) for text in result.stdout.splitlines() if '"engine"' in text)
    stages = {name: stage["cpu_s"] for name, stage in line["stages"].items()}
    cpu = sum(stages.values())
    return {
        "engine": f"peers.py prepare --{kind} --threads 1",
        "rows_in": line["rows_in"],
        "text_mb": line["text_mb"],
        "cpu_s": round(cpu, 2),
        "cpu_by_stage_s": stages,
        "peak_mb": line["peak_rss_mb"],
        "mb_per_cpu_s": round(line["text_mb"] / cpu, 2),
    }


def read_lines(rows: int) -> list[bytes]:
    """Lines of the shared chats: all, or that many evenly spaced ones."""
    lines: list[bytes] = []
    for name in INPUTS:
        unpacked = subprocess.run(
            ["zstd", "-dcq", str(SHARED / name)], check=True, capture_output=True
        )
        lines += unpacked.stdout.splitlines(keepends=True)
    if rows:
        lines = [lines[i * len(lines) // rows] for i in range(rows)]
    return lines


def write_rows(path: Path, lines: list[bytes], copies: int = 1) -> Path:
    """The lines, and copies with every other word changed, so that they are not even near-duplicates."""
    with subprocess.Popen(["zstd", "-q", "-3", "-o", str(path)], stdin=subprocess.PIPE) as packer:
        assert packer.stdin is not None
        for copy in range(copies):
            for line in lines:
                row = json.loads(line) if copy else None
                if row:
                    for message in row["messages"]:
                        words = message["content"].split(" ")
                        words[::2] = [f"{word}{copy}" for word in words[::2]]
                        message["content"] = " ".join(words)
                    line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
                packer.stdin.write(line)
    return path


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, default=0, help="evenly spaced rows; 0 for all (default)"
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=("stock", "tuned", "gigatoken"),
        default=["stock"],
        help="peers to run beside ours; none after `--peers` alone",
    )
    parser.add_argument(
        "--memory", action="store_true", help="only peak memory at 1, 2 and 4 times the rows"
    )
    parser.add_argument("--json", type=Path, help="append the lines to this file, too")
    arguments = parser.parse_args()
    tokenizer = SHARED / "tokenizers" / "mistral-v1"
    if not tokenizer.exists():
        sys.exit(f"no shared data at `{SHARED}`\nhint: set ZEPHYR_DATA_SHARED")

    say = writer(arguments.json)
    say(environment("prepare.py", PACKAGES))
    lines = read_lines(arguments.rows)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if arguments.memory:
            for copies in (1, 2, 4):
                rows = write_rows(place / f"rows{copies}.jsonl.zst", lines, copies)
                say({"copies": copies, **ours(rows, tokenizer, place / f"out{copies}", 1)})
            return
        rows = write_rows(place / "rows.jsonl.zst", lines)
        # Ours before and after the peer, so that a machine that slows down shows.
        say(ours(rows, tokenizer, place / "one", 1))
        for kind in arguments.peers:
            say(peer(kind, rows, tokenizer))
        say(ours(rows, tokenizer, place / "two", 2))
        say(ours(rows, tokenizer, place / "again", 1))


if __name__ == "__main__":
    main()
