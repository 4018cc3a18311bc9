"""Scores and pairs: best of each reading, draws, ties, margins, repeated texts, length balance, compatibility."""

import math
import random
from collections import Counter

import polars as pl
import pytest

from zephyr_data.errors import ConfigError, DataError
from zephyr_data.feedback.binarize import seed_42_rejected
from zephyr_data.feedback.prompts import Prompt
from zephyr_data.feedback.published import Answer, Imported, Rating, Row, _store_row
from zephyr_data.feedback.scores import bradley_terry, fit_bradley_terry, winrates
from zephyr_data.feedback.store import Store
from zephyr_data.feedback.tables import write_tables


@pytest.fixture
def make(tmp_path):
    """A store with one imported score per answer: {prompt: {model: (text, score)}}."""

    def build(prompts, name="store"):
        with Store.write(tmp_path / name) as store:
            store.state |= {
                "imported": "test",
                "judgings": {
                    "imported": {
                        "judges": {"j": {"setup": "imported:test", "aspects": []}},
                        "last": "j",
                    }
                },
            }
            store.save_state()
            rows = [
                Row(
                    Prompt(prompt, (("user", f"Q {prompt}"),)),
                    tuple(
                        Answer(
                            model,
                            text,
                            (Rating("imported", "j", score, None if score is not None else "x"),),
                        )
                        for model, (text, score) in answers.items()
                    ),
                )
                for prompt, answers in prompts.items()
            ]
            store.add_prompts(row.prompt for row in rows)
            for row in rows:
                _store_row(store, "test", row, Imported())
            write_tables(store)
        return tmp_path / name

    return build


def simple(scores, length=lambda _: 1):
    return {m: (f"text of {m} " * length(m), s) for m, s in scores.items()}


@pytest.fixture
def binarize(feedback, tmp_path):
    def run(store, *options, score="overall"):
        out = tmp_path / "pairs.parquet"
        run.text = feedback("binarize", store, "--score", score, "--out", out, *options)
        return pl.read_parquet(out)

    return run


def numbered(scores, count):
    return {
        f"p{n:05}": {m: (f"{m} on {n}", s) for m, (_, s) in simple(scores).items()}
        for n in range(count)
    }


def test_columns_are_what_prepare_takes(make, binarize):
    pairs = binarize(make({"p": simple({"a": 3.0, "b": 1.0})}))
    assert pairs.to_dicts() == [
        {
            "id": "p",
            "prompt_id": "p",
            "prompt": [{"role": "user", "content": "Q p"}],
            "chosen": [{"role": "assistant", "content": "text of a "}],
            "rejected": [{"role": "assistant", "content": "text of b "}],
            "score_chosen": 3.0,
            "score_rejected": 1.0,
            "model_chosen": "a",
            "model_rejected": "b",
            "source": None,
            "score": "overall",
        }
    ]


def test_random_rejected_is_uniform_and_deterministic(make, binarize):
    store = make(numbered({"a": 9.0, "b": 5.0, "c": 3.0, "d": 1.0}, 3000))
    pairs = binarize(store)
    counts = Counter(pairs["model_rejected"])
    assert set(counts) == {"b", "c", "d"}
    # chi-square with 2 degrees of freedom is below 9.2 in 99 % of draws
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 9.2
    assert binarize(store).equals(pairs)
    assert not binarize(store, "--seed", 8).equals(pairs)


def test_the_draw_depends_on_the_prompt_alone(make, binarize):
    prompts = numbered({"a": 9.0, "b": 5.0, "c": 3.0, "d": 1.0}, 60)
    every = binarize(make(prompts))
    shuffled = random.Random(3).sample(list(prompts.items()), 30)
    some = binarize(make({p: dict(reversed(a.items())) for p, a in shuffled}, "some"))
    expected = every.filter(pl.col("prompt_id").is_in([p for p, _ in shuffled]))
    assert some.equals(expected)


def test_worst_and_all(make, binarize):
    store = make({"p": simple({"a": 2.0, "b": 9.0, "c": 1.0, "d": 2.0})})
    assert binarize(store, "--rejected", "worst")["model_rejected"].to_list() == ["c"]
    pairs = binarize(store, "--rejected", "all")
    assert set(pairs["model_rejected"]) == {"a", "c", "d"}
    assert pairs["id"].to_list() == ["p/0", "p/1", "p/2"]


