"""How fast texts and chats become ids, beside the peers on the same rows in one run.

    python benches/encode.py                                        # all single-turn chats, mistral-v1; minutes, most of them the peers'
    python benches/encode.py --rows 20000 --tokenizer DIR           # evenly spaced rows, another vocabulary
    python benches/encode.py --select code cjk --repeats 5          # rows of mostly code; lines of mostly CJK, of feedback too

Ours is `Encoder.encode` of the rendered chats in one call: `cold` begins with empty memos, `warm` is what a second pass over the
same texts adds, the better of two. `chats` is `Encoder.encode_chats`: template, ids, masks and Arrow. The peers are those of
`../shared/bench/peers.py tokenize`: the `tokenizers` package, gigatoken, and transformers' `apply_chat_template`. Peers that need
packages of their own run in the interpreter that `$ZEPHYR_DATA_PEERS` names; the slow ones get `--slow-rows` of the rows.

Every engine has one thread and a process of its own; loading, and one call on the first row, are in no figure, as in peers.py. With
`--repeats N` there are N processes of each, taking turns, and the line of the median is told. MB are 10^6 bytes of rendered text per CPU second, for `chats` and
transformers of contents. Equal `ids_sha256` mean equal ids, where the rows are the same.
Figures go to standard output as JSON lines, and with `--json FILE` to a file as well.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl
from figures import environment, run, writer

SHARED = Path(os.environ.get("ZEPHYR_DATA_SHARED", "../shared/data"))
INPUT = SHARED / "chats_single_turn.jsonl.zst"
FEEDBACK = [SHARED / f"feedback_alpacaeval{end}.parquet" for end in ("", "1")]
PEERS = SHARED.parent / "bench" / "peers.py"
PACKAGES = ("zephyr-data", "tokenizers", "transformers", "pyarrow")
SLOW = ("tokenizers-batch-fast", "transformers", "transformers-mask")
CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
FENCE = "```"

OURS = """
import gc, json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import pyarrow as pa
from peers import Digest, content_bytes, load_rows, render_rows
from zephyr_data import Encoder

def seconds(work, *arguments):
    started = time.process_time()
    result = work(*arguments)
    return time.process_time() - started, result

encoder = Encoder.from_pretrained(sys.argv[3])
rows = load_rows([sys.argv[2]])
texts = render_rows(rows, sys.argv[3])
megabytes = sum(len(text.encode()) for text in texts) / 1e6
once, twice = pa.array(texts, pa.large_string()), pa.array(texts + texts, pa.large_string())
chats = pa.array([row["messages"] for row in rows])
gc.collect()
encoder.encode(once[:1])
cold, ids = seconds(encoder.encode, once)
again = [(seconds(encoder.encode, once)[0], seconds(encoder.encode, twice)[0]) for _ in range(2)]
warm = min(both for _, both in again) - min(first for first, _ in again)
digest = Digest()
digest.update(ids.to_pylist())
encoder.encode_chats(chats[:1])
whole, _ = seconds(encoder.encode_chats, chats)
for name, took, size in (("cold", cold, megabytes), ("warm", warm, megabytes), ("chats", whole, content_bytes(rows) / 1e6)):
    print(json.dumps({
        "engine": f"zephyr-data-{name}", "by": encoder.engine, "rows": len(rows), "mb": round(size, 3), "cpu_s": round(took, 5),
        "mb_per_cpu_s": round(size / took, 2), "tokens": digest.tokens, "ids_sha256": digest.hexdigest(),
    }))
