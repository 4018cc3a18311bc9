"""Published feedback sets, imported into a store with their known faults repaired and counted.

One file a format. Each yields prompts, answers and ratings and counts what it repaired or left
out; whatever it does not know it refuses, with file and line.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zephyr_data.errors import ConfigError, DataError
from zephyr_data.feedback.store import Record, Store, request_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zephyr_data.feedback.prompts import Prompt

FORMATS = ("ultrafeedback", "alpacaeval", "gsm8k")


@dataclass(frozen=True, slots=True)
class Rating:
    """A verdict that came with the data."""

    mode: str
    judge: str
    score: float | None
    reason: str | None = None
    aspect: str | None = None
    critique: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that came with the data."""

    model: str
    text: str
    ratings: tuple[Rating, ...]
    principle: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt with its answers in the published order."""

    prompt: Prompt
    answers: tuple[Answer, ...]


@dataclass(slots=True)
class Imported:
    """What an import did."""

    prompts: int = 0
    answers: int = 0
    ratings: int = 0
    repaired: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def refuse(
    what: str, found: object, path: Path | str, line: int, name: str | None = None
) -> DataError:
    """The error for something unknown."""
    return DataError(f"{what} at {path}:{line}, found: {found!r}"[:500], str(path), line, name)


def finite(value: object) -> float | None:
    """The value as a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def import_published(store: Store, name: str, paths: list[Path]) -> Imported:
    """Imports files of one format into a store of their own.

    Raises:
        ConfigError: The format is unknown, or the store holds something else.
        DataError: A row is not what the format says.
    """
    if name not in FORMATS:
        raise ConfigError(f"unknown format `{name}`, known: {', '.join(FORMATS)}", "format")
    if "seed" in store.state or store.state.get("imported", name) != name:
        raise ConfigError(
            f"the store holds other answers: {store.path}\nhint: import into a new store"
        )
    counts = Imported()
    rows = list(_rows(name, paths, counts))
    if not rows:
        raise DataError(f"nothing to import from: {', '.join(map(str, paths))}")
    store.state["imported"] = name
    judgings: dict[str, Any] = store.state.setdefault("judgings", {})
    for row in rows:
        for answer in row.answers:
            for rating in answer.ratings:
                judging = judgings.setdefault(rating.mode, {"judges": {}, "last": rating.judge})
                judge = judging["judges"].setdefault(
                    rating.judge, {"setup": f"imported:{name}", "aspects": []}
                )
                if rating.aspect and rating.aspect not in judge["aspects"]:
                    judge["aspects"] = sorted([*judge["aspects"], rating.aspect])
    store.save_state()
    store.add_prompts(row.prompt for row in rows)
    for row in rows:
        _store_row(store, name, row, counts)
    return counts


def _rows(name: str, paths: list[Path], counts: Imported) -> Iterator[Row]:
    from zephyr_data.feedback.published import alpacaeval, gsm8k, ultrafeedback

    readers = {
        "ultrafeedback": ultrafeedback.read,
        "alpacaeval": alpacaeval.read,
        "gsm8k": gsm8k.read,
    }
    return readers[name](paths, counts)


def _store_row(store: Store, name: str, row: Row, counts: Imported) -> None:
    counts.prompts += 1
    for position, answer in enumerate(row.answers):
        counts.answers += 1
        key = request_key(
            kind="imported", format=name, prompt=row.prompt.id, model=answer.model, text=answer.text
        )
        task: dict[str, Any] = {
            "prompt_id": row.prompt.id,
            "model": answer.model,
            "principle": answer.principle,
            "position": position,
            "template": f"imported:{name}",
        }
        record: Record = {
            "key": key,
            "status": "ok",
            "cost": 0.0,
            "kind": "completion",
            "task": task,
            "answer": answer.text,
            "finish_reason": None,
        }
        if key not in store.done:
            store.append(record)
        for rating in answer.ratings:
            counts.ratings += 1
            _store_rating(store, name, row.prompt.id, answer.model, key, rating)


def _store_rating(
    store: Store, name: str, prompt_id: str, model: str, completion: str, rating: Rating
) -> None:
    parts = (rating.mode, rating.aspect, rating.judge, rating.score, rating.reason)
    key = request_key(kind="imported_rating", completion=completion, rating=parts)
    if key in store.done:
        return
    store.append(
        {
            "key": key,
            "status": "ok",
            "cost": 0.0,
            "kind": "rating",
            "task": {
                "prompt_id": prompt_id,
                "mode": rating.mode,
                "aspect": rating.aspect,
                "judge": rating.judge,
                "setup": f"imported:{name}",
                "shown": [completion],
                "models": [model],
            },
            "score": rating.score,
            "reason": rating.reason,
            "critique": rating.critique,
        }
    )
