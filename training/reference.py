"""The reference model's log-probabilities, computed once and kept beside the data.

They depend on the rows, the model and the arithmetic alone, so they stand in `DIR/reference/KEY/` under a key of these: later
epochs and runs read them, and a pass that was interrupted goes on behind its last part. Each part is an Arrow file of `row`,
`ref_chosen_logps` and `ref_rejected_logps`, written beside its name and renamed; `complete.json` comes last.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")
COMPLETE = "complete.json"


def key_of(parts: dict[str, Any]) -> str:
    """A key for all that the numbers depend on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class ReferenceStore:
    """One split's log-probabilities under one key.

    Args:
        folder: Where all keys are kept, such as `DIR/reference`.
        parts: All that the numbers depend on; written into `complete.json` for people.
        rows: How many rows the split has.
    """

    def __init__(self, folder: str | Path, parts: dict[str, Any], rows: int) -> None:
        self.folder = Path(folder) / key_of(parts)
        self.parts = parts
        self.rows = rows

    def is_complete(self) -> bool:
        """Whether all rows are there; what says so is checked, not believed."""
        try:
            said = json.loads((self.folder / COMPLETE).read_bytes())
        except (FileNotFoundError, ValueError):
            return False
        return said.get("rows") == self.rows and len(self.known()) == self.rows

    def known(self) -> set[int]:
        """Rows that are there."""
        return {row for table in self._tables() for row in table["row"].to_pylist()}

    def add(self, rows: Iterable[int], chosen: Iterable[float], rejected: Iterable[float]) -> None:
        """Keeps a part; after this call it survives a kill."""
        rows = list(rows)
        if not rows:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(path.stem.split("-")[1]) for path in self._paths()]
        path = self.folder / f"part-{max(numbers, default=-1) + 1:05d}.arrow"
        table = pa.table(
            {
                "row": pa.array(rows, pa.int64()),
                COLUMNS[0]: pa.array(list(chosen), pa.float32()),
                COLUMNS[1]: pa.array(list(rejected), pa.float32()),
            }
        )
        temporary = path.with_suffix(".tmp")
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        temporary.rename(path)

    def finish(self) -> None:
        """Says that all is there.

        Raises:
            RuntimeError: It is not, or a number is not finite.
        """
        self.table()
        text = json.dumps({"rows": self.rows, **self.parts}, indent=2, sort_keys=True) + "\n"
        temporary = self.folder / f".{COMPLETE}.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(self.folder / COMPLETE)

    def table(self) -> pa.Table:
        """(rows) the two columns, in the order of the data set.

        Raises:
            RuntimeError: A row is missing or its numbers are not finite.
        """
        import pyarrow.compute as pc

        tables = self._tables()
        if not tables:
            raise RuntimeError(f"no reference log-probabilities in `{self.folder}`")
        table = pa.concat_tables(tables).sort_by("row")
        good = table["row"].equals(pa.chunked_array([pa.array(range(self.rows), pa.int64())]))
        if not good or not all(pc.all(pc.is_finite(table[name])).as_py() for name in COLUMNS):
            raise RuntimeError(
                f"the reference log-probabilities in `{self.folder}` are damaged\nhint: remove the folder; they are computed again"
            )
        return table.select(COLUMNS)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.arrow"))

    def _tables(self) -> list[pa.Table]:
        return [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in self._paths()]
