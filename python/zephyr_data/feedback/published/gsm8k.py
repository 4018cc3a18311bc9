"""GSM8K model solutions: `example_model_solutions.jsonl`, or a feedback table of them (Parquet).

    {"question": ..., "ground_truth": ..., "6b_finetuning": {"solution": ..., "is_correct": true}, ...}

The labels become ratings of mode `imported` (1 right, 0 wrong), to measure a rule judge against.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from zephyr_data.feedback.prompts import Prompt
from zephyr_data.feedback.published import Answer, Imported, Rating, Row, refuse
from zephyr_data.feedback.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JUDGE = "gsm8k_label"


def read(paths: list[Path], counts: Imported) -> Iterator[Row]:
    """Yields one row per question."""
    for path in paths:
        for number, row in read_rows(path):
            if "completions" in row:
                question, reference, solutions = _table_row(row, path, number)
            else:
                question, reference, solutions = _published_row(row, path, number)
            identifier = sha256(question.encode()).hexdigest()
            if len({text for _, text, _ in solutions}) < len(solutions):
                counts.repaired["prompts_with_equal_answers_kept"] += 1
            answers = tuple(
                Answer(model, text, (Rating("imported", JUDGE, float(label)),))
                for model, text, label in solutions
            )
            yield Row(Prompt(identifier, (("user", question),), "gsm8k", reference), answers)


Solutions = list[tuple[str, str, bool]]


def _published_row(row: dict[str, Any], path: Path, number: int) -> tuple[str, str, Solutions]:
    question, reference = row.get("question"), row.get("ground_truth")
    if not isinstance(question, str) or not isinstance(reference, str):
        raise refuse("no `question` and `ground_truth`", sorted(row), path, number, "question")
    solutions: Solutions = []
    for model in sorted(set(row) - {"question", "ground_truth"}):
        value = row[model]
        if not isinstance(value, dict) or set(value) != {"solution", "is_correct"}:
            raise refuse(f"no solution under `{model}`", value, path, number, model)
        solutions.append(_solution(model, value["solution"], value["is_correct"], path, number))
    return question, reference, solutions


def _table_row(row: dict[str, Any], path: Path, number: int) -> tuple[str, str, Solutions]:
    question, reference = row.get("instruction"), row.get("reference")
    if not isinstance(question, str) or not isinstance(reference, str):
        raise refuse("no `instruction` and `reference`", sorted(row), path, number, "reference")
    solutions = [
        _solution(c.get("model"), c.get("text"), c.get("label"), path, number)
        for c in row["completions"]
    ]
    return question, reference, solutions


def _solution(
    model: object, text: object, label: object, path: Path, number: int
) -> tuple[str, str, bool]:
    if not isinstance(model, str) or not isinstance(text, str) or not isinstance(label, bool):
        raise refuse("a solution needs a text and a label", (model, label), path, number, "label")
    return model, text, label
