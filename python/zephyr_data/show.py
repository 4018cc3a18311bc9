"""Packed rows as a reader sees them: which text the model learns from, and where one document ends and the next begins.

    zephyr-data show out --row 3

Text that carries the loss is green and the rest grey; without colour, what carries the loss stands between `⟦` and `⟧`.
The text is decoded from the ids in the file, so it is what training sees, not what was meant to be packed.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from zephyr_data.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from zephyr_data.dataset import PackedDataset, Split

IGNORED = -100
"""Label of a token that carries no loss."""

STYLES = {True: "green", False: "bright_black", "rejected": "red", "border": "bold cyan"}


class Decoder(Protocol):
    """What is needed of a transformers tokenizer."""

    def decode(self, token_ids: list[int], **options: object) -> str:
        """The text of the ids."""


def rows_of(packed: PackedDataset, split: Split) -> int:
    """How many rows a split has."""
    return int(packed.manifest.counts[split]["rows"])


def render_row(
    packed: PackedDataset, split: Split, row: int, tokenizer: Decoder, *, colour: bool
) -> Text:
    """One packed row.

    Raises:
        ConfigError: There is no such row.
    """
    count = rows_of(packed, split)
    if not 0 <= row < count:
        raise ConfigError(
            f"there is no such row in `{split}`: `{row}`\nhint: "
            + (f"rows count from 0 to {count - 1}" if count else f"`{split}` is empty"),
            key="row",
        )
    values = packed.table(split).slice(row, 1).to_pylist()[0]
    render = _render_chats if packed.kind == "chat" else _render_pair
    return render(packed, split, row, values, _Writer(tokenizer, colour=colour))


def load_decoder(packed: PackedDataset, name: str | None) -> Decoder:
    """The tokenizer that packed the rows: `name`, or what the manifest names.

    Raises:
        ConfigError: It cannot be loaded, or is another one than the rows were packed with.
    """
    from zephyr_data.tokenizer import load_tokenizer

    named = name or packed.tokenizer_name
    try:
        loaded = load_tokenizer(named)
    except ConfigError as error:
        if name or error.key != "tokenizer":  # such as what the environment says of the extension
            raise
        raise ConfigError(
            f"{str(error).splitlines()[0]}\nhint: the rows name it as it was given to `prepare`; say where it is now with"
            " `--tokenizer`",
            key="tokenizer",
        ) from error
    if loaded.spec.hash != packed.tokenizer_hash:
        raise ConfigError(
            f"the rows were not packed with this tokenizer and chat template: `{named}`"
            f"\nhint: name the one they were packed with, then `{packed.tokenizer_name}`, with `--tokenizer`",
            key="tokenizer",
        )
    decoder: Decoder = loaded.live
    return decoder


class _Writer:
    """Collects styled text, or the same text with brackets."""

    def __init__(self, tokenizer: Decoder, *, colour: bool) -> None:
        from rich.text import Text

        self.text = Text()
        self._tokenizer = tokenizer
        self._colour = colour

    def border(self, line: str) -> None:
        if self.text.plain and not self.text.plain.endswith("\n"):
            self.text.append("\n")
        self.text.append(f"── {line}\n", STYLES["border"] if self._colour else "")

    def carried(self, packed: PackedDataset, values: dict[str, Any]) -> None:
        """A line for each column that was carried along and has a value here."""
        for name in packed.manifest.carry:
            if values[name] is not None:
                self.border(f"{name}: {values[name]}")

    def tokens(self, ids: list[int], supervised: list[bool], style: str | None = None) -> None:
        for learned, piece in _pieces(self._tokenizer, ids, supervised):
            if self._colour:
                self.text.append(piece, style or STYLES[learned])
            else:
                self.text.append(f"⟦{piece}⟧" if learned else piece)


def _pieces(
    tokenizer: Decoder, ids: list[int], supervised: list[bool]
) -> Iterator[tuple[bool, str]]:
    """The text in stretches that carry the loss or do not.

    A stretch is what decoding one more stretch adds: decoded alone, a stretch would lose its leading space.
    """
    end, before = 0, ""
    for learned, stretch in groupby(supervised):
        end += len(list(stretch))
        after = tokenizer.decode(
            ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        # Half a character at the border decodes to a replacement character, which the next token completes.
        common = len(before) if after.startswith(before) else len(before.rstrip("\ufffd"))
        yield learned, after[common:]
        before = after


def _render_chats(
    packed: PackedDataset, split: Split, row: int, values: dict[str, Any], writer: _Writer
) -> Text:
    import pyarrow.compute as pc

    index = packed.documents(split)
    places = index.filter(pc.equal(index["row"], row)).to_pylist()
    ids, supervised = values["input_ids"], [label != IGNORED for label in values["labels"]]
    filled = f"{len(ids):,} of {packed.max_length:,} tokens"
    writer.border(
        f"{split} row {row} of {rows_of(packed, split):,}: {len(places)} documents, {filled}"
    )
    for number, place in enumerate(places, 1):
        start, end = place["start"], place["start"] + place["length"]
        learned = sum(supervised[start:end])
        cut = ", truncated" if place["truncated"] else ""
        writer.border(
            f"document {number}, `{place['id']}`: {place['length']:,} tokens, {learned:,} with loss{cut}"
        )
        writer.carried(packed, place)
        writer.tokens(ids[start:end], supervised[start:end])
    return writer.text


def _render_pair(
    packed: PackedDataset, split: Split, row: int, values: dict[str, Any], writer: _Writer
) -> Text:
    prompt = values["prompt_ids"]
    writer.border(f"{split} row {row} of {rows_of(packed, split):,}: `{values['id']}`")
    writer.carried(packed, values)
    writer.border(f"prompt: {len(prompt):,} tokens")
    writer.tokens(prompt, [False] * len(prompt))
    for name, style in (("chosen", None), ("rejected", STYLES["rejected"])):
        ids, score = values[f"{name}_ids"], values[f"score_{name}"]
        scored = "" if score is None else f", score {score:g}"
        writer.border(f"{name}: {len(ids):,} tokens{scored}")
        writer.tokens(ids, [True] * len(ids), style)
    return writer.text
