"""Drops duplicates from a table in memory, by the rules of the `dedup` stage.

>>> import pyarrow as pa
>>> result = deduplicate(pa.table({"text": ["Good morning, all!", "Something else.", "good  morning, all"]}))
>>> result.kept["text"].to_pylist()
['Good morning, all!', 'Something else.']
>>> result.dropped.to_pylist()
[{'row': 2, 'kept_row': 0, 'reason': 'exact_duplicate', 'similarity': None}]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr_data.errors import ConfigError, DataError
from zephyr_data.extension import core
from zephyr_data.frames import table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from zephyr_data.frames import Chats


@dataclass(frozen=True)
class Deduplicated:
    """What `deduplicate` found. The tables are polars frames if it was given one, else `pyarrow.Table`s.

    A column without a table around it is called `text` or `messages` in `kept`.

    Attributes:
        kept: The rows that stay, with all their columns, in input order.
        dropped: One row for each row that goes, in input order: `row` and `kept_row`, the row that stays, both counted
            from 0 in the input; `reason`, `exact_duplicate` or `near_duplicate`; `similarity`, the Jaccard index of the
            two, null for exact duplicates.
    """

    kept: Any
    dropped: Any


def deduplicate(
    frame: Chats | Sequence[str | None],
    *,
    column: str | None = None,
    score: str | None = None,
    exact: bool = True,
    near: bool = True,
    compare: str = "conversation",
    threshold: float = 0.8,
    policy: str = "direct",
    keep: str = "first",
    bands: int = 20,
    rows: int = 6,
    workers: int | None = None,
) -> Deduplicated:
    """Drops the rows that say what another row says, or nearly so.

    The first of exact duplicates stays; near-duplicates are looked for among the rows that are left. A row whose text is
    null stays. All is held in memory: besides the table about 400 bytes a row, and the words of the rows that must be
    compared. `prepare` does the same to files within a limit. The call releases the GIL and looks for Ctrl-C.

    Args:
        frame: A table from any library that exports Arrow (polars, pyarrow, pandas, DuckDB) or of `datasets`; one of their
            columns; or a list of rows, of texts or of chats.
        column: The column that is compared: strings, or chats as lists of `role` and `content`. Default: `messages`, else
            `text`.
        score: The column of numbers by which `keep="best_score"` chooses.
        exact: Whether rows go that equal an earlier one but for case, white space and punctuation.
        near: Whether near-duplicates go.
        compare: Which turns of a chat make near-duplicates: `prompt`, `conversation` or `assistant`.
        threshold: From which Jaccard index on rows are near-duplicates.
        policy: `direct` or `component`, as `dedup.policy`.
        keep: Which of near-duplicates stays: the `first`, the `longest`, or that with the `best_score`.
        bands: Number of bands in which rows are looked for.
        rows: Slots of a band, of 128.
        workers: Threads; the result does not depend on them. Default: all CPUs that this process may use.

    Returns:
        The rows that stay, and those that go with the row that stays for them.

    Raises:
        ConfigError: An option cannot be used, there is no such column, or `frame` is neither a table nor a list.
        DataError: The column holds neither texts nor chats, or a chat cannot be read: the message says which row, from 1 on,
            and which turn, as that of `clean` does.
    """
    import pyarrow as pa

    from zephyr_data.config import Config

    dedup = {
        "exact": exact,
        "near": near,
        "compare": compare,
        "threshold": threshold,
        "policy": policy,
        "keep": keep,
        "bands": bands,
        "rows": rows,
    }
    changed = {f"dedup.{name}": value for name, value in dedup.items()}
    options = Config.load(None, {**changed, "workers": workers})
    table = table_of(frame, texts="text")
    name = _column(table, column)
    compared = pa.table({name: table[name], **_scores(table, score, keep, name)})
    found, stays = core().deduplicate_rows(compared, options.dedup_options(), options.workers)
    return _split(frame, table, pa.table(found), pa.array(stays))


def _split(frame: object, table: pa.Table, dropped: pa.Table, stays: pa.Array) -> Deduplicated:
    """The rows that stay and those that go, in the frame's own kind."""
    if type(frame).__module__.split(".")[0] == "polars":
        import polars as pl

        if isinstance(frame, pl.DataFrame):
            return Deduplicated(frame.filter(pl.Series(stays)), pl.from_arrow(dropped))
    return Deduplicated(_without(table, dropped["row"].to_pylist(), stays), dropped)


def _without(table: pa.Table, dropped: list[int], mask: pa.Array) -> pa.Table:
    import pyarrow as pa

    try:
        return table.filter(mask)
    except pa.ArrowNotImplementedError:  # pyarrow filters no string views; it slices them
        starts = [0, *(row + 1 for row in dropped)]
        ends = [*dropped, table.num_rows]
        return pa.concat_tables([table.slice(a, b - a) for a, b in zip(starts, ends, strict=True)])


def _column(table: pa.Table, column: str | None, *, option: str = "column") -> str:
    for name in ("messages", "text") if column is None else (column,):
        if table.column_names.count(name) == 1:
            return name
    wanted = "`messages` or `text`" if column is None else f"`{column}`"
    raise ConfigError(
        f"there is no column {wanted}"
        f"\nhint: name one with `{option}`; the columns are {', '.join(f'`{name}`' for name in table.column_names)}",
        key=option,
    )


def _scores(
    table: pa.Table, score: str | None, keep: str, compared: str
) -> dict[str, pa.ChunkedArray]:
    """The column of the scores, if any is needed, under a name beside the compared one's."""
    import pyarrow as pa

    if keep != "best_score":
        return {}
    if score is None:
        raise ConfigError(
            '`keep="best_score"` needs scores\nhint: name their column with `score`', key="score"
        )
    column = table[_column(table, score, option="score")]
    try:
        return {f"{compared}.score": column.cast(pa.float64())}
    except pa.ArrowException as error:
        raise DataError(
            f"column `{score}` must hold numbers, found: {column.type}\nhint: cast it to a number",
            field=score,
        ) from error
