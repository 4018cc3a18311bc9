"""Imports: repairs, counts and refusals for each published format."""

import copy
import json

import polars as pl
import pytest

from zephyr_data.errors import ConfigError, DataError
from zephyr_data.feedback.published.ultrafeedback import ten_or_one


def rating(value, kind=False):
    found = {"Rating": value, "Rationale": "because"}
    return {**found, "Type": ["1"], "Rationale For Rating": "so"} if kind else found


def completion(model, overall, aspects=("4", "4", "4", "4")):
    names = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    return {
        "model": model,
        "principle": "helpfulness",
        "custom_system_prompt": "Be helpful.",
        "response": f"{model} says",
        "critique": "fine",
        "overall_score": overall,
        "fine-grained_score": 4.0,
        "annotations": {
            n: rating(v, i > 1) for i, (n, v) in enumerate(zip(names, aspects, strict=True))
        },
    }


def row(instruction="How?", source="sharegpt", completions=()):
    return {
        "source": source,
        "instruction": instruction,
        "models": [c["model"] for c in completions],
        "completions": list(completions),
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    }


def overall(store):
    table = pl.read_parquet(store / "verdicts.parquet").filter(pl.col("mode") == "overall")
    return {r["model"]: (r["score"], r["reason"]) for r in table.to_dicts()}


def test_ultrafeedback_ten_for_one_is_repaired_or_left_open(feedback, write_jsonl, tmp_path):
    rows = [
        row(
            completions=[
                completion("was one", 10, ("1", "2", "1", "2")),
                completion("is ten", "10", ("5", "5", "4", "5")),
                completion("unclear", 10.0, ("3", "3", "3", "3")),
                completion("half", "7.5"),
                completion("of ten", "8/10"),
            ]
        )
    ]
    text = feedback(
        "import", "ultrafeedback", write_jsonl("u.jsonl", rows), "--out", tmp_path / "s"
    )
    assert overall(tmp_path / "s") == {
        "was one": (1.0, None),
        "is ten": (10.0, None),
        "unclear": (None, "ten_or_one"),
        "half": (7.5, None),
        "of ten": (8.0, None),
    }
    assert "repaired, tens_that_were_ones: 1" in text
    assert "left out, tens_that_may_be_ones: 1" in text


@pytest.mark.parametrize(
    ("aspects", "expected"),
    [
        ([2, 2, 2, 2], 1.0),
        ([2, 2, 2, 3], None),
        ([4, 4, 4, 4], None),
        ([4, 4, 4, 5], 10.0),
        ([], None),
    ],
)
def test_ten_or_one_at_the_borders(aspects, expected):
    assert ten_or_one([float(a) for a in aspects]) == expected


def test_ultrafeedback_not_applicable_and_means(feedback, write_jsonl, tmp_path):
    rows = [
        row(
            completions=[
                completion("a", 5, ("N/A", "N/A", "4", "5")),
                completion("b", 6, ("1", "1", "1", "1")),
            ]
        )
    ]
    text = feedback(
        "import", "ultrafeedback", write_jsonl("u.jsonl", rows), "--out", tmp_path / "s"
    )
    assert "left out, not_applicable_ratings: 2" in text
    feedback("binarize", tmp_path / "s", "--score", "mean_aspects", "--out", tmp_path / "p.parquet")
    (pair,) = pl.read_parquet(tmp_path / "p.parquet").to_dicts()
    assert (pair["model_chosen"], pair["score_chosen"]) == ("a", 4.5)
    # the data set's reading disagrees with the paper's here
    feedback("binarize", tmp_path / "s", "--score", "overall", "--out", tmp_path / "p.parquet")
    assert pl.read_parquet(tmp_path / "p.parquet")["model_chosen"].to_list() == ["b"]


def test_ultrafeedback_missing_aspect_scores_nothing(feedback, write_jsonl, tmp_path):
    broken = completion("a", 5)
    broken["annotations"]["honesty"] = []
    rows = [row(completions=[broken, completion("b", 6), completion("c", 7, ("5", "5", "5", "5"))])]
    text = feedback(
        "import", "ultrafeedback", write_jsonl("u.jsonl", rows), "--out", tmp_path / "s"
    )
    assert "left out, missing_aspects: 1" in text
    text = feedback(
        "binarize", tmp_path / "s", "--score", "mean_aspects", "--out", tmp_path / "p.parquet"
    )
    assert "left out answers, no_score: 1" in text


