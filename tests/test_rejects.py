"""`show --rejects`: what was dropped, why, and for which row."""

import json
import random
import re
import time

import pytest

from zephyr_data import ConfigError, ManifestError
from zephyr_data.manifest import read_manifest
from zephyr_data.rejects import read_rejects, render_reject, show_rejects, word_diff

pytestmark = pytest.mark.usefixtures("transformers")

ALL = {"first": 0, "count": 10**9}

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
    rows, total = read_rejects(sample.out, **ALL)
    assert len(rows) == total
    for stage, row in rows:
        found[stage, row["reason"]] = found.get((stage, row["reason"]), 0) + 1
    expected = {}
    for stage, folder in (("clean", "clean"), ("dedup", "dedup"), ("pack", "packed")):
        dropped = read_manifest(sample.out / folder).counts["dropped"]
        expected |= {(stage, reason): count for reason, count in dropped.items() if count}
    assert found == expected
    assert len({stage for stage, _ in found}) > 1


def test_only_one_reason(sample):
    rows, _ = read_rejects(sample.out, **ALL, reason="ai_preface")
    assert rows
    assert {row["reason"] for _, row in rows} == {"ai_preface"}
    stage, row = rows[0]
    plain = render_reject(stage, row, None, colour=False).plain
    head, detail, first, *_ = plain.splitlines()
    assert head == f"── clean: `{row['id']}` ({row['file']}:{row['line']}): ai_preface"
    assert detail == row["detail"]
    assert first.startswith("user: ")


def test_a_near_duplicate_is_a_diff_against_the_row_that_stayed(near):
    (text,) = show_rejects(near.out, reason="near_duplicate").texts
    plain = text.plain
    head, detail, *text = plain.split("\n")
    assert head.endswith(": near_duplicate, `first` stays")
    assert re.search(r"0\.\d+", detail)  # the similarity
    body = "\n".join(text)
    assert "brew [-weak-]{+strong+} coffee" in body
    assert "Question of [-second-]{+first+}?" in body
    assert body.count("[-") == 2
    (coloured,) = show_rejects(near.out, reason="near_duplicate", colour=True).texts
    pieces = {coloured.plain[span.start : span.end]: span.style for span in coloured.spans}
    assert (pieces["weak"], pieces["strong"]) == ("red", "green")
    assert "[-" not in coloured.plain


def test_a_row_that_could_not_be_read_is_shown_as_it_stands(near):
    (text,) = show_rejects(near.out, reason="bad_row").texts
    *_, raw = text.plain.splitlines()
    assert json.loads(raw) == {"id": "bad", "messages": 3}


def test_a_preference_is_shown_side_by_side(prepare, examples, tmp_path):
    out = prepare(examples / "preferences.jsonl", tmp_path / "out", report=False).out
    (text,) = show_rejects(out, reason="exact_duplicate", count=1).texts
    plain = text.plain
    for part in ("prompt, user: ", "chosen, assistant: ", "rejected, assistant: "):
        assert f"\n{part}" in plain


@pytest.mark.parametrize("colours", [True, False])
def test_the_command_shows_what_differs_with_or_without_colours(command, near, colours):
    """`NO_COLOR` also in a terminal, which `FORCE_COLOR` stands for."""
    environment = {"FORCE_COLOR": "1", "NO_COLOR": "" if colours else "1", "TERM": "xterm"}
    arguments = ["show", near.out, "--rejects", "--reason", "near_duplicate"]
    shown = command(*arguments, env=environment).stdout
    red, green = "brew \x1b[31mweak\x1b[0m", "\x1b[32mstrong\x1b[0m coffee"
    assert (red in shown, green in shown) == (colours, colours)
    assert ("brew [-weak-]{+strong+} coffee" in shown) == (not colours)


def test_both_texts_can_be_read_from_a_diff():
    left, right = "a b  c, d", "a x c. d e"
    pieces = list(word_diff(left, right))
    assert "".join(text for kind, text in pieces if kind != "new") == left
    assert "".join(text for kind, text in pieces if kind != "gone") == right


@pytest.mark.parametrize(
    ("gone", "new"),
    [
        ("a b" * 500, "b a c" * 330),
        *[
            tuple(
                " ".join(f"w{rng.randrange(150)}" for _ in range(10_000)) + "\n" for _ in range(2)
            )
            for rng in (random.Random(3),)
        ],
        ("x\n" * 20_000, "y\n" + "x\n" * 9_000 + "z\n" + "x\n" * 9_000),
    ],
    ids=["two words", "few words", "one line"],
)
def test_texts_that_repeat_themselves_are_compared_at_once(gone, new):
    started = time.process_time()
    pieces = list(word_diff(gone, new))
    assert time.process_time() - started < 2
    assert "".join(piece for kind, piece in pieces if kind != "new") == gone
    assert "".join(piece for kind, piece in pieces if kind != "gone") == new


@pytest.mark.parametrize("cut", [0, 40])
def test_a_damaged_stage_is_named(prepare, examples, tmp_path, cut):
    out = tmp_path / "out"
    prepare(examples / "chats.jsonl", out)
    path = next((out / "dedup" / "rejects").glob("*.arrow"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut] if cut else b"\0" * 8 + whole[8:-8] + b"\0" * 8)
    with pytest.raises(ManifestError) as caught:
        show_rejects(out)
    assert path.name in str(caught.value)
    assert "\nhint: " in str(caught.value)


def test_an_unknown_reason_names_the_nearest_and_those_there_are(sample):
    with pytest.raises(ConfigError) as error:
        show_rejects(sample.out, reason="ai_prefaces")
    first, hint = str(error.value).splitlines()
    assert first == "nothing has this reason: `ai_prefaces`"
    assert hint.startswith("hint: did you mean `ai_preface`? there are: ai_preface (")


def test_pages_are_parts_of_the_whole(sample):
    rows, total = read_rejects(sample.out, **ALL)
    for first, count in ((0, 1), (3, 7), (20, 9), (total - 1, 5)):
        assert read_rejects(sample.out, first=first, count=count) == (
            rows[first : first + count],
            total,
        )


def test_rows_that_share_an_id(prepare, write_rows, chat, tmp_path):
    """The first one goes for the second, which is longer."""
    rows = [chat("What?", TEXT * 4, id="same"), chat("What?", TEXT * 4 + " again", id="same")]
    source = write_rows(tmp_path / "a.jsonl", rows)
    config = {"dedup": {"keep": "longest"}}
    out = prepare(source, tmp_path / "out", config=config, report=False).out
    (text,) = show_rejects(out, reason="near_duplicate").texts
    assert text.plain.endswith("kitchen{+ again+}\n")


def test_the_command_line(sample, command):
    done = command("show", sample.out, "--rejects", "--rows", "2")
    assert done.stdout.count("── ") == 2
    _, total = read_rejects(sample.out, **ALL)
    assert done.stdout.endswith(f"dropped rows: 0 to 1 of {total:,} (`--row`, `--rows`)\n")
    done = command("show", sample.out, "--changes", "--row", "1")
    assert done.stdout.count("── ") == 10
    assert "changed messages: 1 to 10 of " in done.stdout
    for options, message in {
        ("--rejects", "--changes"): "`--changes` has no meaning beside `--rejects`",
        ("--changes", "--split", "test"): "`--split` has no meaning beside `--changes`",
        ("--rejects", "--tokenizer", "t"): "`--tokenizer` has no meaning beside `--rejects`",
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
