"""Input that is broken, hostile or not there: the whole message, and nothing half done is left to be taken for a result."""

import gzip
import json
import os
import resource
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from zephyr_data import ConfigError, DataError, _core
from zephyr_data.config import Config

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
ROW = json.dumps({"messages": TURNS}).encode() + b"\n"
KNOWN = (
    "a chat has `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, or a `text` that is a"
    " transcript; a preference has `chosen` and `rejected` (and `prompt`)"
)
AGAIN = "fetch or write the file again; decompress it by hand to see how far it is good"
OBJECT = "each line must be one JSON object"


def parquet_bytes(rows=3000):
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table({"messages": [TURNS] * rows}), sink, row_group_size=500)
    return sink.getvalue().to_pybytes()


def middle_damaged(data):
    """The same with a stretch in the middle turned over."""
    half = len(data) // 2
    return data[:half] + bytes(byte ^ 0xFF for byte in data[half : half + 64]) + data[half + 64 :]


# Name and content of the file, and the message; `{path}` stands for the file.
INPUTS = {
    "not UTF-8": (
        "a.jsonl",
        ROW + ROW.replace(b"Hello", b"H\xe9llo"),
        f"the line is not UTF-8 from byte {ROW.index(b'ello') + 1} on at {{path}}:2\nhint: convert the file to UTF-8",
    ),
    "a line of NUL": (
        "a.jsonl",
        ROW + b"\0" * 512 + b"\n" + ROW,
        f"not valid JSON: expected value, column 1 at {{path}}:2\nhint: {OBJECT}",
    ),
    "a torn last line": (
        "a.jsonl",
        ROW * 2 + ROW[: len(ROW) // 2],
        f"not valid JSON: EOF while parsing a list, column {len(ROW) // 2} at {{path}}:3\nhint: {OBJECT}",
    ),
    "truncated gzip": (
        "a.jsonl.gz",
        gzip.compress(ROW * 9000, mtime=0)[:-40],
        f"cannot read `{{path}}`: the gzip data ends too early\nhint: {AGAIN}",
    ),
    "truncated zstd": (
        "a.jsonl.zst",
        zstandard.compress(os.urandom(200_000))[:-40],
        f"cannot read `{{path}}`: the zstd data ends too early\nhint: {AGAIN}",
    ),
    "gzip of a wrong magic number": (
        "a.jsonl.gz",
        ROW,
        f"cannot read `{{path}}`: the gzip data is damaged\nhint: {AGAIN}",
    ),
    "zstd of a wrong magic number": (
        "a.jsonl.zst",
        ROW,
        f"cannot read `{{path}}`: the zstd data is damaged\nhint: {AGAIN}",
    ),
    "Parquet of a wrong magic number": (
        "a.parquet",
        ROW,
        (
            "cannot read `{path}`: not a Parquet file that can be read: Parquet error: Invalid Parquet file. Corrupt footer"
            "\nhint: fetch or write the file again"
        ),
    ),
    # The first four bytes of a stream are a length: of text, more than a gigabyte, which is not to be asked for.
    "text under the name of an Arrow file": (
        "a.arrow",
        ROW,
        (
            "cannot read `{path}`: not an Arrow file that can be read: Io error: a message claims "
            f"{int.from_bytes(ROW[:4], 'little')} bytes, {len(ROW) - 4} are left\nhint: fetch or write the file again"
        ),
    ),
    "no object": (
        "a.jsonl",
        ROW + b"[1]\n",
        f"expected a JSON object, found a list at {{path}}:2\nhint: {KNOWN}",
    ),
    "a missing field": (
        "a.jsonl",
        ROW + b'{"id": 1}\n',
        f"no field `messages` at {{path}}:2\nhint: the row has `id`; {KNOWN}",
    ),
    "a mistyped field": (
        "a.jsonl",
        ROW + b'{"message": []}\n',
        f"no field `messages` at {{path}}:2\nhint: the row has `message`; {KNOWN}",
    ),
    "an unknown role": (
        "a.jsonl",
        ROW + ROW.replace(b'"assistant"', b'"tool"'),
        (
            "unknown role `tool` at {path}:2, field: `messages[1].role`\nhint: the roles are `system`, `user` and `assistant`;"
            " rename the role or leave such rows out"
        ),
    ),
    "nested 200,000 deep": (
        "a.jsonl",
        ROW + b'{"x": ' + b"[" * 200_000 + b"\n",
        f"not valid JSON: recursion limit exceeded, column 133 at {{path}}:2\nhint: {OBJECT}",
    ),
    "an array nested 200,000 deep": (
        "a.json",
        b"[" + ROW + b", " + b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}]",
        f"not valid JSON: recursion limit exceeded, column 133 at {{path}}:2\nhint: {OBJECT}",
    ),
    "an empty file": (
        "a.jsonl",
        b"",
        (
            "cannot read `{path}`: no row has the columns of a chat or of a preference"
            f"\nhint: {KNOWN}; name the kind with `--kind` to see what is wrong with the first row"
        ),
    ),
}


