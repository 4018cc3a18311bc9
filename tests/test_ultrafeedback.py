"""UltraFeedback rows given to `prepare` and `inspect`: the pairs that `feedback import` and `feedback binarize` make."""

import copy
import gzip
import json
import random
import re

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from zephyr_data import DataError, inspect, open_packed
from zephyr_data.manifest import read_manifest

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
MODELS = ("alpaca", "falcon", "gpt-4", "llama", "mpt")


def completion(model, text, score, aspect="4"):
    annotations = {name: {"Rating": aspect, "Rationale": "because"} for name in ASPECTS}
    return {
        "model": model,
        "principle": "helpfulness",
        "custom_system_prompt": "Be helpful.",
        "response": text,
        "critique": "fine",
        "overall_score": score,
        "fine-grained_score": 4.0,
        "annotations": annotations,
    }


def row(instruction, completions, source="sharegpt"):
    return {
        "source": source,
        "instruction": instruction,
        "models": [one["model"] for one in completions],
        "completions": completions,
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    }


@pytest.fixture(scope="module")
def raw():
    """Sixty rows with all that is known to be wrong with the published ones."""
    dice = random.Random(3)
    rows = []
    for number in range(56):
        completions = [
            completion(
                model, f"{model} says of {number}: {dice.random()}.", str(dice.randint(1, 9))
            )
            for model in dice.sample(MODELS, 4)
        ]
        rows.append(row(f"What is number {number}?", completions))
    # A ten that was a one, one that nobody can tell, an answer without text, a constant answer, one without a score.
    rows[1]["completions"][0] = completion("ten", "It was a one.", "10", "1")
    rows[2]["completions"][1] = completion("ten", "Nobody knows.", "10", "3")
    rows[3]["completions"][2]["response"] = " "
    for number in range(4, 18):
        rows[number]["completions"][0] = completion("constant", "Yes, of course.", "9.5")
    rows[18]["completions"][3]["overall_score"] = None
    rows[19]["completions"] = [completion(model, f"{model} again.", "5") for model in MODELS]
    rows.append(row("What is number 20", rows[0]["completions"], source="truthful_qa"))
    rows.append(row("What is number 21?", rows[0]["completions"]))
    rows.append(row("Only one answers?", rows[0]["completions"][:1]))
    rows.append(row("Nobody answers?", []))
    return rows


