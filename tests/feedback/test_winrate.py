"""Win rates: every published row that the data allows, and the length-controlled values."""

import json
import math

import polars as pl
import pytest

from zephyr_data.errors import DataError
from zephyr_data.feedback.length_controlled import Weights, fit, newton, predict, sigmoid, solve
from zephyr_data.feedback.winrate import Judged, win_rate

# name: (win rate to 4 decimals, n), as published in AlpacaEval's leaderboards
AE1 = """
gpt4_1106_preview 97.6990 804; mistral-medium 96.8323 805; pairrm-tulu-2-70b 95.3980 804; gpt4 95.2795 805;
tulu-2-dpo-70b 95.0311 805; Mistral-7B+RAHF-DUAL+LoRA 94.9068 805; gpt4_0314 94.7826 805; Yi-34B-Chat 94.0847 803;
pairrm-zephyr-7b-beta 93.4080 804; ultralm-13b-v2.0-best-of-16 92.7950 805; llama-2-70b-chat-hf 92.6617 804;
LMCocktail-10.7B-v1 92.2167 803; claude 91.5528 805; cut-13b 91.3557 804; claude-2 91.3557 804;
pairrm-tulu-2-13b 91.0559 805; cohere 90.6211 805; zephyr-7b-beta 90.5978 803; deita-7b-v1.0 90.0621 805;
gpt-3.5-turbo-0301 89.3657 804; evo-v2-7b 89.3524 803; causallm-14b 88.2609 805; tulu-2-dpo-13b 88.1219 804;
ultralm-13b-v2.0 86.2843 802; gpt-3.5-turbo-1106 86.2562 804; zephyr-7b-alpha 85.7587 804; tulu-2-dpo-7b 84.2236 805;
recycled-wizardlm-7b-v2.0 83.4783 805; phi-2-dpo 82.3383 804; platolm-7b 81.9427 803;
llama-2-chat-7b-evol70k-neft 81.8634 805; gpt35_turbo_instruct 81.7104 801; llama-2-13b-chat-hf 81.0945 804;
evo-7b 79.2030 803; claude2-alpaca-13b 78.9277 802; recycled-wizardlm-7b-v1.0 78.8820 805; minichat-1.5-3b 78.5536 802;
wizardlm-13b 75.3109 804; guanaco-65b 71.8012 805; llama-2-7b-chat-hf 71.3665 805; ghost-7b-alpha 70.4403 795;
vicuna-13b 70.4348 805; phi-2-sft 68.5323 804; oasst-rlhf-llama-33b 66.5217 805; alpaca-7b-neft 61.6438 803;
minichat-3b 48.8184 804; falcon-40b-instruct 45.7143 805; alpaca-farm-ppo-human 41.2422 805; phi-2 30.6633 799;
alpaca-7b 26.4596 805; text_davinci_001 15.1741 804
"""
AE2 = """
FuseChat-Llama-3.2-3B-Instruct 51.2967 805; gpt4_1106_preview 50.0000 805; FuseChat-Llama-3.2-1B-Instruct 29.9219 805;
claude 16.9853 805; claude-instant-1.2 16.1274 805; gpt-3.5-turbo-1106_verbose 12.7632 805;
humpback-llama2-70b 10.1218 805; gpt-3.5-turbo-1106 9.1780 805; Qwen-14B-Chat 7.5023 805;
vicuna-13b-v1.5-togetherai 6.9583 805; gemma-7b-it 6.9373 805; oasst-rlhf-llama-33b 6.2964 805;
openbuddy-falcon-40b-v9 5.9557 805; wizardlm-13b 5.8782 805; minotaur-13b 5.7390 804; ultralm-13b 5.0746 805;
vicuna-7b-v1.5 4.7975 805; vicuna-7b-v1.3 4.6425 805; alpaca-farm-ppo-human 4.1004 805; phi-2-sft 3.9776 805;
falcon-40b-instruct 3.3429 805; alpaca-7b_verbose 2.9331 802; pythia-12b-mix-sft 2.5781 805; phi-2 2.3502 803;
falcon-7b-instruct 2.1466 805; alpaca-7b_concise 1.9912 804; oasst-sft-pythia-12b 1.7901 805
"""
ZEPHYR_TABLE_1 = {
    "zephyr-7b-beta": "90.60 1.03",
    "falcon-40b-instruct": "45.71 1.75",
    "guanaco-65b": "71.80 1.59",
    "llama-2-70b-chat-hf": "92.66 0.91",
    "gpt-3.5-turbo-0301": "89.37 1.08",
    "claude-2": "91.36 0.99",
    "gpt4": "95.28 0.72",
    "zephyr-7b-alpha": "85.76 1.23",
}


