"""AlpacaEval judgments: `annotations.json` files, one per model, or a feedback table (Parquet).

Several files are joined by instruction. A model comes once per instruction; the baseline's text
must be the same in all files for a prompt, because preferences against different texts cannot be
ranked: files with another baseline are refused. Old draws (0) become 0.5, nulls stay and count.
"""

from __future__ import annotations

from collections import defaultdict
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from zephyr_data.feedback.prompts import Prompt
from zephyr_data.feedback.published import Answer, Imported, Rating, Row, finite, refuse
from zephyr_data.feedback.rows import read_rows
from zephyr_data.feedback.winrate import from_annotation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMPLETION_FIELDS = {"model", "text", "score", "annotator"}
FIELDS = {"instruction", "output_1", "generator_1", "output_2", "generator_2", "annotator"}


def read(paths: list[Path], counts: Imported) -> Iterator[Row]:
    """Yields one row per instruction, answers by model name."""
    tables = [path for path in paths if path.suffix == ".parquet"]
    for path in tables:
        for number, row in read_rows(path):
            yield _table_row(row, path, number, counts)
    yield from _annotations([path for path in paths if path not in tables], counts)


def _table_row(row: dict[str, Any], path: Path, number: int, counts: Imported) -> Row:
    if not isinstance(row.get("instruction"), str) or not isinstance(row.get("completions"), list):
        raise refuse("no `instruction` and `completions`", sorted(row), path, number, "instruction")
    answers: dict[str, Answer] = {}
    for completion in row["completions"]:
        if not set(completion) >= COMPLETION_FIELDS:
            raise refuse("no usable completion", sorted(completion), path, number, "completions")
        model, score = completion["model"], completion["score"]
        if model in answers:
            raise refuse(f"model `{model}` comes twice", model, path, number, "completions.model")
        if score is not None and ((value := finite(score)) is None or not 0 <= value <= 1):
            raise refuse("a score is not between 0 and 1", score, path, number, "completions.score")
        answers[model] = _answer(model, completion["text"], score, completion["annotator"], counts)
    return _row(row["instruction"], row.get("dataset"), answers)


def _annotations(paths: list[Path], counts: Imported) -> Iterator[Row]:
    answers: dict[str, dict[str, Answer]] = defaultdict(dict)
    sources: dict[str, str | None] = {}
    baselines: dict[str, str] = {}
    for path in paths:
        for number, row in read_rows(path):
            missing = FIELDS - set(row)
            if missing or "preference" not in row:
                raise refuse("no AlpacaEval annotation", sorted(row), path, number)
            instruction, model = row["instruction"], row["generator_2"]
            if baselines.setdefault(instruction, row["output_1"]) != row["output_1"]:
                raise refuse(
                    "another baseline text than in earlier rows",
                    row["output_1"],
                    path,
                    number,
                    "output_1",
                )
            if model in answers[instruction]:
                raise refuse(f"model `{model}` was judged twice", instruction, path, number)
            if row["preference"] == 0:
                counts.repaired["old_draws"] += 1
            score = from_annotation(row["preference"], path, number)
            answers[instruction][model] = _answer(
                model, row["output_2"], score, row["annotator"], counts
            )
            sources[instruction] = row.get("dataset")
    for instruction, by_model in answers.items():
        yield _row(instruction, sources[instruction], by_model)


def _answer(model: str, text: str, score: float | None, judge: str, counts: Imported) -> Answer:
    if score is None:
        counts.left_out["null_preferences"] += 1
    reason = "null_preference" if score is None else None
    return Answer(model, text, (Rating("imported", judge, score, reason),))


def _row(instruction: str, source: str | None, answers: dict[str, Answer]) -> Row:
    identifier = sha256(instruction.encode()).hexdigest()
    ordered = tuple(answers[model] for model in sorted(answers))
    return Row(Prompt(identifier, (("user", instruction),), source), ordered)