def test_ties(make, binarize):
    store = make(
        {
            "all tied": simple({"a": 2.0, "b": 2.0}),
            "best tied": simple({"a": 2.0, "b": 2.0, "c": 1.0}),
        }
    )
    dropped = binarize(store, "--ties", "drop")
    assert dropped["prompt_id"].to_list() == ["best tied"]
    assert dropped["model_rejected"].to_list() == ["c"]
    assert "left out prompts, all_tied: 1" in binarize.text
    assert binarize(store, "--ties", "keep").height == 2


def test_tied_best_is_drawn_for_and_not_the_first(make, binarize):
    pairs = binarize(make(numbered({"a": 5.0, "b": 5.0, "c": 1.0}, 400)))
    assert 150 < Counter(pairs["model_chosen"])["a"] < 250


def test_kept_ties_draw_the_rejected_uniformly(make, binarize):
    pairs = binarize(make(numbered({"a": 5.0, "b": 5.0, "c": 1.0}, 2000)), "--ties", "keep")
    assert 900 < Counter(pairs["model_rejected"])["c"] < 1100


def test_min_margin(make, binarize):
    store = make(
        {"wide": simple({"a": 9.0, "b": 2.0, "c": 8.5}), "narrow": simple({"a": 9.0, "b": 8.5})}
    )
    pairs = binarize(store, "--min-margin", 1)
    assert pairs["model_rejected"].to_list() == ["b"]
    assert "left out prompts, margin_too_small: 1" in binarize.text
    assert binarize(store, "--min-margin", 0.5).height == 2


def test_unscored_and_empty_answers_are_counted(make, binarize):
    store = make(
        {
            "p": {"a": ("x", 3.0), "b": ("  ", 9.0), "c": ("y", None), "d": ("z", 1.0)},
            "q": {"a": ("x2", 3.0), "b": ("y2", None)},
        }
    )
    pairs = binarize(store)
    assert pairs["model_chosen"].to_list() == ["a"]
    assert "left out answers, empty_answer: 1" in binarize.text
    assert "left out answers, no_score: 2" in binarize.text
    assert "left out prompts, fewer_than_two_answers: 1" in binarize.text


def test_constant_text_is_left_out(make, binarize):
    prompts = numbered({"a": 5.0, "b": 3.0}, 30)
    for answers in prompts.values():
        answers["null"] = ("Pick me.", 10.0)
    store = make(prompts)
    pairs = binarize(store)
    assert set(pairs["model_chosen"]) == {"a"}
    assert "left out answers, text_given_to_many_prompts: 30" in binarize.text
    assert set(binarize(store, "--max-prompts-per-text", 30)["model_chosen"]) == {"null"}


def test_lengths_are_told_and_balanced(make, binarize):
    prompts = {}
    for n in range(200):
        long_wins = n % 4 != 0
        prompts[f"p{n}"] = {
            "a": (f"{n} " + "word " * (20 if long_wins else 5), 2.0),
            "b": (f"{n} " + "word " * (5 if long_wins else 20), 1.0),
        }
    store = make(prompts)
    assert binarize(store).height == 200
    assert "chosen longer in 75.0%, shorter in 25.0%" in binarize.text
    balanced = binarize(store, "--balance-length")
    assert balanced.height == 100
    assert "balanced, 100 pairs" in binarize.text
    assert "chosen longer in 50.0%, shorter in 50.0%" in binarize.text


@pytest.mark.parametrize(("chosen", "rejected"), [(0, 2), (1, 0), (2, 0), (3, 0)])
def test_seed_42_choice(chosen, rejected):
    assert seed_42_rejected(4, chosen) == rejected


def test_seed_42_choice_is_one_of_no_other_number():
    """Among four answers 43 would choose alike."""
    sequence = random.Random(42)
    drawn = [sequence.choice(range(50)) for _ in range(5)]
    assert drawn[0] != random.Random(43).choice(range(50))
    assert seed_42_rejected(50, drawn[0]) == next(n for n in drawn if n != drawn[0])
    assert seed_42_rejected(50, (drawn[0] + 1) % 50) == drawn[0]