def lines(text):
    found = {}
    for line in text.splitlines():
        name, rate, error, n = line.split()[:4]
        found[name] = (rate, error, int(n))
    return found


def published(text):
    rows = [row.split() for row in text.replace("\n", " ").split(";")]
    return {name: (rate, int(n)) for name, rate, n in rows}


@pytest.mark.parametrize(
    ("file", "golden", "rows"),
    [("feedback_alpacaeval1.parquet", AE1, 53), ("feedback_alpacaeval.parquet", AE2, 28)],
)
def test_every_listed_win_rate(shared, feedback, file, golden, rows):
    found = lines(feedback("winrate", shared(file)))
    assert len(found) == rows
    expected = published(golden)
    assert {name: (found[name][0], found[name][2]) for name in expected} == expected


def test_zephyr_table_1_with_standard_errors(shared, feedback):
    found = lines(feedback("winrate", shared("feedback_alpacaeval1.parquet")))
    ours = {n: f"{float(found[n][0]):.2f} {float(found[n][1]):.2f}" for n in ZEPHYR_TABLE_1}
    assert ours == ZEPHYR_TABLE_1


def test_published_leaderboard_to_all_digits(shared, feedback):
    """Against the leaderboard file itself: win rate, standard error and counts."""
    board = json.loads(feedback("winrate", shared("length_controlled/leaderboard.csv"), "--json"))
    ours = json.loads(feedback("winrate", shared("feedback_alpacaeval.parquet"), "--json"))
    published_rows = {row["model"]: row for row in board}
    compared = 0
    for row in ours:
        if row["model"] not in published_rows:
            continue
        compared += 1
        other = published_rows[row["model"]]
        assert row["win_rate"] == pytest.approx(other["win_rate"], abs=1e-9)
        assert row["standard_error"] == pytest.approx(other["standard_error"], abs=1e-9)
        assert row["discrete_win_rate"] == pytest.approx(other["discrete_win_rate"], abs=1e-9)
        for count in ("n", "wins", "losses", "draws"):
            assert row[count] == other[count]
    assert compared == 27


def test_189_length_controlled_values(shared, feedback):
    folder = shared("length_controlled")
    text = feedback(
        "winrate", folder / "leaderboard.csv", "--length-controlled",
        folder / "instruction_difficulty.json", "--json",
    )  # fmt: skip
    errors = [
        abs(row["length_controlled"] - row["length_controlled_published"])
        for row in json.loads(text)
        if "length_controlled" in row
    ]
    assert len(errors) == 199
    assert sum(error < 1e-4 for error in errors) == 189


def test_fitted_length_control_is_near_the_published_one(shared, feedback, tmp_path):
    """Without the published weights, from texts and preferences alone; a median point apart."""
    difficulties = tmp_path / "instruction_difficulty.json"
    folder = shared("length_controlled")
    difficulties.write_bytes((folder / "instruction_difficulty.json").read_bytes())
    file = shared("feedback_alpacaeval.parquet")
    ours = json.loads(feedback("winrate", file, "--length-controlled", difficulties, "--json"))
    board = json.loads(feedback("winrate", folder / "leaderboard.csv", "--json"))
    target = {row["model"]: row["length_controlled_published"] for row in board}
    errors = sorted(
        abs(row["length_controlled"] - target[row["model"]])
        for row in ours
        if row["model"] in target
    )
    assert all(row["length_controlled_fitted"] for row in ours)
    assert len(errors) == 27
    assert errors[13] < 1.0
    # the uncontrolled rate is much further away
    plain = sorted(abs(r["win_rate"] - target[r["model"]]) for r in ours if r["model"] in target)
    assert plain[13] > 2 * errors[13]


