"""Complete: draws do not depend on order, shards or reruns; local answerers; principles; progress."""

import io
import json
import random
from collections import Counter

import polars as pl
import pytest

from zephyr_data.errors import ConfigError, DataError, EndpointError
from zephyr_data.feedback.progress import Progress, duration

PROMPTS = [{"id": f"p{n}", "prompt": f"Question {n}?"} for n in range(12)]


@pytest.fixture
def models(write_yaml, model_options):
    return write_yaml("models.yaml", {"models": [model_options(name) for name in "abcdef"]})


def test_shuffled_and_sharded_prompts_and_models_give_the_same_bytes(
    server, tmp_path, feedback, write_jsonl, write_yaml, model_options, models
):
    feedback(
        "complete", write_jsonl("p.jsonl", PROMPTS), "--models", models, "--out", tmp_path / "1"
    )
    shuffled = random.Random(1).sample(PROMPTS, len(PROMPTS))
    backwards = write_yaml("back.yaml", {"models": [model_options(n) for n in "fedcba"]})
    for shard in (shuffled[:5], shuffled[5:], shuffled[3:8]):
        path = write_jsonl("shard.jsonl", shard)
        feedback("complete", path, "--models", backwards, "--out", tmp_path / "2")
    one, two = (tmp_path / name / "completions.parquet" for name in "12")
    assert one.read_bytes() == two.read_bytes()
    assert len(server.requests) == 2 * 48
    table = pl.read_parquet(one)
    assert table.height == 48
    assert set(table["position"]) == {0, 1, 2, 3}


def test_rerun_asks_nothing(server, tmp_path, feedback, write_jsonl, models):
    command = (
        "complete",
        write_jsonl("p.jsonl", PROMPTS),
        "--models",
        models,
        "--out",
        tmp_path / "s",
    )
    feedback(*command)
    before = len(server.requests)
    feedback(*command)
    assert len(server.requests) == before


def test_other_seed_or_number_is_refused(tmp_path, feedback, write_jsonl, models):
    command = (
        "complete",
        write_jsonl("p.jsonl", PROMPTS),
        "--models",
        models,
        "--out",
        tmp_path / "s",
    )
    feedback(*command, "--seed", 1)
    with pytest.raises(ConfigError, match="begun with `seed` 1, this run asks for: 2"):
        feedback(*command, "--seed", 2)
    with pytest.raises(ConfigError, match="begun with `per_prompt` 4, this run asks for: 2"):
        feedback(*command, "--seed", 1, "--per-prompt", 2)
    with pytest.raises(ConfigError, match="larger than the pool of 6 models: 7"):
        feedback(*command, "--seed", 1, "--per-prompt", 7)


def test_one_more_model_ends_as_if_it_had_been_there_from_the_start(
    tmp_path, feedback, write_jsonl, write_yaml, model_options, models
):
    prompts = write_jsonl("p.jsonl", PROMPTS)
    more = write_yaml("more.yaml", {"models": [model_options(n) for n in "abcdefg"]})
    feedback("complete", prompts, "--models", models, "--out", tmp_path / "grown")
    feedback("complete", prompts, "--models", more, "--out", tmp_path / "grown")
    feedback("complete", prompts, "--models", more, "--out", tmp_path / "fresh")
    grown, fresh = (tmp_path / n / "completions.parquet" for n in ("grown", "fresh"))
    assert grown.read_bytes() == fresh.read_bytes()
    assert "g" in set(pl.read_parquet(fresh)["model"])


def test_principle_is_sent_as_system_and_kept(
    server, tmp_path, feedback, write_jsonl, write_yaml, model_options
):
    principles = [
        {"name": "kind", "text": "Be kind."},
        {"name": "true", "text": "Be true.", "weight": 3},
    ]
    models = write_yaml(
        "m.yaml", {"models": [model_options(n) for n in "abcd"], "principles": principles}
    )
    feedback(
        "complete", write_jsonl("p.jsonl", PROMPTS), "--models", models, "--out", tmp_path / "s"
    )
    texts = {p["text"] for p in principles}
    assert {r["messages"][0]["content"] for r in server.requests} == texts
    drawn = Counter(pl.read_parquet(tmp_path / "s" / "completions.parquet")["principle"])
    assert drawn["true"] > drawn["kind"] > 0


