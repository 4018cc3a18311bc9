"""The bundled demo: what its four answerers get right, and that the road ends in pairs."""

from pathlib import Path

import polars as pl

EXAMPLES = Path(__file__).parents[2] / "examples" / "feedback"


def test_demo(feedback, tmp_path):
    store, pairs = tmp_path / "store", tmp_path / "pairs.parquet"
    feedback(
        "complete", EXAMPLES / "prompts.jsonl", "--models", EXAMPLES / "models.yaml", "--per-prompt", 4,
        "--seed", 1, "--out", store,
    )  # fmt: skip
    feedback("judge", store, "--judge", EXAMPLES / "judge.yaml", "--mode", "rule")
    verdicts = pl.read_parquet(store / "verdicts.parquet")
    right = dict(verdicts.group_by("model").agg(pl.col("score").sum()).iter_rows())
    assert right["careful"] == 24
    assert all(5 < right[name] < 24 for name in ("hasty", "terse", "chatty"))
    text = feedback("binarize", store, "--score", "overall", "--rejected", "random", "--out", pairs)
    assert "24 prompts, 96 answers -> 18 pairs" in text
    assert "left out prompts, all_tied: 6" in text
    table = pl.read_parquet(pairs)
    assert set(table["score_chosen"]) == {1.0}
    assert set(table["score_rejected"]) == {0.0}
