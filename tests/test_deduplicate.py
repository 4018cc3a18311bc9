"""`deduplicate`: tables in memory, against the definition and against what `prepare` drops."""

import doctest
import importlib
import random

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


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_strings_of_any_kind_in_chunks(kind):
    chunks = pa.chunked_array([pa.array(["a b", "c"], kind).slice(1), pa.array(["C"], kind)])
    assert deduplicate(pa.table({"x": chunks}), column="x").kept["x"].to_pylist() == ["c"]


def test_a_record_batch_and_polars():
    batch = pa.record_batch({"text": ["a", "A"]})
    assert deduplicate(batch).kept.num_rows == 1
    pl = pytest.importorskip("polars")
    result = deduplicate(pl.DataFrame({"messages": [chat("a", "b"), chat("A", "b")], "n": [1, 2]}))
    assert isinstance(result.kept, pl.DataFrame)
    assert result.kept["n"].to_list() == [1]
    assert result.dropped["kept_row"].to_list() == [0]


TEXTS = pa.table({"text": ["a", "b"]})
BAD = {
    "no table": ([1], {}, ConfigError, "cannot read this as a table: `list`"),
    "texts alone": (pa.array(["a"]), {}, ConfigError, "cannot read this as a table"),
    "no column": (TEXTS, {"column": "x"}, ConfigError, "there is no column `x`\nhint: .*`text`"),
    "numbers": (pa.table({"text": [1]}), {}, DataError, "must hold strings.* found: int64"),
    "no scores": (TEXTS, {"keep": "best_score"}, ConfigError, "needs scores"),
    "no numbers": (TEXTS, {"keep": "best_score", "score": "text"}, DataError, "must hold numbers"),
    "threshold": (TEXTS, {"threshold": 0.0}, ConfigError, "`dedup.threshold`"),
    "compare": (TEXTS, {"compare": "all"}, ConfigError, "`dedup.compare`"),
    "bands": (TEXTS, {"bands": 100}, ConfigError, "bands"),
    "a null": (
        pa.table({"messages": [chat("a", "b"), chat("a", None)]}),
        {},
        DataError,
        r"row 1: `messages\[1\].content` must be a text, found: null",
    ),
    "a role": (
        pa.table({"messages": [[{"role": "gpt", "content": "a"}]]}),
        {},
        DataError,
        r"row 0: `messages\[0\].role` must be .* found: 'gpt'",
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