def test_copies_and_constant_texts_are_told(shared):
    from typer.testing import CliRunner

    from zephyr_data.feedback.cli import app

    result = CliRunner().invoke(app, ["winrate", str(shared("feedback_alpacaeval1.parquet"))])
    assert "`falcon-40b-instruct` and `falcon-7b-instruct` have the same texts" in result.stderr


def test_long_names_are_not_cut(feedback, tmp_path):
    name = "a-model-with-a-very-long-name-" * 8
    rows = [{"generator_2": name, "preference": p, "instruction": str(p)} for p in (1, 2, 1.5)]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    assert feedback("winrate", path).split() == [name, "50.0000", "28.8675", "3"]


def test_annotations_old_draws_and_nulls(feedback, tmp_path):
    rows = [
        {"generator_2": "m", "preference": p, "instruction": str(n)}
        for n, p in enumerate((0, 1, 2, None, 1.25))
    ]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    (row,) = json.loads(feedback("winrate", path, "--json"))
    assert row["win_rate"] == pytest.approx(100 * (0.5 + 0 + 1 + 0.25) / 4)
    assert (row["n"], row["wins"], row["losses"], row["draws"]) == (4, 1, 2, 1)


@pytest.mark.parametrize("preference", [3, -1, "2", True, 0.5])
def test_impossible_preference_is_refused(feedback, tmp_path, preference):
    path = tmp_path / "annotations.json"
    row = {"generator_2": "m", "preference": preference, "instruction": "i"}
    path.write_text(json.dumps([row]))
    with pytest.raises(DataError, match="is not between 1 and 2"):
        feedback("winrate", path)


def test_unknown_files_are_refused(feedback, tmp_path):
    (tmp_path / "x.json").write_text('[{"a": 1}]')
    with pytest.raises(DataError, match="no AlpacaEval annotation"):
        feedback("winrate", tmp_path / "x.json")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no AlpacaEval leaderboard"):
        feedback("winrate", tmp_path / "x.csv")


def test_table_without_preferences_is_refused(feedback, tmp_path):
    rows = [{"instruction": "i", "completions": [{"model": "m", "text": "t"}]}]
    path = tmp_path / "t.parquet"
    pl.DataFrame(rows).write_parquet(path)
    with pytest.raises(DataError, match="a completion needs `model`, `text` and `score` at .*:1"):
        feedback("winrate", path)


def test_win_rate_without_preferences():
    rate = win_rate("m", Judged([None]))
    assert rate.n == 0
    assert math.isnan(rate.win_rate)


def test_newton_recovers_known_weights():
    truth = (0.4, -1.1, 0.7)
    samples = []
    for i in range(400):
        features = (1.0, math.sin(i), math.cos(1.7 * i))
        p = sigmoid(sum(w * x for w, x in zip(truth, features, strict=True)))
        samples.append((features, p))
    assert newton(samples, ridge=1e-9) == pytest.approx(truth, abs=1e-6)


def test_solve_needs_its_pivoting():
    assert solve([[0.0, 1.0], [2.0, 1.0]], [3.0, 5.0]) == pytest.approx([1.0, 3.0])


def test_fit_needs_lengths():
    assert fit(Judged([1.0], [0]), [0.0]) is None


def test_prediction_is_the_mean_of_sigmoids():
    rates = [sigmoid(0.5 + 2.0 * d) for d in (-1.0, 0.0, 3.0)]
    assert predict(Weights(0.5, 2.0), [-1.0, 0.0, 3.0]) == pytest.approx(100 * sum(rates) / 3)
