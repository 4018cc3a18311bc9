"""Rows of every shape that docs/SHAPES.md shows, in every format, and what they become."""

import json
import re

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from zephyr_data import ConfigError, DataError, _core
from zephyr_data.config import Config

CHAT = [("user", "What is 2+2?"), ("assistant", "4.")]
PAIR = [("user", "What is 2+2?"), ("assistant", "4."), ("assistant", "5.")]


@pytest.fixture(scope="module")
def page(request):
    return (request.config.rootpath / "docs" / "SHAPES.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def documented(page):
    """The shapes of the page, each with its rows."""
    found = {}
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        name = section.splitlines()[0].strip()
        rows = [
            json.loads(row) for row in re.findall(r"^```json\n(.*?)\n```$", section, re.M | re.S)
        ]
        if rows:
            found[name] = rows
    return found


@pytest.fixture
def read(tmp_path, read_rows):
    """A function: the first stage on these files, and the turns of its rows."""

    def run(*paths, out="out", **read):
        config = Config.load({"read": read} if read else None)
        folder = tmp_path / out
        _core.clean(list(paths), folder, config.read, config.clean, 2, lambda *_: None)
        return [
            [
                (turn["role"], turn["content"])
                for column in ("messages", "prompt", "chosen", "rejected")
                for turn in row.get(column, ())
            ]
            for row in read_rows(folder / "clean")
        ]

    return run


def test_the_code_of_the_page_does_what_it_says(page, examples, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    source = block.replace("examples/tokenizer", str(examples / "tokenizer"))
    exec(compile(source, "SHAPES.md", "exec"), {})
    said = re.search(r"  # (.*)$", block, re.M)[1]
    assert capsys.readouterr().out.splitlines()[-1] == said


def test_the_page_shows_every_shape(documented):
    from typing import get_args

    from zephyr_data.options import Shape

    assert set(documented) == set(get_args(Shape)) - {"auto"}
    assert sum(map(len, documented.values())) >= 9


def as_lines(rows, path):
    path = path.with_suffix(".jsonl")
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def as_array(rows, path):
    path = path.with_suffix(".json.zst")
    path.write_bytes(zstandard.compress(json.dumps(rows, indent=2).encode()))
    return path


def as_parquet(rows, path):
    path = path.with_suffix(".parquet")
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def as_arrow_file(rows, path):
    path = path.with_suffix(".feather")
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def as_arrow_stream(rows, path):
    path = path.with_suffix(".arrow")
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return path


FORMATS = [as_lines, as_array, as_parquet, as_arrow_file, as_arrow_stream]


@pytest.mark.parametrize("write", FORMATS)
def test_every_shape_in_every_format(documented, read, tmp_path, write):
    for name, rows in documented.items():
        for number, row in enumerate(rows):
            # Two rows, one of them named, in a file of this one shape.
            path = write(
                [{**row, "id": "first"}, {**row, "id": "second"}], tmp_path / f"{name}-{number}"
            )
            expected = PAIR if name == "preference" else CHAT
            for shape in ("auto", name):
                got = read(path, out=f"{write.__name__}-{name}-{number}-{shape}", shape=shape)
                assert got == [expected] * 2, (name, row)


def test_files_of_several_shapes_go_together(documented, read, tmp_path):
    chats = {name: rows for name, rows in documented.items() if name != "preference"}
    paths = [as_lines(rows, tmp_path / name) for name, rows in chats.items()]
    assert read(*paths) == [CHAT] * sum(map(len, chats.values()))


def test_chats_and_preferences_do_not_go_together(documented, read, tmp_path):
    first = as_lines(documented["alpaca"], tmp_path / "a")
    second = as_lines(documented["preference"], tmp_path / "b")
    with pytest.raises(DataError) as caught:
        read(first, second)
    assert str(caught.value) == (
        f"cannot read `{second}`: its rows are preferences, those of `{first}` are chats\n"
        "hint: prepare each kind on its own, into a folder of its own"
    )
    assert not (tmp_path / "out" / "clean").exists()


def test_a_shape_that_does_not_go_with_the_kind(read, documented, tmp_path):
    path = as_lines(documented["alpaca"], tmp_path / "a")
    with pytest.raises(ConfigError) as caught:
        read(path, kind="preference", shape="alpaca")
    assert str(caught.value) == (
        "`read.shape` does not go with `read.kind`, found: `alpaca`\n"
        "hint: the shape makes rows of the kind `chat`"
    )


def test_a_named_shape_counts_more_than_the_columns(read, tmp_path):
    row = {
        "messages": [{"role": "user", "content": "no"}, {"role": "assistant", "content": "no"}],
        "instruction": "What is 2+2?",
        "output": "4.",
    }
    path = as_lines([row], tmp_path / "a")
    assert read(path, out="named", shape="alpaca") == [CHAT]
    assert read(path, out="found") == [[("user", "no"), ("assistant", "no")]]


ROWS = {
    "another shape among the rows": (
        {"instruction": "a", "output": "b"},
        {"conversations": []},
        "no field `instruction`",
        None,
        (
            "the row has `conversations`: its shape is `sharegpt`, that of the file `alpaca`; put rows of each shape into files of"
            " their own"
        ),
    ),
    "a speaker that is not known": (
        {"conversations": [{"from": "human", "value": "a"}]},
        {"conversations": [{"from": "function_call", "value": "a"}]},
        "unknown role `function_call`",
        "conversations[0].from",
        (
            "the names are `system`, `human` or `user`, and `gpt`, `chatgpt`, `bing`, `bard`, `model` or `assistant`; rename the"
            " speaker or leave such rows out"
        ),
    ),
    "an image": (
        {"messages": [{"role": "user", "content": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "text": None}]}]},
        "unknown part `image`",
        "messages[0].content[0].type",
        'a part is an object like `{"type": "text", "text": "…"}`; images and other parts are not read',
    ),
    "a text without a speaker": (
        {"text": "\n\nHuman: a\n\nAssistant: b"},
        {"text": "just text"},
        "the transcript does not begin with a speaker",
        "text",
        "a transcript is `\\n\\nHuman: …\\n\\nAssistant: …`, with an empty line before each speaker",
    ),
}


