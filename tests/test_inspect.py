"""`inspect`: what files hold, before anything is done with them."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from zephyr_data import ConfigError
from zephyr_data.inspect import inspect

CHATS = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]},
    {
        "messages": [
            {"role": "system", "content": "你好"},
            {"role": "user", "content": "你好吗"},
            {"role": "assistant", "content": "很好"},
        ]
    },
]


@pytest.fixture
def chats(tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in [*CHATS, {"messages": 3}]))
    return path


@pytest.fixture
def codes(tmp_path):
    path = tmp_path / "codes.json"
    path.write_text(json.dumps([{"instruction": "1+1?", "output": "2"}]))
    return path


def test_what_two_files_hold(chats, codes):
    found = inspect([chats, codes])
    assert [asdict(file) for file in found.files] == [
        {
            "name": str(chats),
            "shape": "messages",
            "kind": "chat",
            "rows": 2,
            "bad_rows": 1,
            "note": None,
        },
        {
            "name": str(codes),
            "shape": "alpaca",
            "kind": "chat",
            "rows": 1,
            "bad_rows": 0,
            "note": None,
        },
    ]
    assert (found.rows, found.bad_rows) == (3, 1)
    assert found.first_bad_row.startswith(
        f"expected a list of messages, found a number at {chats}:3, field: `messages`\nhint: "
    )
    assert found.turns_by_role == {"system": 1, "user": 3, "assistant": 3}
    assert found.characters_by_role == {"system": 2, "user": 2 + 3 + 4, "assistant": 6 + 2 + 1}
    assert found.rows_by_script == {"Latin": 1, "Han": 1, "none": 1}
    assert (found.turns.min, found.turns.median, found.turns.max) == (2, 2, 3)
    assert (found.characters.min, found.characters.max) == (5, 8)
    assert found.characters.mean == pytest.approx((8 + 7 + 5) / 3)


def test_the_result_does_not_depend_on_the_workers(shared):
    path = shared / "instructions_codegen.json"
    assert inspect(path, workers=1) == inspect(path, workers=3)


def test_a_file_of_no_known_shape_is_said_and_no_error(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": 1}\n')
    found = inspect(path)
    assert (found.files[0].shape, found.rows, found.bad_rows) == (None, 0, 1)
    assert found.first_bad_row.startswith(
        f"no field `messages` at {path}:1\nhint: the row has `question`"
    )


def test_a_frame():
    import pyarrow as pa

    assert inspect(pa.Table.from_pylist(CHATS)).rows == 2


def test_an_option_that_is_none(chats):
    with pytest.raises(ConfigError, match=r"`read.shape` must be .*, found: `'nope'`"):
        inspect(chats, shape="nope")


def run(*arguments):
    command = [sys.executable, "-m", "zephyr_data", "inspect", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command(chats, codes):
    done = run(chats, codes)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [str(codes), "alpaca", "chat", "1", "0"] in lines
    assert ["Han", "1", "33.3", "%"] in lines
    assert ["messages", "2", "2", "2", "2.3", "3", "3", "3"] in lines
    assert f"first bad row: expected a list of messages, found a number at {chats}:3" in done.stdout
    as_json = run(chats, codes, "--json")
    expected = asdict(inspect([chats, codes]))
    assert json.loads(as_json.stdout) == {**expected, "files": list(expected["files"])}


def test_the_command_without_a_file():
    done = run("nowhere.jsonl")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: cannot read `nowhere.jsonl`: No such file or directory\nhint: "
    )
