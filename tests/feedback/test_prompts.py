"""Prompt files: forms, ids, and what is refused."""

import gzip
import json
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import zstandard

from zephyr_data.errors import DataError
from zephyr_data.feedback.prompts import read_prompts

ROWS = [
    {"id": "a", "prompt": "One?"},
    {"id": "b", "prompt": "Two?", "source": "s", "reference": "2"},
]


def test_all_formats_read_the_same(tmp_path):
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "p.jsonl").write_text(text)
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "p.jsonl.zst").write_bytes(zstandard.compress(text.encode()))
    (tmp_path / "p.json").write_text(json.dumps(ROWS))
    parquet.write_table(pa.Table.from_pylist(ROWS, schema=pa.schema(
        [(name, pa.string()) for name in ("id", "prompt", "source", "reference")]
    )), tmp_path / "p.parquet")  # fmt: skip
    first = read_prompts(tmp_path / "p.jsonl")
    assert [p.id for p in first] == ["a", "b"]
    assert first[1].reference == "2"
    for name in ("p.jsonl.gz", "p.jsonl.zst", "p.json", "p.parquet"):
        assert read_prompts(tmp_path / name) == first


def test_id_is_the_hash_of_the_prompt(write_jsonl):
    (prompt,) = read_prompts(write_jsonl("p.jsonl", [{"prompt": "Hi"}]))
    assert prompt.id == sha256(b"Hi").hexdigest()


def test_dialogue_and_system_messages(write_jsonl):
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "3"},
    ]
    (prompt,) = read_prompts(write_jsonl("p.jsonl", [{"messages": messages}]))
    assert prompt.text == "User: 1\n\nAssistant: 2\n\nUser: 3"
    assert prompt.chat() == messages
    assert prompt.chat("P")[0] == {"role": "system", "content": "P\n\nS"}


BAD = {
    "repeated id": ([ROWS[0], ROWS[0]], r"`id` at .*:2 was used in line 1 already: a"),
    "no prompt": ([{"id": "a"}], r"no usable `prompt` at .*:1, found: None"),
    "blank prompt": ([{"prompt": " "}], "no usable `prompt`"),
    "ends with assistant": (
        [{"messages": [{"role": "assistant", "content": "x"}]}],
        "no usable `messages` at .*:1, found: 'assistant'",
    ),
    "unknown role": ([{"messages": [{"role": "tool", "content": "x"}]}], "found: 'tool'"),
    "no content": ([{"messages": [{"role": "user"}]}], "no usable `messages`"),
    "empty messages": ([{"messages": []}], "no usable `messages`"),
    "nothing": ([], "no prompts in file"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(write_jsonl, name):
    rows, message = BAD[name]
    with pytest.raises(DataError, match=message):
        read_prompts(write_jsonl("p.jsonl", rows))


def test_bad_json_has_its_line(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "x"}\n\n{"prompt": \n')
    with pytest.raises(DataError, match=r"no JSON at .*p\.jsonl:3") as raised:
        read_prompts(path)
    assert raised.value.line == 3


def test_missing_file_is_the_builtin_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_prompts(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "half \ud83d"}, "no usable `messages` at .*:1"),
        ({"prompt": "x", "reference": "half \ud83d"}, "`reference` at .*:1 holds half of"),
        ({"prompt": "x", "id": "\ud83d"}, "`id` at .*:1 holds half of"),
    ],
)
def test_half_a_surrogate_pair_is_refused_with_its_place(write_jsonl, row, message):
    with pytest.raises(DataError, match=message):
        read_prompts(write_jsonl("p.jsonl", [row]))


def test_bytes_that_are_no_utf8_are_refused_with_their_place(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n{"prompt": "\xff"}\n')
    with pytest.raises(DataError, match="no JSON at .*p.jsonl:2") as raised:
        read_prompts(path)
    assert raised.value.line == 2
