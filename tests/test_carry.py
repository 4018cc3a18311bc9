"""`read.carry`: other columns of the input, carried along to the packed rows."""

import json
import random

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from zephyr_data import ConfigError, DataError, inspect, open_packed
from zephyr_data.manifest import read_manifest

CARRY = ["source", "score", "tags", "by"]
COUNT = 40

LITTLE = 53_000_000
"""A memory limit with which 4,000 rows spill."""


def extras(number):
    """Values of every kind, and as what they are carried."""
    values = {
        "source": f'flan "{number}"\n é',
        "score": number / 4,
        "tags": [f"t{number}", None, "a b"] if number % 3 else [],
        "by": {"name": "me", "sure": number % 2 == 0},
    }
    if number % 5 == 0:
        values["source"] = None
    text = {
        "source": values["source"],
        "score": json.dumps(values["score"]),
        "tags": json.dumps(values["tags"], separators=(",", ":")),
        "by": json.dumps(values["by"], separators=(",", ":")),
    }
    return values, text


WORDS = ("amber", "brook", "cedar", "delta", "ember", "frost", "grove", "heath", "inlet", "jetty")


def answer(number):
    return " ".join(random.Random(number).choices(WORDS, k=40)).capitalize() + "."


def rows_of(kind):
    for number in range(COUNT):
        values, _ = extras(number)
        row = {"id": f"r{number}", "unread": number, **values}
        if kind == "chat":
            yield row | {
                "messages": [
                    {"role": "user", "content": f"Tell me about {number}."},
                    {"role": "assistant", "content": answer(number)},
                ]
            }
        else:
            yield row | {
                "prompt": f"Tell me about {number}.",
                "chosen": answer(number),
                "rejected": answer(number + 1000),
            }


EXPECTED = {f"r{number}": extras(number)[1] for number in range(COUNT)}

WRITERS = {
    "jsonl": lambda path, rows: path.write_text(
        "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8"
    ),
    "json": lambda path, rows: path.write_text(json.dumps(rows, indent=2), encoding="utf-8"),
    "parquet": lambda path, rows: pa.parquet.write_table(pa.Table.from_pylist(rows), path),
    "arrow": lambda path, rows: pa.feather.write_feather(
        pa.Table.from_pylist(rows), path, compression="uncompressed"
    ),
}


def carried(result):
    """The carried values by id, as they stand beside the packed rows."""
    packed, found = open_packed(result.out), {}
    for split in ("train", "test"):
        table = packed.documents(split) if packed.kind == "chat" else packed.table(split)
        assert table.column_names[-len(CARRY) :] == CARRY
        for row in table.select(["id", *CARRY]).to_pylist():
            found[row.pop("id")] = row
    return found


@pytest.mark.parametrize("kind", ["chat", "preference"])
@pytest.mark.parametrize("ending", [*WRITERS, "frame"])
def test_every_format_carries_the_same_text(prepare, tmp_path, kind, ending):
    rows = list(rows_of(kind))
    if ending == "frame":
        source = pa.Table.from_pylist(rows)
    else:
        source = tmp_path / f"rows.{ending}"
        WRITERS[ending](source, rows)
    result = prepare(source, tmp_path / "out", carry=CARRY, test_fraction=0.2)
    assert carried(result) == EXPECTED
    for folder in ("clean", "dedup", "packed"):
        assert read_manifest(result.out / folder).carry == tuple(CARRY)


