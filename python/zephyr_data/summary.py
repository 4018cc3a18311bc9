"""What a run did, in numbers: read from the stages' manifests, and shown as the closing table.

result = prepare("chats.jsonl", tokenizer="tokenizer", out="out")
result.train                       # PosixPath('out/packed/train')
result.splits["train"].tokens      # 12345678
result.stages["clean"].dropped     # {'ai_preface': 1021, 'turns': 33}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from zephyr_data.manifest import STAGE_FOLDERS, Manifest, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Group
    from rich.table import Table


class StageResult(Protocol):
    """What the extension says of a stage: `zephyr_data._core.StageResult`."""

    stage: str
    folder: str
    skipped: bool
    seconds: float
    text_bytes: int


@dataclass(frozen=True)
class StageSummary:
    """What one stage did.

    Attributes:
        stage: `clean`, `dedup` or `pack`.
        folder: Where its files are.
        skipped: Whether an earlier run had done it.
        seconds: How long it took.
        text_bytes: Bytes of message contents that it handled; 0 if skipped.
        rows_in: Rows it was given.
        rows_out: Rows it kept: chats or preferences, also where they are packed.
        dropped: Rows it dropped, by reason; each is in `rejects/` with the evidence.
    """

    stage: str
    folder: Path
    skipped: bool
    seconds: float
    text_bytes: int
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int]

    @property
    def megabytes_per_second(self) -> float | None:
        """Text handled a second; `None` if skipped."""
        return (
            self.text_bytes / self.seconds / 1e6 if self.text_bytes and self.seconds > 0 else None
        )


@dataclass(frozen=True)
class SplitSummary:
    """What was packed into `train` or `test`.

    Attributes:
        documents: Chats or preferences.
        rows: Packed rows; for preferences as many as `documents`.
        tokens: Token ids.
        supervised_tokens: Those that carry the loss.
        truncated: Documents that were longer than a row and lost their end (preferences: their beginning).
        efficiency: Share of the rows that holds tokens, for chats.
    """

    documents: int
    rows: int
    tokens: int
    supervised_tokens: int
    truncated: int
    efficiency: float | None


@dataclass(frozen=True)
class Recall:
    """Copies of rows that were edited and looked for, of one range of similarity.

    Attributes:
        low: From this Jaccard index of copy and row on.
        high: Up to this one.
        pairs: Copies.
        found: Those that were found.
        expected: Share of them that the S-curve of the bands promises, 0 to 1.
    """

    low: float
    high: float
    pairs: int
    found: int
    expected: float


@dataclass(frozen=True, repr=False)
class Prepared:
    """What `prepare` did.

    Attributes:
        out: The folder that holds the stages.
        kind: `chat` or `preference`.
        stages: By name: `clean`, `dedup`, `pack`.
        splits: By name: `train`, `test`.
        letters_repaired: Letters that truecasing touched, in the rows that `clean` kept.
        rows_repaired: Rows with such a letter.
        manifests: By stage: what its `manifest.json` says.
        recall: With `measure_recall`: how many edited copies of rows were found, by similarity.
    """

    out: Path
    kind: str
    stages: Mapping[str, StageSummary]
    splits: Mapping[str, SplitSummary]
    letters_repaired: int
    rows_repaired: int
    manifests: Mapping[str, Manifest] = field(compare=False)
    recall: tuple[Recall, ...] | None = None

    @property
    def train(self) -> Path:
        """Folder of the rows to train on, for `datasets.load_from_disk`."""
        return self.out / "packed" / "train"

    @property
    def test(self) -> Path:
        """Folder of the rows to evaluate on."""
        return self.out / "packed" / "test"

    @property
    def dropped(self) -> dict[str, int]:
        """Rows dropped by all stages, by reason."""
        return {
            reason: count
            for stage in self.stages.values()
            for reason, count in stage.dropped.items()
        }

    def __repr__(self) -> str:
        train, test = self.splits["train"], self.splits["test"]
        parts = [
            f"{self.stages['clean'].rows_in:,} {self.kind}s in, {train.documents + test.documents:,} kept",
            f"train: {train.rows:,} rows, {train.tokens:,} tokens",
            f"test: {test.rows:,} rows, {test.tokens:,} tokens",
        ]
        if skipped := [stage.stage for stage in self.stages.values() if stage.skipped]:
            parts.append(f"skipped: {', '.join(skipped)}")
        return f"Prepared({str(self.out)!r}; {'; '.join(parts)})"


def read_recall(found: str) -> tuple[Recall, ...]:
    """What the extension's `measure_recall` says."""
    import json

    return tuple(
        Recall(bucket["from"], bucket["to"], bucket["pairs"], bucket["found"], bucket["expected"])
        for bucket in json.loads(found)
    )


def summarize(
    out: Path, results: Iterable[StageResult], recall: tuple[Recall, ...] | None = None
) -> Prepared:
    """Joins what the extension said of the stages with their manifests."""
    stages, manifests = {}, {}
    for result in results:
        manifest = read_manifest(out / STAGE_FOLDERS[result.stage])
        counts = manifest.counts
        manifests[result.stage] = manifest
        stages[result.stage] = StageSummary(
            stage=result.stage,
            folder=Path(result.folder),
            skipped=result.skipped,
            seconds=result.seconds,
            text_bytes=result.text_bytes,
            rows_in=counts["rows_in"],
            rows_out=counts["rows_out"],
            dropped=MappingProxyType(dict(counts["dropped"])),
        )
    packed = manifests["pack"].counts
    return Prepared(
        out=out,
        kind=manifests["pack"].kind,
        stages=MappingProxyType(stages),
        splits=MappingProxyType({split: _split(packed[split]) for split in ("train", "test")}),
        letters_repaired=manifests["clean"].counts["letters_repaired"],
        rows_repaired=manifests["clean"].counts["rows_repaired"],
        manifests=MappingProxyType(manifests),
        recall=recall,
    )


