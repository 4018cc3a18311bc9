"""Letters that truecasing changed, in their place: `zephyr-data show DIR --changes`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from zephyr_data.errors import ManifestError
from zephyr_data.shown import Page, Row, Writer, check_named, clean_rows, sides, summarise, tables

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from rich.text import Text

CONTEXT = 40
"""Characters shown on each side of a letter."""


def show_changes(
    folder: str | os.PathLike[str],
    *,
    first: int = 0,
    count: int = 10,
    rule: str | None = None,
    colour: bool = False,
) -> Page:
    """Some of the messages with changed letters, in the order of the rows.

    Args:
        folder: What `prepare` was given as `out`.
        first: The first message shown, from 0.
        count: How many are shown.
        rule: Only letters that were changed by this rule.
        colour: Whether letters are coloured; else they are marked.

    Raises:
        ManifestError: There is no finished run, or its files do not fit together.
        ConfigError: No letter was changed by `rule`, or there is no message `first`.
    """
    messages: list[list[Row]] = []
    counts: dict[str, int] = {}
    total = 0
    for letters in read_changes(folder):
        for letter in letters:
            counts[letter["rule"]] = counts.get(letter["rule"], 0) + 1
        if rule is None or any(letter["rule"] == rule for letter in letters):
            if first <= total < first + count:
                messages.append(letters)
            total += 1
    check_named(rule, counts, "rule")
    summary = summarise("changed messages", first, len(messages), total)
    rows = clean_rows(Path(folder), {letters[0]["id"] for letters in messages})
    texts = [
        render_changes(letters, _content(letters, rows[letters[0]["id"]]), rule, colour=colour)
        for letters in messages
    ]
    return Page(texts, summary)


def read_changes(folder: str | os.PathLike[str]) -> Iterator[list[Row]]:
    """The changed letters, those of one message together; a record batch in memory at a time."""
    letters = (
        letter
        for table in tables(Path(folder) / "clean", "changes/")
        for batch in table.to_batches()
        for letter in batch.to_pylist()
    )
    for _, some in groupby(letters, key=lambda letter: (letter["id"], letter["turn"])):
        yield list(some)


def render_changes(letters: list[Row], content: str, rule: str | None, *, colour: bool) -> Text:
    """The changed letters of one message, a line each, with what stands around them.

    Args:
        letters: Rows of `clean/changes/`.
        content: The repaired message.
        rule: Only letters that were changed by this rule.
        colour: As for `show_changes`.
    """
    writer = Writer(colour=colour)
    shown = [rule is None or letter["rule"] == rule for letter in letters]
    first = letters[0]
    writer.border(f"`{first['id']}`, message {first['turn']}: {sum(shown)} of its letters changed")
    data = content.encode()
    for letter, (start, end), is_shown in zip(letters, _places(letters), shown, strict=True):
        if is_shown:
            writer.add(f"{letter['rule']:<16} ", "quiet")
            writer.add(_one_line(data[:start].decode()[-CONTEXT:]))
            writer.add(letter["before"], "gone")
            writer.add(letter["after"], "new")
            writer.add(_one_line(data[end:].decode()[:CONTEXT]) + "\n")
    return writer.text


def _places(letters: list[Row]) -> Iterator[tuple[int, int]]:
    """Start and end of each letter in the repaired content, in bytes: offsets are of the original, and letters may grow."""
    grown = 0
    for letter in letters:
        start = letter["byte_offset"] + grown
        size = len(letter["after"].encode())
        grown += size - len(letter["before"].encode())
        yield start, start + size


def _content(letters: list[Row], rows: list[Row]) -> str:
    """The repaired message; where rows share an `id`, the one that has these letters."""
    for row in rows:
        contents = [message["content"] for _, message in sides(row)]
        if letters[0]["turn"] >= len(contents):
            continue
        data = contents[letters[0]["turn"]].encode()
        there = [data[start:end].decode(errors="replace") for start, end in _places(letters)]
        if there == [letter["after"] for letter in letters]:
            return str(contents[letters[0]["turn"]])
    raise ManifestError(
        f"`clean/changes` lists letters of `{letters[0]['id']}`, message {letters[0]['turn']}, that `clean` does not hold"
        "\nhint: run `zephyr-data prepare` again with `--overwrite`"
    )


def _one_line(text: str) -> str:
    return text.replace("\n", "⏎")
