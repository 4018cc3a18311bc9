"""`DIR/report.html`: what a run did, on one page that needs nothing else.

Rows through the stages, drops with examples, lengths, packing, repairs, roles and scripts, speed. The numbers come from the manifests and the stages' files; they stand in the page a second time as JSON (`#data`), for
programs. The page names how long the stages took, so it is the one file of a run whose bytes are not always the same. Where
every stage was skipped, the page that is there stays.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zephyr_data.manifest import STAGE_FOLDERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from zephyr_data.summary import Prepared

REPORT = "report.html"

EXAMPLES = 3
"""Rows shown of each reason."""

PREVIEW = 400
"""Characters shown of a row."""

BINS = 32


def write_report(result: Prepared, workers: int) -> Path:
    """Writes the page and gives its path.

    Args:
        result: What `prepare` did.
        workers: Threads for reading the rows once more.

    Raises:
        OSError: It cannot be written.
    """
    path = result.out / REPORT
    if path.exists() and all(stage.skipped for stage in result.stages.values()):
        return path
    page = render(collect(result, workers))
    temporary = path.with_suffix(".tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def render(numbers: dict[str, Any]) -> str:
    """The page for these numbers."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("zephyr_data", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # In a script element nothing but "</" and "<!--" could end or bend it.
    data = json.dumps(numbers, sort_keys=True).replace("<", "\\u003c")
    return environment.get_template("report.html.jinja").render(**numbers, data=data)


def collect(result: Prepared, workers: int) -> dict[str, Any]:
    """All numbers of the page."""
    from zephyr_data import __version__

    clean, pack = result.manifests["clean"], result.manifests["pack"]
    dropped = [
        {
            "stage": stage.stage,
            "reason": reason,
            "count": count,
            "examples": examples.get(reason, []),
        }
        for stage in result.stages.values()
        for examples in [_examples(stage.folder / "rejects", set(stage.dropped))]
        for reason, count in sorted(stage.dropped.items(), key=lambda item: (-item[1], item[0]))
    ]
    return {
        "version": __version__,
        "kind": result.kind,
        "inputs": [asdict(entry) for entry in clean.inputs],
        "tokenizer": {
            key: value for key, value in (pack.tokenizer or {}).items() if key != "special_tokens"
        },
        "stages": [
            {
                "stage": stage.stage,
                "rows_in": stage.rows_in,
                "rows_out": stage.rows_out,
                "dropped": sum(stage.dropped.values()),
                "seconds": None if stage.skipped else stage.seconds,
                "megabytes_per_second": stage.megabytes_per_second,
            }
            for stage in result.stages.values()
        ],
        "dropped": dropped,
        "contamination": result.manifests["dedup"].counts.get("contamination"),
        "splits": {name: asdict(split) for name, split in result.splits.items()},
        "max_length": pack.options["pack"]["max_length"],
        "lengths": _lengths(result),
        "fill": _fill(result),
        "letters_repaired": result.letters_repaired,
        "rows_repaired": result.rows_repaired,
        "repairs": _repairs(result.out),
        **_shares(result, workers),
        "options": {stage: manifest.options for stage, manifest in result.manifests.items()},
    }


def _batches(folder: Path) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for path in sorted(folder.glob("part-*.arrow")):
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)


def _examples(folder: Path, reasons: set[str]) -> dict[str, list[dict[str, str]]]:
    """The first rejects of each reason."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for batch in _batches(folder):
        names = batch.column("reason").to_pylist()
        for index, reason in enumerate(names):
            if len(found[reason]) < EXAMPLES:
                row = batch.slice(index, 1).to_pylist()[0]
                found[reason].append(
                    {
                        "id": row["id"],
                        "place": f"{row['file']}:{row['line']}",
                        "detail": row["detail"],
                        "kept_id": row["kept_id"],
                        "text": _preview(row),
                    }
                )
        if all(len(found[reason]) >= EXAMPLES for reason in reasons):
            break
    return found


def _preview(row: dict[str, Any]) -> str:
    """The beginning of a row's text."""
    if row["raw"] is not None:
        return _cut(row["raw"], PREVIEW)
    columns = [name for name in ("messages", "prompt", "chosen", "rejected") if row.get(name)]
    turns = [(name, turn) for name in columns for turn in row[name]]
    share = max(PREVIEW // max(len(turns), 1), 60)
    return "\n".join(
        f"{name if name in ('chosen', 'rejected') else turn['role']}: {_cut(turn['content'], share)}"
        for name, turn in turns[:8]
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _lengths(result: Prepared) -> dict[str, Any]:
    """Tokens of the documents of both splits, or of prompt and answer of the pairs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from zephyr_data.dataset import open_packed

    packed = open_packed(result.out)
    parts: list[pa.ChunkedArray] = []
    for split in ("train", "test"):
        if result.kind == "chat":
            parts.append(packed.documents(split)["length"])
            continue
        table = packed.table(split)
        prompt = pc.list_value_length(table["prompt_ids"])
        parts += [
            pc.add(prompt, pc.list_value_length(table[name]))
            for name in ("chosen_ids", "rejected_ids")
        ]
    values = [chunk.cast(pa.int64()) for part in parts for chunk in part.chunks]
    return _histogram(values, packed.max_length)


def _fill(result: Prepared) -> dict[str, Any] | None:
    """Tokens of the packed rows; `None` for pairs, which are not packed together."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from zephyr_data.dataset import open_packed

    if result.kind != "chat":
        return None
    packed = open_packed(result.out)
    lengths = [
        pc.list_value_length(packed.table(split)["input_ids"]) for split in ("train", "test")
    ]
    values = [chunk.cast(pa.int64()) for part in lengths for chunk in part.chunks]
    return _histogram(values, packed.max_length)


def _histogram(values: Iterable[pa.Array], longest: int) -> dict[str, Any]:
    """Counts in bins of equal width up to `longest`: bin `i` holds lengths from `i * width + 1` to `(i + 1) * width`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    width = max(-(-longest // BINS), 1)
    counts = [0] * -(-longest // width)
    total, everything = 0, 0
    # No numbers of Python among pyarrow's arguments: it would import pandas, which takes longer than the page.
    found = pc.value_counts(pa.chunked_array(values, pa.int64()))
    for length, count in zip(*(found.field(at).to_pylist() for at in range(2)), strict=True):
        counts[min(max(length - 1, 0) // width, len(counts) - 1)] += count
        total += count
        everything += length * count
    return {
        "width": width,
        "counts": counts,
        "total": total,
        "mean": everything / total if total else 0.0,
    }


def _repairs(out: Path) -> dict[str, int]:
    """Repaired letters by rule."""
    import pyarrow.compute as pc

    counts: dict[str, int] = defaultdict(int)
    for batch in _batches(out / STAGE_FOLDERS["clean"] / "changes"):
        for entry in pc.value_counts(batch.column("rule")):
            counts[entry["values"].as_py()] += entry["counts"].as_py()
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _shares(result: Prepared, workers: int) -> dict[str, Any]:
    """Roles and scripts of the rows that went into packing."""
    from zephyr_data.inspect import inspect

    parts = sorted((result.out / STAGE_FOLDERS["dedup"]).glob("part-*.arrow"))
    found = inspect(parts, kind=result.kind, workers=workers)  # type: ignore[arg-type]
    return {
        "characters_by_role": found.characters_by_role,
        "turns_by_role": found.turns_by_role,
        "rows_by_script": dict(
            sorted(found.rows_by_script.items(), key=lambda item: (-item[1], item[0]))
        ),
        "rows": found.rows,
    }
