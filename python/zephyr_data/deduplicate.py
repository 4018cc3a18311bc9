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

if TYPE_CHECKING:
    import pyarrow as pa

COMPARED = {
    "conversation": ("system", "user", "assistant"),
    "assistant": ("assistant",),
    "prompt": ("user",),
}
"""Whose turns `compare` takes, by its values."""


@dataclass(frozen=True)
class Deduplicated:
    """What `deduplicate` found. The tables are polars frames if it was given one, else `pyarrow.Table`s.

    Attributes:
        kept: The rows that stay, with all their columns, in input order.
        dropped: One row for each row that goes, in input order: `row` and `kept_row`, the row that stays, both counted
            from 0 in the input; `reason`, `exact_duplicate` or `near_duplicate`; `similarity`, the Jaccard index of the
            two, null for exact duplicates.
    """

    kept: Any
    dropped: Any


def deduplicate(
    frame: object,
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
) -> Deduplicated:
    """Drops the rows that say what another row says, or nearly so.

    The first of exact duplicates stays; near-duplicates are looked for among the rows that are left. A row whose text is
    null stays. All is held in memory; `prepare` does the same to files within a limit.

    Args:
        frame: A table from any library that exports Arrow: polars, pyarrow, pandas, DuckDB.
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

    Raises:
        ConfigError: An option cannot be used, there is no such column, or `frame` is no table.
        DataError: The column holds neither texts nor chats, or a chat has a turn that is incomplete.
    """
    import pyarrow as pa

    from zephyr_data.config import Config

    near_options = {
        "threshold": threshold,
        "policy": policy,
        "keep": keep,
        "bands": bands,
        "rows": rows,
    }
    options = {"exact": exact, "near": near, "compare": compare, **near_options}
    Config.load(None, {f"dedup.{name}": value for name, value in options.items()})
    table = _table(frame)
    name = _column(table, column)
    scores = _scores(table, score, keep)
    try:
        chats, texts = _chats_and_texts(table[name], name, compare)
        found: dict[int, tuple[int, str, float | None]] = {}
        present = [row for row, is_set in enumerate(texts.is_valid().to_pylist()) if is_set]
        if exact and present:
            firsts = pa.array(core().exact_duplicates(chats.take(pa.array(present)))).to_pylist()
            for at, first in enumerate(firsts):
                if at != first:
                    found[present[at]] = (present[first], "exact_duplicate", None)
        if near:
            left = [row for row in present if row not in found]
            near_scores = [scores[row] for row in left] if scores is not None else None
            pairs = core().near_duplicates(
                texts.take(pa.array(left, pa.int64())), scores=near_scores, **near_options
            )
            stands = {}
            for pair in pa.record_batch(pairs).to_pylist():
                row, other = left[pair["row"]], left[pair["other"]]
                stands[row] = other
                found[row] = (other, "near_duplicate", pair["similarity"])
            # A copy of a row that goes names the one that stays, as in the stage.
            for row, (other, reason, similarity) in found.items():
                if reason == "exact_duplicate":
                    found[row] = (stands.get(other, other), reason, similarity)
    except pa.ArrowException as error:
        raise DataError(
            f"cannot compare column `{name}`: {error}"
            "\nhint: give less than 2 GB of text at once; `prepare` reads files of any size",
            field=name,
        ) from error
    return _split(frame, table, found)


def _split(
    frame: object, table: pa.Table, found: dict[int, tuple[int, str, float | None]]
) -> Deduplicated:
    """The rows that stay and those that go, in the frame's own kind."""
    import pyarrow as pa

    ordered = sorted(found.items())
    columns = {
        "row": pa.array([row for row, _ in ordered], pa.int64()),
        "kept_row": pa.array([other for _, (other, _, _) in ordered], pa.int64()),
        "reason": pa.array([reason for _, (_, reason, _) in ordered], pa.string()),
        "similarity": pa.array([similarity for _, (_, _, similarity) in ordered], pa.float64()),
    }
    mask = pa.array([row not in found for row in range(table.num_rows)], pa.bool_())
    if type(frame).__module__.split(".")[0] == "polars":
        import polars as pl

        if isinstance(frame, pl.DataFrame):
            return Deduplicated(frame.filter(pl.Series(mask)), pl.from_arrow(pa.table(columns)))
    return Deduplicated(_without(table, list(found), mask), pa.table(columns))