def as_lines(path, rows):
    text = "\n\n".join(json.dumps(one, ensure_ascii=False) for one in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


WRITERS = {
    "rows.jsonl": as_lines,
    "rows.jsonl.gz": as_lines,
    "rows.json": lambda path, rows: path.write_text(json.dumps(rows, indent=1)),
    "rows.parquet": lambda path, rows: pa.parquet.write_table(pa.Table.from_pylist(rows), path),
    "rows.arrow": lambda path, rows: pa.feather.write_feather(
        pa.Table.from_pylist(rows), path, compression="uncompressed"
    ),
}

PAIR = ("id", "prompt", "chosen", "rejected", "score_chosen", "score_rejected")
KEEP_ALL = {
    "clean": {"truecase": {"enabled": False}, "length": {"enabled": False}},
    "dedup": {"near": False, "exact": False, "constant_answer": {"enabled": False}},
}


@pytest.fixture(scope="module")
def expected(raw, tmp_path_factory):
    """The pairs of the two commands, with the default seed and with another."""
    from typer.testing import CliRunner

    from zephyr_data.feedback.cli import app

    folder = tmp_path_factory.mktemp("store")
    as_lines(folder / "rows.jsonl", raw)
    runner = CliRunner()
    source = str(folder / "rows.jsonl")
    done = runner.invoke(app, ["import", "ultrafeedback", source, "--out", str(folder / "store")])
    assert done.exit_code == 0, done.output
    pairs = {}
    for seed in (0, 7):
        out = folder / f"{seed}.parquet"
        arguments = ["binarize", str(folder / "store"), "--score", "overall", "--out", str(out)]
        done = runner.invoke(app, [*arguments, "--seed", str(seed)])
        assert done.exit_code == 0, done.output
        pairs[seed] = pa.parquet.read_table(out).to_pylist()
    return pairs


def by_id(rows):
    return sorted([{name: one[name] for name in PAIR} for one in rows], key=lambda one: one["id"])


@pytest.mark.parametrize("name", [*WRITERS, "frame", "folder"])
def test_the_pairs_are_those_of_the_two_commands(prepare, tmp_path, raw, expected, read_rows, name):
    if name == "frame":
        source = pa.Table.from_pylist(raw)
    else:
        source = path = tmp_path / ("rows.jsonl" if name == "folder" else name)
        if name == "folder":
            path = tmp_path / "in" / "deep" / name
            source = tmp_path / "in"
            path.parent.mkdir(parents=True)
            path = path.with_suffix(".jsonl")
        WRITERS[path.name if path.name in WRITERS else "rows.jsonl"](path, raw)
    carry = ["source", "model_chosen", "model_rejected"]
    result = prepare(source, tmp_path / "out", config=KEEP_ALL, carry=carry)
    assert result.kind == "preference"
    rows = read_rows(result.out / "clean")
    assert len(rows) > 45
    assert by_id(rows) == by_id(expected[0])
    step = 2 if name.startswith("rows.jsonl") or name == "folder" else 1
    for one in rows:
        place = (one["line"] - 1) // step
        assert one["prompt"][0]["content"] == raw[place]["instruction"]
        assert one["line"] == step * place + 1
    assert {one["source"] for one in rows} == {"sharegpt"}
    models = {one["id"]: (one["model_chosen"], one["model_rejected"]) for one in expected[0]}
    packed = open_packed(result.out).table("train").to_pylist()
    assert all((one["model_chosen"], one["model_rejected"]) == models[one["id"]] for one in packed)
    (entry,) = read_manifest(result.out / "clean").inputs
    assert entry.name == (name if name == "frame" else str(path))
    assert entry.note == (
        "pairs of UltraFeedback rows: the best overall score against another answer drawn with seed 0"
    )
    assert not list(result.out.glob(".inputs*"))


def test_the_row_of_the_page(prepare, tmp_path, read_rows, request):
    page = (request.config.rootpath / "docs" / "SHAPES.md").read_text(encoding="utf-8")
    (rows,) = re.findall(r"^```jsonl\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    path = tmp_path / "rows.jsonl"
    path.write_text(rows, encoding="utf-8")
    (one,) = read_rows(prepare(path, tmp_path / "out").out / "clean")
    texts = [one[side][0]["content"] for side in ("prompt", "chosen", "rejected")]
    assert texts == ["What is 2+2?", "4.", "5."]
    assert (one["score_chosen"], one["score_rejected"]) == (9.0, 2.0)


def test_the_seed_decides_and_the_same_again_is_skipped(
    prepare, tmp_path, raw, expected, read_rows, digests
):
    as_lines(tmp_path / "rows.jsonl", raw)
    source, out = tmp_path / "rows.jsonl", tmp_path / "out"
    prepare(source, out, config=KEEP_ALL)
    first = digests(out)
    again = prepare(source, out, config=KEEP_ALL, workers=1)
    assert all(stage.skipped for stage in again.stages.values())
    assert digests(out) == first
    other = prepare(source, out, config=KEEP_ALL, seed=7)
    assert by_id(read_rows(other.out / "clean")) == by_id(expected[7]) != by_id(expected[0])


def test_files_go_together_and_pairs_beside_them(prepare, tmp_path, raw, read_rows, write_rows):
    as_lines(tmp_path / "a.jsonl", raw[:30])
    as_lines(tmp_path / "b.jsonl", raw[30:])
    pairs = [{"prompt": "Which?", "chosen": "This one.", "rejected": "That one."}]
    own = write_rows(tmp_path / "own.jsonl", pairs)
    result = prepare([tmp_path / "a.jsonl", own, tmp_path / "b.jsonl"], tmp_path / "out")
    rows = read_rows(result.out / "clean")
    prompts = [one["prompt"][0]["content"] for one in rows]
    # The question of TruthfulQA stands in the second file, its copy in the first.
    assert "What is number 20?" not in prompts
    assert prompts.count("What is number 21?") == 1
    notes = [entry.note is not None for entry in read_manifest(result.out / "clean").inputs]
    assert notes == [True, False, True]


def test_what_was_made_is_said(command, examples, tmp_path, raw):
    as_lines(tmp_path / "rows.jsonl", raw)
    done = command(
        *("prepare", "rows.jsonl", "--out", "out", "--tokenizer", examples / "tokenizer"),
        cwd=tmp_path,
    )
    assert done.returncode == 0
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert notes[0].startswith(
        "note: UltraFeedback rows in `rows.jsonl`: 56 prompts with 222 answers became "
    )
    assert notes[0].endswith(
        "`zephyr-data feedback import` and `feedback binarize` choose otherwise"
    )
    assert "note: repaired, tens_that_were_ones: 1" in notes
    assert "note: left out answers, text_given_to_many_prompts: 14" in notes
    done = command("inspect", "rows.jsonl", cwd=tmp_path)
    assert "rows.jsonl: pairs of UltraFeedback rows: the best overall score" in done.stdout
    found = inspect(tmp_path / "rows.jsonl")
    assert (found.files[0].shape, found.files[0].kind) == ("preference", "preference")


def broken(change):
    rows = [row(f"Q{n}?", [completion("a", "A.", 3), completion("b", "B.", 7)]) for n in range(3)]
    change(rows)
    return rows


BROKEN = {
    "a first row with an odd list": (
        lambda rows: rows[0].update(completions="none"),
        "no usable `completions` at {path}:1, found: 'none'",
    ),
    "a first row with no list": (
        lambda rows: rows[0].update(completions=None),
        "no usable `completions` at {path}:1, found: None",
    ),
    "an unknown score": (
        lambda rows: rows[2]["completions"][1].update(overall_score="good"),
        "unknown overall score at {path}:5, found: 'good'",
    ),
    "half of a surrogate pair": (
        lambda rows: rows[2].update(instruction="\ud800"),
        "half of a surrogate pair at {path}:5, found: '\\ud800'",
    ),
}
HINT = (
    "\nhint: rows are read as `zephyr-data feedback import ultrafeedback` reads them;"
    " leave out those that differ"
)


@pytest.mark.parametrize("case", BROKEN)
def test_rows_that_are_not_as_published(prepare, tmp_path, case):
    change, message = BROKEN[case]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n\n".join(map(json.dumps, broken(change))))
    with pytest.raises(DataError) as caught:
        prepare(path, tmp_path / "out")
    assert str(caught.value) == message.format(path=path) + HINT
    assert caught.value.path == str(path)
    assert not (tmp_path / "out" / "clean").exists()
    assert not list((tmp_path / "out").glob(".inputs*"))


def test_other_fields_are_left_out_and_counted(
    command, examples, tmp_path, raw, expected, read_rows
):
    rows = [{**one, "extra": {"n": number}} for number, one in enumerate(copy.deepcopy(raw))]
    rows[0]["completions"][0]["latency"] = 1
    as_lines(tmp_path / "rows.jsonl", rows)
    (tmp_path / "config.yaml").write_text(json.dumps(KEEP_ALL))
    done = command(
        *("prepare", "rows.jsonl", "--out", "out", "--config", "config.yaml"),
        *("--tokenizer", examples / "tokenizer"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert f"note: left out, other_fields_of_rows: {len(rows)}" in done.stderr
    assert by_id(read_rows(tmp_path / "out" / "clean")) == by_id(expected[0])


def test_no_pair_is_left(prepare, tmp_path):
    def tie(rows):
        for one in rows:
            one["completions"][1]["overall_score"] = 3

    path = tmp_path / "rows.jsonl"
    as_lines(path, broken(tie))
    with pytest.raises(DataError) as caught:
        prepare(path, tmp_path / "out")
    assert str(caught.value) == (
        f"no pair is left of the rows of: {path}\nhint: left out prompts, all_tied: 3;"
        " a prompt needs two answers with different overall scores"
    )
    as_lines(path, [row("Is it?", broken(tie)[0]["completions"], source="truthful_qa")])
    with pytest.raises(DataError) as caught:
        prepare(path, tmp_path / "out")
    assert str(caught.value) == (
        f"nothing is left of the rows of: {path}\nhint: left out, truthful_qa_rows: 1"
    )


def test_a_file_without_a_pair_among_others(tmp_path, raw):
    as_lines(tmp_path / "a.jsonl", raw)
    tied = [row("Which?", [completion("a", "This.", "5"), completion("b", "That.", "5")])]
    as_lines(tmp_path / "b.jsonl", tied)
    some, none = inspect(tmp_path).files
    assert some.rows > 0
    assert some.note.startswith("pairs of UltraFeedback rows: the best overall score against")
    assert (none.shape, none.kind, none.rows) == ("preference", "preference", 0)
    assert none.note == (
        "UltraFeedback rows of which no pair is left: a prompt needs two answers with different overall scores; questions of"
        " TruthfulQA and answers given to many prompts are left out"
    )


def test_a_file_that_changes_while_it_is_read(prepare, tmp_path, raw, monkeypatch):
    from zephyr_data.feedback.published import pairs

    path = tmp_path / "rows.jsonl"
    as_lines(path, raw)
    choose = pairs.choose

    def meanwhile(*arguments):
        as_lines(path, raw[5:])
        return choose(*arguments)

    monkeypatch.setattr(pairs, "choose", meanwhile)
    with pytest.raises(DataError) as caught:
        prepare(path, tmp_path / "out")
    assert str(caught.value) == (
        f"it was changed while it was read: {path}"
        "\nhint: wait until it is written, then run the same command again"
    )


def test_where_the_rows_are_said_to_be_chats_nothing_is_made(prepare, tmp_path, raw):
    path = tmp_path / "rows.jsonl"
    as_lines(path, raw)
    with pytest.raises(DataError, match="^no field `messages` at "):
        prepare(path, tmp_path / "out", kind="chat")


def test_rows_of_the_binarized_set(prepare, tmp_path, write_rows, read_rows):
    prompt = {"role": "user", "content": "How?"}
    chosen, rejected = ({"role": "assistant", "content": text} for text in ("So.", "Not so."))
    published = {
        "prompt": "How?",
        "prompt_id": "77",
        "chosen": [prompt, chosen],
        "rejected": [prompt, rejected],
        "messages": [prompt, chosen],
        "score_chosen": 8.5,
        "score_rejected": 8.0,
    }
    path = write_rows(tmp_path / "rows.jsonl", [published])
    result = prepare(path, tmp_path / "out", carry=["prompt_id"])
    (one,) = read_rows(result.out / "clean")
    assert (one["prompt"], one["chosen"], one["rejected"]) == ([prompt], [chosen], [rejected])
    assert (one["score_chosen"], one["score_rejected"], one["prompt_id"]) == (8.5, 8.0, "77")
