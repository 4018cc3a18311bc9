"""What truecasing repairs, what it breaks, and how fast it is.

Three measurements on the answers of the shared single-turn chats (`$ZEPHYR_DATA_SHARED`, else `../shared/data`):

1. Damage: one in three sentence starts is lowered (seeded); how many come back, and how many other letters change. Once on
   prose answers to one prompt in five, once on all answers. Every other change counts as wrong, true defects included.
2. Undamaged answers: how many change. `benches/labels/truecase.tsv` holds a verdict on each of a seeded sample of 200 of
   these changes, read one by one with 70 letters before and 60 after (`random.Random(0).sample` over all of them in the order of the file); each is checked to be a change still.
   Wrong documents are the share of wrong labels times the changed documents.
3. Speed, one thread, from Arrow array to Arrow array; and that a second repair finds nothing.

Run: python benches/truecase.py [--limit ROWS] [--changes FILE]
`--changes` writes every change as id, turn, byte offset for the next round of labels.
"""

import argparse
import csv
import json
import os
import random
import re
import sys
import time
from pathlib import Path

import pyarrow as pa

import zephyr_data

LABELS = Path(__file__).parent / "labels" / "truecase.tsv"
SENTENCE_START = re.compile(r"(?<=[a-z]{2}[.!?] )[A-Z](?=[a-z]+ [a-z])")
ANSWER_TURN = 1


def shared_folder() -> Path:
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("ZEPHYR_DATA_SHARED", default))


def read(path: Path, limit: int | None) -> list[tuple[str, str, str]]:
    """Returns (id, prompt, answer) of single-turn chats."""
    rows, rest = [], b""
    with pa.input_stream(path, compression="zstd") as stream:
        while block := stream.read(1 << 22):
            *full, rest = (rest + block).split(b"\n")
            for line in full:
                row = json.loads(line)
                messages = row["messages"]
                rows.append((row["id"], messages[0]["content"], messages[ANSWER_TURN]["content"]))
            if limit is not None and len(rows) >= limit:
                break
    return rows[:limit]


def repaired(texts: list[str]) -> list[str]:
    return zephyr_data.truecase(pa.array(texts, pa.large_string())).to_pylist()


def sampled_prose(rows: list[tuple[str, str, str]]) -> list[str]:
    """Returns the answers to one prompt in five that are prose: no code block, nearly all ASCII."""
    prompts = sorted({prompt for _, prompt, _ in rows})
    held = set(random.Random(0).sample(prompts, len(prompts) // 5))
    return [
        answer
        for _, prompt, answer in rows
        if prompt in held
        and "```" not in answer
        and sum(letter.isascii() for letter in answer) > 0.9 * max(1, len(answer))
    ]


def measure_damage(name: str, texts: list[str]) -> None:
    rng = random.Random(3)
    places, damaged = [], []
    for text in texts:
        lowered = {m.start() for m in SENTENCE_START.finditer(text) if rng.random() < 1 / 3}
        letters = list(text)
        for at in lowered:
            letters[at] = letters[at].lower()
        places.append(lowered)
        damaged.append("".join(letters))
    total = back = elsewhere = 0
    for text, lowered, fixed in zip(texts, places, repaired(damaged), strict=True):
        total += len(lowered)
        back += sum(fixed[at] == text[at] for at in lowered)
        differ = (at for at, (a, b) in enumerate(zip(fixed, text, strict=True)) if a != b)
        elsewhere += sum(at not in lowered for at in differ)
    recall, precision = back / max(1, total), back / max(1, back + elsewhere)
    print(
        f"damage, {name}: {len(texts)} answers, {total} sentence starts lowered, "
        f"recall {recall:.4f}, precision {precision:.4f}"
    )


def offsets(before: str, after: str) -> list[int]:
    """Returns the byte offsets at which the texts differ."""
    if before == after:
        return []
    places, at = [], 0
    for old, new in zip(before, after, strict=True):
        if old != new:
            places.append(at)
        at += len(old.encode())
    return places


def changed_letters(rows: list[tuple[str, str, str]]) -> list[tuple[str, int]]:
    """Returns (id, byte offset) of every change in the undamaged answers, in the file's order."""
    answers = [answer for _, _, answer in rows]
    started = time.perf_counter()
    array = pa.array(answers, pa.large_string())
    copied = time.perf_counter()
    result = zephyr_data.truecase(array)
    seconds = time.perf_counter() - copied
    after = result.to_pylist()
    size = sum(len(answer.encode()) for answer in answers) / 1e6
    print(
        f"speed: {size:.1f} MB in {seconds:.3f} s, {size / seconds:.0f} MB/s "
        f"(building the Arrow array: {copied - started:.3f} s, not counted)"
    )
    print(f"idempotent: {zephyr_data.truecase(result).equals(result)}")
    return [
        (identity, at)
        for (identity, _, before), text in zip(rows, after, strict=True)
        for at in offsets(before, text)
    ]


def judge(changes: list[tuple[str, int]], documents: int, identities: set[str]) -> bool:
    """Prints the share of documents wrongly changed; returns whether all labels are still changes."""
    with LABELS.open(newline="") as file:
        labels = [row for row in csv.DictReader(file, delimiter="\t") if row["id"] in identities]
    found = set(changes)
    stale = [row for row in labels if (row["id"], int(row["byte_offset"])) not in found]
    current = [row for row in labels if row not in stale]
    wrong = sum(row["verdict"] == "wrong" for row in current)
    changed = len({identity for identity, _ in changes})
    print(
        f"undamaged: {changed} of {documents} documents changed "
        f"({100 * changed / documents:.3f} %), {len(changes)} letters"
    )
    share = wrong / max(1, len(current))
    print(
        f"labels: {len(current)} changes judged by hand, {wrong} wrong ({100 * share:.1f} %), "
        f"so {100 * share * changed / documents:.4f} % of all documents wrongly changed"
    )
    for row in stale:
        print(f"label is no change any more: {row['id']} at {row['byte_offset']}")
    return not stale


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="rows to read; all by default")
    parser.add_argument("--changes", type=Path, help="write all changes to this file")
    args = parser.parse_args()
    path = shared_folder() / "chats_single_turn.jsonl.zst"
    if not path.exists():
        print(f"skipped, no file at: {path}")
        return 0
    rows = read(path, args.limit)
    changes = changed_letters(rows)
    fresh = judge(changes, len(rows), {identity for identity, _, _ in rows})
    if args.changes is not None:
        lines = [f"{identity}\t{ANSWER_TURN}\t{at}\n" for identity, at in changes]
        args.changes.write_text("".join(["id\tturn\tbyte_offset\n", *lines]))
    measure_damage("prose", sampled_prose(rows))
    measure_damage("all answers", [answer for _, _, answer in rows])
    return 0 if fresh else 1


if __name__ == "__main__":
    sys.exit(main())
