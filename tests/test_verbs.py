"""`clean`, `render`, `encode` and `pack` in memory, held against the files of `prepare` and against transformers."""

import json
import threading
import time

import polars as pl
import pyarrow as pa
import pytest

import zephyr_data
from zephyr_data.errors import ConfigError, DataError

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "hello. how are you?"}]


@pytest.fixture(scope="module")
def encoder(examples):
    return zephyr_data.Encoder.from_pretrained(examples / "tokenizer")


def as_turns(row):
    """A column of a table has one type: strings become message lists."""
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    turns = {name: row[name] for name in roles if isinstance(row.get(name), str)}
    return row | {name: [{"role": roles[name], "content": text}] for name, text in turns.items()}


@pytest.fixture(scope="module", params=["chats", "preferences"])
def both(request, examples, prepare, tmp_path_factory):
    """The bundled rows as a table, and `prepare`'s result of that table."""
    lines = (examples / f"{request.param}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [as_turns(json.loads(line)) for line in lines]
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    out = tmp_path_factory.mktemp(request.param) / "out"
    return table, prepare(table, out, test_fraction=0, max_length=256, on_bad_row="reject")


def read(folder):
    """All parts of a folder as one table."""
    tables = []
    for path in sorted(folder.glob("*.arrow")):
        with pa.memory_map(str(path)) as source:
            try:
                tables.append(pa.ipc.open_file(source).read_all())
            except pa.ArrowInvalid:
                source.seek(0)
                tables.append(pa.ipc.open_stream(source).read_all())
    return pa.concat_tables(tables)


# ---- the same as prepare ----


def test_cleaned_rows_are_those_of_the_stage(both):
    table, prepared = both
    result = zephyr_data.clean(table, on_bad_row="reject")
    assert result.kept.num_rows > 0
    assert result.rejects.num_rows > 0
    assert result.kept.equals(read(prepared.out / "clean"))
    assert result.rejects.equals(read(prepared.out / "clean/rejects"))
    assert result.changes.equals(read(prepared.out / "clean/changes"))


def test_packed_rows_are_those_of_the_stage(both, encoder):
    _, prepared = both
    rows = read(prepared.out / "dedup")
    packed = zephyr_data.pack(zephyr_data.encode(rows, encoder), 256)
    assert packed.rows.num_rows > 0
    assert packed.rows.equals(read(prepared.train))
    rejects = read(prepared.out / "packed/rejects")
    assert packed.dropped.equals(rejects.select(["id", "reason", "detail"]))
    if packed.index is None:
        assert "prompt_ids" in packed.rows.column_names
    else:
        assert packed.index.equals(read(prepared.out / "packed/index/train"))


def test_overlong_rows_are_dropped_with_the_reason_of_the_stage(both, encoder, prepare, tmp_path):
    table, _ = both
    config = {"pack": {"overlong": "drop"}, "dedup": {"test_fraction": 0}, "seed": 3}
    options = {"config": config, "max_length": 64, "on_bad_row": "reject"}
    prepared = prepare(table, tmp_path / "out", **options)
    encoded = zephyr_data.encode(read(prepared.out / "dedup"), encoder)
    packed = zephyr_data.pack(encoded, 64, overlong="drop", seed=3)
    rejects = read(prepared.out / "packed/rejects")
    assert "overlong" in packed.dropped["reason"].to_pylist()
    assert packed.dropped.equals(rejects.select(["id", "reason", "detail"]))
    assert packed.rows.equals(read(prepared.train))


def test_the_number_of_threads_changes_nothing(both, encoder):
    table = pa.concat_tables([both[0]] * 40)
    one, many = (zephyr_data.clean(table, on_bad_row="reject", workers=n) for n in (1, 5))
    assert one == many
    one, many = (zephyr_data.encode(one.kept, encoder, workers=n) for n in (1, 5))
    assert one.equals(many)
    one, many = (zephyr_data.pack(one, 128, workers=n) for n in (1, 5))
    assert one == many


# ---- the same as transformers ----


def test_texts_and_ids_are_those_of_transformers(encoder, examples, live_tokenizer):
    lines = (examples / "chats.jsonl").read_text(encoding="utf-8").splitlines()
    kept = zephyr_data.clean(
        [json.loads(line) for line in lines],
        on_bad_row="reject",
    ).kept
    chats = [chat for chat in kept["messages"].to_pylist() if "</s>" not in str(chat)]
    assert len(chats) > 20
    for prompted in (False, True):
        theirs = live_tokenizer.apply_chat_template(
            chats, tokenize=False, add_generation_prompt=prompted
        )
        texts = zephyr_data.render(chats, encoder, add_generation_prompt=prompted)
        assert texts.to_pylist() == theirs
    theirs = live_tokenizer.apply_chat_template(chats, return_dict=True)
    assert zephyr_data.encode(chats, encoder)["input_ids"].to_pylist() == theirs["input_ids"]


# ---- what may be given ----


def given(name):
    rows = [{"messages": TURNS, "id": "a"}, {"messages": TURNS[:1], "id": "b"}]
    table = pa.Table.from_pylist(rows)
    return {
        "rows": lambda: rows,
        "pyarrow": lambda: table,
        "batch": lambda: table.to_batches()[0],
        "reader": lambda: table.to_reader(),
        "polars": lambda: pl.DataFrame(rows),
        "pandas": lambda: table.to_pandas(),
        "datasets": lambda: pytest.importorskip("datasets").Dataset.from_list(rows),
    }[name]()


@pytest.mark.parametrize(
    "name", ["rows", "pyarrow", "batch", "reader", "polars", "pandas", "datasets"]
)
def test_tables_of_any_library_are_taken(name):
    result = zephyr_data.clean(given(name))
    assert result.kept["id"].to_pylist() == ["a"]
    assert result.kept["messages"][0].as_py()[1]["content"] == "Hello. How are you?"
    assert result.rejects["id"].to_pylist() == ["b"]
    assert result.rejects["reason"].to_pylist() == ["turns"]
    assert result.changes["id"].to_pylist() == ["a", "a"]


@pytest.mark.parametrize(
    "make", [list, pa.array, lambda chats: pa.chunked_array([chats]), lambda c: pl.Series(c)]
)
def test_chats_need_no_table_around_them(make, encoder):
    chats = make([TURNS, TURNS])
    assert (
        zephyr_data.render(chats, encoder).to_pylist()
        == ["<|user|>\nHi</s>\n<|assistant|>\nhello. how are you?</s>\n"] * 2
    )
    assert zephyr_data.encode(chats, encoder)["id"].to_pylist() == ["frame:1", "frame:2"]


def test_rows_may_lack_columns():
    rows = [{"messages": TURNS}, {"id": "b", "messages": TURNS, "other": 1.5}]
    assert zephyr_data.clean(rows).kept["id"].to_pylist() == ["frame:1", "b"]


def test_pack_takes_integers_of_any_width(encoder):
    encoded = zephyr_data.encode([TURNS, TURNS], encoder)
    wide = pa.table(
        {
            "input_ids": encoded["input_ids"].cast(pa.large_list(pa.int64())),
            "assistant_masks": encoded["assistant_masks"].cast(pa.list_(pa.uint8())),
        }
    )
    narrow = zephyr_data.pack(encoded)
    assert narrow == zephyr_data.pack(wide)
    assert narrow.index["id"].to_pylist() == ["frame:1", "frame:2"]


def not_utf8(kind):
    """Strings as pyarrow takes them from a Parquet file of another encoding: it does not look at them."""
    texts = pa.array([b"fine", "h\xe9llo, this is latin 1".encode("latin-1")])
    return texts.cast(pa.large_binary() if kind == pa.large_string() else pa.binary()).view(
        pa.large_string() if kind == pa.large_string() else pa.string()
    )


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_strings_that_are_not_utf8_are_refused_by_all(kind, encoder):
    texts = not_utf8(kind)
    roles = pa.array(["user", "user"], kind)
    turns = pa.StructArray.from_arrays([roles, texts], ["role", "content"])
    chats = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), turns)
    table = pa.table({"messages": chats})
    encoded = pa.table({"input_ids": [[1], [2]], "assistant_masks": [[1], [1]], "id": texts})
    where, hint = "frame", "decode them from their own encoding, or leave such rows out"
    for call, what in (
        (lambda: zephyr_data.clean(table), "the column `messages`"),
        (lambda: zephyr_data.clean(table.slice(1)), "the column `messages`"),
        (lambda: zephyr_data.render(chats, encoder), "the column `messages`"),
        (lambda: zephyr_data.encode(chats, encoder), "the column `messages`"),
        (lambda: zephyr_data.pack(encoded), "the column `id`"),
        (lambda: zephyr_data.deduplicate(table), "the column `messages`"),
        (lambda: zephyr_data.deduplicate(texts), "the column `text`"),
        (lambda: zephyr_data.deduplicate(texts.dictionary_encode()), "the column `text`"),
        (lambda: zephyr_data.truecase(texts), "it"),
        (lambda: encoder.encode(texts), "it"),
        (lambda: encoder.encode_chats(chats), "it"),
    ):
        with pytest.raises(DataError) as error:
            call()
        place = "array" if what == "it" else where
        assert str(error.value) == (
            f"cannot read `{place}`: {what} holds strings that are not UTF-8\nhint: {hint}"
        )
    assert zephyr_data.deduplicate(texts.slice(0, 1)).kept["text"].to_pylist() == ["fine"]


