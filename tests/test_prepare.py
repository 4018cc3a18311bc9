"""`prepare` on the bundled samples and on small inputs: what each stage writes, keeps, drops and changes."""

import json
import os
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from zephyr_data import ConfigError, open_packed
from zephyr_data.manifest import read_manifest

IGNORED = -100
STAGES = {"clean": "clean", "dedup": "dedup", "pack": "packed"}


@pytest.fixture(scope="module")
def ledger(examples):
    return json.loads((examples / "defects.json").read_text(encoding="utf-8"))


def name_of(entry, examples):
    """How the stages name a row of the ledger: its id, else file and line."""
    return entry["id"] if "id" in entry else f"{examples / 'chats.jsonl'}:{entry['line']}"


def rejects_of(result, read_rows):
    return {
        row["id"]: row
        for folder in STAGES.values()
        for row in read_rows(result.out / folder / "rejects")
    }


# ---- the ledger: every defect is found, and nothing else is touched ----

DROPPED = {
    "ai_preface",
    "exact_duplicate",
    "near_duplicate",
    "constant_answer",
    "empty",
    "turns",
    "repetition",
}


def test_every_defect_of_the_bundled_chats_is_dropped_and_nothing_else(
    sample, ledger, examples, read_rows
):
    expected = {
        name_of(entry, examples): entry["defect"]
        for entry in ledger["defects"]
        if entry["defect"] in DROPPED
    }
    rejects = rejects_of(sample, read_rows)
    assert {name: row["reason"] for name, row in rejects.items()} == expected
    for entry in ledger["defects"]:
        if entry["defect"] in {"exact_duplicate", "near_duplicate"}:
            assert rejects[name_of(entry, examples)]["kept_id"] == entry["expect"]["kept_id"]
        if entry["defect"] == "ai_preface":
            assert entry["expect"]["text"] in rejects[name_of(entry, examples)]["detail"]


def test_every_wrong_letter_of_the_bundled_chats_is_repaired_and_nothing_else(
    sample, ledger, examples, read_rows
):
    chats = {}
    for number, line in enumerate(
        (examples / "chats.jsonl").read_text(encoding="utf-8").splitlines(), 1
    ):
        row = json.loads(line)
        chats[row.get("id", f"{examples / 'chats.jsonl'}:{number}")] = row["messages"]
    expected = {
        (name_of(entry, examples), place["turn"], place["byte_offset"])
        for entry in ledger["defects"]
        if entry["defect"] == "wrong_casing"
        for place in entry["expect"]
    }
    changes = read_rows(sample.out / "clean" / "changes")
    assert {(row["id"], row["turn"], row["byte_offset"]) for row in changes} == expected
    assert len(changes) == len(expected) == sample.letters_repaired
    for row in changes:
        content = chats[row["id"]][row["turn"]]["content"].encode()
        before = row["before"].encode()
        assert content[row["byte_offset"] : row["byte_offset"] + len(before)] == before
        assert row["after"] == row["before"].upper()
        assert row["rule"]


def test_what_the_rules_keep_is_as_it_was_but_for_the_listed_letters(sample, examples, read_rows):
    changes = defaultdict(list)
    for row in read_rows(sample.out / "clean" / "changes"):
        changes[row["id"], row["turn"]].append(row)
    kept = {row["id"]: row for row in read_rows(sample.out / "clean")}
    seen = 0
    for number, line in enumerate(
        (examples / "chats.jsonl").read_text(encoding="utf-8").splitlines(), 1
    ):
        source = json.loads(line)
        name = source.get("id", f"{examples / 'chats.jsonl'}:{number}")
        if name not in kept:
            continue
        seen += 1
        assert (kept[name]["file"], kept[name]["line"]) == (str(examples / "chats.jsonl"), number)
        for turn, (before, after) in enumerate(
            zip(source["messages"], kept[name]["messages"], strict=True)
        ):
            content = bytearray(before["content"].encode())
            for change in sorted(changes[name, turn], key=lambda change: -change["byte_offset"]):
                start = change["byte_offset"]
                content[start : start + len(change["before"].encode())] = change["after"].encode()
            assert after == {"role": before["role"], "content": content.decode()}
    assert seen == len(kept)


def test_every_defect_of_the_bundled_preferences(pairs, ledger, read_rows):
    reasons = {"ai_preface", "exact_duplicate", "empty"}
    expected = {
        entry["id"]: "turns" if entry["defect"] == "identical" else entry["defect"]
        for entry in ledger["preferences"]
        if entry["defect"] in reasons | {"identical"}
    }
    rejects = rejects_of(pairs, read_rows)
    assert {name: row["reason"] for name, row in rejects.items()} == expected
    letters = {
        (entry["id"], place["turn"], place["byte_offset"])
        for entry in ledger["preferences"]
        if entry["defect"] == "wrong_casing"
        for place in entry["expect"]
    }
    changes = read_rows(pairs.out / "clean" / "changes")
    assert {(row["id"], row["turn"], row["byte_offset"]) for row in changes} == letters


