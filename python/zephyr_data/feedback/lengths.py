"""Length bias: how much longer the chosen texts are, and a selection in which they are not.

Judges like long answers: in best-of-four pairs of published feedback the chosen text is the longer
one three times out of four. A model trained on that learns length.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from zephyr_data.feedback import draws


def add_lengths(pairs: pl.DataFrame) -> pl.DataFrame:
    """Adds the lengths in characters of `chosen_text` and `rejected_text`."""
    return pairs.with_columns(
        chosen_length=pl.col("chosen_text").str.len_chars().cast(pl.Int64),
        rejected_length=pl.col("rejected_text").str.len_chars().cast(pl.Int64),
    )


def length_statistics(pairs: pl.DataFrame) -> dict[str, Any]:
    """Mean and median lengths, and the shares of pairs whose chosen text is longer or shorter."""
    if pairs.is_empty():
        return {"pairs": 0}
    chosen, rejected = pl.col("chosen_length"), pl.col("rejected_length")
    return pairs.select(
        pairs=pl.len(),
        chosen_mean=chosen.mean(),
        rejected_mean=rejected.mean(),
        chosen_median=chosen.median(),
        rejected_median=rejected.median(),
        chosen_longer=(chosen > rejected).mean(),
        chosen_shorter=(chosen < rejected).mean(),
    ).row(0, named=True)


def balance_lengths(pairs: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Keeps as many pairs with a longer chosen text as with a shorter one.

    Within each doubling of the difference, so that few large differences do not outweigh many
    small ones; which pairs stay is a hash. Pairs of equal length all stay.
    """
    order, _ = draws.columns_of_numbers(seed, "balance", pairs["id"])
    difference = pl.col("chosen_length") - pl.col("rejected_length")
    marked = pairs.with_columns(
        _order=pl.Series(order, dtype=pl.UInt64),
        _side=difference.sign(),
        # the position of the highest bit, exact for every integer
        _doubling=difference.abs().cast(pl.UInt64).bitwise_leading_zeros(),
    )
    marked = marked.with_columns(
        _place=pl.col("_order").rank("ordinal").over("_side", "_doubling"),
        _longer=(pl.col("_side") > 0).sum().over("_doubling"),
        _shorter=(pl.col("_side") < 0).sum().over("_doubling"),
    )
    stays = (pl.col("_side") == 0) | (pl.col("_place") <= pl.min_horizontal("_longer", "_shorter"))
    return marked.filter(stays).select(pairs.columns)
