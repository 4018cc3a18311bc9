"""Draws: independent of order, uniform, and different between prompts and purposes."""

from collections import Counter

from zephyr_data.feedback import draws

MODELS = [f"model-{n}" for n in range(17)]


def test_order_of_the_items_is_irrelevant():
    for prompt in ("a", "b", "c"):
        one = draws.rank(7, "models", prompt, MODELS)
        assert one == draws.rank(7, "models", prompt, reversed(MODELS))
        assert sorted(one) == sorted(MODELS)


def test_one_more_model_moves_only_the_prompts_that_draw_it():
    before = {n: draws.rank(1, "models", str(n), MODELS)[:4] for n in range(300)}
    after = {n: draws.rank(1, "models", str(n), [*MODELS, "new"])[:4] for n in range(300)}
    for n in range(300):
        if "new" in after[n]:
            assert set(after[n]) - {"new"} < set(before[n])
        else:
            assert after[n] == before[n]
    assert 40 < sum("new" in drawn for drawn in after.values()) < 95  # 4/18 of 300 is 67


def test_each_model_is_drawn_equally_often():
    counts = Counter(
        model for n in range(17_000) for model in draws.rank(3, "models", str(n), MODELS)[:4]
    )
    # expected 4,000 each; chi-square with 16 degrees of freedom is below 32 in 99 % of draws
    assert sum((count - 4000) ** 2 / 4000 for count in counts.values()) < 32


def test_seed_purpose_and_prompt_all_matter():
    base = draws.rank(1, "models", "p", MODELS)
    assert base != draws.rank(2, "models", "p", MODELS)
    assert base != draws.rank(1, "order", "p", MODELS)
    assert base != draws.rank(1, "models", "q", MODELS)


def test_parts_cannot_run_into_each_other():
    assert draws.digest(1, "ab", "c") != draws.digest(1, "a", "bc")
    assert draws.digest(1, "1") != draws.digest(11, "")


def test_choose_is_the_first_of_the_rank():
    assert draws.choose(1, "x", "p", MODELS) == draws.rank(1, "x", "p", MODELS)[0]


def test_weighted_choice_follows_the_weights_in_any_order():
    items = [("a", 1.0), ("b", 3.0)]
    keys = [str(n) for n in range(8000)]
    counts = Counter(draws.choose_weighted(1, "w", key, items) for key in keys)
    assert abs(counts["b"] - 6000) < 200  # five standard deviations
    assert counts == Counter(draws.choose_weighted(1, "w", key, items[::-1]) for key in keys)


def test_values_are_fixed_for_good():
    """A store begun with one version must go on with the next."""
    assert draws.rank(0, "models", "p", ["a", "b", "c", "d"]) == FIXED_RANK
    assert draws.numbers(0, "x")[0] == FIXED_NUMBER


def test_columns_of_numbers_are_the_numbers_of_their_rows():
    prompts, models = ["p", "q", "\u00fc"], ["a", "bc", ""]
    one, two = draws.columns_of_numbers(5, "x", prompts, models)
    rows = zip(prompts, models, strict=True)
    assert list(zip(one, two, strict=True)) == [draws.numbers(5, "x", p, m) for p, m in rows]


FIXED_RANK = ["b", "c", "a", "d"]
FIXED_NUMBER = 6830284358399826429
