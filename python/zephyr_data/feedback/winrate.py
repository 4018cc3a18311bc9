"""Win rates against a baseline, with standard errors, as AlpacaEval counts them.

A preference p is the probability that the model's text beats the baseline's: 0, 1, 0.5 for a draw
or anything between. win rate = 100 * mean(p), standard error = 100 * sd(p) / sqrt(n) with ddof 1;
rows without a preference do not count.

Read are: feedback tables (`prompt_id, instruction, completions<model, text, score>`), AlpacaEval's
`annotations.json` (preference 1 to 2, 2 = the model wins, 0 = an old draw), AlpacaEval leaderboards
(CSV, numbers as they stand) and a store's `verdicts.parquet`.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zephyr_data.errors import DataError
from zephyr_data.feedback.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


@dataclass(slots=True)
class Judged:
    """One model's preferences, in the order of the prompts."""

    preferences: list[float | None] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Position of each row's prompt in the file, for what is given per prompt."""
    lengths: list[int] = field(default_factory=list)
    baseline_lengths: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rate:
    """A line of the leaderboard."""

    model: str
    win_rate: float
    standard_error: float | None
    n: int
    wins: int
    losses: int
    draws: int
    discrete_win_rate: float
    """Every preference counted as a whole win, loss or draw."""
    average_length: float | None = None


def win_rate(model: str, judged: Judged) -> Rate:
    """Counts one model.

    >>> win_rate("a", Judged([1.0, 0.5, None, 0.0])).win_rate
    50.0
    """
    values = [p for p in judged.preferences if p is not None]
    n = len(values)
    if not n:
        return Rate(model, math.nan, None, 0, 0, 0, 0, math.nan)
    mean = math.fsum(values) / n
    error = None
    if n > 1:
        variance = math.fsum((p - mean) ** 2 for p in values) / (n - 1)
        error = 100 * math.sqrt(variance / n)
    wins, draws = sum(p > 0.5 for p in values), sum(p == 0.5 for p in values)
    # a preference of exactly one half is a draw, all others round to a win or a loss
    discrete = 100 * (wins + 0.5 * draws) / n
    length = sum(judged.lengths) / len(judged.lengths) if judged.lengths else None
    return Rate(model, 100 * mean, error, n, wins, n - wins - draws, draws, discrete, length)


def read_judged(path: Path) -> dict[str, Judged]:
    """Reads the preferences of every model in a file.

    Raises:
        DataError: The file has another form, or a preference is out of range.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    models: dict[str, Judged] = defaultdict(Judged)
    positions: dict[str, int] = {}
    for number, row in read_rows(path):
        if "preference" not in row or "generator_2" not in row:
            raise DataError(
                f"no AlpacaEval annotation at {path}:{number}, found: {', '.join(sorted(row))}\n"
                "hint: a row needs `generator_2` and `preference`",
                str(path),
                number,
                "preference",
            )
        judged = models[str(row["generator_2"])]
        place = positions.setdefault(str(row.get("instruction")), len(positions))
        _add(judged, place, from_annotation(row["preference"], path, number), row)
    return dict(models)


def from_annotation(preference: object, path: Path, number: int) -> float | None:
    """1 -> 0, 2 -> 1, between as it stands; 0 was a draw once; null stays null."""
    if preference is None:
        return None
    if isinstance(preference, (int, float)) and not isinstance(preference, bool):
        if preference == 0:
            return 0.5
        if 1 <= preference <= 2:
            return float(preference) - 1.0
    raise DataError(
        f"`preference` at {path}:{number} is not between 1 and 2: {preference!r}",
        str(path),
        number,
        "preference",
    )


def _add(judged: Judged, place: int, preference: float | None, row: Mapping[str, Any]) -> None:
    judged.preferences.append(preference)
    judged.places.append(place)
    text, baseline = row.get("output_2"), row.get("output_1")
    if isinstance(text, str):
        judged.lengths.append(len(text))
        judged.texts.append(text)
    if isinstance(baseline, str):
        judged.baseline_lengths.append(len(baseline))


def _read_parquet(path: Path) -> dict[str, Judged]:
    import pyarrow.parquet as parquet

    names = set(parquet.read_schema(path).names)
    if {"instruction", "completions"} <= names:
        return _read_feedback_table(path)
    if {"mode", "model", "opponent", "score"} <= names:
        return _read_verdicts(path)
    raise DataError(
        f"`{path}` is neither a feedback table nor a store's verdicts, columns: "
        f"{', '.join(sorted(names))}",
        str(path),
    )


def _read_feedback_table(path: Path) -> dict[str, Judged]:
    models: dict[str, Judged] = defaultdict(Judged)
    for number, row in read_rows(path):
        baseline = (row.get("baseline") or {}).get("text")
        for completion in row["completions"]:
            if not {"model", "text", "score"} <= set(completion):
                raise DataError(
                    f"a completion needs `model`, `text` and `score` at {path}:{number}, found: "
                    f"{', '.join(sorted(completion))}",
                    str(path),
                    number,
                    "completions",
                )
            score = completion["score"]
            if score is not None and not 0 <= score <= 1:
                raise DataError(
                    f"`score` at {path}:{number} is not between 0 and 1: {score!r}",
                    str(path),
                    number,
                    "completions.score",
                )
            texts = {"output_1": baseline, "output_2": completion["text"]}
            _add(models[completion["model"]], number - 1, score, texts)
    return dict(models)


def _read_verdicts(path: Path) -> dict[str, Judged]:
    """Pairwise verdicts of a store, each model against all others."""
    models: dict[str, Judged] = defaultdict(Judged)
    for _, row in read_rows(path):
        if row["mode"] == "pairwise":
            score = row["score"]
            other = None if score is None else 1.0 - score
            _add(models[row["model"]], 0, score, {})
            _add(models[row["opponent"]], 0, other, {})
    return dict(models)


def read_leaderboard(path: Path) -> dict[str, tuple[Rate, float | None]]:
    """Rows of an AlpacaEval leaderboard CSV, with the published length-controlled rate."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    needed = {"", "win_rate", "standard_error", "n_total", "n_wins", "n_wins_base", "n_draws"}
    if not rows or not needed <= set(rows[0]):
        raise DataError(f"no AlpacaEval leaderboard in: {path}", str(path))
    board: dict[str, tuple[Rate, float | None]] = {}
    for row in rows:
        controlled = row.get("length_controlled_winrate") or None
        rate = Rate(
            row[""],
            float(row["win_rate"]),
            float(row["standard_error"]),
            int(float(row["n_total"])),
            int(float(row["n_wins"])),
            int(float(row["n_wins_base"])),
            int(float(row["n_draws"])),
            float(row.get("discrete_win_rate") or "nan"),
            float(row["avg_length"]) if row.get("avg_length") else None,
        )
        board[row[""]] = (rate, float(controlled) if controlled else None)
    return board


