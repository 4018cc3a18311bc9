"""What a store holds: answers wanted and there, verdicts and their gaps, cost.

prompts 400, answers 1598 of 1600, cost 0.4131, failed requests 2
overall by gpt-4: 1590 scored, truncated 8
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import polars as pl

from zephyr_data.feedback.tables import answered_prompts, verdict_rows, wanted_positions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zephyr_data.feedback.store import Store


def describe(store: Store) -> dict[str, Any]:
    """Everything `feedback status` tells."""
    answered = answered_prompts(store)
    completions = [c for _, answers in answered for c in answers]
    wanted = wanted_positions(store, [prompt for prompt, _ in answered])
    return {
        "prompts": len(answered),
        "answers": len(completions),
        "answers_wanted": len(completions) if wanted is None else len(wanted),
        "answers_unusable": sum(not c.usable for c in completions),
        "finish_reasons": dict(sorted(Counter(str(c.finish_reason) for c in completions).items())),
        "models": dict(sorted(Counter(c.model for c in completions).items())),
        "prompt_tokens": sum(c.prompt_tokens for c in completions),
        "completion_tokens": sum(c.completion_tokens for c in completions),
        "stored_requests": len(store.done),
        "failed_requests": store.failed_lines,
        "cost": store.cost,
        "segments": len(store.segments()),
        "verdicts": _verdicts(verdict_rows(store, answered)),
    }


def _verdicts(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for row in rows:
        counts = found.setdefault(f"{row['mode']} by {row['judge']}", Counter())
        counts["scored" if row["score"] is not None else row["reason"]] += 1
        if row["score"] is not None and row["reason"] is not None:
            counts[row["reason"]] += 1
    return {name: dict(sorted(counts.items())) for name, counts in sorted(found.items())}


def status_lines(found: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    lines = [
        (
            f"prompts {found['prompts']}, answers {found['answers']} of {found['answers_wanted']}, "
            f"cost {found['cost']:.4f}, failed requests {found['failed_requests']}"
        ),
        "answers by model: " + _counts(found["models"]),
        "finish reasons: " + _counts(found["finish_reasons"]),
    ]
    if found["answers_unusable"]:
        lines.append(f"answers without usable text: {found['answers_unusable']}")
    return lines + [f"{name}: {_counts(counts)}" for name, counts in found["verdicts"].items()]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def verdict_counts(store: Store, mode: str) -> list[str]:
    """One line per judge of a mode, from the tables just written."""
    verdicts = pl.read_parquet(store.path / "verdicts.parquet").filter(pl.col("mode") == mode)
    return [f"{name}: {_counts(counts)}" for name, counts in _verdicts(verdicts.to_dicts()).items()]


def agreement(store: Store, mode: str) -> str | None:
    """How often a rule agrees with labels that were imported; None where there are none."""
    if mode != "rule":
        return None
    verdicts = pl.read_parquet(store.path / "verdicts.parquet").drop_nulls("score")
    name = store.state["judgings"]["rule"]["last"]
    rule = verdicts.filter((pl.col("mode") == "rule") & (pl.col("judge") == name))
    labels = verdicts.filter(pl.col("mode") == "imported")
    both = rule.join(labels, on="completion", suffix="_label")
    if both.is_empty():
        return None
    agreed = int((both["score"] == both["score_label"]).sum())
    return f"agrees with {agreed} of {both.height} imported labels"