# ---- manifests and counts ----


@pytest.mark.parametrize("kind", ["sample", "pairs"])
def test_every_row_is_accounted_for(request, kind, read_rows):
    result = request.getfixturevalue(kind)
    rows_in = result.stages["clean"].rows_in
    for stage, folder in STAGES.items():
        summary, manifest = result.stages[stage], read_manifest(result.out / folder)
        rejects = read_rows(result.out / folder / "rejects")
        assert Counter(row["reason"] for row in rejects) == summary.dropped
        assert summary.rows_in == rows_in
        assert summary.rows_out == rows_in - len(rejects)
        assert manifest.stage == stage
        assert (result.out / folder) == summary.folder
        rows_in = summary.rows_out
        if stage != "pack":
            assert len(read_rows(result.out / folder)) == summary.rows_out
    splits = Counter(row["split"] for row in read_rows(result.out / "dedup"))
    assert splits == {
        name: read_manifest(result.out / "dedup").counts[name] for name in ("train", "test")
    }


@pytest.mark.parametrize("kind", ["sample", "pairs"])
def test_the_manifest_names_every_file(request, kind):
    result = request.getfixturevalue(kind)
    for folder in STAGES.values():
        manifest = read_manifest(result.out / folder)
        found = {
            str(path.relative_to(result.out / folder)): path.stat().st_size
            for path in (result.out / folder).rglob("*")
            if path.is_file() and path.name != "manifest.json"
        }
        assert {entry.name: entry.bytes for entry in manifest.files} == found


def test_the_manifest_says_from_what_and_how(sample, examples):
    clean, dedup, pack = (read_manifest(sample.out / folder) for folder in STAGES.values())
    (source,) = clean.inputs
    assert source.name == str(examples / "chats.jsonl")
    assert source.bytes == (examples / "chats.jsonl").stat().st_size
    assert clean.options["clean"]["refusal"]["enabled"] is False
    assert dedup.options["dedup"]["test_fraction"] == 0.1
    assert pack.options["pack"]["max_length"] == 2048
    assert pack.tokenizer["name"] == str(examples / "tokenizer")
    assert (pack.tokenizer["template"], pack.tokenizer["encoder"]) == ("zephyr", "exact-fast")
    assert {manifest.kind for manifest in (clean, dedup, pack)} == {"chat"}


def test_a_tokenizer_of_an_unknown_kind_is_said_once(command, examples, tmp_path):
    folder = tmp_path / "tokenizer"
    shutil.copytree(examples / "tokenizer", folder)
    definition = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    definition["normalizer"] = {"type": "NFKC"}
    (folder / "tokenizer.json").write_text(json.dumps(definition), encoding="utf-8")
    for tokenizer, encoder in ((examples / "tokenizer", "exact-fast"), (folder, "tokenizers")):
        out = tmp_path / encoder
        done = command("prepare", examples / "chats.jsonl", "--tokenizer", tokenizer, "--out", out)
        assert done.returncode == 0, done.stderr
        said = done.stderr.count("ids come from the `tokenizers` package")
        assert said == (encoder == "tokenizers")
        assert read_manifest(out / "packed").tokenizer["encoder"] == encoder


def test_no_prompt_is_on_both_sides(prepare, write_rows, chat, tmp_path, read_rows):
    rows = [
        chat(f"Question {n % 300}?", f"Answer {n}, which is like no other.") for n in range(900)
    ]
    result = prepare(
        write_rows(tmp_path / "chats.jsonl", rows), tmp_path / "out", test_fraction=0.2
    )
    sides = defaultdict(set)
    for row in read_rows(result.out / "dedup"):
        sides[row["messages"][0]["content"]].add(row["split"])
    assert len(sides) == 300
    assert all(len(found) == 1 for found in sides.values())
    tests = sum(found == {"test"} for found in sides.values())
    assert 35 <= tests <= 85  # 60 expected


def test_no_test_set(prepare, write_rows, chat, tmp_path):
    rows = write_rows(tmp_path / "chats.jsonl", [chat("One?", "Two."), chat("Three?", "Four.")])
    result = prepare(rows, tmp_path / "out", test_fraction=0.0)
    assert (result.splits["train"].documents, result.splits["test"].documents) == (2, 0)
    packed = open_packed(result.out)
    assert packed.table("test").num_rows == 0
    assert packed.table("test").schema == packed.table("train").schema
    assert packed.documents("test").num_rows == 0
    pytest.importorskip("datasets", reason="needs the extra `train`")
    assert packed.test.column_names == packed.train.column_names
    assert (len(packed.test), len(packed.train)) == (0, 1)