def copies(models: Mapping[str, Judged]) -> list[tuple[str, str]]:
    """Pairs of models whose texts and preferences are the same throughout: one is a copy."""
    seen: dict[tuple[Any, ...], str] = {}
    found: list[tuple[str, str]] = []
    for name in sorted(models):
        judged = models[name]
        if len(judged.texts) < 2:
            continue
        key = (tuple(judged.texts), tuple(judged.preferences))
        if key in seen:
            found.append((seen[key], name))
        else:
            seen[key] = name
    return found


def constant_texts(models: Mapping[str, Judged]) -> list[str]:
    """Models that gave one and the same text to every prompt."""
    return sorted(name for name, j in models.items() if len(j.texts) > 1 and len(set(j.texts)) == 1)


def leaderboard(rates: Iterable[Rate]) -> list[Rate]:
    """Best first, equal ones by name; models without any preference last."""
    return sorted(rates, key=lambda r: (r.n == 0, -r.win_rate if r.n else 0.0, r.model))


def line(rate: Rate, controlled: float | None = None, *, width: int) -> str:
    """`name  win rate  standard error  n`, untruncated whatever the terminal's width."""
    error = "-" if rate.standard_error is None else f"{rate.standard_error:.4f}"
    text = f"{rate.model:<{width}}  {rate.win_rate:8.4f}  {error:>7}  {rate.n:5d}"
    return text if controlled is None else f"{text}  {controlled:8.4f}"


def length_correlation(judged: Judged) -> float | None:
    """Correlation of the preference with the length difference to the baseline."""
    if len(judged.lengths) != len(judged.preferences) or not judged.baseline_lengths:
        return None
    rows = zip(judged.lengths, judged.baseline_lengths, judged.preferences, strict=True)
    points = [(a - b, p) for a, b, p in rows if p is not None]
    return correlation([float(d) for d, _ in points], [p for _, p in points])


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Pearson's, or None where one side does not vary."""
    n = len(xs)
    if n < 2:
        return None
    mean_x, mean_y = math.fsum(xs) / n, math.fsum(ys) / n
    xx = math.fsum((x - mean_x) ** 2 for x in xs)
    yy = math.fsum((y - mean_y) ** 2 for y in ys)
    if xx == 0 or yy == 0:
        return None
    xy = math.fsum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return xy / math.sqrt(xx * yy)
