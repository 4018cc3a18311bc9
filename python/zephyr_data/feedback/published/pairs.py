"""UltraFeedback rows straight to pairs, for `prepare`: what `import ultrafeedback` and `binarize --score overall` make of them.

The choice is `binarize`'s own and is made on numbers, a few hundred bytes an answer; the texts are read again as the pairs are
written, so memory does not grow with them. Pairs come in the order of the files, each on the line that has the number of
its row, so that what is said of a pair names the place in the user's file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import polars as pl

from zephyr_data.errors import DataError
from zephyr_data.feedback.binarize import COLUMNS, Binarizing, Report, choose, describe
from zephyr_data.feedback.published import Imported
from zephyr_data.feedback.published.ultrafeedback import read_placed
from zephyr_data.feedback.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BATCH = 8192
"""Answers whose texts are in memory at a time."""

Stamp = tuple[int, int]


@dataclass(slots=True)
class Paired:
    """What became of the rows.

    Attributes:
        imported: What the reading repaired and left out.
        report: What the choice left out.
        pairs: How many pairs each file gave, in the order of the files.
    """

    imported: Imported = field(default_factory=Imported)
    report: Report = field(default_factory=Report)
    pairs: list[int] = field(default_factory=list)

    def left_out(self) -> list[str]:
        """Counts with their reasons, repairs first."""
        counts = [
            ("repaired", self.imported.repaired),
            ("left out", self.imported.left_out),
            ("left out answers", self.report.left_out_answers),
            ("left out prompts", self.report.left_out_prompts),
        ]
        return [
            f"{what}, {reason}: {count}"
            for what, reasons in counts
            for reason, count in sorted(reasons.items())
        ]


def write_pairs(files: Sequence[tuple[Path, str]], targets: Sequence[Path], seed: int) -> Paired:
    """Writes the pairs of each file, as JSON lines, to its target.

    Args:
        files: The files, with the names that messages call them.
        targets: Where the pairs of each go.
        seed: Decides equal scores and which other answer is rejected.

    Raises:
        DataError: A row is not one of UltraFeedback, no pair is left, or a file is changed while it is read.
    """
    paired = Paired()
    before = [_stamp(path) for path, _ in files]
    answers, places = _numbers(files, paired)
    pairs = choose(answers, Binarizing(score="overall", seed=seed), paired.report)
    paired.report.pairs = pairs.height
    if pairs.is_empty():
        reasons = paired.left_out()
        raise DataError(
            f"no pair is left of the rows of: {', '.join(name for _, name in files)}\nhint: "
            + (f"{'; '.join(reasons)}; " if reasons else "")
            + "a prompt needs two answers with different overall scores",
            files[0][1],
        )
    chosen = places[pairs["row_chosen"]].select("file", "number", chosen="position")
    pairs = pairs.with_columns(
        **chosen.to_dict(), rejected=places[pairs["row_rejected"]]["position"]
    ).sort("file", "number")
    for at, ((path, name), target) in enumerate(zip(files, targets, strict=True)):
        of_file = pairs.filter(pl.col("file") == at)
        paired.pairs.append(of_file.height)
        _write(path, name, of_file, target)
        if _stamp(path) != before[at]:
            raise _changed(name)
    return paired


def _stamp(path: Path) -> Stamp:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _changed(name: str) -> DataError:
    return DataError(
        f"it was changed while it was read: {name}"
        "\nhint: wait until it is written, then run the same command again",
        name,
    )


def _numbers(
    files: Sequence[tuple[Path, str]], paired: Paired
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All answers as `choose` takes them, and where each stands: `file, number, position`."""
    described: list[pl.DataFrame] = []
    places: list[pl.DataFrame] = []
    for batch in _batches(files, paired):
        described.append(describe(batch.select(COLUMNS)).with_columns(batch["score"]))
        places.append(batch.select("file", "number", "position"))
    if not described:
        raise DataError(
            f"nothing is left of the rows of: {', '.join(name for _, name in files)}\nhint: "
            + ("; ".join(paired.left_out()) or "a row has `instruction` and `completions`"),
            files[0][1],
        )
    answers = pl.concat(described).with_columns(row=pl.int_range(pl.len()))
    return answers, pl.concat(places)


def _batches(files: Sequence[tuple[Path, str]], paired: Paired) -> Iterator[pl.DataFrame]:
    schema = {
        "file": pl.Int32,
        "number": pl.Int64,
        "prompt_id": pl.String,
        "position": pl.Int32,
        "model": pl.String,
        "text": pl.String,
        "finish_reason": pl.String,
        "score": pl.Float64,
    }
    rows: list[tuple[Any, ...]] = []
    for at, number, row in read_placed(files, paired.imported, strict=False):
        for position, answer in enumerate(row.answers):
            score = next(rating.score for rating in answer.ratings if rating.mode == "overall")
            rows.append(
                (at, number, row.prompt.id, position, answer.model, answer.text, None, score)
            )
        if len(rows) >= BATCH:
            yield pl.DataFrame(rows, schema, orient="row")
            rows = []
    if rows:
        yield pl.DataFrame(rows, schema, orient="row")


def _write(path: Path, name: str, pairs: pl.DataFrame, target: Path) -> None:
    """Writes pairs to the lines that have their rows' numbers; the lines between are blank."""
    wanted = pairs.iter_rows(named=True)
    pair = next(wanted, None)
    written = 0
    with target.open("w", encoding="utf-8") as file:
        for number, row in read_rows(path, name):
            if pair is None:
                break
            if number < pair["number"]:
                continue
            try:
                line = _line(row, pair)
            except (LookupError, TypeError, AttributeError):
                raise _changed(name) from None
            file.write("\n" * (number - 1 - written) + line + "\n")
            written, pair = number, next(wanted, None)
    if pair is not None:
        raise _changed(name)


def _line(row: dict[str, Any], pair: dict[str, Any]) -> str:
    """A pair as one line of JSON, with the columns of `binarize` that can be carried along."""
    instruction, completions = row["instruction"], row["completions"]
    if sha256(instruction.encode()).hexdigest() != pair["prompt_id"]:
        raise LookupError
    made = {"id": pair["prompt_id"], "prompt": instruction}
    for side in ("chosen", "rejected"):
        made[side] = completions[pair[side]]["response"]
        made[f"score_{side}"] = pair[f"score_{side}"]
        made[f"model_{side}"] = pair[f"model_{side}"]
    return json.dumps({**made, "source": row["source"]}, ensure_ascii=False)
