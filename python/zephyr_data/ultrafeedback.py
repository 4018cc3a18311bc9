"""UltraFeedback rows among what `prepare` reads: found out by their columns, and made into pairs before the extension reads.

A row of UltraFeedback has an `instruction` and several `completions` with ratings; which two of them make a pair is a choice.
Here it is that of Zephyr: the answer with the best overall score against another one at random, by the code and with the
defaults of `zephyr-data feedback binarize`, which chooses otherwise. The files are read in Python, three times.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zephyr_data.errors import ConfigError, DataError
from zephyr_data.extension import core
from zephyr_data.inputs import SPOOL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zephyr_data.options import Read
    from zephyr_data.progress import Reporter

ReadableInput = Path | tuple[Path, str] | tuple[Path, str, str]
"""What the extension opens: a path, with the name that it is to have, with a note for the manifest."""

NOTHING_LEFT = (
    "UltraFeedback rows of which no pair is left: a prompt needs two answers with different overall scores; questions of"
    " TruthfulQA and answers given to many prompts are left out"
)
"""The note of a file without a pair, among others that have some."""


def with_pairs(
    inputs: list[Path | tuple[Path, str]], folder: Path, read: Read, seed: int, report: Reporter
) -> list[ReadableInput]:
    """The inputs, with files of pairs in the place of those that hold UltraFeedback's rows.

    Args:
        inputs: What `zephyr_data.inputs.readable` gives.
        folder: Where the files of pairs go, into the folder that `readable` removes at its end.
        read: Where these say that the rows are chats, or of a shape of their own, nothing is done.
        seed: Decides which other answer is rejected.
        report: Told what was made of what.

    Raises:
        ConfigError: polars is needed and not there.
        DataError: A row is not as UltraFeedback has it, or no pair is left.
    """
    if read.shape != "auto" or read.kind == "chat":
        return list(inputs)
    files = [file for one in inputs for file in _expanded(one)]
    raw = [file for file in files if _holds_ultrafeedback(_named(file)[0])]
    if not raw:
        return list(inputs)
    try:
        from zephyr_data.feedback.published.pairs import write_pairs
    except ImportError as error:
        raise ConfigError(
            f"making pairs of UltraFeedback rows needs polars: `{_named(raw[0])[1]}`"
            "\nhint: `pip install 'zephyr-data[sources]'`, or `pip install polars`",
            key="inputs",
        ) from error
    spool = folder / SPOOL
    spool.mkdir(parents=True, exist_ok=True)
    targets = {file: spool / f"pairs-{number:05d}.jsonl" for number, file in enumerate(raw)}
    named = [_named(file) for file in raw]
    try:
        made = write_pairs(named, list(targets.values()), seed)
    except DataError as error:
        if "\nhint: " in str(error):
            raise
        hint = "rows are read as `zephyr-data feedback import ultrafeedback` reads them; leave out those that differ"
        raise DataError(f"{error}\nhint: {hint}", error.path, error.line, error.field) from None
    how = f"the best overall score against another answer drawn with seed {seed}"
    counts = f"{made.report.prompts:,} prompts with {made.report.answers:,} answers became {made.report.pairs:,} pairs"
    of = named[0][1] if len(named) == 1 else f"{len(named)} files"
    report.note(
        f"UltraFeedback rows in `{of}`: {counts}, {how}; `zephyr-data feedback import` and `feedback binarize` choose otherwise"
    )
    for line in made.left_out():
        report.note(line)
    notes = {
        file: f"pairs of UltraFeedback rows: {how}" if pairs else NOTHING_LEFT
        for file, pairs in zip(raw, made.pairs, strict=True)
    }
    return [
        (targets[file], _named(file)[1], notes[file]) if file in targets else file for file in files
    ]


def _named(file: Path | tuple[Path, str]) -> tuple[Path, str]:
    return file if isinstance(file, tuple) else (file, str(file))


def _expanded(one: Path | tuple[Path, str]) -> Iterator[Path | tuple[Path, str]]:
    """The files of a folder as the extension finds them, if one of them holds such rows; else what was given."""
    if isinstance(one, tuple) or not one.is_dir():
        yield one
        return
    found = core().find_files([one])
    if any(map(_holds_ultrafeedback, found)):
        yield from found
    else:
        yield one


def _holds_ultrafeedback(path: Path) -> bool:
    """Whether the first row is one of UltraFeedback; what is wrong with its completions is found out as it is read."""
    from zephyr_data.feedback.rows import first_columns

    columns = first_columns(path)
    return (
        columns.get("instruction") is str and "completions" in columns and "output" not in columns
    )