def _without(table: pa.Table, dropped: list[int], mask: pa.Array) -> pa.Table:
    import pyarrow as pa

    try:
        return table.filter(mask)
    except pa.ArrowNotImplementedError:  # pyarrow filters no string views; it slices them
        starts = [0, *(row + 1 for row in sorted(dropped))]
        ends = [*sorted(dropped), table.num_rows]
        return pa.concat_tables([table.slice(a, b - a) for a, b in zip(starts, ends, strict=True)])


def _table(frame: object) -> pa.Table:
    import pyarrow as pa

    try:
        if hasattr(frame, "__arrow_c_stream__") or hasattr(frame, "__arrow_c_array__"):
            return pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError):
        pass
    raise ConfigError(
        f"cannot read this as a table: `{type(frame).__name__}`"
        '\nhint: give a table such as polars, pyarrow or pandas have; of texts alone, `pyarrow.table({"text": texts})`'
    )


def _column(table: pa.Table, column: str | None) -> str:
    for name in ("messages", "text") if column is None else (column,):
        if table.column_names.count(name) == 1:
            return name
    wanted = "`messages` or `text`" if column is None else f"`{column}`"
    raise ConfigError(
        f"there is no column {wanted}"
        f"\nhint: name one with `column`; the columns are {', '.join(f'`{name}`' for name in table.column_names)}",
        key="column",
    )


def _scores(table: pa.Table, score: str | None, keep: str) -> list[float | None] | None:
    import pyarrow as pa

    if keep != "best_score":
        return None
    if score is None:
        raise ConfigError(
            '`keep="best_score"` needs scores\nhint: name their column with `score`', key="score"
        )
    column = table[_column(table, score)]
    try:
        scores: list[float | None] = column.cast(pa.float64()).to_pylist()
    except pa.ArrowException as error:
        raise DataError(
            f"column `{score}` must hold numbers, found: {column.type}\nhint: cast it to a number",
            field=score,
        ) from error
    return scores


def _chats_and_texts(column: pa.ChunkedArray, name: str, compare: str) -> tuple[pa.Array, pa.Array]:
    """The rows as chats, whose keys tell exact duplicates, and as the texts that tell near ones; nulls stay nulls."""
    import pyarrow as pa

    from zephyr_data.tokenizer import messages_type

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        texts = column.to_pylist()
        chats = [None if text is None else [{"role": "user", "content": text}] for text in texts]
        return pa.array(chats, messages_type()), pa.array(texts, pa.large_string())
    item = getattr(kind, "value_type", None)
    if (
        item is None
        or not pa.types.is_struct(item)
        or not {"role", "content"} <= {item.field(at).name for at in range(item.num_fields)}
    ):
        raise DataError(
            f"column `{name}` must hold strings, or lists of `role` and `content`, found: {column.type}"
            "\nhint: name another column with `column`; `prepare` reads chats of other shapes",
            field=name,
        )
    chats = column.to_pylist()
    for row, chat in enumerate(chats):
        for number, message in enumerate(chat or ()):
            _check(message, row, f"{name}[{number}]")
    wanted = COMPARED[compare]
    texts = [
        None
        if chat is None
        else "\n".join(message["content"] for message in chat if message["role"] in wanted)
        for chat in chats
    ]
    return pa.array(chats, messages_type()), pa.array(texts, pa.large_string())


def _check(message: dict[str, Any] | None, row: int, place: str) -> None:
    if message is None or not isinstance(message["content"], str):
        field = place if message is None else f"{place}.content"
        raise DataError(
            f"row {row}: `{field}` must be a text, found: "
            f"{'null' if message is None or message['content'] is None else type(message['content']).__name__}"
            "\nhint: drop or fill such turns first",
            field=field,
        )
    if message["role"] not in COMPARED["conversation"]:
        raise DataError(
            f"row {row}: `{place}.role` must be `system`, `user` or `assistant`, found: {message['role']!r}"
            "\nhint: rename the roles; `prepare` reads chats of other shapes",
            field=f"{place}.role",
        )
