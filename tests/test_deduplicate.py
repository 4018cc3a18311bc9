"""`deduplicate`: tables in memory, against the definition and against what `prepare` drops."""

import doctest
import importlib
import random
from types import SimpleNamespace

import pyarrow as pa
import pytest

from zephyr_data import ConfigError, DataError, _core, deduplicate


def shingles(text):
    words = _core.words(text)
    return {tuple(words[at : at + 5]) for at in range(max(len(words) - 4, 1))} if words else set()


def jaccard(a, b):
    a, b = shingles(a), shingles(b)
    return len(a & b) / len(a | b) if a and b else 0.0


@pytest.fixture(scope="module")
def texts():
    """Texts with edited copies among them; some copies are exact but for case."""
    rng = random.Random(5)
    made = []
    for number in range(150):
        words = [f"w{rng.randrange(5000)}" for _ in range(100)]
        made.append(" ".join(words))
        for at in rng.sample(range(100), number % 6):
            words[at] = f"e{rng.randrange(5000)}"
        made.append(" ".join(words).upper())
    return made


def test_what_goes_is_what_the_definition_says(texts):
    result = deduplicate(pa.table({"text": texts}), bands=64, rows=2)
    expected = {}
    for row, text in enumerate(texts):
        for other in range(row):
            if other not in expected and (index := jaccard(text, texts[other])) >= 0.8:
                same = text.lower() == texts[other].lower()
                reason = "exact_duplicate" if same else "near_duplicate"
                expected[row] = (other, reason, None if same else index)
                break
    found = {
        row["row"]: (row["kept_row"], row["reason"], row["similarity"])
        for row in result.dropped.to_pylist()
    }
    assert found == expected
    assert {reason for _, reason, _ in found.values()} == {"exact_duplicate", "near_duplicate"}
    assert result.kept["text"].to_pylist() == [
        text for row, text in enumerate(texts) if row not in expected
    ]


@pytest.mark.parametrize("compare", ["conversation", "assistant", "prompt"])
def test_chats_lose_what_prepare_drops(prepare, examples, read_rows, tmp_path, compare):
    """All that the stage was given, with the reasons that it gave."""
    config = {"dedup": {"compare": compare}}
    sample = prepare(examples / "chats.jsonl", tmp_path / "out", config=config, report=False)
    rows = read_rows(sample.out / "clean")
    ids = [row["id"] for row in rows]
    rejects = {
        row["id"]: (row["reason"], row["kept_id"])
        for row in read_rows(sample.out / "dedup/rejects")
        if row["reason"] in {"exact_duplicate", "near_duplicate"}
    }
    constant = {row["id"] for row in read_rows(sample.out / "dedup/rejects")} - set(rejects)
    left = [row for row in rows if row["id"] not in constant]
    ids = [row["id"] for row in left]
    result = deduplicate(
        pa.Table.from_pylist([{"messages": row["messages"]} for row in left]), compare=compare
    )
    found = {
        ids[row["row"]]: (row["reason"], ids[row["kept_row"]]) for row in result.dropped.to_pylist()
    }
    assert found == rejects
    assert found


LONG = " ".join(f"word{number}" for number in range(60))


def chat(prompt, answer):
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def test_which_turns_are_compared():
    frame = pa.table({"messages": [chat("Why?", LONG), chat(LONG, "No."), chat(LONG, LONG + " x")]})

    def dropped(**options):
        return [row["row"] for row in deduplicate(frame, **options).dropped.to_pylist()]

    assert dropped(compare="assistant") == [2]
    assert dropped(compare="prompt") == [2]
    assert dropped(compare="prompt", near=False) == []


def test_which_row_stays():
    frame = pa.table({"text": [LONG, LONG + " a", LONG + " a b"], "stars": [1, 3, 2]})

    def stays(**options):
        return deduplicate(frame, **options).kept["text"].to_pylist()

    assert stays() == [LONG]
    assert stays(keep="longest") == [LONG + " a b"]
    assert stays(keep="best_score", score="stars") == [LONG + " a"]


