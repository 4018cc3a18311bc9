"""Looks at files before anything is done with them: shapes, rows, roles, lengths, scripts, the first bad row.

    found = inspect("chats.jsonl")
    found.rows, found.files[0].shape          # 1200, 'sharegpt'
    print(found.first_bad_row)                # no field `value` at chats.jsonl:17, field: `conversations[3]` …

Nothing is written. `zephyr-data inspect` prints the same.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zephyr_data.extension import core
from zephyr_data.inputs import find_sources, readable
from zephyr_data.progress import reporter
from zephyr_data.ultrafeedback import NOTHING_LEFT, with_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Group

    from zephyr_data.inputs import Input
    from zephyr_data.options import Kind, Shape


@dataclass(frozen=True)
class Spread:
    """How values are spread over the rows; all zero without rows. Quantiles are values that occur."""

    min: int
    p10: int
    median: int
    p90: int
    p99: int
    max: int
    mean: float


@dataclass(frozen=True)
class InspectedFile:
    """What one file holds.

    Attributes:
        name: As it was named.
        shape: Its shape (docs/SHAPES.md); `None` if no row has the columns of one.
        kind: `chat` or `preference`; `None` likewise.
        rows: Rows that can be read.
        bad_rows: Rows that cannot.
        note: How its rows were made, where they are not what stands in the file: the pairs of UltraFeedback's rows.
    """

    name: str
    shape: str | None
    kind: str | None
    rows: int
    bad_rows: int
    note: str | None = None


@dataclass(frozen=True)
class Inspection:
    """What all files hold.

    Attributes:
        files: File by file, in the order in which they are read.
        rows: Rows that can be read.
        bad_rows: Rows that cannot.
        first_bad_row: Problem, place and hint of the first of them.
        turns_by_role: Messages by role.
        characters_by_role: Code points by role.
        rows_by_script: Rows by the script of most of their letters, such as `Latin` or `Han`; `none` without letters.
        turns: Messages of a row.
        characters: Code points of a row.
    """

    files: tuple[InspectedFile, ...]
    rows: int
    bad_rows: int
    first_bad_row: str | None
    turns_by_role: dict[str, int]
    characters_by_role: dict[str, int]
    rows_by_script: dict[str, int]
    turns: Spread
    characters: Spread


def inspect(
    inputs: Input | Iterable[Input],
    *,
    kind: Kind = "auto",
    shape: Shape = "auto",
    carry: Sequence[str] | None = None,
    workers: int | None = None,
    progress: bool | Callable[[str, int, int, int], object] | None = False,
) -> Inspection:
    """Reads the inputs once and says what they hold; rows that cannot be read are counted.

    Args:
        inputs: As for `prepare`.
        kind: Whether only the columns of a `chat` or of a `preference` count.
        shape: How the columns are understood, where they do not say it themselves.
        carry: As for `prepare`: a row without one of these columns cannot be read.
        workers: Threads. Default: all CPUs that this process may use.
        progress: As for `prepare`.

    Raises:
        ConfigError: An argument cannot be used.
        DataError: A file cannot be read.
        OSError: Likewise.
    """
    from zephyr_data.config import Config

    overrides = {
        "read.kind": kind,
        "read.shape": shape,
        "read.carry": carry if carry is None or isinstance(carry, str) else list(carry),
        "workers": workers,
    }
    config = Config.load(None, overrides)
    sources = find_sources(inputs)
    with (
        tempfile.TemporaryDirectory(prefix="zephyr-data-") as folder,
        readable(sources, Path(folder)) as readables,
        reporter(progress) as report,
    ):
        paths = with_pairs(readables, Path(folder), config.read, config.seed, report)
        found = json.loads(core().inspect(paths, config.read, config.workers, report))
    for file in found["files"]:
        if file["shape"] is None and file["note"] == NOTHING_LEFT:
            file["shape"] = file["kind"] = "preference"  # an empty file of pairs has no columns
    found["files"] = tuple(InspectedFile(**file) for file in found["files"])
    for name in ("turns", "characters"):
        found[name] = Spread(**found[name])
    return Inspection(**found)


def render(found: Inspection) -> Group:
    """The tables, for a rich console."""
    from rich.console import Group
    from rich.text import Text

    from zephyr_data.summary import table

    files = table("file", "shape", "kind", "rows", "bad rows")
    for file in found.files:
        shape, kind = file.shape or "unknown", file.kind or ""
        files.add_row(file.name, shape, kind, f"{file.rows:,}", f"{file.bad_rows:,}")
    parts: list[object] = [files]
    parts += [Text(f"{file.name}: {file.note}") for file in found.files if file.note]
    if found.rows:
        spread = table("of a row", "min", "10 %", "median", "mean", "90 %", "99 %", "max")
        for name, of in (("messages", found.turns), ("characters", found.characters)):
            cells = (of.min, of.p10, of.median, round(of.mean, 1), of.p90, of.p99, of.max)
            spread.add_row(name, *(f"{cell:,}" for cell in cells))
        roles = table("role", "messages", "characters", "share")
        characters = max(sum(found.characters_by_role.values()), 1)
        for role, turns in sorted(
            found.turns_by_role.items(), key=lambda item: (-item[1], item[0])
        ):
            length = found.characters_by_role[role]
            roles.add_row(role, f"{turns:,}", f"{length:,}", f"{100 * length / characters:.1f} %")
        scripts = table("script", "rows", "share")
        for script, rows in sorted(
            found.rows_by_script.items(), key=lambda item: (-item[1], item[0])
        ):
            scripts.add_row(script, f"{rows:,}", f"{100 * rows / found.rows:.1f} %")
        parts += ["", spread, "", roles, "", scripts]
    if found.first_bad_row:
        parts += ["", Text(f"first bad row: {found.first_bad_row}")]
    return Group(*parts)  # type: ignore[arg-type]  # strings and tables are what it takes
