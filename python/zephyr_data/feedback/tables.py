"""From the journal to two tables, `completions.parquet` and `verdicts.parquet`.

They hold what belongs to the store's present settings, sorted, and nothing that differs between
an interrupted and an undisturbed run (times, attempts, what failed ones cost): the same answers give the same bytes.
They are written when a command ends and read by everything that comes after; `tables.json` says
which state of the journal they were made from, so that a later step notices when they are old.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from typing import TYPE_CHECKING, Any

from zephyr_data.feedback.complete import plan
from zephyr_data.feedback.judge import LABELS, read_judgment
from zephyr_data.feedback.store import Record, Store, write_atomically
from zephyr_data.feedback.verdicts import NOT_APPLICABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pyarrow as pa

    from zephyr_data.feedback.prompts import Prompt

MISSING = "missing_verdict"
ORDERS_DISAGREE = "orders_disagree"


@dataclass(frozen=True, slots=True)
class Completion:
    """A stored answer."""

    key: str
    prompt_id: str
    model: str
    position: int
    principle: str | None
    text: str
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int

    @property
    def usable(self) -> bool:
        """Whether there is an answer to judge: some text that no filter cut."""
        return bool(self.text.strip()) and self.finish_reason != "content_filter"


def completion_of(record: Record, position: int) -> Completion:
    """Builds a completion from its record."""
    task, usage = record["task"], record.get("usage") or {}
    return Completion(
        record["key"],
        task["prompt_id"],
        task["model"],
        position,
        task.get("principle"),
        record["answer"],
        record.get("finish_reason"),
        usage.get("prompt_tokens", 0),
        usage.get("completion_tokens", 0),
    )


def wanted_positions(store: Store, prompts: Iterable[Prompt]) -> dict[str, int] | None:
    """Key -> position of the answers that the settings ask for; None if all count (imports)."""
    if "imported" in store.state:
        return None
    if "pool" not in store.state:
        return {}  # a store of `evaluate`, which keeps its own tables
    return {planned.key: planned.position for planned in plan(store.state, prompts)}


def answered_prompts(store: Store) -> list[tuple[Prompt, list[Completion]]]:
    """Every prompt with its present answers, by position."""
    prompts = store.prompts()
    wanted = wanted_positions(store, prompts)
    found: dict[str, list[Completion]] = defaultdict(list)
    for record in store.records(completions=True):
        position = record["task"]["position"] if wanted is None else wanted.get(record["key"])
        if position is not None:
            found[record["task"]["prompt_id"]].append(completion_of(record, position))
    return [
        (prompt, sorted(found[prompt.id], key=lambda c: (c.position, c.model)))
        for prompt in prompts
    ]


def write_tables(store: Store) -> None:
    """Writes both tables if the journal changed since they were written."""
    mark = _mark(store)
    note = store.path / "tables.json"
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) == mark:
        return
    answered = answered_prompts(store)
    _write(store.path / "completions.parquet", completions_table(answered))
    _write(store.path / "verdicts.parquet", verdicts_table(store, answered))
    write_atomically(note, json.dumps(mark, sort_keys=True) + "\n")


def tables_are_current(store: Store) -> bool:
    """Whether the tables hold all that the journal holds."""
    note = store.path / "tables.json"
    return note.exists() and bool(json.loads(note.read_text(encoding="utf-8")) == _mark(store))


def _mark(store: Store) -> dict[str, Any]:
    state = json.dumps(store.state, sort_keys=True)
    return {
        "segments": {path.name: path.stat().st_size for path in store.segments()},
        "state": sha256(state.encode()).hexdigest(),
    }


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as parquet

    beside = path.with_name(path.name + ".tmp")
    parquet.write_table(table, beside, compression="zstd", row_group_size=65_536)
    beside.replace(path)


def _table(columns: dict[str, list[Any]], schema: pa.Schema) -> pa.Table:
    """A table from lists, by way of polars: pyarrow's own would import pandas, where it is installed."""
    import polars as pl

    kinds = {"string": pl.String, "int32": pl.Int32, "int64": pl.Int64, "double": pl.Float64}
    types = {field.name: kinds[str(field.type)] for field in schema}
    return pl.DataFrame(columns, types).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)


def completions_table(answered: Sequence[tuple[Prompt, Sequence[Completion]]]) -> pa.Table:
    """One row per present answer."""
    import pyarrow as pa

    rows = [c for _, completions in answered for c in completions]
    types = {
        "prompt_id": pa.string(),
        "position": pa.int32(),
        "model": pa.string(),
        "principle": pa.string(),
        "text": pa.string(),
        "finish_reason": pa.string(),
        "prompt_tokens": pa.int64(),
        "completion_tokens": pa.int64(),
        "key": pa.string(),
    }
    return _table({name: [getattr(c, name) for c in rows] for name in types}, pa.schema(types))


def verdicts_table(
    store: Store, answered: Sequence[tuple[Prompt, Sequence[Completion]]]
) -> pa.Table:
    """One row per text (or pair) and verdict, `score` null with a `reason` where there is none."""
    import pyarrow as pa

    rows = verdict_rows(store, answered)
    schema = {
        "mode": pa.string(),
        "prompt_id": pa.string(),
        "aspect": pa.string(),
        "judge": pa.string(),
        "model": pa.string(),
        "opponent": pa.string(),
        "score": pa.float64(),
        "reason": pa.string(),
        "critique": pa.string(),
        "completion": pa.string(),
    }
    return _table({name: [row.get(name) for row in rows] for name in schema}, pa.schema(schema))


