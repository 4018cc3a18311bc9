"""How fast packed rows become tensors, from a file of Arrow, without a model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import torch

from steps.rows import documents, packed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

COPIES = 40  # of the rows that are drawn: making random ids is slower than reading them
MOST = 40_000_000  # tokens that are read


def feed(options: argparse.Namespace, column: str) -> dict:
    """Tokens a second, and how much memory grew meanwhile: the file is mapped, not read."""
    rows = packed(documents(options, 2000), options.max_length)
    kind = pa.list_(pa.int32())
    table = pa.table({name: pa.array([row[name] for row in rows], kind) for name in rows[0]})
    path = Path(options.scratch) / "rows.arrow"
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        for _ in range(COPIES):
            writer.write_table(table, max_chunksize=1000)
    del rows, table
    many = max(1, options.batch_tokens // options.max_length)
    batches = stock_batches(path, many) if column == "stock" else our_batches(path, many)
    before = anonymous_mb()
    start, cpu, tokens = time.perf_counter(), time.process_time(), 0
    for ids in batches:
        tokens += ids.numel()
        if tokens >= MOST:
            break
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "tokens": tokens,
        "file_mb": path.stat().st_size // 10**6,
        "tokens_per_s": round(tokens / wall),
        "tokens_per_cpu_s": round(tokens / cpu),
        "memory_grew_mb": anonymous_mb() - before,
    }


def our_batches(path: Path, many: int) -> Iterator[torch.Tensor]:
    """Ids of each batch, as `training/sft.py` gets them."""
    from datasets import Dataset
    from rows import MappedRows, collate

    opened = MappedRows(Dataset.from_file(str(path)))
    loader = torch.utils.data.DataLoader(opened, batch_size=many, collate_fn=collate)
    for batch in loader:
        yield batch["input_ids"]


def stock_batches(path: Path, many: int) -> Iterator[torch.Tensor]:
    """Ids of each batch, as SFTTrainer gets them: rows of `datasets` through trl's padding-free collator."""
    from datasets import Dataset
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    opened = Dataset.from_file(str(path))
    loader = torch.utils.data.DataLoader(opened, batch_size=many, collate_fn=collate)
    for batch in loader:
        yield batch["input_ids"]


def anonymous_mb() -> int | None:
    """Memory of this process that no file stands behind; what is mapped from a file can be dropped at any time."""
    status = Path("/proc/self/status")
    if not status.exists():  # not Linux
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024 // 10**6
