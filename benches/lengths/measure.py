"""Measures the lengths that `benches/train.py` draws from: token counts of the shared data, no text.

    python benches/lengths/measure.py        # writes chats.json and pairs.json beside itself; a minute or two

chats.json: 1,024 evenly spaced quantiles of the documents' lengths after `prepare` with Mistral's v1 tokenizer and Zephyr's
template, at most 2,048 tokens. pairs.json: 1,024 evenly spaced pairs (prompt, chosen, rejected), sorted by their sum, at most
1,024 tokens a side; chosen is the best of the answers to an AlpacaEval instruction, rejected another one by hash.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import polars as pl

import zephyr_data

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("ZEPHYR_DATA_SHARED", HERE.parents[1] / ".." / "shared" / "data"))
TOKENIZER = SHARED / "tokenizers" / "mistral-v1"
MANY = 1024
CHATS = ("chats_single_turn.jsonl.zst", "chats_multi_turn_train.jsonl.zst")
EVERY = 5  # of the chats, one in so many: 20,000 rows say as much about lengths as 100,000


def spaced(values: list, many: int) -> list:
    """So many of the values, evenly spaced; the first and the last are among them."""
    return [values[place * (len(values) - 1) // (many - 1)] for place in range(many)]


def chats(folder: Path) -> list[int]:
    """Lengths of the documents of both shared chat files."""
    lines: list[bytes] = []
    for name in CHATS:
        unpacked = subprocess.run(
            ["zstd", "-dcq", str(SHARED / name)], check=True, capture_output=True
        )
        lines += unpacked.stdout.splitlines(keepends=True)
    rows = folder / "chats.jsonl"
    rows.write_bytes(b"".join(lines[::EVERY]))
    out = folder / "chats"
    zephyr_data.prepare(rows, tokenizer=TOKENIZER, out=out, progress=False)
    return sorted(zephyr_data.open_packed(out).documents("train")["length"].to_pylist())


def pairs(folder: Path) -> list[list[int]]:
    """Lengths (prompt, chosen, rejected), eight pairs an instruction."""
    rows = []
    for row in pl.read_parquet(SHARED / "feedback_alpacaeval.parquet").to_dicts():
        answers = [one for one in row["completions"] if one["score"] is not None and one["text"]]

        def draw(one: dict, row: dict = row) -> str:
            return sha256(f"{row['prompt_id']} {one['model']}".encode()).hexdigest()

        answers.sort(key=draw)
        for start in range(0, len(answers) - 3, 4):  # four answer, the best is chosen
            best, *others = sorted(answers[start : start + 4], key=lambda one: -one["score"])
            rejected = min(others, key=draw)
            texts = {"chosen": best["text"], "rejected": rejected["text"]}
            # `prepare` keeps one row a prompt, so each pair says which one it is
            rows.append({"prompt": f"{row['instruction']} ({start})", **texts})
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    out = folder / "pairs"
    options = {"max_length": 1024, "config": {"read": {"kind": "preference"}}}
    zephyr_data.prepare(path, tokenizer=TOKENIZER, out=out, progress=False, **options)
    table = zephyr_data.open_packed(out).table("train")
    columns = [table[name].to_pylist() for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    found = [[len(ids) for ids in row] for row in zip(*columns, strict=True)]
    return sorted(found, key=lambda row: (sum(row), row))


def main() -> None:
    """Writes both files."""
    if not TOKENIZER.exists():
        sys.exit(f"no shared data at `{SHARED}`\nhint: set ZEPHYR_DATA_SHARED")
    with tempfile.TemporaryDirectory() as name:
        for kind, measure in (("chats", chats), ("pairs", pairs)):
            found = measure(Path(name))
            text = {
                "kind": kind,
                "source": f"{len(found):,} rows of the shared data, Mistral v1, Zephyr's template",
                "command": "python benches/lengths/measure.py",
                "lengths": spaced(found, MANY),
            }
            (HERE / f"{kind}.json").write_text(json.dumps(text) + "\n", encoding="utf-8")
            print(f"{kind}: {text['source']}")


if __name__ == "__main__":
    main()
