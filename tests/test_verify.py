"""`verify`: random rows go through transformers, too, before anything is packed."""

import shutil
import sys

import pyarrow as pa
import pytest

from zephyr_data import ConfigError, trial, verify
from zephyr_data.errors import ManifestError
from zephyr_data.extension import core
from zephyr_data.sample import random_rows

ROWS = 60

MODULE = sys.modules["zephyr_data.prepare"]
"""The module; the package's attribute of that name is the function."""


@pytest.fixture
def chats(tmp_path, many_chats):
    return many_chats(tmp_path / "chats.jsonl", ROWS)


class Tampered:
    """The extension with an encoder that gets one chat wrong: the one that holds `marker`."""

    def __init__(self, marker):
        self.marker = marker

    def __getattr__(self, name):
        return getattr(core(), name)

    def ChatEncoder(self, *arguments, **options):
        real, marker = core().ChatEncoder(*arguments, **options), self.marker

        class Encoder:
            engine = real.engine

            def encode(self, messages):
                encoded = pa.array(real.encode(messages))
                contents = [turn["content"] for turn in messages.to_pylist()[0]]
                if marker not in contents:
                    return encoded
                rows = encoded.to_pylist()
                rows[0]["input_ids"][-1] += 1
                return pa.array(rows, encoded.type)

        return Encoder()


def last_chat(result, read_rows):
    return read_rows(result.out / "dedup")[-1]


def test_a_wrong_row_ends_the_run_and_is_named(prepare, chats, tmp_path, read_rows, monkeypatch):
    row = last_chat(prepare(chats, tmp_path / "right"), read_rows)
    monkeypatch.setattr(MODULE, "core", lambda: Tampered(row["messages"][-1]["content"]))
    out = tmp_path / "wrong"
    with pytest.raises(ConfigError) as caught:
        prepare(chats, out, verify=ROWS)
    assert f"not that of transformers for row `{row['id']}`: id " in str(caught.value)
    assert not (out / "packed").exists()
    # The same folder, unverified, goes on where it stood.
    assert (prepare(chats, out, verify=0).out / "packed").exists()


def test_pairs_are_verified_too(prepare, examples, tmp_path, read_rows, monkeypatch):
    source = examples / "preferences.jsonl"
    row = last_chat(prepare(source, tmp_path / "right"), read_rows)
    real, change = verify.core().encode_rows, {}

    def encode_rows(table, *arguments):
        (pair,) = pa.table(real(table, *arguments)).to_pylist()
        if pair["id"] == row["id"]:
            change["now"](pair)
        return pa.Table.from_pylist([pair])

    class Tampering:
        def __getattr__(self, name):
            return encode_rows if name == "encode_rows" else getattr(core(), name)

    monkeypatch.setattr(verify, "core", Tampering)

    def message(now):
        change["now"] = now
        with pytest.raises(ConfigError) as caught:
            prepare(source, tmp_path / "wrong", verify=100_000)
        assert not (tmp_path / "wrong" / "packed").exists()
        return str(caught.value)

    assert f"for row `{row['id']}`, `rejected`: it has " in message(
        lambda p: p["rejected_ids"].pop()
    )
    moved = message(lambda p: p["chosen_ids"].insert(0, p["prompt_ids"].pop()))
    assert f"for row `{row['id']}`, `rejected`: " in moved or "the answer begins at id " in moved

    def move_both(pair):
        last = pair["prompt_ids"].pop()
        for name in ("chosen_ids", "rejected_ids"):
            pair[name].insert(0, last)

    assert f"for row `{row['id']}`, `chosen`: the answer begins at id " in message(move_both)
    change["now"] = dict  # which changes nothing
    prepare(source, tmp_path / "wrong", verify=100_000)


def test_how_many_are_verified_changes_no_byte(prepare, chats, tmp_path, digests):
    folders = [prepare(chats, tmp_path / f"{n}", verify=n).out for n in (0, 1, ROWS)]
    assert len({str(digests(folder)) for folder in folders}) == 1


def test_what_was_verified_is_said(command, examples, tmp_path):
    arguments = ["prepare", examples / "chats.jsonl", "--tokenizer", examples / "tokenizer"]
    done = command(*arguments, "--out", tmp_path / "out", "--verify", "50")
    assert "verified 48 of up to 50 random rows: ids are those of transformers" in done.stderr
    done = command(*arguments, "--out", tmp_path / "other", "--verify", "-1")
    assert done.returncode == 2
    assert "`verify` must be at least 0, found: `-1`" in done.stderr
    assert "hint: a number of rows; each takes about a millisecond" in done.stderr


# ---- the rows ----


