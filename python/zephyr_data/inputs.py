"""What `prepare` may be given to read, brought to files that the extension opens.

    paths, folders                     read where they lie
    "data/*.jsonl.gz"                  a glob: the files it matches, sorted
    "-"                                standard input: JSON lines, a JSON array, Parquet or Arrow, plain, gzip or zstd
    "rows.csv", "hf://…", "s3://…"     read by polars
    frames in memory                   anything with `__arrow_c_stream__`: polars, pyarrow, pandas, DuckDB; and `datasets`

What is not a local file in a format of our own is first written to one in `DIR/.inputs.tmp`, which goes when the run ends.
It keeps the name that the user gave it in ids, errors and manifests, so the same command again finds its work done.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

from zephyr_data.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import polars as pl

SPOOL = ".inputs.tmp"

STDIN = "-"

_URL = re.compile(r"^(?P<scheme>[a-z][a-z0-9+.-]+)://", re.IGNORECASE)

_TABLES = {".csv": ",", ".tsv": "\t"}
"""Endings of text tables, with what stands between their columns."""

_SCORES = ("score_chosen", "score_rejected")
"""The columns that are numbers; in a text table nothing else says so."""

_MAGIC = (
    (b"PAR1", ".parquet"),
    (b"ARROW1", ".arrow"),
    (b"\xff\xff\xff\xff", ".arrow"),
    (b"\x1f\x8b", ".json.gz"),
    (b"\x28\xb5\x2f\xfd", ".json.zst"),
)
"""How formats begin. JSON arrays and JSON lines tell themselves apart, compressed ones too."""


@runtime_checkable
class ArrowStream(Protocol):
    """A table in memory: the Arrow PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The table as a stream of record batches."""


T = TypeVar("T")

Input = str | os.PathLike[str] | ArrowStream
"""What may be given as one input."""


@dataclass(frozen=True)
class Source:
    """One input.

    Attributes:
        name: What it is called in ids, errors and manifests.
        path: Where it lies, if the extension can read it there.
        write: Writes it to a file with this stem and gives the file's path, if it cannot.
    """

    name: str
    path: Path | None = None
    write: Callable[[Path], Path] | None = None


def exported(table: T) -> T:
    """A table or column of `datasets`, which export no Arrow themselves, as one that does; anything else as it is."""
    if type(table).__module__ != "datasets.arrow_dataset":
        return table
    of_datasets = cast("Any", table)
    if not hasattr(table, "column_name"):
        return cast("T", of_datasets.with_format("arrow")[:])
    source, name = of_datasets.source, of_datasets.column_name
    if hasattr(source, "column_name"):  # a field of another column's structs
        import pyarrow.compute as pc

        return cast("T", pc.struct_field(exported(source), name))
    return cast("T", source.select_columns([name]).with_format("arrow")[:][name])


def find_sources(inputs: Input | Iterable[Input]) -> list[Source]:
    """What the inputs name, in their order. Nothing is read.

    Raises:
        ConfigError: There is nothing to read, or an input is of a type that is not read.
        FileNotFoundError: There is no such file, or none that a glob matches.
    """
    inputs = exported(inputs)
    if isinstance(inputs, str | os.PathLike | ArrowStream):
        inputs = [inputs]
    sources = [
        source for number, one in enumerate(inputs) for source in _find(exported(one), number)
    ]
    if not sources:
        raise ConfigError("nothing to read\nhint: name at least one file or folder", key="inputs")
    if sum(source.name == "stdin" for source in sources) > 1:
        raise ConfigError(
            "standard input can be read once only, found: `-` twice\nhint: name one `-`",
            key="inputs",
        )
    return sources


def benchmarks_of(text: str) -> list[str]:
    """What a path of a benchmark names, as `files_of`; standard input and web addresses are none.

    Raises:
        ConfigError: It is not on the disk.
        FileNotFoundError: There is no such file or folder, or none that the glob matches.
    """
    if text == STDIN or _URL.match(text):
        raise ConfigError(
            f"a benchmark must be a file, found: `{text}`\nhint: download or write it first",
            key="dedup.decontaminate",
        )
    return files_of(text)


def files_of(text: str) -> list[str]:
    """What a path names: itself, or the files that it matches as a glob, sorted. A file of that very name comes first.

    Raises:
        FileNotFoundError: There is no such file or folder, or none that the glob matches.
    """
    if Path(text).exists():
        return [text]
    if not glob.has_magic(text):
        raise FileNotFoundError(
            errno.ENOENT,
            f"cannot read `{text}`: No such file or directory"
            "\nhint: check the spelling; a relative path starts at the current directory",
        )
    found = glob.iglob(text, recursive=True)  # noqa: PTH207 - a Path would lose the spelling, which names the rows
    paths = sorted(path for path in found if Path(path).is_file())
    if not paths:
        raise FileNotFoundError(
            errno.ENOENT,
            f"cannot read `{text}`: no file matches"
            "\nhint: check the pattern; `**` stands for any number of folders",
        )
    return paths


def check_not_spelt_out(arguments: Sequence[str], inputs: Sequence[str]) -> None:
    """Refuses a command line on which the shell has spelt out a glob behind `--decontaminate`.

    Of `--decontaminate bench/*.jsonl` the option takes the first file, and the others would be trained on. They stand right
    behind it and in its folder, and the true inputs stand elsewhere.

    Args:
        arguments: The words of the command line.
        inputs: Those of them that are inputs.

    Raises:
        ConfigError: Some inputs look like benchmarks.
    """
    for at, word in enumerate(arguments[:-1]):
        if word != "--decontaminate":
            continue
        folder, beside = Path(arguments[at + 1]).parent, []
        for behind in arguments[at + 2 :]:
            if behind not in inputs or Path(behind).parent != folder:
                break
            beside.append(behind)
        if 0 < len(beside) < len(inputs):
            pattern = Path(folder, "*" + Path(beside[0]).suffix)
            raise ConfigError(
                "an input must not stand right behind `--decontaminate FILE` and in the folder of that file, found:"
                f" `{beside[0]}`\nhint: quote a pattern, as in `--decontaminate '{pattern}'`; the shell has spelt it out;"
                " or name the folder. Name inputs in front of all options",
                key="inputs",
            )


@contextlib.contextmanager
def readable(sources: list[Source], folder: Path) -> Iterator[list[Path | tuple[Path, str]]]:
    """The sources as the extension takes them: paths, or paths with names. What had to be written goes at the end.

    Raises:
        DataError: A source cannot be read.
        OSError: It cannot be written into `folder`.
    """
    spool = folder / SPOOL
    shutil.rmtree(spool, ignore_errors=True)  # what a killed run left
    try:
        paths: list[Path | tuple[Path, str]] = []
        for number, source in enumerate(sources):
            if source.write is None:
                paths.append(cast("Path", source.path))
                continue
            spool.mkdir(exist_ok=True)
            paths.append((source.write(spool / f"{number:05d}"), source.name))
        yield paths
    finally:
        shutil.rmtree(spool, ignore_errors=True)


def _find(one: Input, number: int) -> Iterator[Source]:
    if isinstance(one, ArrowStream):
        name = "frame" if number == 0 else f"frame-{number}"
        yield Source(name, write=lambda stem: _write_frame(one, name, stem))
        return
    if not isinstance(one, str | os.PathLike):
        raise ConfigError(
            f"cannot read an input of this type: `{type(one).__name__}`"
            "\nhint: give paths, or tables with `__arrow_c_stream__` such as polars, pyarrow or pandas have them",
            key="inputs",
        )
    text = os.fspath(one)
    if text == STDIN:
        yield Source("stdin", write=lambda stem: _write_stdin(sys.stdin.buffer, stem))
    elif _URL.match(text):
        yield Source(text, write=lambda stem: _write_table(text, stem))
    else:
        for path in files_of(text):
            yield _local(path)


def _local(path: str) -> Source:
    if _table_ending(path) in _TABLES and Path(path).is_file():
        return Source(path, write=lambda stem: _write_table(path, stem))
    return Source(path, path=Path(path))


def _table_ending(name: str) -> str:
    """`.csv` of `rows.CSV.gz`: the ending in front of that of the compression."""
    name = name.lower()
    for compression in (".gz", ".zst"):
        name = name.removesuffix(compression)
    return Path(name).suffix


# ---- writing ----


def _write_stdin(stream: IO[bytes], stem: Path) -> Path:
    start = stream.read(8)
    ending = next((ending for magic, ending in _MAGIC if start.startswith(magic)), ".json")
    path = stem.with_name(stem.name + ending)
    with path.open("wb") as file:
        file.write(start)
        shutil.copyfileobj(stream, file, 1 << 20)
    return path


def _write_frame(frame: ArrowStream, name: str, stem: Path) -> Path:
    import pyarrow as pa

    path = stem.with_suffix(".arrow")
    try:
        reader = pa.RecordBatchReader.from_stream(frame)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
    except pa.ArrowException as error:
        raise _unreadable(
            name, error, "give a table whose columns are those of a known shape"
        ) from error
    return path


def _write_table(name: str, stem: Path) -> Path:
    """A text table, or whatever lies behind a web address, by polars."""
    try:
        import polars as pl
    except ImportError as error:
        raise ConfigError(
            f"reading this needs polars: `{name}`\nhint: `pip install 'zephyr-data[sources]'`, or `pip install polars`",
            key="inputs",
        ) from error
    path = stem.with_suffix(".arrow")
    hint = (
        "check the address, the network and the credentials; polars reads it"
        if _URL.match(name)
        else "the first line must name the columns; polars reads it"
    )
    try:
        _scan(name).sink_ipc(path)
    except (pl.exceptions.PolarsError, OSError, ValueError, ImportError) as error:
        raise _unreadable(name, error, hint) from error
    return path


def _scan(name: str) -> pl.LazyFrame:
    import polars as pl

    ending = _table_ending(name)
    if ending in _TABLES:
        # Everything is text unless it is a score: a prompt that is a number stays what was asked, an id keeps its zeros.
        return pl.scan_csv(
            name,
            separator=_TABLES[ending],
            infer_schema=False,
        ).with_columns(pl.col(f"^({'|'.join(_SCORES)})$").cast(pl.Float64))
    readers: dict[str, Callable[[str], pl.LazyFrame]] = {
        ".parquet": pl.scan_parquet,
        ".jsonl": pl.scan_ndjson,
        ".ndjson": pl.scan_ndjson,
        ".arrow": pl.scan_ipc,
        ".feather": pl.scan_ipc,
        ".ipc": pl.scan_ipc,
    }
    if ending not in readers:
        endings = ", ".join(f"`{known}`" for known in [*readers, *_TABLES])
        raise ConfigError(
            f"cannot tell the format of `{name}` from its ending: `{ending}`"
            f"\nhint: name files, as in `hf://datasets/org/name/data/*.parquet`; endings that are read: {endings}",
            key="inputs",
        )
    return readers[ending](name)


def _unreadable(name: str, error: Exception, hint: str) -> DataError:
    words = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return DataError(f"cannot read `{name}`: {words}\nhint: {hint}", path=name)
