"""Dropped rows with their evidence and changed letters in their place, as text.

    zephyr-data show out --rejects --reason near_duplicate
    zephyr-data show out --changes

A row that went for another one is shown as a diff by words: red is only in the row that went, green only in the one that
stayed. Without colour these stand between `[-` and `-]`, and between `{+` and `+}`, as in `git diff --word-diff=plain`.
"""

from __future__ import annotations

import difflib
import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_data.errors import ConfigError
from zephyr_data.manifest import STAGE_FOLDERS, read_manifest

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    import pyarrow as pa
    from rich.text import Text

STYLES = {"gone": "red", "new": "green", "border": "bold cyan", "quiet": "bright_black"}
MARKS = {"gone": ("[-", "-]"), "new": ("{+", "+}")}
CONTEXT = 40
"""Characters shown on each side of a changed letter."""
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")

Row = dict[str, Any]


def read_rejects(folder: str | os.PathLike[str], reason: str | None = None) -> list[Row]:
    """The dropped rows of all stages in the order of the work, each with its `stage`, and `kept` if another one stayed.

    Args:
        folder: What `prepare` was given as `out`.
        reason: Only rows that went for this.

    Raises:
        ManifestError: There is no finished run.
        ConfigError: No row went for `reason`.
    """
    import pyarrow.compute as pc

    rows: list[Row] = []
    counts: dict[str, int] = {}
    for stage, name in STAGE_FOLDERS.items():
        place = Path(folder) / name
        if stage != "clean" and not place.is_dir():
            continue  # a run that ended early
        for table in _tables(place, "rejects/"):
            for found in pc.value_counts(table["reason"]).to_pylist():
                counts[found["values"]] = counts.get(found["values"], 0) + found["counts"]
            some = table if reason is None else table.filter(pc.equal(table["reason"], reason))
            rows += [{"stage": stage, **row} for row in some.to_pylist()]
    _check(reason, counts, "reason")
    return rows


def find_kept(folder: str | os.PathLike[str], rows: Iterable[Row]) -> dict[str, Row]:
    """The rows that stayed for others, by `id`; they are in `clean/`."""
    return _find(Path(folder), {row["kept_id"] for row in rows if row["kept_id"] is not None})


def read_changes(folder: str | os.PathLike[str], rule: str | None = None) -> list[list[Row]]:
    """The changed letters, those of one message together.

    Raises:
        ManifestError: There is no finished run.
        ConfigError: No letter was changed by `rule`.
    """
    letters: list[Row] = [
        row for table in _tables(Path(folder) / "clean", "changes/") for row in table.to_pylist()
    ]
    counts: dict[str, int] = {}
    for letter in letters:
        counts[letter["rule"]] = counts.get(letter["rule"], 0) + 1
    _check(rule, counts, "rule")
    grouped = (list(some) for _, some in groupby(letters, key=lambda row: (row["id"], row["turn"])))
    return [some for some in grouped if rule is None or any(row["rule"] == rule for row in some)]


def find_changed(
    folder: str | os.PathLike[str], changes: Iterable[list[Row]]
) -> dict[tuple[str, int], str]:
    """The repaired contents of the messages of `changes`, by row and message."""
    rows = _find(Path(folder), {some[0]["id"] for some in changes})
    return {
        (name, turn): message["content"]
        for name, row in rows.items()
        for turn, message in enumerate(_messages(row))
    }


def render_reject(row: Row, kept: Row | None, *, colour: bool) -> Text:
    """One dropped row: why it went, and its text, held against the row that stayed."""
    writer = _Writer(colour=colour)
    stays = f", `{row['kept_id']}` stays" if row["kept_id"] is not None else ""
    writer.border(
        f"{row['stage']}: `{row['id']}` ({row['file']}:{row['line']}): {row['reason']}{stays}"
    )
    writer.add(row["detail"] + "\n", "quiet")
    if row["raw"] is not None:
        writer.add(row["raw"].rstrip("\n") + "\n")
    elif kept is None:
        writer.add(_plain(row))
    else:
        for kind, piece in word_diff(_plain(row), _plain(kept)):
            writer.add(piece, kind)
    return writer.text


