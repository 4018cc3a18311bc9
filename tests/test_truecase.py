"""`truecase`: the casing rule for texts in memory; the rule itself is tested in the core."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zephyr_data import truecase

BEFORE = "Hello. how are you? Yes, i am fine."
AFTER = "Hello. How are you? Yes, I am fine."


def test_one_text():
    assert truecase(BEFORE) == AFTER
    assert truecase("") == ""


def test_a_list_keeps_its_nones():
    assert truecase([BEFORE, None, "iPhone"]) == [AFTER, None, "iPhone"]
    assert truecase([]) == []


@pytest.mark.parametrize("type", [pa.string(), pa.large_string(), pa.string_view()])
def test_arrow_arrays(type):
    result = truecase(pa.array([BEFORE, None], type))
    assert isinstance(result, pa.Array)
    assert result.to_pylist() == [AFTER, None]


def test_chunked_arrays_and_slices():
    chunked = pa.chunked_array([[BEFORE], [None, BEFORE, "x"]])
    assert truecase(chunked).to_pylist() == [AFTER, None, AFTER, "x"]
    assert truecase(pa.array(["a. b", BEFORE, "c"]).slice(1, 1)).to_pylist() == [AFTER]


def test_polars():
    pl = pytest.importorskip("polars")
    assert truecase(pl.Series([BEFORE, None])).to_pylist() == [AFTER, None]


def test_what_is_no_text():
    with pytest.raises(TypeError, match="expected an Arrow array of strings, found: Int64"):
        truecase(pa.array([1]))


def test_prepare_applies_the_same_rule(sample, read_rows, examples):
    import json

    for row in read_rows(sample.out / "clean")[:100]:
        for turn in row["messages"]:
            if turn["role"] == "assistant":
                assert truecase(turn["content"]) == turn["content"]
    first = json.loads((examples / "chats.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert truecase([turn["content"] for turn in first["messages"]])


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("ai hX.!?\n\"'(-1é。ß"), max_size=60))
def test_only_letters_are_raised_and_a_second_time_changes_nothing(text):
    result = truecase(text)
    assert len(result) == len(text)
    for before, after in zip(text, result, strict=True):
        assert after in (before, before.upper())
    assert truecase(result) == result