def test_a_copy_of_a_near_duplicate_names_the_row_that_stays():
    dropped = deduplicate(pa.table({"text": [LONG, LONG + " a", LONG + " A"]})).dropped.to_pylist()
    assert [(row["kept_row"], row["reason"]) for row in dropped] == [
        (0, "near_duplicate"),
        (0, "exact_duplicate"),
    ]


def test_nulls_stay_and_empty_tables_are_tables():
    assert deduplicate(pa.table({"text": [None, "a", None, "A"]})).dropped["row"].to_pylist() == [3]
    empty = deduplicate(pa.table({"text": pa.array([], pa.string())}))
    assert (empty.kept.num_rows, empty.dropped.num_rows) == (0, 0)


DICTIONARY = pa.dictionary(pa.int8(), pa.large_string())


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), DICTIONARY], ids=str
)
def test_strings_of_any_kind_in_chunks(kind):
    chunks = pa.chunked_array([pa.array(["a b", "c"], kind).slice(1), pa.array(["C"], kind)])
    assert deduplicate(pa.table({"x": chunks}), column="x").kept["x"].to_pylist() == ["c"]


def lists_of(text, make):
    return make(pa.struct([("role", text), ("content", text)]))


@pytest.mark.parametrize(
    "kind",
    [
        lists_of(pa.large_string(), pa.large_list),
        lists_of(pa.string_view(), pa.list_view),
        lists_of(pa.string(), lambda item: pa.list_(item, 2)),
        lists_of(DICTIONARY, pa.list_),
    ],
    ids=str,
)
def test_chats_of_any_kind_in_slices(kind):
    chats = [chat("a", "b"), chat("c", LONG), None, chat("A", "b"), chat("c", LONG + " x")]
    array = pa.array(chats, kind)
    result = deduplicate(pa.chunked_array([array.slice(0, 2), array.slice(1)]))
    assert result.dropped.to_pylist() == [
        {"row": 2, "kept_row": 1, "reason": "exact_duplicate", "similarity": None},
        {"row": 4, "kept_row": 0, "reason": "exact_duplicate", "similarity": None},
        {"row": 5, "kept_row": 1, "reason": "near_duplicate", "similarity": 57 / 58},
    ]
    assert result.kept["messages"].to_pylist() == [chats[0], chats[1], None]


def test_rows_of_any_library_and_columns_without_a_table():
    datasets, pd = pytest.importorskip("datasets"), pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    texts, chats = ["a", "b", "A"], [chat("a", "b"), chat("c", "d"), chat("A", "b")]
    rows = [{"messages": one, "n": n} for n, one in enumerate(chats)]
    table = pa.Table.from_pylist(rows)
    for frame in (rows, table.to_reader(), pd.DataFrame(rows), datasets.Dataset.from_list(rows)):
        result = deduplicate(frame)
        assert result.kept["n"].to_pylist() == [0, 1]
        assert result.dropped["kept_row"].to_pylist() == [0]
    # Rows that were picked lie in the same table as before.
    picked = datasets.Dataset.from_list([*rows, {"messages": chat("e", "f"), "n": 3}])
    assert deduplicate(picked.select([3, 2, 0])).kept["n"].to_pylist() == [3, 2]
    for name, column in (("text", texts), ("messages", chats)):
        for make in (list, pa.array, lambda values: pa.chunked_array([values]), pl.Series):
            assert deduplicate(make(column)).kept[name].to_pylist() == column[:2]
        nested = datasets.Dataset.from_list([{"n": 0, "a": {"b": value}} for value in column])
        for of_datasets in (
            nested.flatten()["a.b"],
            nested["a"]["b"],
            nested.select([0, 1])["a"]["b"],
        ):
            assert deduplicate(of_datasets).kept[name].to_pylist() == column[:2]


def test_the_number_of_threads_changes_nothing(texts):
    table = pa.table({"text": texts * 5})
    one, many = (deduplicate(table, threshold=0.6, workers=workers) for workers in (1, 5))
    assert one.dropped.equals(many.dropped)
    assert one.kept.equals(many.kept)
    assert many.dropped.num_rows > 1200


