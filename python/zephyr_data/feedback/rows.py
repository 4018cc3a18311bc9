"""Rows of files, one after the other, for everything that is read in Python and not by the extension.

Read are JSON Lines, a JSON array (both plain, `.gz`, `.zst`), Parquet and Arrow. Only a piece of a file is in memory at a time.
"""

from __future__ import annotations

import codecs
import json
from typing import IO, TYPE_CHECKING, Any, Self, cast

from zephyr_data.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

CHUNK = 1 << 20
LONGEST = 1 << 28
"""Most bytes of one row, as in the extension."""
FIRST = 1 << 22
"""Bytes in which a file's first row must end for its columns to be found out."""

_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"
_TABLES = (".parquet", ".arrow", ".arrows", ".feather", ".ipc")

Row = dict[str, Any]


def read_rows(path: Path, name: str | None = None) -> Iterator[tuple[int, Row]]:
    """Yields (line or row number from 1, row) of a file.

    Args:
        path: The file; its endings say how it is read.
        name: What messages call it. Default: the path.

    Raises:
        DataError: The file is damaged, or a row is no object.
    """
    import pyarrow as pa

    name = name or str(path)
    try:
        yield from _rows(path, name)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        problem = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(f"cannot read `{name}`: {problem}", name) from None


def _rows(path: Path, name: str) -> Iterator[tuple[int, Row]]:
    if _suffix(path) in _TABLES:
        with _Batches(path) as batches:
            yield from enumerate(
                (row for batch in batches.pieces() for row in batch.to_pylist()), start=1
            )
        return
    plain = path.with_suffix("") if _suffix(path) in (".gz", ".zst") else path
    if _suffix(plain) == ".json":
        with _open(path) as stream:
            is_array = _start(stream).startswith("[")
        if is_array:
            yield from _read_array(path, name)
            return
    for number, line in enumerate(_lines(path, name), start=1):
        if line.strip():
            yield number, _object(name, number, line)


def first_columns(path: Path) -> dict[str, type]:
    """Names and Python types of the columns of a file's first row, of a table those of all rows; none where it is damaged."""
    import pyarrow as pa

    try:
        if _suffix(path) in _TABLES:
            with _Batches(path) as batches:
                return {field.name: _python_type(field.type) for field in batches.schema}
        with _open(path) as stream:
            text = _start(stream).removeprefix("[").lstrip(_SPACE)
            while True:
                try:
                    row, _ = _DECODER.raw_decode(text)
                    break
                except ValueError:
                    more = stream.read(CHUNK)
                    if not more or len(text) > FIRST:
                        return {}
                    text += more.decode("utf-8", "ignore")
    except (OSError, RecursionError, pa.ArrowException):
        return {}
    return {key: type(value) for key, value in row.items()} if isinstance(row, dict) else {}


def _suffix(path: Path) -> str:
    """The last ending, whose capitals do not matter, as in the extension."""
    return path.suffix.lower()


def _start(stream: IO[bytes]) -> str:
    """The first text of a file, without what may stand in front of it."""
    text = stream.read(1 << 16).decode("utf-8", "ignore")
    return text.removeprefix("\ufeff").lstrip(_SPACE)


def _open(path: Path) -> IO[bytes]:
    import pyarrow as pa

    codec = {".gz": "gzip", ".zst": "zstd"}.get(_suffix(path))
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    return cast("IO[bytes]", pa.input_stream(str(path), compression=codec))


def _python_type(kind: pa.DataType) -> type:
    import pyarrow.types as types

    kinds = {
        str: (types.is_string, types.is_large_string, types.is_string_view),
        list: (types.is_list, types.is_large_list, types.is_fixed_size_list),
        dict: (types.is_struct,),
    }
    return next((of for of, tests in kinds.items() if any(test(kind) for test in tests)), object)


class _Batches:
    """The record batches of a table that is open."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        if _suffix(path) == ".parquet":
            self._file: Any = parquet.ParquetFile(path)
            self.schema: pa.Schema = self._file.schema_arrow
            self._found = self._file.iter_batches(batch_size=1024)
            return
        self._file = pa.memory_map(str(path))
        try:
            reader = pa.ipc.open_file(self._file)
            self._found = (reader.get_batch(at) for at in range(reader.num_record_batches))
        except pa.ArrowInvalid:
            self._file.seek(0)
            reader = pa.ipc.open_stream(self._file)
            self._found = iter(reader)
        self.schema = reader.schema

    def __enter__(self) -> Self:
        return self

    def pieces(self) -> Iterator[pa.RecordBatch]:
        """The batches, cut so that the rows of one fit in memory as Python objects."""
        for batch in self._found:
            for start in range(0, batch.num_rows, 1024):
                yield batch.slice(start, 1024)

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def _read_array(path: Path, name: str) -> Iterator[tuple[int, Row]]:
    with _open(path) as stream:
        for number, row in enumerate(_Array(stream, name).elements(), start=1):
            if not isinstance(row, dict):
                raise DataError(f"no JSON object at {name}:{number}: {row!r}"[:500], name, number)
            yield number, row


class _Array:
    """A JSON array, of which each element is decoded as soon as it has been read."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._at, self._ended = "", 0, False

    def elements(self) -> Iterator[object]:
        """The elements; what stands behind the array is a fault, too."""
        self._expect("[")
        if self._next() == "]":
            self._at += 1
        else:
            yield self._element()
            while self._next() == ",":
                self._at += 1
                yield self._element()
            self._expect("]")
        if self._next():
            raise self._damaged("there is more behind the array")

    def _element(self) -> object:
        self._next()
        wanted = CHUNK
        while True:
            try:
                element, self._at = _DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise self._damaged("it is nested too deeply") from None
            except json.JSONDecodeError as error:
                # What is cut at the end of what has been read may go on; anything before is a fault.
                cut = "Unterminated" in error.msg or error.pos >= len(self._text) - 16
                if self._ended or not cut or len(self._text) - self._at > LONGEST:
                    raise self._damaged(error.msg) from None
                self._read(wanted)
                wanted *= 2
            else:
                return element

    def _expect(self, mark: str) -> None:
        found = self._next()
        if found != mark:
            raise self._damaged(f"expected `{mark}`, found: {found or 'the end'}")
        self._at += 1

    def _next(self) -> str:
        """The next character that is no white space; none at the end."""
        while True:
            while self._text[self._at : self._at + 1] in _SPACE and self._at < len(self._text):
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._read(CHUNK)

    def _read(self, size: int) -> None:
        chunk = self._stream.read(size)
        self._ended = not chunk
        try:
            more = self._decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            raise self._damaged(error.reason) from None
        self._text, self._at = self._text[self._at :] + more, 0

    def _damaged(self, problem: str) -> DataError:
        return DataError(f"cannot read `{self._name}` as JSON: {problem}", self._name)


def _lines(path: Path, name: str) -> Iterator[bytes]:
    with _open(path) as stream:
        rest = b""
        while chunk := stream.read(CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
            if len(rest) > LONGEST:
                raise DataError(f"a line is longer than {LONGEST >> 20} MiB in: {name}", name)
        if rest:
            yield rest


def _object(name: str, number: int, line: bytes) -> Row:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        raise DataError(f"no JSON at {name}:{number}: {error}", name, number) from None
    except RecursionError:
        raise DataError(f"JSON nested too deeply at {name}:{number}", name, number) from None
    if not isinstance(row, dict):
        text = line[:80].decode("utf-8", "replace")
        raise DataError(f"no JSON object at {name}:{number}: {text}", name, number)
    return cast("Row", row)