# ---- input ----


def test_formats_codecs_and_folders(prepare, write_rows, chat, tmp_path, read_rows):
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard

    rows = [chat(f"Question {n}?", f"Answer {n}.") | {"extra": {"n": n}} for n in range(5)]
    folder = tmp_path / "input"
    (folder / "deep").mkdir(parents=True)
    write_rows(folder / "a.jsonl", rows[:1])
    plain = [json.dumps(row).encode() + b"\n" for row in rows]
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(plain[1]))
    (folder / "c.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(plain[2]))
    pq.write_table(pa.Table.from_pylist(rows[3:4]), folder / "deep" / "d.parquet")
    (folder / "README.md").write_text("not data")
    extra = write_rows(tmp_path / "extra.jsonl", rows[4:])
    result = prepare([folder, extra], tmp_path / "out", test_fraction=0.0)
    found = read_rows(result.out / "clean")
    assert [row["messages"] for row in found] == [row["messages"] for row in rows]
    names = ["a.jsonl", "b.jsonl.gz", "c.jsonl.zst", "deep/d.parquet"]
    files = [str(folder / name) for name in names] + [str(extra)]
    assert [row["file"] for row in found] == files
    assert [row["id"] for row in found] == [f"{name}:1" for name in files]


def test_shapes_of_preferences(prepare, write_rows, tmp_path, read_rows):
    def turn(role, content):
        return {"role": role, "content": content}

    shapes = [
        {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
        {
            "prompt": [turn("user", "Why?")],
            "chosen": [turn("assistant", "So!")],
            "rejected": [turn("assistant", "Hm.")],
        },
        {
            "chosen": [turn("user", "Why not?"), turn("assistant", "So.")],
            "rejected": [turn("user", "Why not?"), turn("assistant", "No.")],
            "score_chosen": 8,
            "score_rejected": 3.5,
        },
    ]
    config = {"dedup": {"exact": False}}
    source = write_rows(tmp_path / "pairs.jsonl", shapes)
    result = prepare(source, tmp_path / "out", config=config, test_fraction=0.0)
    assert result.kind == "preference"
    found = read_rows(result.out / "clean")
    assert [row["prompt"] for row in found] == [
        [turn("user", text)] for text in ("Why?", "Why?", "Why not?")
    ]
    assert [row["chosen"] for row in found] == [
        [turn("assistant", text)] for text in ("So.", "So!", "So.")
    ]
    assert [row["score_chosen"] for row in found] == [None, None, 8.0]


def test_bad_rows_are_kept_on_request(prepare, write_rows, chat, tmp_path, read_rows):
    source = write_rows(
        tmp_path / "chats.jsonl",
        [chat("One?", "Two.", id=1), '{"messages": 3}', "{", chat("a", "b")],
    )
    result = prepare(source, tmp_path / "out", on_bad_row="reject")
    rejects = read_rows(result.out / "clean" / "rejects")
    assert [(row["reason"], row["line"], row["raw"]) for row in rejects] == [
        ("bad_row", 2, '{"messages": 3}'),
        ("bad_row", 3, "{"),
    ]
    assert result.stages["clean"].dropped == {"bad_row": 2}
    assert [row["id"] for row in read_rows(result.out / "clean")] == ["1", f"{source}:4"]


def test_nothing_survives(prepare, write_rows, chat, tmp_path):
    result = prepare(write_rows(tmp_path / "chats.jsonl", [chat("", "")]), tmp_path / "out")
    assert result.stages["clean"].dropped == {"empty": 1}
    assert {name: split.rows for name, split in result.splits.items()} == {"train": 0, "test": 0}
    assert repr(result).endswith(
        "1 chats in, 0 kept; train: 0 rows, 0 tokens; test: 0 rows, 0 tokens)"
    )
    assert open_packed(result.out).table("train").num_rows == 0


def test_options_of_the_filters_are_heard(prepare, write_rows, chat, tmp_path):
    rows = [chat("a?", "b."), chat("c?", "d.", "e?", "f."), chat("g?", "hello there. i see.")]
    config = {
        "clean": {
            "turns": {"max_turns": 1},
            "length": {"min_chars": 5},
            "truecase": {"enabled": False},
        }
    }
    result = prepare(write_rows(tmp_path / "chats.jsonl", rows), tmp_path / "out", config=config)
    assert result.stages["clean"].dropped == {"length": 1, "turns": 1}
    assert result.letters_repaired == 0


# ---- the result ----


def test_the_result(sample):
    assert sample.train == sample.out / "packed" / "train"
    assert sample.test == sample.out / "packed" / "test"
    assert sample.kind == "chat"
    assert sample.stages["clean"].megabytes_per_second > 0
    assert sample.dropped["ai_preface"] == sample.stages["clean"].dropped["ai_preface"]
    train, test = sample.splits["train"], sample.splits["test"]
    assert repr(sample) == (
        f"Prepared('{sample.out}'; 241 chats in, {train.documents + test.documents} kept;"
        f" train: {train.rows} rows, {train.tokens:,} tokens; test: {test.rows} rows, {test.tokens:,} tokens)"
    )
    with pytest.raises(AttributeError):
        sample.out = Path("elsewhere")
    with pytest.raises(TypeError):
        sample.stages["clean"].dropped["empty"] = 0


def test_progress_is_called_with_each_stage(prepare, examples, tmp_path):
    calls = []
    prepare(examples / "chats.jsonl", tmp_path / "out", progress=lambda *state: calls.append(state))
    assert list(dict.fromkeys(call[0] for call in calls)) == [
        "clean",
        "dedup",
        "pack",
    ]
    assert all(0 <= done <= total or total == 0 for _, done, total, _ in calls)


def test_an_observer_that_raises_ends_the_run(prepare, examples, tmp_path):
    def observer(*_):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        prepare(examples / "chats.jsonl", tmp_path / "out", progress=observer)
    assert not (tmp_path / "out" / "clean").exists()
    assert prepare(examples / "chats.jsonl", tmp_path / "out").stages["pack"].skipped is False


# ---- the output folder ----


def test_a_folder_with_other_things_is_refused_and_never_touched(
    prepare, write_rows, chat, tmp_path
):
    source = write_rows(tmp_path / "chats.jsonl", [chat("One?", "Two.")])
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError) as caught:
        prepare(source, out)
    assert str(caught.value) == (
        f"cannot write into `--out`, it holds what zephyr-data did not write: `{out}`\n"
        "hint: name a new folder, or add `--overwrite` to use this one; its files stay as they are"
    )
    prepare(source, out, overwrite=True)
    prepare(source, out, overwrite=True)
    assert (out / "thesis.tex").read_text() == "years of work"
    assert prepare(source, out).stages["pack"].skipped


def test_a_folder_with_someone_elses_stage_names_is_refused_in_any_case(
    prepare, write_rows, chat, tmp_path
):
    source = write_rows(tmp_path / "chats.jsonl", [chat("One?", "Two.")])
    out = tmp_path / "out"
    (out / "clean").mkdir(parents=True)
    (out / "clean" / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(
            ConfigError, match=f"did not write: `{out}/clean`\nhint: name another folder"
        ):
            prepare(source, out, overwrite=overwrite)
    assert (out / "clean" / "thesis.tex").read_text() == "years of work"


def test_the_result_of_other_input_is_not_replaced_by_mistake(
    prepare, write_rows, chat, tmp_path, digests
):
    first = write_rows(tmp_path / "first.jsonl", [chat("One?", "Two.")])
    second = write_rows(tmp_path / "second.jsonl", [chat("Three?", "Four.")])
    out = tmp_path / "out"
    prepare(first, out)
    before = digests(out)
    with pytest.raises(ConfigError) as caught:
        prepare(second, out)
    assert str(caught.value) == (
        f"cannot write into `--out`, it holds the result of other input, from `first.jsonl`: `{out}`\n"
        "hint: name another folder, or add `--overwrite` to replace that result"
    )
    assert digests(out) == before
    assert (
        prepare([first, second], out).stages["clean"].rows_in == 2
    )  # grown input is what one expects
    assert prepare(second, out, overwrite=True).stages["clean"].rows_in == 1


def test_a_file_in_the_place_of_the_folder(prepare, write_rows, chat, tmp_path):
    source = write_rows(tmp_path / "chats.jsonl", [chat("One?", "Two.")])
    with pytest.raises(ConfigError, match=f"it is not a folder: `{source}`\nhint: name another"):
        prepare(source, source)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(prepare, write_rows, chat, tmp_path):
    source = write_rows(tmp_path / "chats.jsonl", [chat("One?", "Two.")])
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    with pytest.raises(PermissionError, match=f"cannot create `{out}"):
        prepare(source, out)


def test_no_input(prepare, tmp_path):
    with pytest.raises(
        ConfigError, match="nothing to read\nhint: name at least one file or folder"
    ):
        prepare([], tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="cannot read `nowhere.jsonl`"):
        prepare("nowhere.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_cannot_be_used_costs_no_cleaning(prepare, examples, tmp_path):
    with pytest.raises(ConfigError, match="cannot load the tokenizer"):
        prepare(examples / "chats.jsonl", tmp_path / "out", tokenizer="./nowhere")
    assert not (tmp_path / "out" / "clean").exists()
