"""The rule judge: normal forms, marks, and all 5,276 published labels."""

import polars as pl
import pytest

from zephyr_data.errors import ConfigError, DataError
from zephyr_data.feedback.options import Rule
from zephyr_data.feedback.prompts import Prompt
from zephyr_data.feedback.rules import RuleJudge, final_answer, normal


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6 * 3 = 18\nA: 18", "18"),
        ("A: 17\nno, wait\nA: $1,800.00.", "1800"),
        ("work\n#### 42", "42"),
        ("so \\boxed{0.50}", "0.5"),
        ("the answer is 18", None),
        ("A: ", ""),
        ("A: Paris.", "paris"),
        ("An A: 5 in the middle", None),
    ],
)
def test_final_answer(text, expected):
    assert final_answer(text) == expected


@pytest.mark.parametrize(
    ("one", "two", "equal"),
    [
        ("1,800", "1800", True),
        ("007", "7", True),
        ("-0", "0", True),
        (".5", "0.50", True),
        ("-3.0", "-3", True),
        ("100", "1", False),
        ("10", "1", False),
        ("1.05", "1.5", False),
        ("18 eggs", "18", False),
        ("The  Nile", "the nile", True),
    ],
)
def test_normal(one, two, equal):
    assert (normal(one) == normal(two)) is equal


def score(rule, answer, reference, folder):
    prompt = Prompt("p", (("user", "Q?"),), reference=reference)
    return RuleJudge(Rule.model_validate(rule), folder).score(prompt, answer)


@pytest.mark.parametrize(
    ("rule", "answer", "reference", "expected"),
    [
        ({"kind": "exact"}, " Yes\n", "yes", (1.0, None)),
        ({"kind": "exact"}, "Yes, sir", "yes", (0.0, None)),
        ({"kind": "exact"}, "yes", None, (None, "no_reference")),
        ({"kind": "final_answer"}, "A: 18", "18", (1.0, None)),
        ({"kind": "final_answer"}, "A: 18", "9 * 2 = 18\nA: 18", (1.0, None)),
        ({"kind": "final_answer"}, "18", "18", (0.0, None)),
        ({"kind": "final_answer"}, "A: 18", None, (None, "no_reference")),
        ({"kind": "regex", "pattern": r"= (\d+)"}, "1 = 1, 2 = 2", "2", (1.0, None)),
        ({"kind": "regex", "pattern": r"= (\d+)"}, "1 = 1, 2 = 2", "1", (0.0, None)),
        ({"kind": "regex", "pattern": r"= (\d+)"}, "nothing", "1", (0.0, None)),
        (
            {"kind": "regex", "pattern": r"\bplease\b", "must_match": True},
            "oh please",
            None,
            (1.0, None),
        ),
        ({"kind": "regex", "pattern": r"\bplease\b", "must_match": True}, "no", None, (0.0, None)),
    ],
)
def test_rules(tmp_path, rule, answer, reference, expected):
    assert score(rule, answer, reference, tmp_path) == expected


def test_function_rule_gets_prompt_answer_and_reference(tmp_path):
    (tmp_path / "r.py").write_text("def f(p, a, r):\n    return (p, a, r) == ('Q?', 'x', 'y')\n")
    assert score({"kind": "function", "function": "r.py:f"}, "x", "y", tmp_path) == (1.0, None)


def test_function_rule_must_return_a_number(tmp_path):
    (tmp_path / "r.py").write_text("def f(p, a, r):\n    return float('nan')\n")
    with pytest.raises(DataError, match="must return a finite number, found: nan"):
        score({"kind": "function", "function": "r.py:f"}, "x", "y", tmp_path)


def test_bad_pattern(tmp_path):
    with pytest.raises(ConfigError, match="`pattern` is no regular expression"):
        score({"kind": "regex", "pattern": "("}, "x", "y", tmp_path)


def test_gsm8k_labels_and_pairs(shared, tmp_path, feedback, write_yaml):
    store, out = tmp_path / "s", tmp_path / "pairs.parquet"
    text = feedback("import", "gsm8k", shared("feedback_gsm8k4.parquet"), "--out", store)
    assert "1319 prompts, 5276 answers, 5276 ratings" in text
    assert "prompts_with_equal_answers_kept: 8" in text
    rule = write_yaml("rule.yaml", {"rule": {"kind": "final_answer"}})
    assert "agrees with 5276 of 5276 imported labels" in feedback(
        "judge", store, "--judge", rule, "--mode", "rule"
    )
    right = pl.read_parquet(store / "verdicts.parquet").filter(pl.col("mode") == "rule")
    by_model = dict(right.group_by("model").agg(pl.col("score").sum()).iter_rows())
    assert by_model == {
        "6b_finetuning": 286,
        "6b_verification": 515,
        "175b_finetuning": 458,
        "175b_verification": 742,
    }
    text = feedback("binarize", store, "--score", "overall", "--mode", "rule", "--out", out)
    assert "-> 731 pairs" in text
    assert "left out prompts, all_tied: 588" in text  # 432 all wrong, 156 all right
    pairs = pl.read_parquet(out)
    assert set(pairs["score_chosen"]) == {1.0}
    assert set(pairs["score_rejected"]) == {0.0}
