"""The journal: keys, torn tails, damage, segments, one writer."""

import json

import pytest

from zephyr_data.errors import DataError, ManifestError, ZephyrDataError
from zephyr_data.feedback import store as store_module
from zephyr_data.feedback.prompts import Prompt
from zephyr_data.feedback.store import Store, request_key


def record(number, status="ok", cost=0.5, **fields):
    key = request_key(n=number)
    return {"key": key, "status": status, "cost": cost, "kind": "completion", "n": number, **fields}


def filled(path, count=3):
    with Store.write(path) as store:
        for number in range(count):
            store.append(record(number))
    return next((path / "segments").iterdir())


def test_records_come_back(tmp_path):
    filled(tmp_path / "s")
    store = Store.read(tmp_path / "s")
    assert [r["n"] for r in store.records()] == [0, 1, 2]
    assert store.get(request_key(n=1))["n"] == 1
    assert store.get(request_key(n=9)) is None
    assert store.cost == 1.5
    store.close()


def test_answers_and_verdicts_apart(tmp_path):
    late = {
        "n": 3,
        "task": {"kind": "completion"},
        "kind": "rating",
    }  # its kind is not where it is looked for
    with Store.write(tmp_path / "s") as store:
        store.append(record(0, answer='},"kind":"rating"'))
        store.append(record(1) | {"kind": "rating", "answer": '","cost":1,"kind":"completion"'})
        store.append(record(2) | {"kind": "judgment"})
        store.append({name: record(3)[name] for name in ("key", "status", "cost")} | late)
        store.append(record(4))
        assert [r["n"] for r in store.records(completions=True)] == [0, 4]
        assert [r["n"] for r in store.records(completions=False)] == [1, 2, 3]
        assert [r["n"] for r in store.records()] == [0, 1, 2, 3, 4]


def test_odd_text_survives(tmp_path):
    text = 'quote " backslash \\ newline \n tab \t \u2028 \U0001f600 {"key":"x"}'
    with Store.write(tmp_path / "s") as store:
        store.append(record(1, answer=text))
        assert store.get(request_key(n=1))["answer"] == text


def test_lone_surrogate_does_not_break_the_journal(tmp_path):
    with Store.write(tmp_path / "s") as store:
        store.append(record(1, answer="half a pair: \ud83d"))
        assert store.get(request_key(n=1))["answer"].startswith("half a pair: ")


@pytest.mark.parametrize("kept", [0, 1, 20, -2, -1])
def test_torn_tail_is_cut_and_asked_again(tmp_path, kept):
    segment = filled(tmp_path / "s")
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:2]) + lines[2][:kept])
    with Store.write(tmp_path / "s") as store:
        assert len(store.done) == 2
        assert store.cut_bytes == len(lines[2][:kept])
        store.append(record(2))
    assert segment.read_bytes() == b"".join(lines)


def test_tail_of_zeros_is_cut(tmp_path):
    segment = filled(tmp_path / "s")
    whole = segment.read_bytes()
    segment.write_bytes(whole + b"\0" * 4096)
    with Store.write(tmp_path / "s") as store:
        assert len(store.done) == 3
    assert segment.read_bytes() == whole


def test_reader_ignores_a_torn_tail_and_leaves_it(tmp_path):
    segment = filled(tmp_path / "s")
    torn = segment.read_bytes()[:-10]
    segment.write_bytes(torn)
    store = Store.read(tmp_path / "s")
    assert len(list(store.records())) == 2
    assert segment.read_bytes() == torn


def test_damage_in_the_middle_is_refused_with_its_place(tmp_path):
    segment = filled(tmp_path / "s")
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(lines[0] + b'{"kex":1}\n' + lines[2])
    with pytest.raises(DataError, match="damaged line at .*000001.jsonl:2") as raised:
        Store.write(tmp_path / "s")
    assert raised.value.line == 2
    assert "hint: remove this line" in str(raised.value)


def test_damaged_store_is_unlocked_again(tmp_path):
    segment = filled(tmp_path / "s")
    good = segment.read_bytes()
    segment.write_bytes(b"x\n" + good)
    with pytest.raises(DataError):
        Store.write(tmp_path / "s")
    segment.write_bytes(good)
    Store.write(tmp_path / "s").close()


def test_two_writers_are_refused(tmp_path):
    with (
        Store.write(tmp_path / "s"),
        pytest.raises(ZephyrDataError, match="another process is writing"),
    ):
        Store.write(tmp_path / "s")
    Store.write(tmp_path / "s").close()


def test_reader_cannot_write(tmp_path):
    filled(tmp_path / "s")
    with pytest.raises(ZephyrDataError, match="opened for reading only"):
        Store.read(tmp_path / "s").append(record(9))


def test_failed_requests_are_not_done(tmp_path):
    with Store.write(tmp_path / "s") as store:
        store.append(record(1, status="failed"))
    store = Store.read(tmp_path / "s")
    assert store.done == {}
    assert list(store.records()) == []
    assert (store.failed_lines, store.cost) == (1, 0.5)


def test_segments_are_closed_when_full_and_all_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", 400)
    segments = filled(tmp_path / "s", 12).parent
    assert len(list(segments.iterdir())) == 3
    store = Store.read(tmp_path / "s")
    assert [r["n"] for r in store.records()] == list(range(12))
    assert store.get(request_key(n=11))["n"] == 11
    store.close()


def test_repeated_key_counts_once_with_its_last_line(tmp_path):
    with Store.write(tmp_path / "s") as store:
        store.append(record(1, answer="first"))
        store.append(record(1, answer="second"))
    assert [r["answer"] for r in Store.read(tmp_path / "s").records()] == ["second"]


def test_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ManifestError, match="not a feedback store"):
        Store.write(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_missing_store_is_told(tmp_path):
    with pytest.raises(ManifestError, match="no feedback store at"):
        Store.read(tmp_path)


def test_other_format_is_refused(tmp_path):
    filled(tmp_path / "s")
    (tmp_path / "s" / "store.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ManifestError, match="another format, found: 99"):
        Store.read(tmp_path / "s")


def test_key_depends_on_every_part_and_on_no_order():
    assert request_key(a=1, b="2") == request_key(b="2", a=1)
    assert request_key(a=1, b="2") != request_key(a=1, b=2)
    assert request_key(a="x") != request_key(b="x")


def test_prompts_are_merged_by_id_and_a_changed_one_is_refused(tmp_path):
    one, two = Prompt("2", (("user", "b"),)), Prompt("1", (("user", "a"),), reference="r")
    with Store.write(tmp_path / "s") as store:
        store.add_prompts([one])
        assert store.add_prompts([two, one]) == [two, one]
        assert store.prompts() == [two, one]
        with pytest.raises(DataError, match="another prompt with this id: 2"):
            store.add_prompts([Prompt("2", (("user", "c"),))])


def test_segment_taken_away_misplaces_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", 400)
    segments = filled(tmp_path / "s", 12).parent
    (segments / "000001.jsonl").unlink()
    with Store.write(tmp_path / "s") as store:
        kept = [r["n"] for r in store.records()]
        assert kept == list(range(12 - len(kept), 12))
        assert [store.get(request_key(n=n))["n"] for n in kept] == kept
        for number in range(12, 18):
            store.append(record(number))
            assert store.get(request_key(n=number))["n"] == number
    assert not (segments / "000001.jsonl").exists()
