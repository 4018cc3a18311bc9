"""The command line: quick to import, all commands of the manual, remarks apart from results."""

import json
import subprocess
import sys

import pytest

from zephyr_data.errors import ManifestError

SLOW = ("openai", "polars", "pyarrow", "httpx2", "aiohttp", "pydantic", "yaml", "numpy")


def test_importing_the_commands_loads_nothing_slow():
    code = (
        "import sys, zephyr_data; before = set(sys.modules)\n"
        "import zephyr_data.feedback.cli, zephyr_data.evaluate.cli\n"
        f"print([m for m in {SLOW} if m in sys.modules and m not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_commands_are_there(feedback, evaluate):
    text = feedback("--help")
    for name in ("complete", "judge", "binarize", "winrate", "import", "status"):
        assert f" {name} " in text
    text = evaluate("--help")
    for name in ("mt-bench", "alpaca-eval", "answers"):
        assert f" {name} " in text


def test_judge_and_status_need_a_store(feedback, tmp_path, write_yaml):
    judge = write_yaml("j.yaml", {"rule": {"kind": "exact"}})
    for command in (
        ("status", tmp_path / "none"),
        ("judge", tmp_path / "none", "--judge", judge, "--mode", "rule"),
    ):
        with pytest.raises(ManifestError, match="no feedback store at"):
            feedback(*command)
    assert not (tmp_path / "none").exists()


def test_status_tells_answers_verdicts_and_gaps(
    server, feedback, tmp_path, write_jsonl, write_yaml, model_options
):
    server.fault = lambda count: {2: "filter", 3: "length"}.get(count)
    models = write_yaml("m.yaml", {"models": [model_options("a", concurrency=1)]})
    prompts = write_jsonl("p.jsonl", [{"id": str(n), "prompt": f"{n}?"} for n in range(4)])
    store = tmp_path / "s"
    feedback("complete", prompts, "--models", models, "--per-prompt", 1, "--out", store)
    rule = write_yaml("r.yaml", {"rule": {"kind": "exact"}})
    text = feedback("judge", store, "--judge", rule, "--mode", "rule")
    assert "not judged, empty_answer: 1" in text
    assert "not judged, no_reference: 3" in text
    lines = feedback("status", store).splitlines()
    assert lines[0] == "prompts 4, answers 4 of 4, cost 0.0000, failed requests 0"
    assert "finish reasons: content_filter 1, length 1, stop 2" in lines
    assert "answers without usable text: 1" in lines
    assert "rule by rule:exact: no_reference 3" in lines
    found = json.loads(feedback("status", store, "--json"))
    assert found["verdicts"] == {"rule by rule:exact": {"no_reference": 3}}
