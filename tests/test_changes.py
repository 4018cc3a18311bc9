"""`show --changes`: which letters truecasing changed, and where."""

import pytest

from zephyr_data import ConfigError, ManifestError
from zephyr_data.changes import read_changes, render_changes, show_changes

pytestmark = pytest.mark.usefixtures("transformers")


def test_changed_letters_stand_in_their_text(sample, read_rows):
    changes = list(read_changes(sample.out))
    page = show_changes(sample.out, count=10**9)
    contents = {
        (row["id"], turn): message["content"]
        for row in read_rows(sample.out / "clean")
        for turn, message in enumerate(row["messages"])
    }
    assert sum(map(len, changes)) == len(read_rows(sample.out / "clean" / "changes"))
    for letters, text in zip(changes, page.texts, strict=True):
        content = contents[letters[0]["id"], letters[0]["turn"]]
        head, *lines = text.plain.splitlines()
        assert head.endswith(f": {len(letters)} of its letters changed")
        for letter, line in zip(letters, lines, strict=True):
            rule, text = line[:16].strip(), line[17:]
            assert rule == letter["rule"]
            mark = f"[-{letter['before']}-]{{+{letter['after']}+}}"
            assert text.count(mark) == 1
            assert text.replace(mark, letter["after"]) in content.replace("\n", "⏎")


def test_letters_that_grow_move_what_stands_behind_them():
    # ſ has two bytes, S has one.
    letters = [
        {"id": "a", "turn": 0, "byte_offset": at, "before": was, "after": now, "rule": "pronoun_i"}
        for at, was, now in ((0, "ſ", "S"), (4, "i", "I"))
    ]
    lines = render_changes(letters, "So I go", None, colour=False).plain.splitlines()
    assert lines[2].endswith(" So [-i-]{+I+} go")


def test_one_rule(sample):
    texts = show_changes(sample.out, rule="pronoun_i", count=10**9).texts
    assert texts
    for text in texts:
        lines = text.plain.splitlines()[1:]
        assert lines
        assert all(line.startswith("pronoun_i ") for line in lines)
    with pytest.raises(ConfigError, match="nothing has this rule: `pronoun`\nhint: did you mean"):
        show_changes(sample.out, rule="pronoun")


def test_colours_take_the_place_of_marks(sample):
    (text,) = show_changes(sample.out, count=1, colour=True).texts
    assert "[-" not in text.plain
    assert {"red", "green"} <= {span.style for span in text.spans}


def test_rows_that_share_an_id_and_preferences(prepare, write_rows, chat, tmp_path):
    rows = [
        chat("What?", "It stays as it is.", id="same"),
        chat("Why?", "This. that too.", "And?", "More. it grows.", id="same"),
    ]
    out = prepare(write_rows(tmp_path / "a.jsonl", rows), tmp_path / "out", report=False).out
    first, second = (text.plain for text in show_changes(out).texts)
    assert first.startswith("── `same`, message 1: ")
    assert "This. [-t-]{+T+}hat too." in first
    assert second.startswith("── `same`, message 3: ")
    assert "More. [-i-]{+I+}t grows." in second
    pair = {"id": "p", "prompt": "Why?", "chosen": "Good. it is.", "rejected": "No."}
    source = write_rows(tmp_path / "b.jsonl", [pair])
    out = prepare(source, tmp_path / "pairs", report=False).out
    (text,) = show_changes(out).texts
    assert "Good. [-i-]{+I+}t is." in text.plain


def test_files_that_do_not_fit_together_are_refused(prepare, write_rows, chat, tmp_path):
    rows = [chat("Why?", "This. that too.", id="a")]
    out = prepare(write_rows(tmp_path / "a.jsonl", rows), tmp_path / "out", report=False).out
    part = out / "clean" / "part-00000.arrow"
    part.write_bytes(part.read_bytes().replace(b"That too", b"what too"))
    with pytest.raises(ManifestError, match="letters of `a`, message 1, that `clean` does not"):
        show_changes(out)