@pytest.fixture
def clean(tmp_path):
    """A function: runs the first stage on a file of this name and content, and checks that a failure leaves nothing."""
    out = tmp_path / "out"

    def run(name, content, observer=lambda *_: None, **read):
        path = tmp_path / name
        path.write_bytes(content)
        config = Config.load({"read": read} if read else None)
        try:
            return _core.clean([path], out, config.read, config.clean, 2, observer)
        finally:
            if sys.exc_info()[0]:
                assert not out.exists() or not list(out.iterdir())

    return run


@pytest.mark.parametrize("case", INPUTS)
def test_input(clean, tmp_path, case):
    name, content, message = INPUTS[case]
    with pytest.raises(DataError) as caught:
        clean(name, content)
    assert str(caught.value) == message.replace("{path}", str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_damaged_tables(clean, tmp_path, name):
    data = parquet_bytes()
    if name.endswith("arrow"):
        sink, table = pa.BufferOutputStream(), pa.parquet.read_table(pa.BufferReader(data))
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=500)
        data = sink.getvalue().to_pybytes()
    what = "a Parquet" if name.endswith("parquet") else "an Arrow"
    with pytest.raises(DataError) as caught:
        clean(name, data[: len(data) - 100])
    assert str(caught.value).startswith(
        f"cannot read `{tmp_path / name}`: not {what} file that can be read: "
    )
    assert str(caught.value).endswith("\nhint: fetch or write the file again")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz", "a.jsonl.zst"])
def test_damage_in_the_middle_is_an_error_of_the_data(clean, name):
    data = {
        "a.parquet": parquet_bytes,
        "a.jsonl.gz": lambda: gzip.compress(ROW * 9000, mtime=0),
        "a.jsonl.zst": lambda: zstandard.compress(os.urandom(100_000) + ROW * 9000),
    }[name]()
    with pytest.raises(DataError, match="cannot read|not valid JSON|not UTF-8"):
        clean(name, middle_damaged(data))


def test_rows_without_an_answer_are_dropped_and_kept_with_their_reason(
    prepare, tmp_path, write_rows, read_rows
):
    rows = [
        {"id": "no answer", "messages": TURNS[:1]},
        {"id": "ends with the user", "messages": [*TURNS, TURNS[0]]},
        {"id": "no turn", "messages": []},
        {"id": "good", "messages": TURNS},
    ]
    result = prepare(write_rows(tmp_path / "a.jsonl", rows), tmp_path / "out", test_fraction=0)
    assert {
        row["id"]: (row["reason"], row["detail"])
        for row in read_rows(result.out / "clean" / "rejects")
    } == {
        "no answer": ("turns", "no assistant turn"),
        "ends with the user": ("turns", "the last turn is not the assistant's, found: `user`"),
        "no turn": ("turns", "no messages"),
    }


def test_an_input_that_changes_while_it_is_read(clean, tmp_path):
    def grow(*_):
        with (tmp_path / "a.jsonl").open("ab") as file:
            file.write(ROW)

    with pytest.raises(DataError) as caught:
        clean("a.jsonl", ROW * 1000, observer=grow)
    assert str(caught.value) == (
        f"cannot read `{tmp_path}/a.jsonl`: it was changed while it was read"
        "\nhint: wait until it is written, then run the same command again"
    )


BOMBS = {
    # One line of a gigabyte; the same between quotes; rows of a table that unpack to three.
    "a line without an end": ("a.jsonl.zst", lambda: [b"{" + b"a" * (1 << 20)] * 1024),
    "a text without an end": (
        "a.json.zst",
        lambda: [b'[{"messages": "', *[b"a" * (1 << 20)] * 1024],
    ),
    "a table": ("a.parquet.zst", lambda: [b"\0" * (1 << 20)] * 3000),
}
BOMB_MESSAGES = {
    "a line without an end": (
        "the line is longer than 256 MiB at {path}:1\nhint: write one JSON object a line, with a line end behind each"
    ),
    "a text without an end": "the element is longer than 256 MiB at {path}:1\nhint: write one chat an element",
    "a table": (
        "cannot read `{path}`: unpacked it is larger than 2 GiB"
        "\nhint: unpack it first; these formats compress their columns themselves"
    ),
}
MEMORY = {"a line without an end": 900, "a text without an end": 900, "a table": 4500}


