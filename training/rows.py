"""Packed chats from the mapped file into batches, without a Python number in between.

`datasets` hands rows out as lists, a Python object for each token, which costs more than a small model's step. Here a row is
three views of the mapped file, and a batch is what trl's padding-free collator would make of it, to the bit
(tests/training/test_rows.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

if TYPE_CHECKING:
    import datasets

COLUMNS = ("input_ids", "labels", "seq_lengths")
IGNORED = -100
"""Label of a token that carries no loss."""


class MappedRows(Dataset[dict[str, np.ndarray]]):
    """Rows of a packed data set as views of its file: nothing is copied until a batch is made.

    Args:
        dataset: Packed chats, `input_ids`, `labels` and `seq_lengths`, as `open_packed(DIR).train` gives them.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        self.dataset = dataset
        table = dataset.with_format("arrow")[:]
        chunks = table[COLUMNS[0]].chunks
        self._first = np.cumsum([0] + [len(chunk) for chunk in chunks])
        # By chunk, for each column where its rows begin, and the numbers of all of them.
        self._chunks = [
            {
                name: (chunk.offsets.to_numpy(), chunk.values.to_numpy(zero_copy_only=True))
                for name, chunk in zip(COLUMNS, columns, strict=True)
            }
            for columns in zip(*(table[name].chunks for name in COLUMNS), strict=True)
        ]

    def __reduce__(self) -> tuple[type[MappedRows], tuple[datasets.Dataset]]:
        """A worker process maps the file itself."""
        return type(self), (self.dataset,)

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        """The three columns of a row, each (tokens) or (documents) int32."""
        if not 0 <= row < len(self):
            raise IndexError(row)  # what ends a `for` loop
        chunk = int(np.searchsorted(self._first, row, side="right")) - 1
        place = row - self._first[chunk]
        return {
            name: numbers[begins[place] : begins[place + 1]]
            for name, (begins, numbers) in self._chunks[chunk].items()
        }


def collate(rows: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Rows into one row without padding, as trl's `DataCollatorForLanguageModeling(padding_free=True)`.

    Returns:
        `input_ids`, `labels`, `position_ids` (1, T) int64; `seq_idx` (1, T) int32, the document of each token;
        `cu_seq_lens_q`, `cu_seq_lens_k` (documents + 1) int32; `max_length_q`, `max_length_k`.
    """
    ids, labels, lengths = (
        np.concatenate([row[name] for row in rows]).astype(np.int64) for name in COLUMNS
    )
    ends = np.cumsum(lengths)
    starts = ends - lengths
    labels[starts] = IGNORED  # nothing stands before a document's first token that could predict it
    bounds = torch.from_numpy(np.append(starts, ends[-1]).astype(np.int32))
    longest = int(lengths.max())
    numbers = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return {
        "input_ids": torch.from_numpy(ids)[None],
        "labels": torch.from_numpy(labels)[None],
        "position_ids": torch.from_numpy(np.arange(len(ids)) - np.repeat(starts, lengths))[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
        "seq_idx": torch.from_numpy(numbers)[None],
    }