@pytest.fixture
def parts(tmp_path):
    """Rows 0 to 99 in two files, in batches of 7 and of 20."""
    for number, (first, last, size) in enumerate([(0, 42, 7), (42, 100, 20)]):
        table = pa.table({"id": [str(row) for row in range(first, last)]})
        path = str(tmp_path / f"part-{number:05}.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=size)
    return tmp_path


def ids(folder, count, seed=0):
    return [int(row["id"][0].as_py()) for row in random_rows(folder, ["id"], count, seed)]


def test_rows_are_random_and_in_order(parts):
    assert ids(parts, 100) == ids(parts, 1000) == list(range(100))
    few = ids(parts, 30)
    assert few == sorted(set(few)) == ids(parts, 30)
    assert len(few) == 30
    assert few != ids(parts, 30, seed=1)
    seen = {row for seed in range(60) for row in ids(parts, 5, seed)}
    assert len(seen) > 80, "some rows are never chosen"
    assert ids(parts, 0) == []


def test_no_rows_are_none(tmp_path):
    assert ids(tmp_path, 5) == []


def test_a_damaged_file_is_named(parts):
    path = parts / "part-00001.arrow"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ManifestError, match=r"part-00001.arrow`: it is damaged: ") as caught:
        ids(parts, 5)
    assert "hint: run the command again with `--overwrite`" in str(caught.value)


# ---- templates that are hostile to certain rows in jinja2 alone ----

# `'a'.format` is a method in Python, and missing in the extension.
ONLY_THERE = "{% if 'a'.format and 'sesame' in messages[-1].content %}STEP{% endif %}"
LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
GROWTH = (
    "{% set n = namespace(x='a') %}{% for i in range(64) %}{% set n.x = n.x + n.x %}{% endfor %}"
)
CLOCK = "{{ '' if strftime_now('%Y') }}"


@pytest.fixture
def with_template(examples, tmp_path):
    """A function: the bundled tokenizer's folder, with something put before its template."""

    def make(before):
        folder = shutil.copytree(examples / "tokenizer", tmp_path / "tokenizer")
        path = folder / "chat_template.jinja"
        path.write_text(before + path.read_text())
        return folder

    return make


def conversation(row, word):
    turns = [f"Please count up to {row * 7919}, and then {word}.", f"Yes, up to {row} {word}s."]
    return [{"role": r, "content": c} for r, c in zip(("user", "assistant"), turns, strict=True)]


@pytest.fixture
def rows():
    return pa.table(
        {"messages": [conversation(row, "sesame" if row == 9 else "stop") for row in range(1, 31)]}
    )


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (LOOPS, "rendering it takes more than 1 s of CPU time"),
        (GROWTH, "rendering it takes more than 512 MiB of memory, or overflows the stack"),
        (CLOCK, "rendering it depends on the clock or on a random choice in transformers"),
    ],
)
def test_a_hostile_row_does_not_get_to_transformers(
    step, reason, prepare, with_template, rows, tmp_path, monkeypatch
):
    monkeypatch.setattr(trial, "CHAT_SECONDS", 1.0)
    folder = with_template(ONLY_THERE.replace("STEP", step))
    with pytest.raises(ConfigError) as caught:
        prepare(rows, tmp_path / "out", tokenizer=folder, verify=100)
    message, hint = str(caught.value).splitlines()
    assert message.startswith(f"cannot hold row `frame:9` against transformers: {reason} with the")
    assert message.endswith(f" chat template of the tokenizer `{folder}`")
    assert "leave transformers out with `--verify 0`" in hint
    assert caught.value.key == "verify"
    assert (prepare(rows, tmp_path / "out", tokenizer=folder, verify=0).out / "packed").exists()


def test_nor_does_a_hostile_pair(prepare, with_template, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "CHAT_SECONDS", 1.0)
    pairs = [
        {
            "prompt": conversation(row, "go")[:1],
            "chosen": conversation(row, "stop")[1:],
            "rejected": conversation(row, "sesame" if row == 9 else "pause")[1:],
        }
        for row in range(1, 31)
    ]
    folder = with_template(ONLY_THERE.replace("STEP", LOOPS))
    options = {"tokenizer": folder, "verify": 100, "kind": "preference"}
    with pytest.raises(ConfigError, match="cannot hold row `frame:9`, `rejected` against transf"):
        prepare(pa.Table.from_pylist(pairs), tmp_path / "out", **options)


def test_one_child_tries_all_rows(prepare, with_template, rows, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(trial, "_run", lambda *arguments: (calls.append(arguments), (0, 0))[1])
    prepare(rows, tmp_path / "out", tokenizer=with_template("{{ '' }}"), verify=32)
    (_, probes, _), (_, task, _) = calls
    assert "chats" not in probes
    assert len(task["chats"]) == 30


def test_templates_that_are_never_executed_are_not_tried(prepare, rows, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(trial, "_run", lambda *arguments: (calls.append(arguments), (0, 0))[1])
    result = prepare(rows, tmp_path / "out", verify=32)
    assert calls == []
    assert (result.out / "packed").exists()
