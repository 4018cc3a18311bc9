"""Random rows of a stage's folder, such as those whose ids are held against transformers before rows are packed."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import random
from typing import TYPE_CHECKING

from zephyr_data.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa


def random_rows(
    folder: Path, columns: list[str], count: int, seed: int
) -> Iterator[pa.RecordBatch]:
    """Up to `count` rows, each a batch by itself, in the order of the data; the same ones for the same seed, on any machine.

    Only the batches that hold one of them are read, one at a time.

    Raises:
        ManifestError: A file is damaged.
    """
    places: list[tuple[Path, int]] = []
    ends: list[int] = []
    for path in sorted(folder.glob("part-*.arrow")):
        with _opened(path) as reader:
            for number in range(reader.num_record_batches):
                places.append((path, number))
                ends.append(reader.get_batch(number).num_rows + (ends[-1] if ends else 0))
    total = ends[-1] if ends else 0
    chosen = sorted(random.Random(seed).sample(range(total), min(count, total)))
    for place, rows in itertools.groupby(chosen, lambda row: bisect.bisect_right(ends, row)):
        path, number = places[place]
        found = []
        with _opened(path) as reader:
            batch = reader.get_batch(number).select(columns)
            start = ends[place] - batch.num_rows
            for row in rows:
                one = batch.slice(row - start, 1)
                one.validate(full=True)  # what a flipped bit points to may lie outside the file
                found.append(one)
        yield from found


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pa.RecordBatchFileReader]:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            yield reader
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"cannot use `{path}`: it is damaged: {str(error).splitlines()[0]}"
            "\nhint: run the command again with `--overwrite`; if it comes again, look at the disk"
        ) from error
