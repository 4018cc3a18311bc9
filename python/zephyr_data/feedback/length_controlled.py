"""Length-controlled win rates: what the judge would prefer if both texts were equally long.

AlpacaEval 2 models the preference as sigmoid(a + b * d_i + c * tanh(length difference / its
deviation)), with d_i the difficulty of prompt i, and reports 100 * mean(sigmoid(a + b * d_i)).

For models with published weights the rate follows from `a`, `b` and the difficulties. For others the
three weights are fitted here, by logistic regression with a slight ridge; AlpacaEval fits with a
penalty towards "gamed" answers that are not published, so a fitted rate is marked as such: on 27
models with a published rate it is 0.5 points off in the median and 2.4 at worst.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zephyr_data.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from zephyr_data.feedback.winrate import Judged

RIDGE = 1.0
DIFFICULTY_FILE = "instruction_difficulty.json"
WEIGHTS_FILE = "glm_weights.csv"


@dataclass(frozen=True, slots=True)
class Weights:
    """One model's weights."""

    intercept: float
    difficulty: float


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) without overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))


def predict(weights: Weights, difficulties: Sequence[float]) -> float:
    """The win rate in percent at no length difference."""
    rates = [sigmoid(weights.intercept + weights.difficulty * d) for d in difficulties]
    return 100 * math.fsum(rates) / len(rates)


def read_difficulties(path: Path) -> list[float]:
    """A JSON array of numbers, one per prompt in the set's order; a folder holds it by its name."""
    file = path / DIFFICULTY_FILE if path.is_dir() else path
    values = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(values, list) or not all(
        isinstance(v, (int, float)) and math.isfinite(v) for v in values
    ):
        raise DataError(f"difficulties must be a JSON array of finite numbers: {file}", str(file))
    return [float(v) for v in values]


def read_weights(path: Path) -> dict[str, Weights]:
    """Reads AlpacaEval's CSV of weights that stands beside the difficulties, if it does."""
    file = (path if path.is_dir() else path.parent) / WEIGHTS_FILE
    if not file.exists():
        return {}
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    try:
        return {
            row[""]: Weights(
                float(row["not_gamed_baseline.astype(float)"]),
                float(row["instruction_difficulty"]),
            )
            for row in rows
        }
    except (KeyError, ValueError) as error:
        raise DataError(f"no AlpacaEval weights in: {file} ({error})", str(file)) from None


def fit(judged: Judged, difficulties: Sequence[float]) -> Weights | None:
    """Fits the three weights, or None where lengths or preferences are missing."""
    rows = len(judged.preferences)
    if not rows or len(judged.lengths) != rows or len(judged.baseline_lengths) != rows:
        return None
    gaps = [a - b for a, b in zip(judged.lengths, judged.baseline_lengths, strict=True)]
    mean = math.fsum(gaps) / rows
    deviation = math.sqrt(math.fsum((g - mean) ** 2 for g in gaps) / max(rows - 1, 1))
    samples = [
        ((1.0, difficulties[place], math.tanh(gap / deviation) if deviation else 0.0), p)
        for place, gap, p in zip(judged.places, gaps, judged.preferences, strict=True)
        if p is not None
    ]
    if not samples:
        return None
    intercept, difficulty, _ = newton(samples)
    return Weights(intercept, difficulty)


def newton(
    samples: Sequence[tuple[tuple[float, float, float], float]], ridge: float = RIDGE
) -> list[float]:
    """Logistic regression on three features by Newton's method; targets may be fractions."""
    weights = [0.0, 0.0, 0.0]
    for _ in range(100):
        gradient = [-ridge * w for w in weights]
        hessian = [[ridge if i == j else 0.0 for j in range(3)] for i in range(3)]
        for features, target in samples:
            p = sigmoid(sum(w * x for w, x in zip(weights, features, strict=True)))
            for i in range(3):
                gradient[i] += (target - p) * features[i]
                for j in range(3):
                    hessian[i][j] += p * (1 - p) * features[i] * features[j]
        step = solve(hessian, gradient)
        longest = max(abs(s) for s in step)
        # far from the optimum a full step can overshoot
        scale = min(1.0, 2.0 / longest) if longest else 1.0
        weights = [w + scale * s for w, s in zip(weights, step, strict=True)]
        if longest < 1e-10:
            break
    return weights


def solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Solves a small linear system by elimination with pivoting."""
    n = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(n):
        pivot = max(range(column, n), key=lambda r: abs(rows[r][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for r in range(column + 1, n):
            factor = rows[r][column] / rows[column][column]
            rows[r] = [x - factor * y for x, y in zip(rows[r], rows[column], strict=True)]
    solution = [0.0] * n
    for r in range(n - 1, -1, -1):
        rest = sum(rows[r][k] * solution[k] for k in range(r + 1, n))
        solution[r] = (rows[r][n] - rest) / rows[r][r]
    return solution
