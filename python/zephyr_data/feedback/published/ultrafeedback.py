"""UltraFeedback rows (JSONL, JSON or Parquet), with its known faults repaired and counted.

* An overall score of 10 may be a 1: the first release multiplied scores of 1 by ten. With a mean
  aspect of 2 or less it becomes 1, above 4 it stays, between the two nobody can tell: null.
* Scores are text ("7", "7.5", "8/10" means 8); `N/A` ratings are null and take no part in a mean.
* TruthfulQA rows, and rows of other sources with the same question, would contaminate that
  benchmark: left out.
* Rows that were published with fewer than four answers stay as they are.
"""

from __future__ import annotations

import math
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from zephyr_data.feedback.options import ASPECTS
from zephyr_data.feedback.prompts import Prompt, sendable
from zephyr_data.feedback.published import Answer, Imported, Rating, Row, refuse
from zephyr_data.feedback.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

JUDGE = "ultrafeedback_gpt4"
ROW_FIELDS = {
    "source",
    "instruction",
    "models",
    "completions",
    "correct_answers",
    "incorrect_answers",
}
COMPLETION_FIELDS = {
    "model",
    "response",
    "principle",
    "custom_system_prompt",
    "annotations",
    "critique",
    "overall_score",
    "fine-grained_score",
}
_SCORE = re.compile(r"(\d+(?:\.\d+)?)(?:/10)?")
TRUTHFUL_QA = "truthful_qa"


def question_key(text: str) -> str:
    """A question without case, punctuation and spaces: copies differ in those."""
    return re.sub(r"\W+", "", text.lower())


def read(paths: list[Path], counts: Imported) -> Iterator[Row]:
    """Yields one row per instruction; the files are read twice, first for TruthfulQA's questions."""
    for _, _, row in read_placed([(path, str(path)) for path in paths], counts, strict=True):
        yield row


def read_placed(
    files: Sequence[tuple[Path, str]], counts: Imported, *, strict: bool
) -> Iterator[tuple[int, int, Row]]:
    """As `read`, of files with the names that messages call them; before each row its file's and its own number.

    Fields that the published rows do not have are refused where `strict`, else left out and counted by row.
    """
    truthful = {
        question_key(str(row.get("instruction")))
        for path, name in files
        for _, row in read_rows(path, name)
        if row.get("source") == TRUTHFUL_QA
    }
    seen: set[str] = set()
    for at, (file, path) in enumerate(files):
        for number, row in read_rows(file, path):
            _check(row, path, number)
            _check_fields(row, path, number, counts, strict=strict)
            if row["source"] == TRUTHFUL_QA:
                counts.left_out["truthful_qa_rows"] += 1
                continue
            if question_key(row["instruction"]) in truthful:
                counts.left_out["truthful_qa_copies"] += 1
                continue
            identifier = sha256(row["instruction"].encode()).hexdigest()
            if identifier in seen:
                counts.left_out["repeated_instructions"] += 1
                continue
            seen.add(identifier)
            answers = tuple(_answer(c, path, number, counts) for c in row["completions"])
            prompt = Prompt(
                identifier, (("user", row["instruction"]),), row["source"], _reference(row)
            )
            yield at, number, Row(prompt, answers)


def _check_fields(
    row: dict[str, Any], path: str, number: int, counts: Imported, *, strict: bool
) -> None:
    of_row = sorted(set(row) - ROW_FIELDS)
    of_completions = sorted(
        {name for one in row["completions"] for name in one} - COMPLETION_FIELDS
    )
    if not strict:
        if of_row or of_completions:
            counts.left_out["other_fields_of_rows"] += 1
    elif of_row:
        raise refuse("unknown field in an UltraFeedback row", of_row[0], path, number, of_row[0])
    elif of_completions:
        name = of_completions[0]
        raise refuse("unknown field in a completion", name, path, number, name)


def _check(row: dict[str, Any], path: str, number: int) -> None:
    for name, kind in (("source", str), ("instruction", str), ("completions", list)):
        if not isinstance(row.get(name), kind):
            raise refuse(f"no usable `{name}`", row.get(name), path, number, name)
    if not all(isinstance(c, dict) for c in row["completions"]):
        raise refuse("no usable `completions`", row["completions"], path, number, "completions")
    for name in ("source", "instruction"):
        if not sendable(row[name]):
            raise refuse("half of a surrogate pair", row[name], path, number, name)
    known = row.get("correct_answers")
    if known and not (isinstance(known, list) and all(map(_is_text, known))):
        raise refuse("no usable `correct_answers`", known, path, number, "correct_answers")
    models = [c.get("model") for c in row["completions"]]
    if not all(map(sendable, models)):
        raise refuse("no usable `model`", models, path, number, "completions")
    if len(set(models)) < len(models):
        raise refuse("a model comes twice", models, path, number, "completions")