def test_a_message_that_is_null_is_named():
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    table = pa.table({"messages": pa.array([TURNS, [TURNS[0], None]], kind)})
    for verb in (zephyr_data.clean, zephyr_data.deduplicate):
        with pytest.raises(DataError) as error:
            verb(table)
        assert str(error.value) == (
            "expected a message, found null at frame:2, field: `messages[1]`\n"
            "hint: a message needs a role and a content; leave such rows out"
        )


def test_slices_of_lists_of_one_length_are_read():
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]), 2)
    other = [{"role": "user", "content": "Bye"}, {"role": "assistant", "content": "Goodbye!"}]
    for table in (
        pa.table({"messages": pa.array([TURNS, other, TURNS], kind)}),
        pa.table(
            {
                "messages": [TURNS, other, TURNS],
                "x": pa.array([{"a": other}] * 3, pa.struct([("a", kind)])),
            }
        ),
    ):
        kept = zephyr_data.clean(table.slice(1, 1)).kept
        assert kept["messages"].to_pylist() == [other]


def test_sliced_tables_are_read_where_they_begin(encoder):
    rows = [
        {"id": str(n), "messages": [{**TURNS[0], "content": str(n)}, TURNS[1]]} for n in range(9)
    ]
    table = pa.Table.from_pylist(rows)
    assert zephyr_data.clean(table.slice(4, 3)).kept["id"].to_pylist() == ["4", "5", "6"]
    encoded = zephyr_data.encode(table, encoder)
    assert zephyr_data.encode(table.slice(4, 3), encoder).equals(encoded.slice(4, 3))
    assert zephyr_data.pack(encoded.slice(4, 3)) == zephyr_data.pack(
        encoded.slice(4, 3).combine_chunks()
    )


