"""AlpacaEval: hashed order, both kinds of verdicts, standard error, and the package itself on our files."""

import json
import os
import shutil
import subprocess

import pytest

from zephyr_data.errors import DataError

COUNT = 40


def outputs(generator, text):
    return [
        {"instruction": f"Do {n}.", "output": text(n), "generator": generator, "dataset": "d"}
        for n in range(COUNT)
    ]


@pytest.fixture
def write_json(tmp_path):
    def write(name, rows):
        path = tmp_path / name
        path.write_text(json.dumps(rows))
        return path

    return write


@pytest.fixture
def files(write_json):
    """Three quarters of the model's outputs are longer than the reference's."""
    mine = write_json(
        "mine.json", outputs("mine", lambda n: "x" * (300 if n % 4 else 100) + str(n))
    )
    reference = write_json("ref.json", outputs("base", lambda n: "y" * 200 + str(n)))
    return mine, reference


@pytest.fixture
def run(evaluate, tmp_path, files, write_yaml, model_options):
    def go(*options, verdict="text"):
        judge = write_yaml("j.yaml", {"judge": model_options("judge"), "verdict": verdict})
        text = evaluate(
            "alpaca-eval", "--answers", files[0], "--reference", files[1], "--judge", judge,
            "--out", tmp_path / "store", "--json", *options,
        )  # fmt: skip
        return json.loads(text)

    return go


def longer(request):
    """Judges this project's text prompt by length."""
    prompt = request["messages"][1]["content"]
    tag = prompt.rstrip().split("\n")[-1].split()[0]
    sides = {
        side: prompt.split(f"<<<{tag} text {side}>>>")[1].split(f"<<<{tag} end")[0] for side in "AB"
    }
    return f"{tag} verdict: {'A' if len(sides['A']) > len(sides['B']) else 'B'}"


def test_text_verdicts(server, run):
    server.answer = longer
    (row,) = run()
    assert (row["model"], row["win_rate"], row["n"]) == ("mine", 75.0, COUNT)
    p = 0.75
    assert row["standard_error"] == pytest.approx(100 * (p * (1 - p) / (COUNT - 1)) ** 0.5)


def test_logprob_verdicts_are_probabilities(server, run):
    (row,) = run(verdict="logprobs")
    assert all(r["logprobs"] and r["max_tokens"] == 1 for r in server.requests)
    # the server says sigmoid(length difference / 200)
    import math

    high = 1 / (1 + math.exp(-0.5))
    assert row["win_rate"] == pytest.approx(100 * (0.75 * high + 0.25 * (1 - high)))
    assert row["wins"] == 30


def test_order_is_hashed_and_always_first_judge_gains_nothing(server, run, tmp_path):
    server.answer = lambda r: longer(r).split()[0] + " verdict: A"
    (row,) = run()
    assert 25 < row["win_rate"] < 75
    shown_first = [
        "x" * 50 in r["messages"][1]["content"].split("text A>>>")[1][:200] for r in server.requests
    ]
    assert 8 < sum(shown_first) < 32
    first = (tmp_path / "store" / "annotations.json").read_bytes()
    run("--seed", 9)
    assert (tmp_path / "store" / "annotations.json").read_bytes() != first


def test_rerun_asks_nothing_and_writes_the_same(server, run, tmp_path):
    server.answer = longer
    first = run()
    count, bytes_before = (
        len(server.requests),
        (tmp_path / "store" / "annotations.json").read_bytes(),
    )
    assert run() == first
    assert len(server.requests) == count == COUNT
    assert (tmp_path / "store" / "annotations.json").read_bytes() == bytes_before


def test_unreadable_verdicts_are_null_and_counted(server, run, tmp_path):
    server.answer = lambda _: "Both are nice."
    (row,) = run()
    assert row["n"] == 0
    assert len(server.requests) == 2 * COUNT
    rows = json.loads((tmp_path / "store" / "annotations.json").read_text())
    assert {r["preference"] for r in rows} == {None}