def _is_text(value: object) -> bool:
    return value is None or sendable(value)


def _reference(row: dict[str, Any]) -> str | None:
    known = [a for a in row.get("correct_answers") or [] if a and a != "None"]
    return known[0] if known else None


def _answer(completion: dict[str, Any], path: str, number: int, counts: Imported) -> Answer:
    text = completion.get("response")
    if not sendable(text):
        raise refuse("no usable `response`", text, path, number, "response")
    for name in ("principle", "critique"):
        if not _is_text(completion.get(name)):
            raise refuse(f"no usable `{name}`", completion[name], path, number, name)
    annotations = completion.get("annotations")
    if annotations and not isinstance(annotations, dict):
        raise refuse("no usable `annotations`", annotations, path, number, "annotations")
    ratings, aspects = _aspects(annotations or {}, path, number, counts)
    ratings.append(_overall(completion, aspects, path, number, counts))
    return Answer(str(completion["model"]), str(text), tuple(ratings), completion.get("principle"))


def _aspects(
    annotations: dict[str, Any], path: str, number: int, counts: Imported
) -> tuple[list[Rating], list[float]]:
    ratings: list[Rating] = []
    values: list[float] = []
    for aspect, annotation in sorted(annotations.items()):
        if aspect not in ASPECTS:
            raise refuse("unknown aspect", aspect, path, number, "annotations")
        # the published files hold a dictionary, the annotation script's own output a list of one
        entry = annotation[0] if isinstance(annotation, list) and annotation else annotation
        if not entry:
            counts.left_out["missing_aspects"] += 1
            ratings.append(Rating("aspects", JUDGE, None, "missing_verdict", aspect))
            continue
        if not isinstance(entry, dict):
            raise refuse(f"no usable annotation of `{aspect}`", entry, path, number, "annotations")
        rating = str(entry.get("Rating"))
        if rating == "N/A":
            counts.left_out["not_applicable_ratings"] += 1
            ratings.append(Rating("aspects", JUDGE, None, "not_applicable", aspect))
        elif rating in {"1", "2", "3", "4", "5"}:
            values.append(float(rating))
            critique = entry.get("Rationale For Rating") or entry.get("Rationale")
            if not _is_text(critique):
                raise refuse(
                    f"no usable rationale of `{aspect}`", critique, path, number, "Rationale"
                )
            ratings.append(Rating("aspects", JUDGE, float(rating), None, aspect, critique))
        else:
            raise refuse(f"unknown rating of `{aspect}`", rating, path, number, "Rating")
    return ratings, values


def _overall(
    completion: dict[str, Any], aspects: list[float], path: str, number: int, counts: Imported
) -> Rating:
    raw, critique = completion.get("overall_score"), completion.get("critique")
    if raw is None:
        counts.left_out["missing_overall_scores"] += 1
        return Rating("overall", JUDGE, None, "missing_verdict", None, critique)
    match = _SCORE.fullmatch(str(raw).strip())
    score = float(match.group(1)) if match else math.nan
    if not 1 <= score <= 10:
        raise refuse("unknown overall score", raw, path, number, "overall_score")
    if score == 10:
        repaired = ten_or_one(aspects)
        if repaired is None:
            counts.left_out["tens_that_may_be_ones"] += 1
            return Rating("overall", JUDGE, None, "ten_or_one", None, critique)
        if repaired == 1:
            counts.repaired["tens_that_were_ones"] += 1
        score = repaired
    return Rating("overall", JUDGE, score, None, None, critique)


def ten_or_one(aspects: list[float]) -> float | None:
    """What an overall score of 10 stands for, by the mean of the aspects; None if unclear.

    >>> ten_or_one([1, 2, 1, 2]), ten_or_one([5, 4, 5, 5]), ten_or_one([3, 3, 3, 3])
    (1.0, 10.0, None)
    """
    if not aspects:
        return None
    mean = math.fsum(aspects) / len(aspects)
    if mean <= 2:
        return 1.0
    return 10.0 if mean > 4 else None