def test_a_template_that_refuses_names_the_row(encoder):
    spec = encoder._spec
    refusing = zephyr_data.Encoder(
        type(spec)(**{**vars(spec), "chat_template": "{{ raise_exception('not this one') }}"})
    )
    for verb in (zephyr_data.encode, zephyr_data.render):
        with pytest.raises(DataError, match="frame:1") as caught:
            verb([TURNS], refusing)
        assert "the chat template refuses the chat" in str(caught.value)
        assert "not this one" in str(caught.value)


# ---- the interpreter ----


def test_other_threads_run_on(encoder):
    rows = pa.Table.from_pylist([{"messages": TURNS * 20}])
    table = pa.concat_tables([rows] * 4000).combine_chunks()
    encoded = zephyr_data.encode(table, encoder)
    for work in (
        lambda: zephyr_data.clean(table),
        lambda: zephyr_data.encode(table, encoder),
        lambda: zephyr_data.render(table, encoder),
        lambda: zephyr_data.pack(pa.concat_tables([encoded] * 4)),
    ):
        stop, beats = threading.Event(), []

        def beat(stop=stop, beats=beats):
            while not stop.wait(0.001):
                beats.append(time.monotonic())

        thread = threading.Thread(target=beat)
        thread.start()
        start = time.monotonic()
        work()
        end = time.monotonic()
        stop.set()
        thread.join()
        inside = [moment for moment in beats if start < moment < end]
        # Were the GIL held, at most one beat would fall between the call's own steps in Python.
        assert len(inside) > 3, (end - start, len(inside))


