"""The stages' steps on rows in memory: `clean`, `render`, `encode`, `pack`. Arrow in, Arrow out.

    cleaned = zephyr_data.clean(rows)
    encoded = zephyr_data.encode(cleaned.kept, "path/to/tokenizer")
    packed = zephyr_data.pack(encoded, 4096)
    packed.rows                                  # input_ids, labels, seq_lengths, as in out/packed

Each does what `prepare` does with the same rows, by the same code, in memory: what a table says of shapes, options, columns
and reasons stands in the pages of `prepare`. Calls release the GIL, look for Ctrl-C, and give the same on any number of
threads. A row without an `id` is called by its place, `frame:1`, as `prepare` calls the rows of a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from zephyr_data.extension import core
from zephyr_data.frames import table_of

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import pyarrow as pa

    from zephyr_data.config import Config
    from zephyr_data.encoder import Encoder
    from zephyr_data.frames import Chats, Rows
    from zephyr_data.options import Kind, OnBadRow, Shape


@dataclass(frozen=True)
class Cleaned:
    """What `clean` gives; docs/FORMAT.md describes the columns.

    Attributes:
        kept: The rows that stay, repaired, with the columns of `clean/`.
        rejects: The rows that go, with `reason` and `detail`; the columns of `clean/rejects/`.
        changes: One row for each repaired letter; the columns of `clean/changes/`.
    """

    kept: pa.Table
    rejects: pa.Table
    changes: pa.Table


@dataclass(frozen=True)
class Packed:
    """What `pack` gives; docs/FORMAT.md describes the columns.

    Attributes:
        rows: Packed rows, `input_ids`, `labels` and `seq_lengths`; of pairs `prompt_ids`, `chosen_ids`, `rejected_ids`, `id`
            and the scores. The columns of `packed/train`.
        index: Which document lies where, with the columns of `packed/index`; `None` of pairs, which are one a row.
        dropped: The rows that go: `id`, `reason` and `detail`.
    """

    rows: pa.Table
    index: pa.Table | None
    dropped: pa.Table


def clean(
    rows: Rows,
    *,
    config: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
    kind: Kind | None = None,
    on_bad_row: OnBadRow | None = None,
    workers: int | None = None,
) -> Cleaned:
    """Filters and repairs chats or preferences, as the stage `clean` does.

    Args:
        rows: A table of any library that exports Arrow (pyarrow, polars, pandas), or a list of dictionaries, in any of the
            shapes that `prepare` reads.
        config: Options, as for `prepare`; the sections `read` and `clean` count.
        kind: `chat`, `preference`, or `auto` for what the first row is. Default: `auto`.
        on_bad_row: `stop` or `reject` rows that cannot be read. Default: `stop`.
        workers: Threads; the result does not depend on them. Default: all CPUs that this process may use.

    Returns:
        The rows that stay, those that go, and the letters that were repaired.

    Raises:
        ConfigError: An option cannot be used, or `rows` is no table and no list.
        DataError: The columns make no chat and no preference, or a row cannot be read.
    """
    import pyarrow as pa

    options = _options(config, workers, {"read.kind": kind, "read.on_bad_row": on_bad_row})
    tables = core().clean_rows(table_of(rows), options.read, options.clean, options.workers)
    return Cleaned(*map(pa.table, tables))


def render(
    messages: Chats,
    tokenizer: str | os.PathLike[str] | Encoder,
    *,
    add_generation_prompt: bool = False,
    workers: int | None = None,
) -> pa.ChunkedArray:
    """The texts of chats by the tokenizer's chat template, equal to `apply_chat_template(tokenize=False)`.

    Args:
        messages: A list or an Arrow array of chats, each a list of `role` and `content`; or rows, as for `clean`.
        tokenizer: Folder or name for `transformers.AutoTokenizer`, or an `Encoder`, which is loaded once.
        add_generation_prompt: Whether the text ends with what calls on the assistant to speak.
        workers: As for `clean`.

    Returns:
        Strings (`large_string`), as many as chats.

    Raises:
        ConfigError: The tokenizer cannot be used, or `messages` is no table and no list.
        DataError: A row is no chat, or the template refuses it.
    """
    import pyarrow as pa

    options = _options(None, workers, {"read.kind": "chat"})
    texts = core().render_rows(
        table_of(messages),
        options.read,
        _encoder(tokenizer).core,
        add_generation_prompt,
        options.workers,
    )
    return cast("pa.ChunkedArray", pa.table(texts)["text"])


def encode(
    rows: Chats,
    tokenizer: str | os.PathLike[str] | Encoder,
    *,
    kind: Kind | None = None,
    shape: Shape | None = None,
    workers: int | None = None,
) -> pa.Table:
    """Token ids of chats or preferences, equal to transformers'. Nothing is cut or dropped.

    Args:
        rows: As for `clean`; or chats, as for `render`.
        tokenizer: As for `render`.
        kind: As for `clean`.
        shape: How the columns are understood, as `read.shape`. Default: `auto`.
        workers: As for `clean`.

    Returns:
        One row for each: `input_ids`, `assistant_masks` (1 where the assistant speaks, with the token that ends the turn),
        `id` and `lost_answers`, the number of answers without a mask because the tokenizer does not tell where they begin
        (`pack` drops such rows). Of preferences `prompt_ids`, `chosen_ids` and `rejected_ids`, `id`, `score_chosen` and
        `score_rejected`.

    Raises:
        ConfigError: The tokenizer or an option cannot be used, or `rows` is no table and no list.
        DataError: A row cannot be read, or the chat template refuses it.
    """
    import pyarrow as pa

    options = _options(None, workers, {"read.kind": kind, "read.shape": shape})
    encoder = _encoder(tokenizer).core
    return pa.table(core().encode_rows(table_of(rows), options.read, encoder, options.workers))


def pack(
    encoded: Rows,
    max_length: int | None = None,
    *,
    overlong: str | None = None,
    seed: int | None = None,
    workers: int | None = None,
) -> Packed:
    """Packs tokens into rows for training, as the stage `pack` does with one side of the split.

    Args:
        encoded: What `encode` gives, or any table with `input_ids` and `assistant_masks` (lists of integers of one length),
            or with `prompt_ids`, `chosen_ids` and `rejected_ids`.
        max_length: Tokens of a packed row. Default: 2048.
        overlong: What happens to longer documents: `truncate` or `drop`. Default: `truncate`. `split_turns` needs the
            messages; `prepare` has them.
        seed: Decides the order of the rows. Default: 0.
        workers: As for `clean`.

    Returns:
        The packed rows, where each document lies, and what was dropped.

    Raises:
        ConfigError: An option cannot be used, or `encoded` is no table and no list.
        DataError: A column is missing or of another type, or a mask is not as long as its ids.
    """
    import pyarrow as pa

    changed = {"pack.max_length": max_length, "pack.overlong": overlong, "seed": seed}
    options = _options(None, workers, changed)
    rows, index, dropped = core().pack_rows(
        table_of(encoded), options.pack_options(), options.workers
    )
    return Packed(pa.table(rows), None if index is None else pa.table(index), pa.table(dropped))


def _options(
    config: str | os.PathLike[str] | Mapping[str, Any] | Config | None,
    workers: int | None,
    changed: Mapping[str, object],
) -> Config:
    from zephyr_data.config import Config

    return Config.load(config, {"workers": workers, **changed})


def _encoder(tokenizer: str | os.PathLike[str] | Encoder) -> Encoder:
    from zephyr_data.encoder import Encoder

    return tokenizer if isinstance(tokenizer, Encoder) else Encoder.from_pretrained(tokenizer)
