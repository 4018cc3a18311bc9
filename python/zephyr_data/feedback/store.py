"""The store: an append-only journal in which no paid answer is ever lost.

    STORE/store.json              format, seed, model pool, what was judged how
    STORE/prompts.jsonl           the prompts, sorted by id
    STORE/segments/000001.jsonl   one line per finished request, appended the moment it finishes
    STORE/lock                    held by the one writer
    STORE/completions.parquet     compact tables, written by `tables.py` when a command ends
    STORE/verdicts.parquet

A line starts with its key, its status and its cost, so that a start only has to look at the first
hundred bytes of each line to know what is done. The key is a hash of the prompt, the model or
judge, the template version and the parameters: whatever changes the question changes the key.
A line is one `write` call, which survives the death of the process; `fsync` once a second bounds
what a power cut can take. A last line without its end was not finished: it is cut at the start.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Any, Self

from zephyr_data.errors import DataError, ManifestError, ZephyrDataError
from zephyr_data.feedback.prompts import Prompt, merge_prompts, parse_prompt
from zephyr_data.feedback.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FORMAT = 1
SEGMENT_BYTES = 256 << 20
FSYNC_SECONDS = 1.0
PREFIX = b'{"key":"'
STATUS = b'","status":"'
COST = b'","cost":'
KIND = b',"kind":'
COMPLETION = b',"kind":"completion"'
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Record = dict[str, Any]


def request_key(**parts: object) -> str:
    """The key of a request: the hash of everything that could change its answer."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a finished record stands."""

    segment: int
    offset: int
    length: int