def test_local_answerers_need_no_network(tmp_path, feedback, write_jsonl, write_yaml):
    (tmp_path / "local.py").write_text("def shout(prompt):\n    return prompt.upper()\n")
    write_jsonl("answers.jsonl", [{"id": p["id"], "answer": f"A {p['id']}"} for p in PROMPTS])
    models = write_yaml(
        "m.yaml",
        {
            "models": [
                {"name": "shout", "function": "local.py:shout"},
                {"name": "bundled", "answers": "answers.jsonl"},
            ]
        },
    )
    out = tmp_path / "s"
    prompts = write_jsonl("p.jsonl", PROMPTS)
    feedback("complete", prompts, "--models", models, "--per-prompt", 2, "--out", out)
    table = pl.read_parquet(out / "completions.parquet")
    first = dict(table.filter(pl.col("prompt_id") == "p1").select("model", "text").iter_rows())
    assert first == {"shout": "QUESTION 1?", "bundled": "A p1"}
    # an edited function is another answerer
    (tmp_path / "local.py").write_text("def shout(prompt):\n    return prompt.lower()\n")
    feedback("complete", prompts, "--models", models, "--per-prompt", 2, "--out", out)
    assert "question 1?" in set(pl.read_parquet(out / "completions.parquet")["text"])


def test_failing_function_and_missing_answer_are_counted(
    tmp_path, feedback, write_jsonl, write_yaml
):
    (tmp_path / "local.py").write_text("def bad(prompt):\n    return 1 / 0\n")
    write_jsonl("answers.jsonl", [{"id": "p0", "answer": "A"}])
    for name, model, message in (
        ("f", {"function": "local.py:bad"}, "raised ZeroDivisionError"),
        ("a", {"answers": "answers.jsonl"}, "lacks id: p"),
    ):
        models = write_yaml("m.yaml", {"models": [{"name": name, **model}]})
        command = (
            "complete", write_jsonl("p.jsonl", PROMPTS), "--models", models, "--per-prompt", 1,
            "--max-failures", 2, "--out", tmp_path / name,
        )  # fmt: skip
        with pytest.raises(EndpointError, match=message):
            feedback(*command)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ({"function": "nothing"}, ConfigError, "written `module:name`"),
        ({"function": "none.py:f"}, ConfigError, "no such file for function"),
        ({"function": "no_such_module_x:f"}, ConfigError, "cannot import module"),
        ({"function": "json:nope"}, ConfigError, "no function `nope` in: json"),
        ({"answers": "bad.jsonl"}, DataError, "needs `id` and `answer`"),
    ],
)
def test_unusable_local_answerers(
    tmp_path, feedback, write_jsonl, write_yaml, model, error, message
):
    write_jsonl("bad.jsonl", [{"id": "p0"}])
    models = write_yaml("m.yaml", {"models": [{"name": "x", **model}]})
    with pytest.raises(error, match=message):
        feedback(
            "complete", write_jsonl("p.jsonl", PROMPTS), "--models", models, "--per-prompt", 1,
            "--out", tmp_path / "s",
        )  # fmt: skip


def test_record_holds_request_answer_usage_cost_and_attempts(
    server, tmp_path, feedback, write_jsonl, write_yaml, model_options
):
    server.fail_first("500")
    priced = model_options("a", price={"input": 100.0, "output": 200.0})
    models = write_yaml("m.yaml", {"models": [priced]})
    feedback(
        "complete", write_jsonl("p.jsonl", PROMPTS[:1]), "--models", models, "--per-prompt", 1,
        "--out", tmp_path / "s",
    )  # fmt: skip
    record = json.loads((tmp_path / "s" / "segments" / "000001.jsonl").read_text())
    assert record["request"] == {
        "model": "a",
        "messages": [{"role": "user", "content": "Question 0?"}],
        "max_tokens": 64,
    }
    assert record["answer"].startswith("Answer ")
    assert record["finish_reason"] == "stop"
    assert record["usage"] == {"prompt_tokens": 10, "completion_tokens": 5}
    assert record["cost"] == pytest.approx((10 * 100 + 5 * 200) / 1e6)
    assert [a["error"] for a in record["attempts"]] == ["status 500: told to 500", None]
    assert record["seconds"] > 0
    status = json.loads(feedback("status", tmp_path / "s", "--json"))
    assert (status["answers"], status["answers_wanted"]) == (1, 1)
    assert status["cost"] == record["cost"]


def test_progress_line_has_all_five_figures():
    progress = Progress(1600, io.StringIO())
    progress.done, progress.stored, progress.in_flight = 800, 400, 32
    progress.failed, progress.cost = 1, 0.4131
    line = progress.line(progress._began + 100)
    assert (
        line == "800/1600 done (400 stored before), 32 in flight, 1 failed, cost 0.4131, 3m20s left"
    )
    progress.finish()
    assert progress._stream.getvalue().startswith("800/1600 done")


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "5s"), (65, "1m05s"), (7260, "2h01m")])
def test_duration(seconds, text):
    assert duration(seconds) == text
