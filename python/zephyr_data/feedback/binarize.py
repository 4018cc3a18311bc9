"""The third step: one chosen and one (or every) rejected answer per prompt.

UltraFeedback's two readings are `--score mean_aspects` (the paper) and `--score overall` (the data
set), both with `--rejected random`. The draw is a hash of seed, prompt and model; `--compat
ultrafeedback_binarized` repeats the published set's choice instead, which began every row with
`random.seed(42)` and so took position 2 beside position 0, and position 0 beside all others.

Nothing vanishes without a count: answers without text or score, texts given to many prompts (an
adversary can win with one constant text), prompts without a pair and why.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from zephyr_data.errors import ConfigError, DataError
from zephyr_data.feedback import draws
from zephyr_data.feedback.lengths import add_lengths, balance_lengths, length_statistics
from zephyr_data.feedback.scores import load_scores

if TYPE_CHECKING:
    from pathlib import Path

    from zephyr_data.feedback.store import Store

Rejected = Literal["random", "worst", "all"]
Score = Literal["overall", "mean_aspects", "winrate", "bradley_terry"]
MIN_REPEATS = 10
COMPAT = "ultrafeedback_binarized"
COLUMNS = ["prompt_id", "position", "model", "text", "finish_reason"]


@dataclass(frozen=True, slots=True)
class Binarizing:
    """How pairs are made."""

    score: Score
    rejected: Rejected = "random"
    keep_ties: bool = False
    min_margin: float = 0.0
    seed: int = 0
    mode: str | None = None
    judge: str | None = None
    max_prompts_per_text: int | None = None
    """Texts given to more prompts than this are left out; default: 10 or 1 % of the prompts."""
    balance_length: bool = False
    compat: bool = False


@dataclass(slots=True)
class Report:
    """What became of everything."""

    prompts: int = 0
    answers: int = 0
    pairs: int = 0
    left_out_answers: dict[str, int] = field(default_factory=dict)
    left_out_prompts: dict[str, int] = field(default_factory=dict)
    lengths: dict[str, Any] = field(default_factory=dict)
    lengths_balanced: dict[str, Any] | None = None


def binarize(store: Store, options: Binarizing, out: Path) -> Report:
    """Writes the pairs to `out` and returns the report.

    Raises:
        ConfigError: The store lacks the verdicts that the score needs.
    """
    if options.compat and (options.rejected != "random" or options.min_margin):
        raise ConfigError(f"`--compat {COMPAT}` fixes the rejected answer and takes no margin")
    report = Report()
    every = pl.read_parquet(store.path / "completions.parquet", columns=COLUMNS)
    scores = load_scores(store, options.score, options.mode, options.judge)
    answers = describe(every).join(
        scores.rename({"value": "score"}),
        on=["prompt_id", "model"],
        how="left",
        maintain_order="left",
    )
    pairs = choose(answers, options, report)
    # only now the texts: the choice was made on numbers alone
    pairs = add_lengths(
        pairs.with_columns(
            chosen_text=every["text"].gather(pairs["row_chosen"]),
            rejected_text=every["text"].gather(pairs["row_rejected"]),
        )
    )
    del every, answers
    pairs = pairs.sort("prompt_id", "score_rejected", "model_rejected")
    pairs = pairs.with_columns(id=_identifier(options))
    report.lengths = length_statistics(pairs)
    if options.balance_length:
        pairs = balance_lengths(pairs, options.seed)
        report.lengths_balanced = length_statistics(pairs)
    report.pairs = pairs.height
    if pairs.is_empty():
        raise DataError(
            "no pair is left, prompts were left out for: "
            f"{report.left_out_prompts or report.left_out_answers or 'no prompts'}"
        )
    _write(pairs, options, store, out)
    return report


def describe(answers: pl.DataFrame) -> pl.DataFrame:
    """What the choice needs of answers besides their scores, without their texts.

    Takes `prompt_id, position, model, text, finish_reason`, gives `prompt_id, position, model, row, usable, text_hash`.
    """
    stripped = pl.col("text").str.strip_chars()
    return answers.select(
        "prompt_id",
        "position",
        "model",
        row=pl.int_range(pl.len()),
        usable=(stripped != "") & (pl.col("finish_reason").fill_null("") != "content_filter"),
        text_hash=stripped.hash(0),
    )


def choose(every: pl.DataFrame, options: Binarizing, report: Report) -> pl.DataFrame:
    """The pairs, as numbers of rows: what `describe` gives and `score`, to `prompt_id`, and `row`, `model` and `score` of both."""
    answers = _eligible(every, options, report)
    pairs = _compat_pairs(answers) if options.compat else _pairs(answers, options)
    _count_prompts(answers, pairs, options, report)
    return pairs


def _eligible(every: pl.DataFrame, options: Binarizing, report: Report) -> pl.DataFrame:
    """The answers that can be in a pair: `row, prompt_id, position, model, score` and two draws."""
    report.answers = every.height
    report.prompts = every["prompt_id"].n_unique()
    if every["score"].is_nan().any() or every["score"].is_infinite().any():
        raise DataError("a score is not finite in: verdicts.parquet", field="score")
    limit = options.max_prompts_per_text
    if limit is None:
        limit = max(MIN_REPEATS, report.prompts // 100)
    repeats = pl.col("prompt_id").n_unique().over("text_hash")
    reason = (
        pl.when(~pl.col("usable"))
        .then(pl.lit("empty_answer"))
        .when(pl.col("score").is_null())
        .then(pl.lit("no_score"))
    )
    if not options.compat:
        reason = reason.when(repeats > limit).then(pl.lit("text_given_to_many_prompts"))
    every = every.with_columns(reason=reason.otherwise(None))
    report.left_out_answers = _counts(every["reason"])
    kept = every.filter(pl.col("reason").is_null()).drop("reason", "text_hash", "usable")
    best, other = draws.columns_of_numbers(
        options.seed, "binarize", kept["prompt_id"], kept["model"]
    )
    return kept.with_columns(
        _best=pl.Series(best, dtype=pl.UInt64), _other=pl.Series(other, dtype=pl.UInt64)
    ).sort("prompt_id", "position")


def _counts(reasons: pl.Series) -> dict[str, int]:
    values = reasons.drop_nulls().value_counts().sort(reasons.name)
    return dict(values.iter_rows())


def _pairs(answers: pl.DataFrame, options: Binarizing) -> pl.DataFrame:
    """Best score first; equal ones are drawn for, as is the random rejected."""
    chosen = answers.sort(
        ["prompt_id", "score", "_best", "model"], descending=[False, True, False, False]
    ).unique("prompt_id", keep="first", maintain_order=True)
    candidates = answers.join(
        chosen.select("prompt_id", row_chosen="row", model_chosen="model", score_chosen="score"),
        on="prompt_id",
    ).filter(pl.col("model") != pl.col("model_chosen"))
    margin = pl.col("score_chosen") - pl.col("score")
    candidates = candidates.filter(margin >= options.min_margin)
    if not options.keep_ties:
        candidates = candidates.filter(margin > 0)
    if options.rejected != "all":
        order = ["_other"] if options.rejected == "random" else ["score", "_other"]
        candidates = candidates.sort(["prompt_id", *order, "model"]).unique(
            "prompt_id", keep="first", maintain_order=True
        )
    return candidates.select(
        "prompt_id",
        "row_chosen",
        "model_chosen",
        "score_chosen",
        row_rejected="row",
        model_rejected="model",
        score_rejected="score",
    )


@cache
def seed_42_rejected(count: int, chosen: int) -> int:
    """The position that the first published set took: seeded anew for every row."""
    generator = random.Random(42)
    rejected = chosen
    while rejected == chosen:
        rejected = generator.choice(range(count))
    return rejected


def _compat_pairs(answers: pl.DataFrame) -> pl.DataFrame:
    """The first best answer by position, and the rejected one that `seed_42_rejected` names."""
    answers = answers.with_columns(_at=pl.int_range(pl.len()).over("prompt_id"))
    chosen = (
        answers.filter(pl.len().over("prompt_id") > 1)
        .group_by("prompt_id")
        .agg(_count=pl.len(), _chosen=pl.col("_at").get(pl.col("score").arg_max()))
    )
    rejected = [
        seed_42_rejected(count, at) for count, at in chosen.select("_count", "_chosen").iter_rows()
    ]
    picks = chosen.with_columns(_rejected=pl.Series(rejected, dtype=pl.Int64))
    names = ["prompt_id", "_at", "row", "model", "score"]
    for side in ("chosen", "rejected"):
        renamed = {name: f"{name}_{side}" for name in ("row", "model", "score")}
        one = answers.select(names).rename({**renamed, "_at": f"_{side}"})
        picks = picks.join(one, on=["prompt_id", f"_{side}"])
    return picks.drop("_count", "_chosen", "_rejected")


def _count_prompts(
    answers: pl.DataFrame, pairs: pl.DataFrame, options: Binarizing, report: Report
) -> None:
    spread = pl.col("score").max() - pl.col("score").min()
    prompts = answers.group_by("prompt_id").agg(answers=pl.len(), spread=spread)
    lost = prompts.filter(~pl.col("prompt_id").is_in(pairs["prompt_id"].unique().implode()))
    few, tied = pl.col("answers") < 2, pl.col("spread") == 0
    small = "margin_too_small" if options.min_margin else "no_candidate"
    reason = pl.when(few).then(pl.lit("fewer_than_two_answers")).when(tied).then(pl.lit("all_tied"))
    counts = _counts(lost.select(reason=reason.otherwise(pl.lit(small)))["reason"])
    gone = report.prompts - prompts.height
    if gone:
        counts["fewer_than_two_answers"] = counts.get("fewer_than_two_answers", 0) + gone
    report.left_out_prompts = counts


def _identifier(options: Binarizing) -> pl.Expr:
    """The prompt's id; with all rejected answers also the place of the pair."""
    if options.rejected != "all":
        return pl.col("prompt_id")
    place = pl.int_range(pl.len()).over("prompt_id").cast(pl.String)
    return pl.concat_str("prompt_id", place, separator="/")


def _write(pairs: pl.DataFrame, options: Binarizing, store: Store, out: Path) -> None:
    message = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "id": pl.String,
        "messages": message,
        "source": pl.String,
    }
    prompts = pl.read_ndjson(store.path / "prompts.jsonl", schema=schema)
    prompts = prompts.select(prompt_id="id", prompt="messages", source="source")

    def answer(side: str) -> pl.Expr:
        role = pl.lit("assistant").alias("role")
        content = pl.col(f"{side}_text").alias("content")
        return pl.concat_list(pl.struct(role, content)).alias(side)

    table = pairs.join(prompts, on="prompt_id", how="left", maintain_order="left").select(
        "id",
        "prompt_id",
        "prompt",
        answer("chosen"),
        answer("rejected"),
        "score_chosen",
        "score_rejected",
        "model_chosen",
        "model_rejected",
        "source",
        pl.lit(options.score).alias("score"),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(out.name + ".tmp")
    table.write_parquet(beside, compression="zstd")
    beside.replace(out)