@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize("write", [as_lines, as_array])
def test_rows_that_do_not_fit(read, tmp_path, case, write):
    good, bad, message, field, hint = ROWS[case]
    path = write([good, bad], tmp_path / "rows")
    with pytest.raises(DataError) as caught:
        read(path)
    place = f" at {path}:2" + (f", field: `{field}`" if field else "")
    assert str(caught.value) == f"{message}{place}\nhint: {hint}"
    assert not (tmp_path / "out" / "clean").exists()


FILES = {
    "cut": (
        '[{"messages": []}, {"messages": [',
        "the array is not closed",
        ":2",
        "the file seems to be cut off; fetch or write it again",
    ),
    "without a comma": (
        '[{"messages": []} {"messages": []}]',
        "not valid JSON: no comma between two elements",
        ":2",
        "the file must be one array of objects: `[{…}, {…}]`",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_arrays_that_are_none(read, tmp_path, case):
    text, message, place, hint = FILES[case]
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value) == f"{message} at {path}{place}\nhint: {hint}"


def test_an_arrow_file_that_is_none(read, tmp_path):
    path = tmp_path / "rows.arrow"
    for content in (b"ARROW1 but no more", b"no arrow at all", b"\xff\xff\xff\xff\xff\xff\xff\x7f"):
        path.write_bytes(content)
        with pytest.raises(
            DataError, match=f"cannot read `{path}`: not an Arrow file that can be read: "
        ):
            read(path)


def test_the_columns_of_tables_come_in_all_of_arrows_types(read, tmp_path):
    strings = pa.array(["What is 2+2?"], pa.string_view())
    table = pa.table(
        {
            "instruction": strings,
            "output": pa.array(["4."]).dictionary_encode(),
            "input": pa.array([None], pa.null()),
            "id": pa.array([7], pa.uint8()),
        }
    )
    path = tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert read(path) == [CHAT]
    wrong = tmp_path / "b.parquet"
    pa.parquet.write_table(pa.table({"instruction": ["a"], "output": [1]}), wrong)
    with pytest.raises(
        DataError, match="expected strings or lists of messages, found the type Int64"
    ):
        read(wrong, out="wrong")


def test_the_shared_instructions_need_no_option(read, shared):
    rows = read(shared / "instructions_codegen.json")
    assert len(rows) > 4000
    assert all([role for role, _ in turns] == ["user", "assistant"] for turns in rows)
