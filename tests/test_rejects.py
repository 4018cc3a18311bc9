"""`show --rejects` and `--changes`: what was dropped, and for which row; what was changed, and where."""

import json
import re

import pytest

from zephyr_data import ConfigError
from zephyr_data.manifest import read_manifest
from zephyr_data.rejects import (
    find_changed,
    find_kept,
    read_changes,
    read_rejects,
    render_changes,
    render_reject,
    word_diff,
)

pytestmark = pytest.mark.usefixtures("transformers")

TEXT = "The quick brown fox jumps over the lazy dog while seven wizards brew strong coffee in the old kitchen"


@pytest.fixture(scope="module")
def near(prepare, write_rows, chat, tmp_path_factory):
    """A run of which one row went as a near-duplicate and one as a bad row."""
    folder = tmp_path_factory.mktemp("near")

    rows = [
        chat("Question of first?", TEXT * 4, id="first"),
        chat("Question of second?", (TEXT * 4).replace("strong", "weak", 1), id="second"),
        {"id": "bad", "messages": 3},
        chat("Another one?", "Something else, at length, which nobody else has said.", id="third"),
    ]
    path = write_rows(folder / "chats.jsonl", rows)
    config = {"read": {"on_bad_row": "reject"}, "dedup": {"compare": "assistant"}}
    return prepare(path, folder / "out", config=config, report=False)


def test_every_dropped_row_is_there_once_with_its_reason(sample):
    found = {}
    for row in read_rejects(sample.out):
        found[row["stage"], row["reason"]] = found.get((row["stage"], row["reason"]), 0) + 1
    expected = {}
    for stage, folder in (("clean", "clean"), ("dedup", "dedup"), ("pack", "packed")):
        dropped = read_manifest(sample.out / folder).counts["dropped"]
        expected |= {(stage, reason): count for reason, count in dropped.items() if count}
    assert found == expected
    assert len({stage for stage, _ in found}) > 1


def test_only_one_reason(sample):
    rows = read_rejects(sample.out, "ai_preface")
    assert rows
    assert {row["reason"] for row in rows} == {"ai_preface"}
    plain = render_reject(rows[0], None, colour=False).plain
    head, detail, first, *_ = plain.splitlines()
    assert head == (
        f"── clean: `{rows[0]['id']}` ({rows[0]['file']}:{rows[0]['line']}): ai_preface"
    )
    assert detail == rows[0]["detail"]
    assert first.startswith("user: ")


def test_a_near_duplicate_is_a_diff_against_the_row_that_stayed(near):
    (row,) = read_rejects(near.out, "near_duplicate")
    kept = find_kept(near.out, [row])
    plain = render_reject(row, kept[row["kept_id"]], colour=False).plain
    head, detail, *text = plain.split("\n")
    assert head.endswith(": near_duplicate, `first` stays")
    assert re.search(r"0\.\d+", detail)  # the similarity
    body = "\n".join(text)
    assert "brew [-weak-]{+strong+} coffee" in body
    assert "Question of [-second-]{+first+}?" in body
    assert body.count("[-") == 2
    coloured = render_reject(row, kept[row["kept_id"]], colour=True)
    pieces = {coloured.plain[span.start : span.end]: span.style for span in coloured.spans}
    assert (pieces["weak"], pieces["strong"]) == ("red", "green")
    assert "[-" not in coloured.plain


def test_a_row_that_could_not_be_read_is_shown_as_it_stands(near):
    (row,) = read_rejects(near.out, "bad_row")
    *_, raw = render_reject(row, None, colour=False).plain.splitlines()
    assert json.loads(raw) == {"id": "bad", "messages": 3}


def test_a_preference_is_shown_side_by_side(prepare, examples, tmp_path):
    out = prepare(examples / "preferences.jsonl", tmp_path / "out", report=False).out
    row = next(row for row in read_rejects(out) if row["kept_id"] is not None)
    kept = find_kept(out, [row])[row["kept_id"]]
    plain = render_reject(row, kept, colour=False).plain
    for part in ("prompt, user: ", "chosen, assistant: ", "rejected, assistant: "):
        assert f"\n{part}" in plain


def test_both_texts_can_be_read_from_a_diff():
    left, right = "a b  c, d", "a x c. d e"
    pieces = list(word_diff(left, right))
    assert "".join(text for kind, text in pieces if kind != "new") == left
    assert "".join(text for kind, text in pieces if kind != "gone") == right


def test_changed_letters_stand_in_their_text(sample, read_rows):
    changes = read_changes(sample.out)
    contents = find_changed(sample.out, changes)
    assert sum(map(len, changes)) == len(read_rows(sample.out / "clean" / "changes"))
    for letters in changes:
        content = contents[letters[0]["id"], letters[0]["turn"]]
        head, *lines = render_changes(letters, content, None, colour=False).plain.splitlines()
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
    changes = read_changes(sample.out, "pronoun_i")
    assert changes
    contents = find_changed(sample.out, changes)
    for letters in changes:
        content = contents[letters[0]["id"], letters[0]["turn"]]
        lines = render_changes(letters, content, "pronoun_i", colour=False).plain.splitlines()[1:]
        assert lines
        assert all(line.startswith("pronoun_i ") for line in lines)


def test_an_unknown_reason_names_the_nearest_and_those_there_are(sample):
    with pytest.raises(ConfigError) as error:
        read_rejects(sample.out, "ai_prefaces")
    first, hint = str(error.value).splitlines()
    assert first == "nothing has this reason: `ai_prefaces`"
    assert hint.startswith("hint: did you mean `ai_preface`? there are: ai_preface (")
    with pytest.raises(ConfigError, match="nothing has this rule: `pronoun`"):
        read_changes(sample.out, "pronoun")


def test_the_command_line(sample, command):
    done = command("show", sample.out, "--rejects", "--rows", "2")
    assert done.stdout.count("── ") == 2
    total = len(read_rejects(sample.out))
    assert done.stdout.endswith(f"dropped rows: 0 to 1 of {total:,} (`--row`, `--rows`)\n")
    done = command("show", sample.out, "--changes", "--row", "1")
    assert done.stdout.count("── ") == 10
    assert "changed messages: 1 to 10 of " in done.stdout
    for options, message in {
        ("--rejects", "--changes"): "`--rejects` and `--changes` exclude each other",
        ("--reason", "length"): "`--reason` needs `--rejects` or `--changes`",
        ("--rejects", "--row", str(total)): f"no such row among the dropped rows: `{total}`",
        ("--changes", "--row", "-1"): "no such row among the changed messages: `-1`",
    }.items():
        failed = command("show", sample.out, *options)
        assert (failed.returncode, failed.stdout) == (2, "")
        error, hint = failed.stderr.splitlines()
        assert error.startswith("error: ")
        assert message in error
        assert hint.startswith("hint: ")
