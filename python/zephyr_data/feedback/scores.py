"""One number per answer, from the verdicts.

| score | from |
| --- | --- |
| `overall` | the grade of mode overall, reference, rule or an import |
| `mean_aspects` | the mean of the aspects that apply (the paper's choice) |
| `winrate` | the share of pairwise wins within the prompt, a tie is half |
| `bradley_terry` | the strength that explains the pairwise results of the prompt |

An answer with an unreadable verdict gets no score: a mean over fewer aspects, or a win rate over
fewer opponents, could not be compared with its neighbours'.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl

from zephyr_data.errors import ConfigError
from zephyr_data.feedback.verdicts import NOT_APPLICABLE

if TYPE_CHECKING:
    from zephyr_data.feedback.store import Store

GRADED = ("overall", "reference", "rule", "imported")
BY_SCORE = {
    "overall": GRADED,
    "mean_aspects": ("aspects",),
    "winrate": ("pairwise",),
    "bradley_terry": ("pairwise",),
}
KEYS = ["prompt_id", "model"]


def pick_judging(
    state: dict[str, Any], score: str, mode: str | None, judge: str | None
) -> tuple[str, str]:
    """The mode and the judge whose verdicts count.

    Raises:
        ConfigError: There are none, or several and no choice was made.
    """
    judgings = state.get("judgings", {})
    modes = [m for m in BY_SCORE[score] if m in judgings and mode in (None, m)]
    if not modes:
        wanted = mode or " or ".join(BY_SCORE[score])
        raise ConfigError(
            f"score `{score}` needs verdicts of mode {wanted}, the store has: "
            f"{', '.join(sorted(judgings)) or 'none'}\nhint: run `feedback judge` first",
            "score",
        )
    if len(modes) > 1:
        raise ConfigError(
            f"score `{score}` could come from several modes: {', '.join(modes)}\n"
            "hint: choose one with `--mode`",
            "mode",
        )
    judging = judgings[modes[0]]
    name = judge or judging["last"]
    if name not in judging["judges"]:
        raise ConfigError(
            f"no verdicts of judge `{name}`, known: {', '.join(sorted(judging['judges']))}", "judge"
        )
    return modes[0], name


def load_scores(store: Store, score: str, mode: str | None, judge: str | None) -> pl.DataFrame:
    """`prompt_id, model, value`, with a null value where an answer could not be scored."""
    picked, name = pick_judging(store.state, score, mode, judge)
    columns = ["mode", "prompt_id", "aspect", "judge", "model", "opponent", "score", "reason"]
    verdicts = (
        pl.scan_parquet(store.path / "verdicts.parquet")
        .select(columns)
        .filter((pl.col("mode") == picked) & (pl.col("judge") == name))
    )
    if score == "overall":
        return verdicts.select(*KEYS, value=pl.col("score")).collect()
    if score == "mean_aspects":
        return mean_aspects(verdicts)
    outcomes = verdicts.collect()
    return winrates(outcomes) if score == "winrate" else bradley_terry(outcomes)


def mean_aspects(verdicts: pl.LazyFrame) -> pl.DataFrame:
    """The mean over the aspects; null if one of them could not be read."""
    unread = pl.col("score").is_null() & (pl.col("reason") != NOT_APPLICABLE)
    return (
        verdicts.group_by(KEYS)
        .agg(value=pl.when(unread.any()).then(None).otherwise(pl.col("score").mean()))
        .sort(KEYS)
        .collect()
    )


def both_sides(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Each pair twice, once from either side."""
    one = outcomes.select("prompt_id", "model", "opponent", "score")
    other = one.select("prompt_id", model="opponent", opponent="model", score=1.0 - pl.col("score"))
    return pl.concat([one, other])


def winrates(outcomes: pl.DataFrame) -> pl.DataFrame:
    """The share of wins; null if one of the pairs has no verdict."""
    value = pl.when(pl.col("score").is_null().any()).then(None).otherwise(pl.col("score").mean())
    return both_sides(outcomes).group_by(KEYS).agg(value=value).sort(KEYS)


def bradley_terry(outcomes: pl.DataFrame) -> pl.DataFrame:
    """Strengths in logits per prompt; pairs without a verdict are left out, the rest still ranks."""
    rows: list[tuple[str, str, float | None]] = []
    grouped = outcomes.sort("prompt_id", "model", "opponent").group_by(
        "prompt_id", maintain_order=True
    )
    for (prompt_id,), group in grouped:
        models = sorted({*group["model"], *group["opponent"]})
        place = {model: number for number, model in enumerate(models)}
        games = tuple(
            (place[model], place[opponent], score)
            for model, opponent, score in group.select("model", "opponent", "score").iter_rows()
            if score is not None
        )
        played = {player for one, two, _ in games for player in (one, two)}
        strengths = fit_bradley_terry(len(models), games)
        rows += [
            (str(prompt_id), model, strengths[number] if number in played else None)
            for number, model in enumerate(models)
        ]
    return pl.DataFrame(
        rows,
        schema={"prompt_id": pl.String, "model": pl.String, "value": pl.Float64},
        orient="row",
    )


@cache
def fit_bradley_terry(count: int, games: tuple[tuple[int, int, float], ...]) -> tuple[float, ...]:
    """Strengths by the classic fixed-point iteration, centred at zero.

    Everyone also plays one drawn game against a player of strength 1: without it a player who
    wins all games would have no finite strength. Four answers have few possible outcomes, so the
    cache meets nearly all prompts.
    """
    strengths = [1.0] * count
    for _ in range(500):
        wins = [0.5] * count
        weights = [1.0 / (strength + 1.0) for strength in strengths]
        for one, two, score in games:
            wins[one] += score
            wins[two] += 1.0 - score
            shared = 1.0 / (strengths[one] + strengths[two])
            weights[one] += shared
            weights[two] += shared
        updated = [won / weight for won, weight in zip(wins, weights, strict=True)]
        change = max(abs(math.log(a / b)) for a, b in zip(updated, strengths, strict=True))
        strengths = updated
        if change < 1e-12:
            break
    centre = sum(map(math.log, strengths)) / count
    # rounded, so that two players with the same record are tied and not 1e-15 apart
    return tuple(round(math.log(strength) - centre, 9) + 0.0 for strength in strengths)
