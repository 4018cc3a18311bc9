"""The files of benchmarks: which are read, what is wrong with one, when it is told, and globs of them."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zephyr_data.config import Config
from zephyr_data.errors import ConfigError, DataError

QUESTIONS = json.loads(Path(__file__).with_name("questions.json").read_text(encoding="utf-8"))
DUCKS, TRAVEL, SHORT = QUESTIONS["DUCKS"], QUESTIONS["TRAVEL"], QUESTIONS["SHORT"]


def chat(number, *turns):
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return {"id": f"c{number}", "messages": messages}


def test_formats_fields_and_folders(dedup, tmp_path):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps([{"instruction": TRAVEL, "id": 1}]))
    messages = [[{"role": "user", "content": DUCKS}]]
    pq.write_table(pa.table({"prompt": messages, "score": [1.5]}), folder / "b.parquet")
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"stem": [SHORT], "question": [DUCKS]}), other)
    rows = [chat(0, TRAVEL, "Aloha"), chat(1, DUCKS, "18"), chat(2, SHORT, "Him")]
    _, _, rejects = dedup(rows, decontaminate=[str(folder), {"path": other, "fields": ["stem"]}])
    assert {name: row["detail"].split("`")[1] for name, row in rejects.items()} == {
        "c0": f"{folder}/a.json:1",
        "c1": f"{folder}/b.parquet:1",
        "c2": f"{other}:1",
    }


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        (
            '{"question": "a"}\n{"question": 7}',
            [],
            (
                "expected a text, found a number at F:2, field: `question`\n"
                "hint: name the fields that hold its texts in the configuration: `dedup: {decontaminate: [{path: FILE, fields: [NAME]}]}`"
            ),
        ),
        (
            '{"answer": "a"}',
            ["question"],
            (
                "there is no such field at F:1, field: `question`\n"
                "hint: name fields that hold texts, lists of them, or messages; the row has `answer`"
            ),
        ),
        (
            '{"question": "a"',
            [],
            (
                "not valid JSON: EOF while parsing an object, column 16 at F:1\n"
                "hint: each line must be one JSON object"
            ),
        ),
    ],
)
def test_a_bad_benchmark_is_named_with_line_and_field(dedup, benchmark, content, fields, message):
    benchmark.write_text(content)
    with pytest.raises(DataError) as error:
        dedup([chat(0, "a", "b")], decontaminate=[{"path": str(benchmark), "fields": fields}])
    assert str(error.value).replace(str(benchmark), "F") == message


def test_files_that_are_not_there_and_options_that_cannot_be_honoured(dedup, benchmark, tmp_path):
    rows = [chat(0, "a", "b")]
    with pytest.raises(FileNotFoundError, match="check the spelling"):
        dedup(rows, decontaminate=[str(tmp_path / "no.jsonl")])
    with pytest.raises(ConfigError) as error:
        dedup(rows, decontaminate=[str(benchmark)], memory_limit=1000, near=False)
    assert str(error.value) == (
        f"the texts of the benchmarks take more than half of `dedup.memory_limit` at `{benchmark}`:2, found: 1000\n"
        "hint: give it more, or name the fields that hold the questions alone in the configuration: `dedup: {decontaminate: [{path: FILE, fields: [NAME]}]}`"
    )
    for options, message in {
        "dedup.decontaminate": (
            {"decontaminate": "bench.jsonl"},
            (
                "`dedup.decontaminate` must be a list, found: `'bench.jsonl'`\n"
                "hint: a list of files or globs, or of `{path: FILE, fields: [NAME]}`"
            ),
        ),
        "dedup.contamination.ngram": (
            {"contamination": {"ngram": 1}},
            "`dedup.contamination.ngram` must be at least 2, found: `1`\nhint: the default is `8`",
        ),
        "dedup.decontaminate.file": (
            {"decontaminate": [{"file": "bench.jsonl"}]},
            (
                "`dedup.decontaminate.path` must be given, found: `{'file': 'bench.jsonl'}`\n"
                "hint: the file of a benchmark, or a folder or glob of them"
            ),
        ),
    }.values():
        with pytest.raises(ConfigError) as error:
            Config.load({"dedup": options})
        assert str(error.value) == message


@pytest.mark.parametrize("of", [str, Path, lambda path: {"path": path, "fields": ["turns"]}])
def test_one_benchmark_needs_no_list(prepare, write_rows, tmp_path, benchmark, of):
    benchmark.write_text(json.dumps({"turns": [DUCKS]}))
    source = write_rows(tmp_path / "chats.jsonl", [chat(0, DUCKS, "18"), chat(1, "Hi", "Hello")])
    out = tmp_path / "out"
    for named in (of(benchmark), [of(benchmark)], iter([of(benchmark)])):
        done = prepare(source, out, decontaminate=named, test_fraction=0.0, overwrite=True)
        assert done.manifests["dedup"].counts["dropped"] == {"contaminated": 1}
    for wrong in (5, [5]):
        with pytest.raises(ConfigError, match="^`dedup.decontaminate` must be a"):
            prepare(source, out, decontaminate=wrong, overwrite=True)


def test_a_benchmark_that_is_not_there_is_told_before_anything_is_removed(
    prepare, write_rows, tmp_path
):
    source = write_rows(tmp_path / "chats.jsonl", [chat(1, "Hi", "Hello")])
    out = prepare(source, tmp_path / "out", test_fraction=0.0).out
    with pytest.raises(FileNotFoundError) as error:
        prepare(source, out, decontaminate=[source, "no.jsonl"], overwrite=True)
    assert error.value.strerror == (
        "cannot read `no.jsonl`: No such file or directory\n"
        "hint: check the spelling; a relative path starts at the current directory"
    )
    assert (out / "packed" / "manifest.json").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_bad_benchmark_is_told_before_anything_is_written(
    prepare, write_rows, tmp_path, benchmark, overwrite
):
    """Also where the inputs could not be read either, and where an earlier result would be removed."""
    source = write_rows(tmp_path / "chats.jsonl", [chat(1, "Hi", "Hello")])
    out = (
        prepare(source, tmp_path / "before", test_fraction=0.0).out
        if overwrite
        else tmp_path / "out"
    )
    before = sorted(out.rglob("*"))
    with benchmark.open("a") as file:
        file.write('{"question": "a"}\n{"question": 7}\n')
    source.write_text("not JSON")
    with pytest.raises(DataError) as error:
        prepare(source, out, decontaminate=benchmark, overwrite=overwrite)
    assert str(error.value) == (
        f"expected a text, found a number at {benchmark}:4, field: `question`\n"
        "hint: name the fields that hold its texts in the configuration: `dedup: {decontaminate: [{path: FILE, fields: [NAME]}]}`"
    )
    assert sorted(out.rglob("*")) == before
    assert out.exists() == overwrite
    for options, message in (
        ({"decontaminate": {"path": benchmark, "fields": ["stem"]}}, "there is no such field at"),
        ({"decontaminate": source}, "not valid JSON: "),
        (
            {
                "decontaminate": benchmark,
                "config": {"dedup": {"memory_limit": 1000, "near": False}},
            },
            "the texts of the benchmarks take more than half of `dedup.memory_limit` at",
        ),
    ):
        with pytest.raises((DataError, ConfigError), match=message):
            prepare(source, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("path", ["-", "hf://datasets/a/b.parquet"])
def test_a_benchmark_must_be_a_file(prepare, tmp_path, examples, path):
    with pytest.raises(ConfigError) as error:
        prepare(examples / "chats.jsonl", tmp_path / "out", decontaminate=path)
    expected = f"a benchmark must be a file, found: `{path}`\nhint: download or write it first"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"bands": 30},
            (
                "`dedup.bands` times `dedup.rows` must be from 1 to 128, found: 30 x 6\n"
                "hint: 20 bands of 6 find 99.98 % of the pairs from 0.8 on"
            ),
        ),
        (
            {"memory_limit": 1000},
            (
                "`dedup.memory_limit` must be at least N bytes, found: 1000\n"
                "hint: give it more, or set `dedup.near` to false"
            ),
        ),
    ],
)
def test_options_that_no_data_could_honour_are_told_before_anything_is_written(
    prepare, examples, tmp_path, options, message
):
    with pytest.raises(ConfigError) as error:
        prepare(examples / "chats.jsonl", tmp_path / "out", config={"dedup": options})
    assert re.sub(r"least \d+ bytes", "least N bytes", str(error.value)) == message
    assert not (tmp_path / "out").exists()


def test_a_glob_of_benchmarks(prepare, write_rows, tmp_path):
    folder = tmp_path / "bench"
    folder.mkdir()
    for name, text in (("b.jsonl", TRAVEL), ("a.jsonl", DUCKS), ("c.txt", "not a benchmark")):
        (folder / name).write_text(json.dumps({"question": text}))
    (folder / "d.jsonl").mkdir()
    rows = [chat(0, DUCKS, "18"), chat(1, TRAVEL, "Aloha"), chat(2, "Hi", "Hello")]
    source = write_rows(tmp_path / "chats.jsonl", rows)
    pattern = f"{folder}/*.jsonl"
    in_config = {"dedup": {"decontaminate": [{"path": pattern, "fields": ["question"]}]}}
    twice = {"decontaminate": [pattern, f"{folder}/b.jsonl"]}
    for number, options in enumerate(({"decontaminate": pattern}, {"config": in_config}, twice)):
        out = tmp_path / f"out{number}"
        done = prepare(source, out, test_fraction=0.0, **options).manifests["dedup"]
        assert done.counts["dropped"] == {"contaminated": 2}
        names = [found["name"] for found in done.counts["contamination"]["benchmarks"]]
        assert names == [f"{folder}/a.jsonl", f"{folder}/b.jsonl"]
    # A file of that very name is no pattern.
    (folder / "[ab].jsonl").write_text(json.dumps({"question": SHORT}))
    done = prepare(
        source, tmp_path / "out2", decontaminate=f"{folder}/[ab].jsonl", test_fraction=0.0
    )
    assert done.manifests["dedup"].counts["dropped"] == {}
    for options in ({}, {"overwrite": True}):
        with pytest.raises(FileNotFoundError) as error:
            prepare(source, out, decontaminate=f"{folder}/*.parquet", **options)
        assert error.value.strerror == (
            f"cannot read `{folder}/*.parquet`: no file matches\n"
            "hint: check the pattern; `**` stands for any number of folders"
        )
    assert (out / "packed" / "manifest.json").exists()


def test_a_glob_that_the_shell_has_spelt_out_is_refused(command, examples, tmp_path):
    """What is left of it would be trained on."""
    source, folder = tmp_path / "chats.jsonl", tmp_path / "bench"
    folder.mkdir()
    a, b, c = (folder / name for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
    for path in (source, a, b, c):
        path.write_text(json.dumps(chat(0, path.name, "Hello")) + "\n")
    rest = ["--tokenizer", examples / "tokenizer", "--out", tmp_path / "out"]
    for words in (
        [source, "--decontaminate", a, b, c, *rest],
        [source, *rest, "--decontaminate", a, b],
        ["--decontaminate", a, b, c, source, *rest],
    ):
        done = command("prepare", *words)
        assert done.returncode == 2
        assert done.stderr == (
            "error: an input must not stand right behind `--decontaminate FILE` and in the folder of that file, found:"
            f" `{b}`\nhint: quote a pattern, as in `--decontaminate '{folder}/*.jsonl'`; the shell has spelt it out;"
            " or name the folder. Name inputs in front of all options\n"
        )
        assert not (tmp_path / "out").exists()
    for words in (
        [b, c, source, "--decontaminate", a],
        ["--decontaminate", a, source],
        ["--decontaminate", a, b],  # nothing else is an input
        [source, "--decontaminate", f"{folder}/*.jsonl"],
    ):
        done = command("prepare", *words, *rest, "--overwrite")
        assert done.returncode == 0, done.stderr
