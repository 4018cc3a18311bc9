"""Dropped rows with their evidence, held against the rows that stayed: `zephyr-data show DIR --rejects`."""

from __future__ import annotations

import collections
import difflib
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from zephyr_data.manifest import STAGE_FOLDERS, read_manifest
from zephyr_data.shown import Page, Row, Writer, check_named, clean_rows, sides, summarise, tables

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from rich.text import Text

_WORDS = re.compile(r"\w+|\s+|[^\w\s]")

EXHAUSTIVE = 4_000
"""Words of both texts up to which every one counts; beyond, difflib passes over frequent ones, or it would take minutes."""

MOST_PAIRS = 25
"""Equal words to an average word up to which two texts are compared by words; beyond, they repeat themselves."""


def show_rejects(
    folder: str | os.PathLike[str],
    *,
    first: int = 0,
    count: int = 10,
    reason: str | None = None,
    colour: bool = False,
) -> Page:
    """Some of the rows that were dropped, in the order of the stages.

    Args:
        folder: What `prepare` was given as `out`.
        first: The first row shown, from 0.
        count: How many are shown.
        reason: Only rows that went for this.
        colour: Whether what differs is coloured; else it is marked.

    Raises:
        ManifestError: There is no finished run.
        ConfigError: No row went for `reason`, or there is no row `first`.
    """
    rows, total = read_rejects(folder, first=first, count=count, reason=reason)
    summary = summarise("dropped rows", first, len(rows), total)
    kept = clean_rows(Path(folder), {row["kept_id"] for _, row in rows} - {None})
    carry = read_manifest(Path(folder) / STAGE_FOLDERS["clean"]).carry
    texts = [
        render_reject(
            stage, row, _other(row, kept.get(row["kept_id"], [])), carry=carry, colour=colour
        )
        for stage, row in rows
    ]
    return Page(texts, summary)


def read_rejects(
    folder: str | os.PathLike[str], *, first: int, count: int, reason: str | None = None
) -> tuple[list[tuple[str, Row]], int]:
    """The rows from `first` on, each with the stage that dropped it, and how many there are."""
    import pyarrow.compute as pc

    rows: list[tuple[str, Row]] = []
    total = 0
    counts: dict[str, int] = {}
    for stage, name in STAGE_FOLDERS.items():
        place = Path(folder) / name
        if stage != "clean" and not place.is_dir():
            continue  # a run that ended early
        for table in tables(place, "rejects/"):
            for found in pc.value_counts(table["reason"]).to_pylist():
                counts[found["values"]] = counts.get(found["values"], 0) + found["counts"]
            some = table if reason is None else table.filter(pc.equal(table["reason"], reason))
            start = max(first - total, 0)
            wanted = some.slice(start, count - len(rows)) if start < some.num_rows else some[:0]
            rows += [(stage, row) for row in wanted.to_pylist()]
            total += some.num_rows
    check_named(reason, counts, "reason")
    return rows, total


def _other(row: Row, candidates: list[Row]) -> Row | None:
    """The row that stayed: where rows share an `id`, not the dropped one itself."""
    place = (row["file"], row["line"])
    return next((found for found in candidates if (found["file"], found["line"]) != place), None)


def render_reject(
    stage: str, row: Row, kept: Row | None, *, carry: Sequence[str] = (), colour: bool
) -> Text:
    """One dropped row: which stage dropped it and why it went, what it carries, and its text, as a diff if another one stayed."""
    writer = Writer(colour=colour)
    stays = f", `{row['kept_id']}` stays" if row["kept_id"] is not None else ""
    writer.border(f"{stage}: `{row['id']}` ({row['file']}:{row['line']}): {row['reason']}{stays}")
    writer.add(row["detail"] + "\n", "quiet")
    for name in carry:
        if row[name] is not None:
            writer.add(f"{name}: {row[name]}\n", "quiet")
    if row["raw"] is not None:
        writer.add(row["raw"].rstrip("\n") + "\n")
    elif kept is None:
        writer.add(_plain(row))
    else:
        for kind, piece in word_diff(_plain(row), _plain(kept)):
            writer.add(piece, kind)
    return writer.text


def word_diff(gone: str, new: str) -> Iterator[tuple[str | None, str]]:
    """Pieces of two texts: in both (`None`), only in the first (`gone`), only in the second (`new`)."""
    left, right = _WORDS.findall(gone), _WORDS.findall(new)
    start = _shared(left, right)
    end = _shared(left[start:][::-1], right[start:][::-1])
    yield from _piece(None, left[:start])
    yield from _middle(left[start : len(left) - end], right[start : len(right) - end])
    yield from _piece(None, left[len(left) - end :])


def _shared(left: list[str], right: list[str]) -> int:
    """How many elements two lists begin with together."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    return sum(1 for _ in same)


def _middle(left: list[str], right: list[str]) -> Iterator[tuple[str | None, str]]:
    """What lies between the same beginning and end: word by word, else line by line, else as a whole.

    A comparison goes through all pairs of equal elements, again and again where they repeat themselves.
    """
    lines = ["".join(words).splitlines(keepends=True) for words in (left, right)]
    for a, b in ((left, right), lines):
        counts = collections.Counter(b)
        if sum(counts[element] for element in a) <= MOST_PAIRS * (len(a) + len(b)):
            break
    else:
        yield from _piece("gone", left)
        yield from _piece("new", right)
        return
    many = len(a) + len(b) > EXHAUSTIVE
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=many)
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind == "equal":
            yield from _piece(None, a[i:j])
        else:
            yield from _piece("gone", a[i:j])
            yield from _piece("new", b[k:m])


def _piece(kind: str | None, parts: list[str]) -> Iterator[tuple[str | None, str]]:
    if parts:
        yield kind, "".join(parts)


def _plain(row: Row) -> str:
    """A record as people read it: each message behind its role."""
    return "".join(
        f"{side}{', ' if side else ''}{message['role']}: {message['content']}\n"
        for side, message in sides(row)
    )