def verdict_rows(
    store: Store, answered: Sequence[tuple[Prompt, Sequence[Completion]]]
) -> list[dict[str, Any]]:
    """All verdicts of the present answers by the present judges, sorted."""
    usable = {
        prompt.id: {c.key for c in completions if c.usable} for prompt, completions in answered
    }
    setups = {
        (mode, name): judge["setup"]
        for mode, judging in store.state.get("judgings", {}).items()
        for name, judge in judging["judges"].items()
    }
    first: dict[str, Record] = {}
    repairs: dict[str, Record] = {}
    rows: list[dict[str, Any]] = []
    for record in store.records(completions=False):
        task = record["task"]
        if setups.get((task["mode"], task["judge"])) != task.get("setup", ""):
            continue
        if not _present(record, usable.get(task["prompt_id"], set())):
            continue
        if record["kind"] == "rating":
            rows.append(_row(task, 0, record["score"], record["reason"], record.get("critique")))
        elif "repairs" in task:
            repairs[task["repairs"]] = record
        else:
            first[record["key"]] = record
    rows += _judgment_rows(first, repairs)
    rows += missing_rows(store.state, answered, rows)
    return sorted(
        rows,
        key=lambda r: (
            r["mode"],
            r["prompt_id"],
            r["aspect"] or "",
            r["judge"],
            r["model"],
            r["opponent"] or "",
            r["completion"],
        ),
    )


def missing_rows(
    state: dict[str, Any],
    answered: Sequence[tuple[Prompt, Sequence[Completion]]],
    rows: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    """A null for every verdict that should be there and is not: its request failed, or never left.

    Without it a mean over three aspects, or a win rate over two opponents, would be compared with
    its neighbours' as if it were whole.
    """
    there: set[tuple[str | None, ...]] = set()
    for row in rows:
        texts = sorted([row["model"], row["opponent"] or ""])
        there.add((row["mode"], row["judge"], row["prompt_id"], row["aspect"], *texts))
    missing: list[dict[str, Any]] = []
    for mode, judging in state.get("judgings", {}).items():
        for judge, details in judging["judges"].items():
            for prompt, completions in answered:
                if mode == "reference" and prompt.reference is None:
                    continue
                usable = sorted((c for c in completions if c.usable), key=lambda c: c.model)
                for aspect in details["aspects"] if mode == "aspects" else (None,):
                    groups = combinations(usable, 2) if mode == "pairwise" else zip(usable)
                    for group in groups:
                        models = [c.model for c in group]
                        key = (mode, judge, prompt.id, aspect, *sorted([*models, ""][:2]))
                        if key in there:
                            continue
                        task = {
                            "mode": mode,
                            "prompt_id": prompt.id,
                            "aspect": aspect,
                            "judge": judge,
                            "models": models,
                            "shown": [c.key for c in group],
                        }
                        row = _row(task, 0, None, MISSING, None)
                        row["opponent"] = models[1] if mode == "pairwise" else None
                        missing.append(row)
    return missing


def _present(record: Record, usable: set[str]) -> bool:
    """Whether a verdict is about present answers; `aspects` grades them against each other."""
    shown = set(record["task"]["shown"])
    together = record["kind"] == "judgment" and record["task"]["mode"] == "aspects"
    return shown == usable if together else shown <= usable


def _judgment_rows(first: dict[str, Record], repairs: dict[str, Record]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    pairs: dict[tuple[str, ...], list[tuple[Record, float | None, str | None]]] = defaultdict(list)
    for key, record in first.items():
        reading = read_judgment(record)
        if reading.problem is not None and key in repairs:
            reading = read_judgment(repairs[key])
        task = record["task"]
        if task["mode"] == "pairwise":
            score = {"A": 1.0, "B": 0.0, "tie": 0.5}.get(str(reading.values.get("verdict")))
            pair = (task["judge"], task["prompt_id"], *sorted(task["shown"]))
            pairs[pair].append((record, score, reading.problem))
            continue
        alone = task["mode"] != "aspects"
        critique = _critique(record, task["tag"]) if alone else None
        for place in range(len(task["shown"])):
            value = reading.values.get(LABELS[task["mode"]] if alone else f"text {place + 1}")
            reason: str | None = reading.problem
            if reason is None and value is None:
                reason = NOT_APPLICABLE
            rows.append(_row(task, place, value, reason, critique))
    return rows + [_pair_row(judged) for judged in pairs.values()]


def _pair_row(judged: list[tuple[Record, float | None, str | None]]) -> dict[str, Any]:
    """Joins both orders of a pair: only agreement decides, anything else is a tie or a null."""
    judged.sort(key=lambda item: item[0]["task"]["models"])
    task = judged[0][0]["task"]
    row = _row(task, 0, None, None, None)
    row["opponent"] = task["models"][1]
    if len(judged) < 2:
        row["reason"] = MISSING
        return row
    forward, backward = judged[0][1], judged[1][1]
    if forward is None or backward is None:
        row["reason"] = judged[0][2] or judged[1][2]
        return row
    row["score"] = forward if forward == 1.0 - backward else 0.5
    if forward != 1.0 - backward:
        row["reason"] = ORDERS_DISAGREE
    return row


def _row(
    task: dict[str, Any],
    place: int,
    score: Any,  # noqa: ANN401 # a number, or None
    reason: str | None,
    critique: str | None,
) -> dict[str, Any]:
    return {
        "mode": task["mode"],
        "prompt_id": task["prompt_id"],
        "aspect": task["aspect"],
        "judge": task["judge"],
        "model": task["models"][place],
        "opponent": None,
        "score": score,
        "reason": reason,
        "critique": critique,
        "completion": task["shown"][place],
    }


def _critique(record: Record, tag: str) -> str | None:
    lines = [line for line in record["answer"].splitlines() if tag not in line]
    text = "\n".join(lines).strip()
    return text or None
