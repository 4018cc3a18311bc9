"""Random rows of the data through transformers, before they are packed: ids, masks, and where the answers of pairs begin.

verify_rows(loaded, encoder, folder / "dedup", kind, count=32, seed=0, literal_specials=False)
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypeVar

from zephyr_data.errors import ZephyrDataError
from zephyr_data.extension import core
from zephyr_data.options import Read
from zephyr_data.sample import random_rows
from zephyr_data.tokenizer import check_ids, differs, encode_chat, first_difference, special_texts
from zephyr_data.trial import Tried, try_chats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from zephyr_data import _core
    from zephyr_data.tokenizer import Chat, LoadedTokenizer

T = TypeVar("T")

ANSWERS = ("chosen", "rejected")

TOGETHER = 256
"""How many rows are tried in one child before transformers renders them here: it takes longer to start than to render these."""


def verify_rows(
    loaded: LoadedTokenizer,
    encoder: _core.ChatEncoder,
    folder: Path,
    kind: str,
    *,
    count: int,
    seed: int,
    literal_specials: bool,
    masks: bool = True,
) -> int:
    """Encodes up to `count` random rows of a stage's folder with the extension and with transformers, which must agree.

    Returns:
        How many rows were compared; left out are those that hold the text of a special token, unless `literal_specials`, and
        those that the chat template refuses.

    Raises:
        ConfigError: An id, a mask or the place where an answer begins differs; the message names the row.
        ManifestError: A file is damaged.
    """
    if kind == "chat":
        rows = random_rows(folder, ["id", "messages"], count, seed)
        chats = _tried_chats(loaded, encoder, map(_values, rows))
        return check_ids(loaded, encoder, chats, literal_specials=literal_specials, masks=masks)
    specials = () if literal_specials else special_texts(loaded.live)
    compared = 0
    for batch in _batches(random_rows(folder, ["id", "prompt", *ANSWERS], count, seed)):
        pairs = [pair for row in batch if (pair := _encoded_pair(encoder, row, specials))]
        _try(loaded, (tried for values, _ in pairs for tried in _conversations(values)))
        for values, ours in pairs:
            _check_pair(loaded, values, ours)
        compared += len(pairs)
    return compared


def _values(row: pa.RecordBatch) -> dict[str, Any]:
    values: dict[str, Any] = row.to_pylist()[0]
    return values


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    rows = iter(rows)
    while batch := list(itertools.islice(rows, TOGETHER)):
        yield batch


def _try(loaded: LoadedTokenizer, chats: Iterable[Tried]) -> None:
    spec = loaded.spec
    try_chats(spec.name, spec.chat_template, spec.special_tokens, list(chats))


# ---- chats ----


def _tried_chats(
    loaded: LoadedTokenizer, encoder: _core.ChatEncoder, rows: Iterable[dict[str, Any]]
) -> Iterator[tuple[str, Chat]]:
    """The rows with their names, each after a child has rendered it."""
    for batch in _batches(rows):
        chats = [(f"row `{row['id']}`", row["messages"]) for row in batch]
        _try(loaded, (Tried(name, chat) for name, chat in chats if _takes(encoder, chat)))
        yield from chats


def _takes(encoder: _core.ChatEncoder, chat: Chat) -> bool:
    try:
        encode_chat(encoder, chat)
    except ZephyrDataError:
        return False  # nor does transformers get to see it
    return True


# ---- pairs ----


def _encoded_pair(
    encoder: _core.ChatEncoder, row: pa.RecordBatch, specials: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """What a row holds and its ids, unless it cannot be compared."""
    import pyarrow as pa

    values = _values(row)
    turns = [turn for part in ("prompt", *ANSWERS) for turn in values[part]]
    if any(text in turn["content"] for turn, text in itertools.product(turns, specials)):
        return None
    try:
        encoded = core().encode_rows(
            pa.Table.from_batches([row]), Read(kind="preference"), encoder, 1
        )
    except ZephyrDataError:
        return None  # `pack` drops it with its reason
    return values, _values(pa.table(encoded).to_batches()[0])


def _conversations(values: dict[str, Any]) -> Iterator[Tried]:
    """What transformers renders of a pair."""
    name = f"row `{values['id']}`"
    yield Tried(name, values["prompt"], add_generation_prompt=True)
    for answer in ANSWERS:
        yield Tried(f"{name}, `{answer}`", values["prompt"] + values[answer])


def _check_pair(loaded: LoadedTokenizer, values: dict[str, Any], ours: dict[str, Any]) -> None:
    """Holds one pair against transformers: the ids of both conversations, and trl's cut between prompt and answers."""
    prompt = _ids(loaded, values["prompt"], add_generation_prompt=True)
    whole = {name: _ids(loaded, values["prompt"] + values[name]) for name in ANSWERS}
    border = min(len(list(_shared(prompt, ids))) for ids in whole.values())
    for name, ids in whole.items():
        answer = f"row `{values['id']}`, `{name}`"
        if ours["prompt_ids"] + ours[f"{name}_ids"] != ids:
            found = first_difference("input_ids", ours["prompt_ids"] + ours[f"{name}_ids"], ids)
            raise differs(loaded, answer, found)
        if len(ours["prompt_ids"]) != border:
            begins = f"the answer begins at id {len(ours['prompt_ids'])} instead of {border}"
            raise differs(loaded, answer, begins)


def _ids(loaded: LoadedTokenizer, chat: Chat, *, add_generation_prompt: bool = False) -> list[int]:
    return loaded.live.apply_chat_template(
        chat, tokenize=True, return_dict=True, add_generation_prompt=add_generation_prompt
    )["input_ids"]


def _shared(first: list[int], second: list[int]) -> Iterator[tuple[int, int]]:
    return itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
