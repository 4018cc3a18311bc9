"""What `show --rejects` and `show --changes` share: rows of a stage's files, marks for what differs, and pages.

Red is what is gone and green what has come in its place. Without colour they stand between `[-` and `-]`, and between `{+`
and `+}`, as in `git diff --word-diff=plain`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from zephyr_data.errors import ConfigError, ManifestError
from zephyr_data.manifest import check_sizes, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa
    from rich.text import Text

STYLES = {"gone": "red", "new": "green", "border": "bold cyan", "quiet": "bright_black"}
MARKS = {"gone": ("[-", "-]"), "new": ("{+", "+}")}

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Page:
    """Some of what there is.

    Attributes:
        texts: What to print, one for each.
        summary: The line that says which of how many these are.
    """

    texts: list[Text]
    summary: str


class Writer:
    """Collects styled text, or the same text with marks."""

    def __init__(self, *, colour: bool) -> None:
        from rich.text import Text

        self.text = Text()
        self._colour = colour

    def border(self, line: str) -> None:
        """A line that begins a row."""
        self.add(f"── {line}\n", "border")

    def add(self, piece: str, kind: str | None = None) -> None:
        """Text of a kind, a key of `STYLES`; `None` is plain."""
        if self._colour and kind is not None:
            self.text.append(piece, STYLES[kind])
        elif kind in MARKS:
            self.text.append(piece.join(MARKS[kind]))
        else:
            self.text.append(piece)


def summarise(what: str, first: int, shown: int, total: int) -> str:
    """Which of how many are shown.

    Raises:
        ConfigError: `first` is behind the last one, or negative.
    """
    if first < 0 or first >= max(total, 1):
        raise ConfigError(
            f"there is no such row among the {what}: `{first}`\nhint: "
            + (f"rows count from 0 to {total - 1}" if total else f"there are no {what}"),
            key="row",
        )
    if not total:
        return f"{what}: none"
    return f"{what}: {first} to {first + shown - 1} of {total:,} (`--row`, `--rows`)"


def check_named(asked: str | None, counts: dict[str, int], what: str) -> None:
    """Refuses a reason or rule that nothing has.

    Raises:
        ConfigError: It names the nearest, and what there is.
    """
    if asked is None or asked in counts:
        return
    there = ", ".join(f"{name} ({count:,})" for name, count in sorted(counts.items()))
    nearest = difflib.get_close_matches(asked, counts, n=1)
    hint = f"did you mean `{nearest[0]}`? " if nearest else ""
    raise ConfigError(
        f"nothing has this {what}: `{asked}`\nhint: {hint}there are: {there or 'none'}",
        key="reason",
    )


def tables(folder: Path, below: str = "") -> Iterator[pa.Table]:
    """The Arrow files of a stage whose names begin with `below`, mapped; without it, the rows that stay.

    Raises:
        ManifestError: There is no finished stage, or a file of it is missing, cut off or damaged.
    """
    import pyarrow as pa

    manifest = read_manifest(folder)
    check_sizes(folder, manifest)
    for entry in manifest.files:
        inside = entry.name.startswith(below) if below else "/" not in entry.name
        if inside and entry.name.endswith(".arrow"):
            path = folder / entry.name
            try:
                with pa.memory_map(str(path)) as file:
                    table = pa.ipc.open_file(file).read_all()
            except pa.ArrowInvalid as error:
                raise ManifestError(
                    f"cannot use `{path}`: it is damaged, {str(error).splitlines()[0]}"
                    "\nhint: run `zephyr-data prepare` again with `--overwrite`"
                ) from error
            yield table


def clean_rows(folder: Path, names: set[str]) -> dict[str, list[Row]]:
    """The rows of `folder/clean` by `id`, which need not be unique in the user's data."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[str, list[Row]] = {name: [] for name in names}
    wanted = pa.array(sorted(names), pa.string())
    for table in tables(folder / "clean"):
        for row in table.filter(pc.is_in(table["id"], wanted)).to_pylist():
            found[row["id"]].append(row)
    return found


def sides(row: Row) -> Iterator[tuple[str, dict[str, str]]]:
    """The messages of a row, each with its side: empty in a chat, else `prompt`, `chosen` or `rejected`."""
    for side in ("messages", "prompt", "chosen", "rejected"):
        for message in row.get(side) or ():
            yield "" if side == "messages" else side, message