def test_a_record_batch_and_polars():
    batch = pa.record_batch({"text": ["a", "A"]})
    assert deduplicate(batch).kept.num_rows == 1
    pl = pytest.importorskip("polars")
    result = deduplicate(pl.DataFrame({"messages": [chat("a", "b"), chat("A", "b")], "n": [1, 2]}))
    assert isinstance(result.kept, pl.DataFrame)
    assert result.kept["n"].to_list() == [1]
    assert result.dropped["kept_row"].to_list() == [0]


def test_what_is_no_number_is_the_least_score():
    texts = [" ".join(f"w{number}" for number in range(99)) + end for end in ("", " x", " y")]
    table = pa.table({"text": texts, "score": [float("nan"), 9.0, None]})
    result = deduplicate(table, keep="best_score", score="score")
    assert result.kept["score"].to_pylist() == [9.0]


TEXTS = pa.table({"text": ["a", "b"]})
BAD = {
    "no table": (
        7,
        {},
        ConfigError,
        "cannot read rows from an object of this type: `int`\nhint: .*, or a list of texts$",
    ),
    "a text": ("a", {}, ConfigError, "cannot read rows from an object of this type: `str`"),
    "no rows": ([7], {}, DataError, "found the type Int64 at frame:1, field: `messages`"),
    "both": (
        [None, "a", [7]],
        {},
        DataError,
        "cannot read these rows: row 3 is of type `list`, row 2 of type `str`\nhint: .*, or a list of texts$",
    ),
    "not collected": (
        SimpleNamespace(collect=None),
        {},
        ConfigError,
        r"this type: `SimpleNamespace`\nhint: collect the frame first: `.collect\(\)`",
    ),
    "no column": (TEXTS, {"column": "x"}, ConfigError, "there is no column `x`\nhint: .*`text`"),
    "numbers": (
        pa.table({"x": pa.array([], pa.int64())}),
        {"column": "x"},
        DataError,
        "expected strings or lists of messages, found the type Int64 at frame:1, field: `x`",
    ),
    "too many rows": (
        pa.table({"x": pa.nulls(1 << 32)}),
        {"column": "x"},
        DataError,
        "it has more",
    ),
    "no scores": (TEXTS, {"keep": "best_score"}, ConfigError, "needs scores"),
    "no column of scores": (
        TEXTS,
        {"keep": "best_score", "score": "x"},
        ConfigError,
        "there is no column `x`\nhint: name one with `score`",
    ),
    "no numbers": (TEXTS, {"keep": "best_score", "score": "text"}, DataError, "must hold numbers"),
    "threshold": (
        TEXTS,
        {"threshold": 0.0},
        ConfigError,
        "`dedup.threshold` must be above 0, found: `0.0`",
    ),
    "compare": (TEXTS, {"compare": "all"}, ConfigError, "`dedup.compare`"),
    "bands": (TEXTS, {"bands": 100}, ConfigError, "bands"),
    "a null": (
        pa.table({"chats": [chat("a", "b"), None, chat("a", None)]}),
        {"column": "chats"},
        DataError,
        r"^expected a string, found null at frame:3, field: `chats\[1\].content`",
    ),
    "a role": (
        pa.table({"messages": [[{"role": "gpt", "content": "a"}]]}),
        {},
        DataError,
        r"^unknown role `gpt` at frame:1, field: `messages\[0\].role`",
    ),
}


@pytest.mark.parametrize(("frame", "options", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input_says_the_way_out(frame, options, error, message):
    with pytest.raises(error, match=message) as caught:
        deduplicate(frame, **options)
    assert "\nhint: " in str(caught.value)


def test_the_example_of_the_module():
    module = importlib.import_module("zephyr_data.deduplicate")
    done = doctest.testmod(module)
    assert (done.failed, done.attempted) == (0, 4)


def test_the_defaults_are_those_of_the_configuration():
    import inspect as python

    from zephyr_data.options import Dedup

    for name, parameter in python.signature(deduplicate).parameters.items():
        if name in Dedup.model_fields:
            assert parameter.default == getattr(Dedup(), name)