def test_truthful_qa_and_its_copies_are_left_out(feedback, write_jsonl, tmp_path):
    answers = [completion("a", 5), completion("b", 6)]
    rows = [
        row("What is  the capital?", "evol_instruct", answers),
        row("What is the capital", "truthful_qa", answers),
        row("Something else", "evol_instruct", answers),
        row("Something else", "flan", answers),
    ]
    text = feedback(
        "import", "ultrafeedback", write_jsonl("u.jsonl", rows), "--out", tmp_path / "s"
    )
    assert text.startswith("1 prompts, 2 answers")
    assert "left out, truthful_qa_rows: 1" in text
    assert "left out, truthful_qa_copies: 1" in text
    assert "left out, repeated_instructions: 1" in text


def changed(path, value):
    good = row(completions=[completion("a", 5), completion("b", 6)])
    bad = copy.deepcopy(good)
    target = bad
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return [good | {"instruction": "other"}, bad]


REFUSED = {
    "unknown field": ((("extra",), 1), "unknown field in an UltraFeedback row"),
    "unknown completion field": ((("completions", 0, "score"), 1), "unknown field in a completion"),
    "unknown aspect": (
        (("completions", 0, "annotations", "wit"), {"Rating": "1"}),
        "unknown aspect",
    ),
    "word rating": (
        (("completions", 0, "annotations", "honesty", "Rating"), "four"),
        "unknown rating of `honesty`",
    ),
    "rating out of range": (
        (("completions", 0, "annotations", "honesty", "Rating"), "6"),
        "unknown rating of `honesty`",
    ),
    "overall out of range": ((("completions", 0, "overall_score"), 11), "unknown overall score"),
    "overall word": ((("completions", 0, "overall_score"), "ten"), "unknown overall score"),
    "overall below one": ((("completions", 0, "overall_score"), 0.8), "unknown overall score"),
    "no response": ((("completions", 0, "response"), None), "no usable `response`"),
    "same model": ((("completions", 0, "model"), "b"), "a model comes twice"),
    "no source": ((("source",), None), "no usable `source`"),
    "half of a pair": ((("instruction",), "\ud800"), "half of a surrogate pair"),
    "answers as a word": ((("correct_answers",), "yes"), "no usable `correct_answers`"),
    "annotations as a word": (
        (("completions", 0, "annotations"), "good"),
        "no usable `annotations`",
    ),
    "an annotation as a word": (
        (("completions", 0, "annotations", "honesty"), "good"),
        "no usable annotation of `honesty`",
    ),
    "a rationale as a number": (
        (("completions", 0, "annotations", "honesty", "Rationale"), 7),
        "no usable rationale of `honesty`",
    ),
    "a critique as a list": ((("completions", 0, "critique"), ["bad"]), "no usable `critique`"),
    "a model as a number": ((("completions", 0, "model"), 7), "no usable `model`"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_ultrafeedback_refuses_what_it_does_not_know(feedback, write_jsonl, tmp_path, name):
    (path, value), message = REFUSED[name]
    file = write_jsonl("u.jsonl", changed(path, value))
    with pytest.raises(DataError, match=message) as raised:
        feedback("import", "ultrafeedback", file, "--out", tmp_path / "s")
    assert f"{file}:2" in str(raised.value)


def annotation(instruction, model, preference, baseline="base"):
    return {
        "dataset": "d",
        "instruction": instruction,
        "output_1": baseline,
        "generator_1": "reference",
        "output_2": f"{model} on {instruction}",
        "generator_2": model,
        "annotator": "judge",
        "preference": preference,
    }


def write_annotations(tmp_path, name, rows):
    path = tmp_path / name
    path.write_text(json.dumps(rows))
    return path


def test_alpacaeval_files_are_joined_by_instruction(feedback, tmp_path):
    one = write_annotations(tmp_path, "1.json", [annotation("i", "a", 2), annotation("j", "a", 0)])
    two = write_annotations(
        tmp_path, "2.json", [annotation("j", "b", 1.2), annotation("i", "b", None)]
    )
    text = feedback("import", "alpacaeval", one, two, "--out", tmp_path / "s")
    assert text.startswith("2 prompts, 4 answers")
    assert "repaired, old_draws: 1" in text
    assert "left out, null_preferences: 1" in text
    verdicts = pl.read_parquet(tmp_path / "s" / "verdicts.parquet")
    assert sorted(verdicts["score"].drop_nulls()) == pytest.approx([0.2, 0.5, 1.0])
    assert verdicts["reason"].drop_nulls().to_list() == ["null_preference"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([annotation("i", "a", 2), annotation("i", "b", 1, "other")], "another baseline text"),
        ([annotation("i", "a", 2), annotation("i", "a", 1)], "was judged twice"),
        ([annotation("i", "a", 5)], "not between 1 and 2"),
        ([{"instruction": "i"}], "no AlpacaEval annotation"),
    ],
)
def test_alpacaeval_refusals(feedback, tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        feedback(
            "import",
            "alpacaeval",
            write_annotations(tmp_path, "a.json", rows),
            "--out",
            tmp_path / "s",
        )


def test_alpacaeval_table(shared, feedback, tmp_path):
    """The real set: the constant answer of an adversary is not in this selection, duplicates are."""
    text = feedback(
        "import", "alpacaeval", shared("feedback_alpacaeval.parquet"), "--out", tmp_path / "s"
    )
    assert text.startswith("805 prompts, 22533 answers, 22533 ratings")
    text = feedback(
        "binarize", tmp_path / "s", "--score", "overall", "--rejected", "random", "--out",
        tmp_path / "p.parquet",
    )  # fmt: skip
    assert "left out answers, empty_answer: 2" in text
    pairs = pl.read_parquet(tmp_path / "p.parquet")
    longer = (pairs["chosen"].list[0].struct["content"].str.len_chars()
              > pairs["rejected"].list[0].struct["content"].str.len_chars()).mean()  # fmt: skip
    assert longer > 0.6


SOLUTION = {
    "question": "1+1?",
    "ground_truth": "#### 2",
    "6b": {"solution": "A: 2", "is_correct": True},
    "175b": {"solution": "A: 3", "is_correct": False},
}


def test_gsm8k_published_lines(feedback, write_jsonl, write_yaml, tmp_path):
    text = feedback("import", "gsm8k", write_jsonl("g.jsonl", [SOLUTION]), "--out", tmp_path / "s")
    assert text.startswith("1 prompts, 2 answers, 2 ratings")
    rule = write_yaml("r.yaml", {"rule": {"kind": "final_answer"}})
    text = feedback("judge", tmp_path / "s", "--judge", rule, "--mode", "rule")
    assert "agrees with 2 of 2 imported labels" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": None}, "no `question` and `ground_truth`"),
        ({"6b": {"solution": "x"}}, "no solution under `6b`"),
        ({"6b": {"solution": "x", "is_correct": "yes"}}, "needs a text and a label"),
    ],
)
def test_gsm8k_refusals(feedback, write_jsonl, tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        feedback(
            "import", "gsm8k", write_jsonl("g.jsonl", [SOLUTION | change]), "--out", tmp_path / "s"
        )


def test_formats_are_not_mixed(feedback, write_jsonl, tmp_path):
    feedback("import", "gsm8k", write_jsonl("g.jsonl", [SOLUTION]), "--out", tmp_path / "s")
    rows = [row(completions=[completion("a", 5)])]
    with pytest.raises(ConfigError, match="the store holds other answers"):
        feedback("import", "ultrafeedback", write_jsonl("u.jsonl", rows), "--out", tmp_path / "s")


def test_import_twice_changes_nothing(feedback, write_jsonl, tmp_path):
    file = write_jsonl("g.jsonl", [SOLUTION])
    feedback("import", "gsm8k", file, "--out", tmp_path / "s")
    before = (tmp_path / "s" / "segments" / "000001.jsonl").read_bytes()
    feedback("import", "gsm8k", file, "--out", tmp_path / "s")
    assert (tmp_path / "s" / "segments" / "000001.jsonl").read_bytes() == before