def test_text_tables_carry_text(prepare, tmp_path):
    path = tmp_path / "rows.csv"
    lines = [f'r{n},Tell me {n}.,{answer(n)},"a,{n}",0{n}' for n in range(20)]
    path.write_text("\n".join(["id,prompt,completion,source,code", *lines, ""]))
    result = prepare(path, tmp_path / "out", config={"read": {"carry": ["code", "source"]}})
    table = open_packed(result.out).documents("train")
    rows = {row["id"]: (row["code"], row["source"]) for row in table.to_pylist()}
    assert rows["r3"] == ("03", "a,3")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_dropped_rows_carry_too(prepare, tmp_path, read_rows, ending):
    rows = list(rows_of("chat"))
    near = json.loads(json.dumps(rows[1])) | {"id": "near", "source": "copy"}
    near["messages"][1]["content"] += " Indeed."
    empty = json.loads(json.dumps(rows[2])) | {"id": "empty", "source": "void"}
    empty["messages"][1]["content"] = " "
    source = tmp_path / f"rows.{ending}"
    WRITERS[ending](source, [*rows, near, empty])
    out = prepare(source, tmp_path / "out", carry=CARRY).out
    (reject,) = read_rows(out / "dedup" / "rejects")
    assert (reject["id"], reject["reason"], reject["source"]) == ("near", "near_duplicate", "copy")
    (reject,) = read_rows(out / "clean" / "rejects")
    assert (reject["id"], reject["reason"], reject["source"]) == ("empty", "empty", "void")
    assert reject["tags"] == EXPECTED["r2"]["tags"]


def test_the_bytes_depend_on_neither_workers_nor_memory(prepare, tmp_path, digests, write_rows):
    rows = []
    for number in range(4000):
        text = answer(number // 2) + (" Indeed." if number % 2 else "")
        turns = [{"role": "user", "content": f"Tell me about {number // 2}."}]
        turns.append({"role": "assistant", "content": text})
        rows.append({"id": f"r{number}", "messages": turns, "source": f"s{number}"})
    path = write_rows(tmp_path / "rows.jsonl", rows)
    outs = []
    for workers, limit in ((1, 2_000_000_000), (3, LITTLE)):
        config = {"dedup": {"memory_limit": limit}, "read": {"carry": ["source"]}}
        outs.append(prepare(path, tmp_path / f"{workers}", config=config, workers=workers))
    assert digests(outs[0].out) == digests(outs[1].out)
    assert read_manifest(outs[1].out / "dedup").counts["dropped"]["near_duplicate"] > 1000
    table = open_packed(outs[1].out).documents("train")
    assert table.num_rows > 1500
    assert all(row["id"][1:] == row["source"][1:] for row in table.to_pylist())


def test_pieces_of_a_split_chat_carry_what_the_chat_does(prepare, tmp_path, write_rows):
    turns = [
        {"role": role, "content": answer(2 * number + at)}
        for number in range(6)
        for at, role in enumerate(("user", "assistant"))
    ]
    path = write_rows(tmp_path / "rows.jsonl", [{"messages": turns, "source": "long"}])
    options = {
        "pack": {"max_length": 200, "overlong": "split_turns"},
        "read": {"carry": ["source"]},
    }
    result = prepare(path, tmp_path / "out", config=options, test_fraction=0.0)
    table = open_packed(result.out).documents("train")
    assert table.num_rows > 1
    assert table["source"].unique().to_pylist() == ["long"]


def test_what_is_carried_changes_nothing_else(prepare, tmp_path, examples, read_rows):
    plain = prepare(examples / "chats.jsonl", tmp_path / "plain")
    lines = (examples / "chats.jsonl").read_text(encoding="utf-8").splitlines()
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(f'{{"source": {n}, {line[1:]}\n' for n, line in enumerate(lines)))
    result = prepare(path, tmp_path / "out", carry=["source"])
    for folder in ("packed/train", "packed/test"):
        assert read_rows(result.out / folder) == read_rows(plain.out / folder)
    assert "carry" not in json.loads((plain.out / "clean" / "manifest.json").read_bytes())
    # Another list is another result, in every stage.
    again = prepare(path, tmp_path / "out")
    assert not any(stage.skipped for stage in again.stages.values())
    assert open_packed(again.out).documents("train").column_names[-1] == "truncated"