def test_missing_and_unknown_instructions_are_counted(
    server, tmp_path, write_json, write_yaml, model_options
):
    from typer.testing import CliRunner

    from zephyr_data.evaluate.cli import app

    server.answer = longer
    mine = outputs("mine", lambda _: "x" * 300)[:10]
    mine[0]["instruction"] = "Something else."
    judge = write_yaml("j.yaml", {"judge": model_options("judge")})
    arguments = [
        "alpaca-eval", "--answers", write_json("m.json", mine), "--reference",
        write_json("r.json", outputs("base", lambda _: "y")), "--judge", judge, "--out", tmp_path / "s",
    ]  # fmt: skip
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0
    assert "mine: not judged, instruction_not_in_reference: 1" in result.stderr
    assert f"mine: not judged, no_output: {COUNT - 9}" in result.stderr
    assert result.stdout.split() == ["mine", "100.0000", "0.0000", "9"]


def test_length_controlled_prediction_is_fitted(run, write_json):
    difficulties = write_json("d.json", [(-1) ** n * 0.5 for n in range(COUNT)])
    (row,) = run("--length-controlled", difficulties, verdict="logprobs")
    assert row["length_controlled_fitted"] is True
    # the judge looks at nothing but length: without it the rate is even
    assert abs(row["length_controlled"] - 50) < abs(row["win_rate"] - 50)


def test_annotations_are_read_by_feedback_winrate(server, run, feedback, tmp_path):
    server.answer = longer
    run()
    text = feedback("winrate", tmp_path / "store" / "annotations.json")
    assert text.split()[:2] == ["mine", "75.0000"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"instruction": "i", "output": "o"}], "needs `instruction`, `output` and `generator`"),
        (outputs("a", str)[:1] * 2, "an instruction comes twice"),
        (outputs("a", str)[:1] + outputs("b", str)[1:2], "one generator's answers, found: a, b"),
    ],
)
def test_bad_answer_files(
    evaluate, tmp_path, files, write_json, write_yaml, model_options, rows, message
):
    judge = write_yaml("j.yaml", {"judge": model_options("judge")})
    with pytest.raises(DataError, match=message):
        evaluate(
            "alpaca-eval", "--answers", write_json("bad.json", rows), "--reference", files[1],
            "--judge", judge, "--out", tmp_path / "s",
        )  # fmt: skip


def test_store_answers_become_answer_files(
    feedback, evaluate, tmp_path, write_jsonl, write_yaml, model_options
):
    prompts = write_jsonl("p.jsonl", [{"id": str(n), "prompt": f"Do {n}."} for n in range(3)])
    models = write_yaml("m.yaml", {"models": [model_options("org/model"), model_options("b")]})
    feedback("complete", prompts, "--models", models, "--per-prompt", 2, "--out", tmp_path / "s")
    paths = evaluate("answers", tmp_path / "s", "--out", tmp_path / "answers").split()
    assert [p.split("/")[-1] for p in paths] == ["b.json", "org__model.json"]
    rows = json.loads((tmp_path / "answers" / "org__model.json").read_text())
    assert [r["instruction"] for r in rows] == ["Do 0.", "Do 1.", "Do 2."]
    assert {r["generator"] for r in rows} == {"org/model"}


def test_the_package_itself_runs_on_our_files(server, files, tmp_path):
    """The line of docs/EVALUATION.md; `alpaca_eval` lives in an environment of its own."""
    program = os.environ.get("ALPACA_EVAL") or shutil.which("alpaca_eval")
    if program is None:
        pytest.skip("needs the alpaca_eval program on the path, or named by ALPACA_EVAL")
    environment = {
        **os.environ,
        "OPENAI_API_KEY": "x",
        "OPENAI_API_BASE": server.base_url,
        "OPENAI_BASE_URL": server.base_url,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": "",
    }
    server.fail_first("429")
    done = subprocess.run(
        [
            program, "evaluate", "--model_outputs", files[0], "--reference_outputs", files[1],
            "--annotators_config", "weighted_alpaca_eval_gpt4_turbo", "--fn_metric", "get_winrate",
            "--sort_by", "win_rate", "--precomputed_leaderboard", "None",
            "--is_cache_leaderboard", "False", "--output_path", tmp_path / "out",
            "--caching_path", tmp_path / "cache.json",
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(server.requests) >= COUNT
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("mine")]
    # the server prefers the longer output in both orders: 30 of 40 above one half
    assert 50 < float(row.split()[1]) < 75