# ---- what is refused ----


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda _: zephyr_data.clean("chats.jsonl"),
            ConfigError,
            (
                "cannot read rows from an object of this type: `str`\nhint: give a table such as polars, pyarrow or pandas have,"
                ' a list of rows such as `{"messages": [{"role": "user", "content": "…"}]}`, or a list of such `messages`'
            ),
        ),
        (
            lambda encoder: zephyr_data.encode([[{"role": "bot", "content": "Hi"}]], encoder),
            DataError,
            (
                "unknown role `bot` at frame:1, field: `messages[0].role`"
                "\nhint: the roles are `system`, `user` and `assistant`; rename the role or leave such rows out"
            ),
        ),
        (
            lambda encoder: zephyr_data.render([[{"role": "user", "content": None}]], encoder),
            DataError,
            (
                "expected a string, found null at frame:1, field: `messages[0].content`"
                "\nhint: a message needs a role and a content; leave such rows out"
            ),
        ),
        (
            lambda _: zephyr_data.clean([]),
            DataError,
            "no row has the columns of a chat or of a preference",
        ),
        (
            lambda _: zephyr_data.clean([{"messages": TURNS}, {"messages": 5}]),
            DataError,
            "cannot read these rows: ",
        ),
        (
            lambda _: zephyr_data.clean([{"messages": TURNS}], config={"clean": {"emty": {}}}),
            ConfigError,
            "unknown option: `clean.emty`\nhint: did you mean `clean.empty`?",
        ),
        (
            lambda encoder: zephyr_data.pack(zephyr_data.encode([TURNS], encoder), 7),
            ConfigError,
            "`pack.max_length`",
        ),
        (
            lambda encoder: zephyr_data.pack(
                zephyr_data.encode([TURNS], encoder), overlong="split_turns"
            ),
            ConfigError,
            (
                "tokens cannot be cut between turns, found: `split_turns`"
                "\nhint: choose `truncate` or `drop`; `prepare`, which has the messages, splits them"
            ),
        ),
        (
            lambda _: zephyr_data.pack([{"input_ids": [1], "assistant_masks": [1, 0]}]),
            DataError,
            (
                "`input_ids` has 1 items, `assistant_masks` 2 at frame:1, field: `assistant_masks`"
                "\nhint: the mask has one item for each token"
            ),
        ),
        (
            lambda _: zephyr_data.pack([{"input_ids": [1, -1], "assistant_masks": [1, 1]}]),
            DataError,
            "expected an id, found: -1 at frame:1, field: `input_ids`",
        ),
        (
            lambda _: zephyr_data.pack([{"input_ids": [1, 5], "assistant_masks": [1, 2]}]),
            DataError,
            "expected 0 or 1, found: 2 at frame:1, field: `assistant_masks`",
        ),
        (
            lambda _: zephyr_data.pack([{"input_ids": [1], "assistant_masks": [None]}]),
            DataError,
            "column `assistant_masks` must be of the type",
        ),
        (
            lambda _: zephyr_data.pack([{"input_ids": [1, None], "assistant_masks": [1, 1]}]),
            DataError,
            "expected a list of numbers, found a null at frame:1, field: `input_ids`\nhint: leave such rows out",
        ),
        (
            lambda _: zephyr_data.pack([{"input_ids": [1 << 40], "assistant_masks": [1]}]),
            DataError,
            "column `input_ids` must be of the type",
        ),
        (
            lambda _: zephyr_data.pack([{"ids": [1]}]),
            DataError,
            "it has not the columns of encoded chats or pairs",
        ),
    ],
)
def test_what_cannot_be_used_is_named(call, error, message, encoder):
    with pytest.raises(error) as caught:
        call(encoder)
    assert message in str(caught.value)


def test_other_columns_are_carried_along():
    rows = [{"messages": TURNS, "origin": "a"}, {"messages": TURNS[:1], "origin": "b"}]
    result = zephyr_data.clean(rows, config={"read": {"carry": ["origin"]}})
    assert result.kept["origin"].to_pylist() == ["a"]
    assert result.rejects["origin"].to_pylist() == ["b"]
