"""AI feedback: models answer, a judge ranks, preference pairs come out.

The road, one command a step (`docs/FEEDBACK.md` walks along it):

    zephyr-data feedback complete prompts.jsonl --models models.yaml --per-prompt 4 --out store
    zephyr-data feedback judge store --judge judge.yaml --mode overall
    zephyr-data feedback binarize store --score overall --rejected random --out pairs.parquet

Everything that was paid for lies in the store, an append-only journal (`store.py`); all later steps
only read it. Every random choice is a hash of the seed and the prompt (`draws.py`), so no result
depends on order, threads or reruns.

This module imports nothing, so that `zephyr-data --help` stays quick.
"""