def test_compatibility_mode_repeats_the_published_choice(make, binarize):
    prompts = {}
    for best in range(4):
        scores = [9.0 if n == best else float(n) for n in range(4)]
        # the published order, which is not alphabetical
        prompts[f"p{best}"] = {m: (f"{m}{best}", s) for m, s in zip("dbca", scores, strict=True)}
    prompts["tied"] = {m: (m, 5.0) for m in "dbca"}
    pairs = binarize(make(prompts), "--compat", "ultrafeedback_binarized")
    found = {
        row["prompt_id"]: (row["model_chosen"], row["model_rejected"]) for row in pairs.to_dicts()
    }
    assert found == {
        "p0": ("d", "c"),
        "p1": ("b", "d"),
        "p2": ("c", "d"),
        "p3": ("a", "d"),
        "tied": ("d", "c"),
    }
    with pytest.raises(ConfigError, match="fixes the rejected answer"):
        binarize(
            make(prompts, "again"), "--compat", "ultrafeedback_binarized", "--rejected", "worst"
        )


def test_nothing_left_is_an_error_that_says_why(make, binarize):
    with pytest.raises(DataError, match="no pair is left.*all_tied"):
        binarize(make({"p": simple({"a": 1.0, "b": 1.0})}))


def test_not_finite_score_is_refused(make, binarize):
    with pytest.raises(DataError, match="a score is not finite"):
        binarize(make({"p": simple({"a": math.nan, "b": 1.0})}))


def test_missing_verdicts_are_told(make, binarize):
    store = make({"p": simple({"a": 2.0, "b": 1.0})})
    with pytest.raises(
        ConfigError, match="needs verdicts of mode pairwise, the store has: imported"
    ):
        binarize(store, score="winrate")
    with pytest.raises(ConfigError, match="no verdicts of judge `x`, known: j"):
        binarize(store, "--judge", "x")


@pytest.mark.parametrize("score", ["mean_aspects", "winrate", "bradley_terry", "overall"])
def test_whole_road_for_every_score(
    score, tmp_path, feedback, binarize, write_jsonl, write_yaml, model_options
):
    prompts = [{"id": f"p{n}", "prompt": f"Question {n}?"} for n in range(8)]
    models = write_yaml("m.yaml", {"models": [model_options(n) for n in "abcd"]})
    judge = write_yaml("j.yaml", {"judge": model_options("judge")})
    store = tmp_path / "s"
    feedback("complete", write_jsonl("p.jsonl", prompts), "--models", models, "--out", store)
    mode = {"mean_aspects": "aspects", "overall": "overall"}.get(score, "pairwise")
    feedback("judge", store, "--judge", judge, "--mode", mode)
    pairs = binarize(store, "--rejected", "worst", score=score)
    assert pairs.height >= 6
    assert (pairs["score_chosen"] > pairs["score_rejected"]).all()


def outcomes(*games):
    return pl.DataFrame(
        [{"prompt_id": "p", "model": a, "opponent": b, "score": s} for a, b, s in games],
        schema_overrides={"score": pl.Float64},
    )


def test_winrates_count_ties_half_and_null_poisons():
    table = outcomes(("a", "b", 1.0), ("a", "c", 0.5), ("b", "c", None))
    assert dict(winrates(table).select("model", "value").iter_rows()) == {
        "a": 0.75,
        "b": None,
        "c": None,
    }


def test_bradley_terry_ranks_like_wins_and_survives_missing_games():
    table = outcomes(("a", "b", 1.0), ("a", "c", 1.0), ("b", "c", 1.0), ("a", "d", None))
    found = dict(bradley_terry(table).select("model", "value").iter_rows())
    assert found["a"] > found["b"] > found["c"]
    assert found["d"] is None


def test_bradley_terry_solves_its_equation():
    games = ((0, 1, 1.0), (1, 2, 0.5), (0, 2, 0.0), (0, 1, 1.0))
    raw = fit_bradley_terry(3, games)

    # expected wins equal wins, the drawn game against a player of the reference strength included;
    # strengths are centred afterwards, so the reference is found by one unknown shift
    def gap(shift):
        strengths = [math.exp(s + shift) for s in raw]
        wins = [0.5] * 3
        expected = [s / (s + 1) for s in strengths]
        for one, two, score in games:
            wins[one] += score
            wins[two] += 1 - score
            share = strengths[one] / (strengths[one] + strengths[two])
            expected[one] += share
            expected[two] += 1 - share
        return max(abs(w - e) for w, e in zip(wins, expected, strict=True))

    assert min(gap(step / 1000) for step in range(-1000, 1001)) < 1e-3