def _split(counts: Mapping[str, float]) -> SplitSummary:
    return SplitSummary(
        documents=int(counts.get("documents", counts["rows"])),  # a pair is a row
        rows=int(counts["rows"]),
        tokens=int(counts["tokens"]),
        supervised_tokens=int(counts["supervised_tokens"]),
        truncated=int(counts["truncated"]),
        efficiency=counts.get("efficiency"),
    )


def render(result: Prepared) -> Group:
    """The closing table, for a rich console."""
    from rich.console import Group
    from rich.text import Text

    repaired = f"{result.letters_repaired:,} letters repaired in {result.rows_repaired:,} rows (listed in clean/changes)"
    recall = () if result.recall is None else (_recall_table(result.recall), "")
    return Group(
        _stage_table(result),
        "",
        *recall,
        _split_table(result),
        "",
        Text(
            f"{repaired}\n{_near_lines(result)}{_contamination_lines(result)}{result.out}: {_outcome(result)}"
        ),
    )


def _outcome(result: Prepared) -> str:
    """What can be done with the rows: nothing if all were dropped, such as for a benchmark that is the data itself."""
    if any(split.rows for split in result.splits.values()):
        return "ready to train on"
    return "no row is left to train on; `zephyr-data show DIR --rejects` says why"


def _near_lines(result: Prepared) -> str:
    """What the search for near-duplicates finds: the S-curve of its bands; empty if there was none."""
    manifest = result.manifests["dedup"]
    near, options = manifest.counts.get("near"), manifest.options["dedup"]
    if near is None:
        return ""
    curve = ", ".join(f"{index}: {100 * chance:.1f} %" for index, chance in near["s_curve"].items())
    found = (
        f"{100 * near['recall_from_threshold']:.2f} % of the pairs from {options['threshold']} on"
    )
    return (
        f"{near['clusters']:,} clusters of near-duplicates (listed in dedup/clusters.parquet); "
        f"{options['bands']} bands of {options['rows']} find {found}\n"
        f"of all pairs, by similarity: {curve}\n"
    )


def _contamination_lines(result: Prepared) -> str:
    """What was looked for in the rows, by benchmark; empty if there was none."""
    found = result.manifests["dedup"].counts.get("contamination")
    if found is None:
        return ""
    lines = []
    for benchmark in found["benchmarks"]:
        left_out = benchmark["too_short"] + benchmark["too_common"]
        short = f", {left_out:,} too short or too common to be looked for" if left_out else ""
        lines.append(
            f"{benchmark['name']}: {benchmark['texts']:,} texts{short}; {benchmark['contaminated_rows']:,} rows held one\n"
        )
    closest = found["closest_kept"]
    if closest is not None:
        lines.append(
            f"of a row that stays at most {100 * closest:.1f} % of a text (listed in dedup/closest.parquet)\n"
        )
    return "".join(lines)


def table(*columns: str) -> Table:
    """A table without frame: the first column to the left, the others to the right."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return made


def _stage_table(result: Prepared) -> Table:
    stages = table("stage", "rows in", "rows out", "dropped", "seconds", "MB/s")
    for stage in result.stages.values():
        rate = stage.megabytes_per_second
        stages.add_row(
            stage.stage,
            f"{stage.rows_in:,}",
            f"{stage.rows_out:,}",
            f"{sum(stage.dropped.values()):,}",
            "skipped" if stage.skipped else f"{stage.seconds:,.1f}",
            f"{rate:,.1f}" if rate else "",
        )
        for reason, count in sorted(stage.dropped.items(), key=lambda item: (-item[1], item[0])):
            stages.add_row(f"  {reason}", "", "", f"{count:,}", "", "", style="dim")
    return stages


def _recall_table(recall: tuple[Recall, ...]) -> Table:
    shown = table("similarity", "edited copies", "found", "recall", "by the S-curve")
    for bucket in recall:
        share = f"{100 * bucket.found / bucket.pairs:.2f} %" if bucket.pairs else ""
        expected = f"{100 * bucket.expected:.2f} %" if bucket.pairs else ""
        bounds = f"{bucket.low:g} to {bucket.high:g}"
        shown.add_row(bounds, f"{bucket.pairs:,}", f"{bucket.found:,}", share, expected)
    return shown


def _split_table(result: Prepared) -> Table:
    noun = "chats" if result.kind == "chat" else "pairs"
    columns = ["split", noun, "rows", "tokens", "with loss", "truncated"]
    splits = table(*columns, *(["rows filled"] if result.kind == "chat" else []))
    for name, split in result.splits.items():
        cells = [
            split.documents,
            split.rows,
            split.tokens,
            split.supervised_tokens,
            split.truncated,
        ]
        filled = [] if split.efficiency is None else [f"{100 * split.efficiency:.2f} %"]
        splits.add_row(name, *(f"{cell:,}" for cell in cells), *filled)
    return splits