@pytest.mark.slow
@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_ends_in_an_error_and_does_not_fill_the_memory(tmp_path, case):
    name, blocks = BOMBS[case]
    path = tmp_path / name
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as stream:
        for block in blocks():
            stream.write(block)
    assert path.stat().st_size < 2 << 20
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from zephyr_data import _core\n"
        "from zephyr_data.config import Config\n"
        "config = Config()\n"
        "try:\n"
        "    _core.clean([sys.argv[1]], sys.argv[2], config.read, config.clean, 1, lambda *_: None)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error, sep='\\n')\n"
        # A child's `ru_maxrss` begins with what its parent held when it forked; the peak of its own memory does not.
        "status = Path('/proc/self/status')\n"
        "lines = status.read_text().splitlines() if status.exists() else []\n"
        "own = [int(line.split()[1]) for line in lines if line.startswith('VmHWM')]\n"
        "print(own[0] if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    command = [sys.executable, "-c", program, str(path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    kind, *message, peak = done.stdout.splitlines()
    assert kind == "DataError"
    assert "\n".join(message) == BOMB_MESSAGES[case].replace("{path}", str(path))
    assert int(peak) / 1024 < MEMORY[case]
    assert not list((tmp_path / "out").glob("*"))


def test_a_folder_that_cannot_be_written(prepare, examples, tmp_path):
    if os.geteuid() == 0:
        # Nothing is forbidden to root but what is no folder.
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="cannot create") as caught:
            prepare(examples / "chats.jsonl", tmp_path / "file" / "out")
        assert f"cannot create `{tmp_path}/file/out`: " in caught.value.strerror
        return
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(PermissionError) as caught:
        prepare(examples / "chats.jsonl", tmp_path / "closed" / "out")
    assert caught.value.strerror == (
        f"cannot create `{tmp_path}/closed/out`: Permission denied"
        "\nhint: check the permissions of the file and of its folder"
    )


def test_a_full_disk_is_said_and_leaves_nothing(examples, tmp_path):
    """A limit on the size of files, as a full disk: the system refuses to write on."""

    def limit():
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    command = [
        sys.executable,
        "-m",
        "zephyr_data",
        "prepare",
        examples / "chats.jsonl",
        "--quiet",
        "--no-report",
    ]
    command += ["--tokenizer", examples / "tokenizer", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 1
    first, hint = done.stderr.splitlines()
    assert first.startswith(
        f"error: cannot write `{tmp_path}/out/.clean.tmp/part-00000.arrow`: File too large"
    )
    assert hint == "hint: free some space and run the same command again; finished stages are kept"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


OPTIONS = {
    "a negative length": ({"max_length": -1}, "`pack.max_length` must be at least 8, found: `-1`"),
    "a length of zero": ({"max_length": 0}, "`pack.max_length` must be at least 8, found: `0`"),
    "an absurd length": (
        {"max_length": 1 << 40},
        "`pack.max_length` must be at most 16777216, found: `1099511627776`",
    ),
    "no workers": ({"workers": 0}, "`workers` must be at least 1, found: `0`"),
    "absurdly many workers": (
        {"workers": 10**6},
        "`workers` must be at most 1024, found: `1000000`",
    ),
    "a negative seed": ({"seed": -5}, "`seed` must be at least 0, found: `-5`"),
    "all for the test": (
        {"test_fraction": 1.0},
        "`dedup.test_fraction` must be below 1, found: `1.0`",
    ),
    "not a number": (
        {"test_fraction": float("nan")},
        "`dedup.test_fraction` must be below 1, found: `nan`",
    ),
    "a misspelt option": (
        {"config": {"pack": {"max_lenght": 5}}},
        "unknown option: `pack.max_lenght`",
    ),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_cannot_be_honoured(prepare, examples, tmp_path, case):
    options, message = OPTIONS[case]
    with pytest.raises(ConfigError) as caught:
        prepare(examples / "chats.jsonl", tmp_path / "out", **options)
    first, *hint = str(caught.value).splitlines()
    assert first == message
    assert hint[0].startswith("hint: ")
    assert not (tmp_path / "out").exists()