def write_atomically(path: Path, text: str) -> None:
    """Writes beside the target and renames, so that a reader sees the old or the new text."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _head(line: bytes, segment: Path, number: int) -> tuple[str, str, float]:
    """Key, status and cost of a line, without parsing the rest.

    Raises:
        DataError: The line was not written by this store.
    """
    status_at = len(PREFIX) + 64
    cost_at = line.find(COST, status_at)
    end = line.find(b",", cost_at + len(COST))
    if (
        not line.startswith(PREFIX)
        or line[status_at : status_at + len(STATUS)] != STATUS
        or min(cost_at, end) < 0
        or not line.endswith(b"}\n")
    ):
        raise DataError(
            f"damaged line at {segment}:{number}: {line[:60]!r}\n"
            "hint: remove this line; its request will be sent again",
            str(segment),
            number,
        )
    key = line[len(PREFIX) : status_at].decode("ascii", "replace")
    return (
        key,
        line[status_at + len(STATUS) : cost_at].decode(),
        float(line[cost_at + len(COST) : end]),
    )


def _is_completion(line: bytes) -> bool:
    """Whether a line holds an answer. The kind nearly always stands behind the head."""
    end = line.find(b",", line.find(COST, len(PREFIX) + 64) + len(COST))
    if line.startswith(KIND, end):
        return line.startswith(COMPLETION, end)
    return bool(json.loads(line)["kind"] == "completion")


class Store:
    """One folder; open it with `Store.read` or, as the one writer, with `Store.write`."""

    def __init__(self, path: Path, lock: IO[str] | None) -> None:
        self.path = path
        self._lock = lock
        self._file: int | None = None
        self._size = 0
        self._synced = 0.0
        self._readers: dict[int, int] = {}
        self.done: dict[str, Place] = {}
        self.cost = 0.0
        self.failed_lines = 0
        self.cut_bytes = 0
        self.state: dict[str, Any] = {"format": FORMAT}

    @classmethod
    def read(cls, path: Path, *, scan: bool = True) -> Self:
        """Opens a store for reading; a writer may be at work.

        Without `scan` only settings, prompts and tables can be read: the journal stays closed.
        """
        if not (path / "store.json").is_file():
            raise ManifestError(
                f"no feedback store at: {path}\nhint: `feedback complete` or `import` makes one"
            )
        store = cls(path, None)
        store._load(scan=scan)
        return store

    @classmethod
    def write(cls, path: Path) -> Self:
        """Opens (or makes) a store as its only writer, and cuts a torn tail.

        Raises:
            ZephyrDataError: Another process is writing into it.
            ManifestError: The folder holds something else.
        """
        import fcntl

        if path.is_dir() and any(path.iterdir()) and not (path / "lock").exists():
            raise ManifestError(
                f"the folder is not a feedback store: {path}\nhint: name a new or empty folder"
            )
        (path / "segments").mkdir(parents=True, exist_ok=True)
        lock = (path / "lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise ZephyrDataError(
                f"another process is writing into this store: {path}\n"
                "hint: wait for it, or use a second store; shards can be merged by `complete`"
                " with both prompt files"
            ) from None
        store = cls(path, lock)
        try:
            if not (path / "store.json").exists():
                store.save_state()
            store._load()
        except BaseException:
            lock.close()
            raise
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Brings everything to the disk and lets the next writer in."""
        if self._file is not None:
            os.fsync(self._file)
            os.close(self._file)
            self._file = None
        for descriptor in self._readers.values():
            os.close(descriptor)
        self._readers.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # --- segments ---------------------------------------------------------------------------

    def segments(self) -> list[Path]:
        """The segment files, oldest first."""
        return sorted((self.path / "segments").glob("[0-9]*.jsonl"), key=_number)

    def _load(self, *, scan: bool = True) -> None:
        self.state = json.loads((self.path / "store.json").read_text(encoding="utf-8"))
        if self.state.get("format") != FORMAT:
            raise ManifestError(
                f"the store at `{self.path}` has another format, found: {self.state.get('format')}"
            )
        segments = self.segments() if scan else []
        for segment in segments:
            self._scan(segment, last=segment == segments[-1])

    def _scan(self, segment: Path, *, last: bool) -> None:
        number = _number(segment)
        size = segment.stat().st_size
        offset = 0
        with segment.open("rb") as file:
            for row, line in enumerate(file, start=1):
                tail = last and offset + len(line) >= size
                if tail and not _whole(line):
                    break
                key, status, cost = _head(line, segment, row)
                self.cost += cost
                if status == "ok":
                    self.done[key] = Place(number, offset, len(line))
                else:
                    self.failed_lines += 1
                offset += len(line)
        if offset < size and self._lock is not None:
            self.cut_bytes += size - offset
            os.truncate(segment, offset)

    def _open_segment(self) -> None:
        segments = self.segments()
        if not segments or segments[-1].stat().st_size >= SEGMENT_BYTES:
            # after the last one, not at the first gap: somebody may have taken a file away
            number = _number(segments[-1]) + 1 if segments else 1
            path = self.path / "segments" / f"{number:06}.jsonl"
        else:
            path = segments[-1]
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = os.fstat(self._file).st_size
        self._segment = _number(path)

    def append(self, record: Record) -> None:
        """Writes one finished request; from its return on it survives a kill."""
        if self._lock is None:
            raise ZephyrDataError(f"the store was opened for reading only: {self.path}")
        if self._file is None:
            self._open_segment()
        assert self._file is not None
        head = {"key": record["key"], "status": record["status"], "cost": record["cost"]}
        text = _encode({**head, **record})
        line = text.encode("utf-8", "replace") + b"\n"
        try:
            written = os.write(self._file, line)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes could be written")
        except OSError:
            os.truncate(self._file, self._size)
            raise
        if record["status"] == "ok":
            self.done[record["key"]] = Place(self._segment, self._size, len(line))
        else:
            self.failed_lines += 1
        self.cost += record["cost"]
        self._size += len(line)
        now = time.monotonic()
        if now - self._synced > FSYNC_SECONDS:
            os.fsync(self._file)
            self._synced = now
        if self._size >= SEGMENT_BYTES:
            os.fsync(self._file)
            os.close(self._file)
            self._file = None

    def get(self, key: str) -> Record | None:
        """The finished record with this key, or None."""
        place = self.done.get(key)
        if place is None:
            return None
        descriptor = self._readers.get(place.segment)
        if descriptor is None:
            path = self.path / "segments" / f"{place.segment:06}.jsonl"
            descriptor = self._readers[place.segment] = os.open(path, os.O_RDONLY)
        record: Record = json.loads(os.pread(descriptor, place.length, place.offset))
        return record

    def records(self, *, completions: bool | None = None) -> Iterator[Record]:
        """All finished records, each key once (its last line), in the order they were written.

        Args:
            completions: Whether only answers are wanted, or only what is none; lines of the other sort are hardly parsed.
        """
        for segment in self.segments():
            number, offset = _number(segment), 0
            with segment.open("rb") as file:
                for line in file:
                    place = Place(number, offset, len(line))
                    offset += len(line)
                    key = line[len(PREFIX) : len(PREFIX) + 64].decode("ascii", "replace")
                    if self.done.get(key) != place:
                        continue
                    if completions is None or _is_completion(line) is completions:
                        yield json.loads(line.decode())

    # --- state and prompts ------------------------------------------------------------------

    def save_state(self) -> None:
        """Writes `store.json`."""
        text = json.dumps(self.state, ensure_ascii=False, indent=2, sort_keys=True)
        write_atomically(self.path / "store.json", text + "\n")

    def prompts(self) -> list[Prompt]:
        """The prompts of the store, sorted by id."""
        path = self.path / "prompts.jsonl"
        if not path.exists():
            return []
        return [parse_prompt(row, path, number) for number, row in read_rows(path)]

    def add_prompts(self, prompts: Iterable[Prompt]) -> list[Prompt]:
        """Adds prompts and returns all of them."""
        old = self.prompts()
        merged = merge_prompts(old, prompts)
        if merged != old:
            text = "".join(prompt.as_json() + "\n" for prompt in merged)
            write_atomically(self.path / "prompts.jsonl", text)
        return merged


def _number(segment: Path) -> int:
    return int(segment.stem)


def _whole(line: bytes) -> bool:
    """Whether a last line was written to its end."""
    if not line.endswith(b"}\n"):
        return False
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
