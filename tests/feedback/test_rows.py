"""Rows of files in every format, a piece at a time, and what damaged files say."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from zephyr_data.errors import DataError
from zephyr_data.feedback import rows
from zephyr_data.feedback.rows import first_columns, read_rows

ROWS = [
    {"text": 'an "é" \\ [{,}]', "numbers": [1, -2.5, None], "nested": {"a": [{"b": "]"}]}},
    {"text": "", "numbers": [], "nested": {"a": []}},
    {"text": "x" * 5000, "numbers": [0], "nested": {"a": [{"b": "y" * 3000}]}},
]


def as_lines(path):
    text = "\ufeff" + "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    path.write_text(text, encoding="utf-8")
    return [1, 3, 5]


def as_array(path, indent=None):
    path.write_text(
        " " + json.dumps(ROWS, ensure_ascii=False, indent=indent) + "\n\n", encoding="utf-8"
    )


def as_compressed(path):
    data = json.dumps(ROWS).encode()
    path.write_bytes(
        gzip.compress(data) if path.suffix.lower() == ".gz" else zstandard.compress(data)
    )


def as_stream(path):
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def as_file(path):
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


WRITERS = {
    "rows.jsonl": as_lines,
    "lines.json": as_lines,
    "rows.json": as_array,
    "indented.json": lambda path: as_array(path, indent=2),
    "rows.json.gz": as_compressed,
    "rows.json.zst": as_compressed,
    "rows.parquet": lambda path: pa.parquet.write_table(pa.Table.from_pylist(ROWS), path),
    "stream.arrow": as_stream,
    "rows.feather": as_file,
    "ROWS.PARQUET": lambda path: pa.parquet.write_table(pa.Table.from_pylist(ROWS), path),
    "ROWS.JSON.GZ": as_compressed,
}


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_in_pieces_of_every_size(tmp_path, monkeypatch, name, chunk):
    path = tmp_path / name
    numbers = WRITERS[name](path) or [1, 2, 3]
    monkeypatch.setattr(rows, "CHUNK", chunk)
    assert list(read_rows(path)) == list(zip(numbers, ROWS, strict=True))
    assert first_columns(path) == {"text": str, "numbers": list, "nested": dict}


def test_an_empty_array(tmp_path, monkeypatch):
    path = tmp_path / "rows.json"
    monkeypatch.setattr(rows, "CHUNK", 1)
    path.write_text("[ ]\n")
    assert list(read_rows(path)) == []
    assert first_columns(path) == {}


DAMAGED = {
    "a torn element": ('[{"a": 1}, {"a": "b', "Unterminated string starting at"),
    "a torn array": ('[{"a": 1}', "expected `]`, found: the end"),
    "no comma": ('[{"a": 1} {"a": 2}]', "expected `]`, found: {"),
    "more behind it": ('[{"a": 1}] [', "there is more behind the array"),
    "no JSON": ('[{"a": nil}, {"a": "' + "x" * 100 + '"}]', "Expecting value"),
    "too deep": ('[{"a": ' + "[" * 200_000, "it is nested too deeply"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_arrays(tmp_path, case):
    text, problem = DAMAGED[case]
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        list(read_rows(path, "its name"))
    assert str(caught.value) == f"cannot read `its name` as JSON: {problem}"


def test_other_damage(tmp_path):
    def message(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError) as caught:
            list(read_rows(path, name))
        assert first_columns(path) in ({}, {"a": int}, {"a": str})
        return str(caught.value)

    assert message("utf.json", b'[{"a": "\xff"}]') == (
        "cannot read `utf.json` as JSON: invalid start byte"
    )
    assert message("a.json", b"[{}, 3]") == "no JSON object at a.json:2: 3"
    assert message("a.jsonl", b'{"a": 1}\n3') == "no JSON object at a.jsonl:2: 3"
    deep = message("deep.jsonl", b"[" * 200_000)
    assert deep == "JSON nested too deeply at deep.jsonl:1"
    torn = gzip.compress(json.dumps(ROWS).encode())[:60]
    assert message("a.jsonl.gz", torn).startswith("cannot read `a.jsonl.gz`: ")
    assert message("a.parquet", b"PAR1").startswith("cannot read `a.parquet`: ")
    assert message("a.arrow", b"ARROW1").startswith("cannot read `a.arrow`: ")
