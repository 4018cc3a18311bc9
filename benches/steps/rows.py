"""Rows of random ids whose lengths are drawn from measured ones; the same seed gives every column the same rows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

LENGTHS = Path(__file__).resolve().parents[1] / "lengths"


def draw_rows(options: argparse.Namespace, many: int) -> list:
    """Lengths, drawn with the seed: of documents, or (prompt, chosen, rejected)."""
    path = options.lengths or LENGTHS / ("pairs.json" if options.what == "dpo" else "chats.json")
    lengths = json.loads(Path(path).read_text())["lengths"]
    source = random.Random(options.seed)
    return [source.choice(lengths) for _ in range(many)]


def draw_ids(source: random.Random, vocabulary: int, length: int) -> list[int]:
    """Random ids, none of the first ten, which may be special."""
    return [source.randrange(10, vocabulary) for _ in range(length)]


def documents(options: argparse.Namespace, many: int) -> list[dict]:
    """Documents with labels: the first sixth carries no loss, as prompts do (85 % of the shared chats is answers)."""
    source = random.Random(options.seed + 1)
    rows = []
    for length in draw_rows(options, many):
        ids = draw_ids(source, options.shape[5], length)
        rows.append({"input_ids": ids, "labels": [-100] * (length // 6) + ids[length // 6 :]})
    return rows


def pairs(options: argparse.Namespace, many: int) -> list[dict]:
    """Pairs as `prepare` packs them."""
    source = random.Random(options.seed + 1)
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    return [
        {
            name: draw_ids(source, options.shape[5], length)
            for name, length in zip(names, row, strict=True)
        }
        for row in draw_rows(options, many)
    ]


def packed(rows: list[dict], size: int) -> list[dict]:
    """Documents in rows of `size` tokens, first-fit decreasing: what `pack` writes, near enough."""
    bins: list[list[dict]] = []
    free: list[int] = []
    for row in sorted(rows, key=lambda row: -len(row["input_ids"])):
        need = len(row["input_ids"])
        place = next((place for place, room in enumerate(free) if room >= need), None)
        if place is None:
            bins.append([])
            free.append(size)
            place = len(free) - 1
        bins[place].append(row)
        free[place] -= need
    random.Random(0).shuffle(bins)
    return [
        {
            "input_ids": [token for row in some for token in row["input_ids"]],
            "labels": [label for row in some for label in row["labels"]],
            "seq_lengths": [len(row["input_ids"]) for row in some],
        }
        for some in bins
    ]


def grouped(rows: list[dict], size: int) -> list[dict]:
    """Batches of like length, in random order."""

    def length(row: dict) -> int:
        return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))

    rows = sorted(rows, key=length)
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    random.Random(0).shuffle(batches)
    return [row for batch in batches for row in batch]


def mean_length(options: argparse.Namespace) -> float:
    """Of the documents that are drawn."""
    some = draw_rows(options, 1000)
    return sum(some) / len(some)
