"""What `prepare` may be given: globs, standard input, tables that polars reads, tables in memory."""

import gzip
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest

from zephyr_data import ConfigError, DataError
from zephyr_data.manifest import read_manifest

ROWS = [
    {
        "id": f"r{number}",
        "prompt": f"What is {number} plus one?",
        "completion": f"It is {number + 1}.",
    }
    for number in range(20)
]
LINES = "".join(f"{json.dumps(row)}\n" for row in ROWS)


@pytest.fixture
def rows_of(read_rows):
    """A function: the ids and places of the rows that a run kept, and that nothing else is left of the input."""

    def read(result):
        assert not list(result.out.glob(".inputs*"))
        return [(row["id"], row["file"], row["line"]) for row in read_rows(result.out / "clean")]

    return read


def expected(name):
    return [(f"r{number}", name, number + 1) for number in range(20)]


def test_a_glob_stands_for_the_files_it_matches(prepare, tmp_path, rows_of, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/two.jsonl", "a/one.jsonl", "a/three.txt"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            LINES.replace('"r', f'"{path.stem}-') if name.endswith("jsonl") else "no data"
        )
    result = prepare("data/**/*.jsonl", tmp_path / "out")
    assert [entry.name for entry in read_manifest(result.out / "clean").inputs] == [
        "data/a/one.jsonl",
        "data/b/two.jsonl",
    ]
    assert {file for _, file, _ in rows_of(result)} == {"data/a/one.jsonl", "data/b/two.jsonl"}
    (tmp_path / "data" / "[1].jsonl").write_text(LINES)  # a name with brackets is that file first
    assert rows_of(prepare("data/[1].jsonl", tmp_path / "named")) == expected("data/[1].jsonl")
    with pytest.raises(FileNotFoundError) as caught:
        prepare("data/*.parquet", tmp_path / "none")
    assert caught.value.strerror == (
        "cannot read `data/*.parquet`: no file matches\n"
        "hint: check the pattern; `**` stands for any number of folders"
    )
    assert not (tmp_path / "none").exists()


def as_parquet(path):
    pa.parquet.write_table(pa.Table.from_pylist(ROWS), path)
    return path.read_bytes()


STDIN = {
    "lines": lambda _: LINES.encode(),
    "array": lambda _: json.dumps(ROWS).encode(),
    "gzip": lambda _: gzip.compress(LINES.encode()),
    "gzip of an array": lambda _: gzip.compress(json.dumps(ROWS, indent=1).encode()),
    "Parquet": lambda folder: as_parquet(folder / "rows.parquet"),
}


@pytest.mark.parametrize("case", STDIN)
def test_standard_input_in_every_format(examples, tmp_path, case, read_rows):
    command = [sys.executable, "-m", "zephyr_data", "prepare", "-", "--out", tmp_path / "out"]
    command += ["--tokenizer", examples / "tokenizer", "--quiet"]
    data = STDIN[case](tmp_path)
    for _ in range(2):
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    rows = read_rows(tmp_path / "out" / "clean")
    assert [(row["id"], row["file"], row["line"]) for row in rows] == expected("stdin")
    assert not list((tmp_path / "out").glob(".inputs*"))


def test_the_same_standard_input_again_skips_what_is_done(prepare, tmp_path, monkeypatch):
    import io

    for skipped in (False, True):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES.encode())))
        result = prepare("-", tmp_path / "out")
        assert {stage: done.skipped for stage, done in result.stages.items()} == dict.fromkeys(
            ("clean", "dedup", "pack"), skipped
        )
    with pytest.raises(ConfigError) as caught:
        prepare(["-", "-"], tmp_path / "out")
    assert str(caught.value) == (
        "standard input can be read once only, found: `-` twice\nhint: name one `-`"
    )


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz"])
def test_text_tables(prepare, tmp_path, rows_of, ending, read_rows):
    between = "\t" if ending == "tsv" else ","
    header = between.join(["id", "prompt", "chosen", "rejected", "score_chosen"])
    lines = [
        between.join([f"r{n}", f"{n}", f'"It is {n}, or\n""{n}"""', "007", "4.5"])
        for n in range(20)
    ]
    text = "\n".join([header, *lines]).encode()
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    result = prepare(path, tmp_path / "out")
    assert rows_of(result) == expected(str(path))
    row = read_rows(result.out / "clean")[3]
    assert [row[name][0]["content"] for name in ("prompt", "chosen", "rejected")] == [
        "3",
        'It is 3, or\n"3"',
        "007",
    ]
    assert row["score_chosen"] == 4.5


def test_a_table_that_polars_refuses(prepare, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('id,prompt\n1,"a\n')
    with pytest.raises(DataError) as caught:
        prepare(path, tmp_path / "out")
    first, hint = str(caught.value).splitlines()
    assert first.startswith(f"cannot read `{path}`: ")
    assert hint == "hint: the first line must name the columns; polars reads it"
    assert not list((tmp_path / "out").glob(".inputs*"))


def test_addresses_go_to_polars_by_their_ending(prepare, tmp_path, rows_of):
    path = tmp_path / "rows.parquet"
    as_parquet(path)
    name = f"file://{path}"
    assert rows_of(prepare(name, tmp_path / "out")) == expected(name)
    with pytest.raises(ConfigError) as caught:
        prepare("hf://datasets/org/name", tmp_path / "out2")
    first, hint = str(caught.value).splitlines()
    assert first == "cannot tell the format of `hf://datasets/org/name` from its ending: ``"
    assert hint.startswith("hint: name files, as in `hf://datasets/org/name/data/*.parquet`")


def frames():
    import polars as pl

    return {
        "pyarrow": pa.Table.from_pylist(ROWS),
        "polars": pl.DataFrame(ROWS),
        "a stream": pa.Table.from_pylist(ROWS).to_reader(),
        "datasets": pytest.importorskip("datasets").Dataset.from_list(ROWS),
    }


@pytest.mark.parametrize("kind", ["pyarrow", "polars", "a stream", "datasets"])
def test_tables_in_memory(prepare, tmp_path, rows_of, kind):
    result = prepare(frames()[kind], tmp_path / "out")
    assert rows_of(result) == expected("frame")


def test_tables_and_files_together(prepare, tmp_path, rows_of):
    (tmp_path / "rows.jsonl").write_text(LINES)
    path = str(tmp_path / "rows.jsonl")
    table = pa.table({"prompt": ["Another question?"], "completion": ["Another answer."]})
    for name, frame in (
        ("table", table),
        ("dataset", pytest.importorskip("datasets").Dataset(table)),
    ):
        result = prepare([path, frame], tmp_path / name)
        assert rows_of(result) == [*expected(path), ("frame-1:1", "frame-1", 1)]


def test_what_is_no_input(prepare, tmp_path):
    with pytest.raises(ConfigError) as caught:
        prepare([3], tmp_path / "out")
    assert str(caught.value).startswith(
        "cannot read an input of this type: `int`\nhint: give paths, or tables"
    )
    with pytest.raises(ConfigError, match="nothing to read"):
        prepare([], tmp_path / "out")
    assert not (tmp_path / "out").exists()