"""


def lines_of(command: list[str]) -> list[dict[str, object]]:
    """The lines of figures that a program prints."""
    return [json.loads(line) for line in run(command).stdout.splitlines() if '"engine"' in line]


def ours(rows: Path, tokenizer: Path) -> list[dict[str, object]]:
    """Cold, warm and chats."""
    return lines_of([sys.executable, "-c", OURS, str(PEERS.parent), str(rows), str(tokenizer)])


def peer(engine: str, rows: Path, tokenizer: Path) -> list[dict[str, object]]:
    """One engine of `peers.py`."""
    python = os.environ.get("ZEPHYR_DATA_PEERS", sys.executable)
    command = [python, str(PEERS), "tokenize", str(rows), "--tokenizer", str(tokenizer)]
    found = []
    for line in lines_of([*command, "--engines", engine, "--threads", "1"]):
        if "skipped" in line:
            found.append({"engine": engine, "skipped": line["skipped"]})
            continue
        result = line["result"]
        # The seconds are rounded to a thousandth, which is much of a short run; the rate is not.
        rate = result["million_tokens_per_cpu_s"]  # type: ignore[index]
        cpu = round(result["tokens"] / float(rate) / 1e6, 5)  # type: ignore[index]
        # transformers renders, too, so what it gets are contents.
        size = line["text_mb"] if engine.startswith("transformers") else result["rendered_mb"]  # type: ignore[index]
        figures = {"mb": size, "cpu_s": cpu, "mb_per_cpu_s": round(float(str(size)) / cpu, 2)}
        found.append({"engine": line["engine"], "rows": line["rows_in"], **figures})
        found[-1] |= {name: result[name] for name in ("tokens", "ids_sha256")}  # type: ignore[index]
    return found


def median(runs: list[list[dict[str, object]]]) -> list[dict[str, object]]:
    """Of several runs of the same engines each engine's line of the median, with the times of all."""
    found = []
    for lines in zip(*runs, strict=True):
        if any("skipped" in line for line in lines):
            found.append(lines[0])
            continue
        ranked = sorted(lines, key=lambda line: float(str(line["cpu_s"])))
        found.append(ranked[(len(ranked) - 1) // 2])
        if len(ranked) > 1:
            found[-1]["all_cpu_s"] = [line["cpu_s"] for line in lines]
    return found


def read_rows() -> list[dict[str, object]]:
    """The shared single-turn chats."""
    unpacked = subprocess.run(["zstd", "-dcq", str(INPUT)], check=True, capture_output=True)
    return [json.loads(line) for line in unpacked.stdout.splitlines()]


def read_answers() -> list[dict[str, object]]:
    """The answers of the shared feedback, each as a chat of its own."""
    answers = pl.concat(pl.read_parquet(path, columns=["completions"]) for path in FEEDBACK)
    texts = answers["completions"].explode().struct.field("text").drop_nulls()
    return [{"messages": [{"role": "user", "content": text}]} for text in texts]


def selected(rows: list[dict[str, object]], kind: str) -> list[dict[str, object]]:
    """All rows; those whose text is mostly within code fences; or the lines of chats and of feedback that are mostly CJK."""
    if kind == "all":
        return rows
    found = []
    for row in rows + (read_answers() if kind == "cjk" else []):
        messages: list[dict[str, str]] = row["messages"]  # type: ignore[assignment]
        text = "\n".join(message["content"] for message in messages)
        if kind == "code":
            if 2 * sum(map(len, text.split(FENCE)[1::2])) > len(text):
                found.append(row)
            continue
        lines = [line for line in text.splitlines() if 2 * len(CJK.findall(line)) > len(line) > 4]
        if lines:
            found.append({"messages": [{"role": "user", "content": "\n".join(lines)}]})
    return found


def spaced(rows: list[dict[str, object]], count: int) -> list[dict[str, object]]:
    """That many evenly spaced rows; 0 for all."""
    if not count or count >= len(rows):
        return rows
    return [rows[at * len(rows) // count] for at in range(count)]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizer", type=Path, default=SHARED / "tokenizers" / "mistral-v1")
    parser.add_argument("--rows", type=int, default=0, help="evenly spaced rows; 0 for all")
    parser.add_argument(
        "--slow-rows", type=int, default=2000, help="evenly spaced rows for the slow peers"
    )
    parser.add_argument(
        "--select", nargs="+", choices=("all", "code", "cjk"), default=["all"], help="which rows"
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=("gigatoken", *SLOW),
        default=["gigatoken", *SLOW],
        help="peers to run beside ours; none after `--peers` alone",
    )
    parser.add_argument("--repeats", type=int, default=1, help="processes of each engine")
    parser.add_argument("--json", type=Path, help="append the lines to this file, too")
    arguments = parser.parse_args()
    if not INPUT.exists():
        sys.exit(f"no shared data at `{SHARED}`\nhint: set ZEPHYR_DATA_SHARED")

    say = writer(arguments.json)
    say(environment("encode.py", PACKAGES))
    rows = read_rows()
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.select:
            chosen = spaced(selected(rows, kind), arguments.rows)
            path = write(Path(folder, f"{kind}.jsonl"), chosen)
            few = write(Path(folder, f"{kind}-few.jsonl"), spaced(chosen, arguments.slow_rows))
            runs = []
            for _ in range(arguments.repeats):
                # Ours before and after the peers, so that a machine that slows down shows.
                lines = ours(path, arguments.tokenizer)
                for engine in arguments.peers:
                    lines += peer(engine, few if engine in SLOW else path, arguments.tokenizer)
                runs.append(lines + ours(path, arguments.tokenizer))
            for line in median(runs):
                say({"select": kind, "tokenizer": arguments.tokenizer.name, **line})


if __name__ == "__main__":
    main()