def render_changes(letters: list[Row], content: str, rule: str | None, *, colour: bool) -> Text:
    """The changed letters of one message, a line each, with what stands around them."""
    writer = _Writer(colour=colour)
    first = letters[0]
    count = sum(rule is None or letter["rule"] == rule for letter in letters)
    writer.border(f"`{first['id']}`, message {first['turn']}: {count} of its letters changed")
    data, grown = content.encode(), 0
    for letter in letters:
        before, after = letter["before"], letter["after"]
        start = letter["byte_offset"] + grown
        grown += len(after.encode()) - len(before.encode())
        if rule is not None and letter["rule"] != rule:
            continue
        left = data[:start].decode()[-CONTEXT:]
        right = data[start + len(after.encode()) :].decode()[:CONTEXT]
        writer.add(f"{letter['rule']:<16} ", "quiet")
        writer.add(_one_line(left))
        writer.add(before, "gone")
        writer.add(after, "new")
        writer.add(_one_line(right) + "\n")
    return writer.text


def word_diff(gone: str, new: str) -> Iterator[tuple[str | None, str]]:
    """Pieces of two texts: in both (`None`), only in the first (`gone`), only in the second (`new`)."""
    left, right = _WORDS.findall(gone), _WORDS.findall(new)
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=len(left) + len(right) > 4000)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            yield None, "".join(left[a:b])
            continue
        if a < b:
            yield "gone", "".join(left[a:b])
        if c < d:
            yield "new", "".join(right[c:d])


class _Writer:
    """Collects styled text, or the same text with marks."""

    def __init__(self, *, colour: bool) -> None:
        from rich.text import Text

        self.text = Text()
        self._colour = colour

    def border(self, line: str) -> None:
        self.add(f"── {line}\n", "border")

    def add(self, piece: str, kind: str | None = None) -> None:
        if self._colour and kind is not None:
            self.text.append(piece, STYLES[kind])
        elif kind in MARKS:
            self.text.append(piece.join(MARKS[kind]))
        else:
            self.text.append(piece)


def _check(asked: str | None, counts: dict[str, int], what: str) -> None:
    if asked is None or asked in counts:
        return
    there = ", ".join(f"{name} ({count:,})" for name, count in sorted(counts.items()))
    nearest = difflib.get_close_matches(asked, counts, n=1)
    hint = f"did you mean `{nearest[0]}`? " if nearest else ""
    raise ConfigError(
        f"nothing has this {what}: `{asked}`\nhint: {hint}there are: {there or 'none'}",
        key="reason",
    )


def _tables(folder: Path, below: str) -> Iterator[pa.Table]:
    """The Arrow files of a stage whose names begin with `below`; `""` means the rows that stay."""
    import pyarrow as pa

    for entry in read_manifest(folder).files:
        inside = entry.name.startswith(below) if below else "/" not in entry.name
        if inside and entry.name.endswith(".arrow"):
            with pa.memory_map(str(folder / entry.name)) as file:
                yield pa.ipc.open_file(file).read_all()


def _find(folder: Path, names: set[str]) -> dict[str, Row]:
    """Rows of `clean/` by `id`; of several with one `id`, the first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[str, Row] = {}
    wanted = pa.array(sorted(names), pa.string())
    for table in _tables(folder / "clean", ""):
        for row in table.filter(pc.is_in(table["id"], wanted)).to_pylist():
            found.setdefault(row["id"], row)
    return found


def _messages(row: Row) -> list[dict[str, str]]:
    if row.get("messages") is not None:
        return list(row["messages"])
    return [message for side in ("prompt", "chosen", "rejected") for message in row[side] or ()]


def _plain(row: Row) -> str:
    """A record as people read it: each message behind its role."""
    if "messages" in row:
        return "".join(f"{m['role']}: {m['content']}\n" for m in row["messages"] or ())
    sides = ((side, m) for side in ("prompt", "chosen", "rejected") for m in row[side] or ())
    return "".join(f"{side}, {m['role']}: {m['content']}\n" for side, m in sides)


def _one_line(text: str) -> str:
    return text.replace("\n", "⏎")