def test_a_killed_run_goes_on_with_the_same_bytes(prepare, tmp_path, digests, many_chats):
    path = many_chats(tmp_path / "chats.jsonl", 300)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f'{{"source": "s{n}", {line[1:]}\n' for n, line in enumerate(lines)))
    whole = prepare(path, tmp_path / "whole", carry=["source"])
    killed = tmp_path / "killed"

    class Stop(Exception):
        pass

    def stop(stage, *_):
        if stage == "pack":
            raise Stop

    with pytest.raises(Stop):
        prepare(path, killed, carry=["source"], progress=stop)
    assert not (killed / "packed").exists()
    result = prepare(path, killed, carry=["source"])
    assert [stage.skipped for stage in result.stages.values()] == [True, True, False]
    assert digests(killed) == digests(whole.out)


ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]}


@pytest.mark.parametrize("ending", WRITERS)
def test_a_row_without_the_column(prepare, tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    WRITERS[ending](path, [ROW | {"source": "a"}, ROW | {"source": "b"}])
    with pytest.raises(DataError) as caught:
        prepare(path, tmp_path / "out", carry=["sorce"])
    assert str(caught.value) == (
        f"no such field, which `read.carry` names at {path}:1, field: `sorce`\nhint: did you mean `source`?"
    )
    assert not (tmp_path / "out" / "clean").exists()
    found = inspect(path, carry=["model"])
    assert (found.rows, found.bad_rows) == (0, 2)
    assert found.first_bad_row == (
        f"no such field, which `read.carry` names at {path}:1, field: `model`"
        "\nhint: the row has `messages`, `source`; write null where a row has no value"
    )


def test_only_some_rows_without_the_column(prepare, tmp_path, write_rows, read_rows):
    rows = [ROW | {"source": None}, ROW, {"source": "x", "messages": 3}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    result = prepare(path, tmp_path / "out", carry=["source"], on_bad_row="reject")
    rejects = read_rows(result.out / "clean" / "rejects")
    assert [(row["line"], row["reason"], row["source"]) for row in rejects] == [
        (2, "bad_row", None),
        (3, "bad_row", None),
    ]


REFUSED = {
    "twice": (
        ["source", "source"],
        "`read.carry` names a column twice: `source`\nhint: name each column once",
    ),
    "own": (
        ["length"],
        (
            "`read.carry` names a column that the files of a run have anyway: `length`"
            "\nhint: leave it out, or give the column another name in the input"
        ),
    ),
    "read": (
        ["conversations"],
        (
            "`read.carry` names a column that is part of the rows of `{path}`: `conversations`"
            "\nhint: the shape `sharegpt` reads it; leave it out, or copy it to a column of another name"
        ),
    ),
    "no list": (
        "source",
        (
            "`read.carry` must be a list, found: `'source'`"
            "\nhint: name columns of the input, as in `carry: [source]`"
        ),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_columns_that_cannot_be_carried(prepare, tmp_path, write_rows, case):
    carry, message = REFUSED[case]
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes."}]
    path = write_rows(tmp_path / "rows.jsonl", [{"conversations": turns, "source": 1, "length": 2}])
    with pytest.raises(ConfigError) as caught:
        prepare(path, tmp_path / "out", carry=carry)
    assert str(caught.value) == message.format(path=path)
    assert caught.value.key == "read.carry"
    assert not (tmp_path / "out" / "clean").exists()


def test_show_names_what_is_carried(tmp_path, examples, write_rows, chat, command):
    rows = [chat("What is it?", "A tree.") | {"source": "garden", "n": None, "stage": "raw"}]
    rows += [chat("What is that?", " ") | {"source": "kitchen", "n": None, "stage": "raw"}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    out = tmp_path / "out"
    arguments = ["prepare", path, "--out", out, "--tokenizer", examples / "tokenizer", "--quiet"]
    carry = [f"--carry={name}" for name in ("source", "n", "stage")]
    done = command(*arguments, *carry, "--test-fraction", "0")
    assert (done.returncode, done.stderr) == (0, "")
    done = command("show", out)
    assert done.stdout.splitlines()[2] == "── source: garden"
    assert "── n:" not in done.stdout
    done = command("show", out, "--rejects")
    assert done.stdout.startswith("── clean: ")
    assert "\nsource: kitchen\nstage: raw\nuser: " in done.stdout
    done = command("inspect", path, "--carry", "sauce", "--quiet")
    assert "field: `sauce`" in done.stdout
