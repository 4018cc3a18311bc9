"""Texts of benchmarks in the data: what goes and why, what does not count, and when it is done again."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from zephyr_data import _core
from zephyr_data.manifest import read_manifest

QUESTIONS = json.loads(Path(__file__).with_name("questions.json").read_text(encoding="utf-8"))
DUCKS, TRAVEL, SHORT = QUESTIONS["DUCKS"], QUESTIONS["TRAVEL"], QUESTIONS["SHORT"]

LICENCE = """Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied."""
BOILERPLATE = """#include <iostream>
#include <vector>
using namespace std;
int main(int argc, char** argv) {
    int n; cin >> n;
    vector<int> nums(n);
    for (int i = 0; i < n; i++) { cin >> nums[i]; }
    for (int i = 0; i < n; i++) { cout << nums[i] << endl; }
    return 0;
}"""
PHRASES = (
    "Please answer the following question, and explain step by step how you got there. "
    "What is the difference between the first one and the second one, and when would you use each of them?"
)


def chat(number, *turns):
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return {"id": f"c{number}", "messages": messages}


def pair(number, prompt, chosen, rejected):
    return {"id": f"p{number}", "prompt": prompt, "chosen": chosen, "rejected": rejected}


# ---- what goes ----


@pytest.mark.parametrize("near", [True, False])
def test_a_row_with_a_question_goes_with_the_evidence(dedup, benchmark, near):
    half = (
        "Her ducks lay 16 eggs per day. She eats three for breakfast every MORNING, and that is it."
    )
    rows = [
        chat(0, f"Solve this:\n{DUCKS.upper()}", "18 dollars"),
        chat(1, "What else can ducks do?", half),
        chat(2, "Something else", "A good answer", "Go on", f"Here is a task: {TRAVEL}"),
    ]
    folder, kept, rejects = dedup(rows, decontaminate=[str(benchmark)], near=near)
    assert kept == ["c1"]
    assert {row["reason"] for row in rejects.values()} == {"contaminated"}
    assert rejects["c0"]["detail"] == (
        f"1.0000 of the 8-grams of `{benchmark}:2`, field `question`, are in message 0: `{DUCKS.upper()[:-1]}`"
    )
    assert rejects["c2"]["detail"] == (
        f"1.0000 of the 8-grams of `{benchmark}:1`, field `turns[0]`, are in message 3: `{TRAVEL[:-1]}`"
    )
    assert rejects["c0"]["kept_id"] is None

    closest = pq.read_table(folder / "closest.parquet").to_pylist()
    assert len(closest) == 1
    assert closest[0]["matched"] == half[4 : half.index("MORNING") + len("MORNING") + 5]
    plain = 3  # such as "with four how much does she earn at": one word that is not plain
    runs, runs_there = (len(_core.words(text)) - 7 for text in (DUCKS, closest[0]["matched"]))
    assert closest[0] == {
        "id": "c1",
        "coverage": runs_there / (runs - plain),
        "benchmark": str(benchmark),
        "benchmark_row": 2,
        "field": "question",
        "matched": closest[0]["matched"],
    }
    counts = read_manifest(folder).counts
    assert counts["dropped"] == {"contaminated": 2}
    assert counts["contamination"] == {
        "benchmarks": [
            {
                "name": str(benchmark),
                "texts": 3,
                "too_short": 1,
                "too_common": 0,
                "contaminated_rows": 2,
            }
        ],
        "closest_kept": round(closest[0]["coverage"], 6),
    }


def test_every_part_of_a_preference_counts(dedup, benchmark):
    rows = [
        pair(0, DUCKS, "18", "17"),
        pair(1, "Say something.", f"I say: {DUCKS}", "No."),
        pair(2, "Ask me something.", "What?", f"I ask: {DUCKS}"),
        pair(3, "How are you?", "Fine.", "None of your business."),
    ]
    _, kept, rejects = dedup(rows, decontaminate=[str(benchmark)])
    assert kept == ["p3"]
    places = [row["detail"].partition("are in message ")[2][0] for row in rejects.values()]
    assert places == ["0", "1", "2"]


def test_a_short_question_goes_where_it_is_all_that_is_said(dedup, benchmark):
    benchmark.write_text(json.dumps({"question": SHORT}))
    rows = [
        chat(0, SHORT.lower(), "Hans Lippershey"),
        chat(1, f"Tell me: {SHORT} I wonder", "Him"),
    ]
    _, kept, rejects = dedup(rows, decontaminate=[str(benchmark)])
    assert (kept, list(rejects)) == (["c1"], ["c0"])


def test_the_limits_can_be_set(dedup, benchmark):
    rows = [
        chat(0, "Ducks", "ducks lay 16 eggs per day. She eats three for breakfast every morning")
    ]
    for number, (options, goes) in enumerate(
        [
            ({}, False),
            ({"coverage": 0.2}, True),
            ({"coverage": 0.2, "min_words": 14}, False),
            ({"coverage": 0.45, "ngram": 3}, False),
            ({"coverage": 0.3, "ngram": 3}, True),
        ]
    ):
        _, kept, _ = dedup(
            rows, f"out-{number}", decontaminate=[str(benchmark)], contamination=options
        )
        assert (kept == []) == goes, options


def test_a_row_that_goes_stands_for_nobody(dedup, benchmark):
    """Its copy goes for itself, and what is only similar to it stays if it holds too little."""
    apart = " or ".join(DUCKS[start : start + 40] for start in range(0, len(DUCKS), 40))
    rows = [
        chat(0, DUCKS, "x"),
        chat(1, DUCKS.upper(), "X"),
        chat(2, apart, "x"),
        chat(3, apart, "X"),
    ]
    _, kept, rejects = dedup(rows, decontaminate=[str(benchmark)])
    assert kept == ["c2"]
    reasons = {name: (row["reason"], row["kept_id"]) for name, row in rejects.items()}
    assert reasons == {
        "c0": ("contaminated", None),
        "c1": ("contaminated", None),
        "c3": ("exact_duplicate", "c2"),
    }


# ---- what does not count ----


@pytest.mark.parametrize("common", [LICENCE, BOILERPLATE, PHRASES])
def test_licences_code_and_phrases_do_not_hit(dedup, benchmark, common):
    """A text that is nearly all of it is known by what is left, and one that has nothing left is not looked for."""
    own = "def zigzag_traversal(forest): collects lighthouse keepers whose lanterns burn amber before midnight"
    benchmark.write_text(
        json.dumps({"prompt": f"{common}\n{own}"}) + "\n" + json.dumps({"prompt": common})
    )
    rows = [
        chat(0, "Show me an example", f"Here it is:\n{common}\nThat is all."),
        chat(1, "Show me another one", f"Here it is:\n{common}\n{own}"),
    ]
    folder, kept, rejects = dedup(rows, decontaminate=[str(benchmark)], near=False)
    assert (kept, list(rejects)) == (["c0"], ["c1"])
    (counts,) = read_manifest(folder).counts["contamination"]["benchmarks"]
    assert (counts["texts"], counts["too_common"]) == (2, 1)


def test_how_a_benchmark_asks_does_not_hit(dedup, benchmark):
    frame = "Read the passage carefully, then select whichever statement contradicts the author's central claim most"
    questions = [
        f"{frame}: {' '.join(f'topic{number}x{word}' for word in range(15))}"
        for number in range(20)
    ]
    rows = [chat(0, frame, "None of them"), chat(1, questions[7], "The second")]
    for count, expected in ((20, ["c0"]), (19, [])):
        texts = [json.dumps({"input": question}) for question in questions[:count]]
        benchmark.write_text("\n".join(texts))
        _, kept, _ = dedup(
            rows, f"out-{count}", decontaminate=[str(benchmark)], contamination={"coverage": 0.2}
        )
        assert kept == expected


# ---- runs ----


def many(rows):
    """Rows of which every seventh holds a question, and the rest parts of one."""
    words = DUCKS.split()
    for number in range(rows):
        start = number % (len(words) - 10)
        answer = DUCKS if number % 7 == 0 else " ".join(words[start : start + 9 + number % 5])
        yield chat(number, f"Task {number} of {number % 97}", f"{answer} and {number}")


def test_the_bytes_depend_neither_on_workers_nor_on_memory(dedup, benchmark, digests):
    rows = list(many(3000))
    options = {"decontaminate": [str(benchmark)]}
    folder, kept, rejects = dedup(rows, "one", **options)
    assert sum(row["reason"] == "contaminated" for row in rejects.values()) == 429
    assert kept
    for name, workers, limit in (("two", 2, 2_000_000_000), ("five", 5, 53_500_000)):
        other, _, _ = dedup(rows, name, workers=workers, memory_limit=limit, **options)
        assert digests(other) == digests(folder)


def test_a_changed_benchmark_runs_the_stage_again(prepare, examples, tmp_path, benchmark, command):
    source, out = tmp_path / "chats.jsonl", tmp_path / "out"
    shutil.copy(examples / "chats.jsonl", source)
    with source.open("a") as file:
        file.write(json.dumps(chat(0, DUCKS, "18 dollars a day")) + "\n")

    def run():
        result = prepare(source, out, decontaminate=[benchmark])
        return {name for name, stage in result.stages.items() if stage.skipped}, result

    skipped, result = run()
    assert not skipped
    assert result.dropped["contaminated"] == 1
    assert str(benchmark) in [entry.name for entry in result.manifests["dedup"].inputs]
    page = (out / "report.html").read_text()
    assert "Benchmarks in the data" in page
    assert "Janet&#39;s ducks lay 16 eggs" in page
    shown = command("show", out, "--rejects", "--reason", "contaminated")
    assert "c0" in shown.stdout
    assert f"1.0000 of the 8-grams of `{benchmark}:2`" in shown.stdout
    assert run()[0] == {"clean", "dedup", "pack"}

    benchmark.write_text(json.dumps({"question": TRAVEL}))
    skipped, result = run()
    assert skipped == {"clean"}
    assert "contaminated" not in result.dropped


def test_the_command_line(command, examples, tmp_path, benchmark):
    second = tmp_path / "second.jsonl"
    second.write_text(json.dumps({"text": SHORT}))
    source = tmp_path / "chats.jsonl"
    rows = [chat(0, DUCKS, "18 dollars"), chat(1, SHORT, "Hans Lippershey"), chat(2, "Hi", "Hello")]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = ["--decontaminate", benchmark, "--decontaminate", second]
    arguments = ["--tokenizer", examples / "tokenizer", "--out", tmp_path / "out", *named]
    done = command("prepare", source, *arguments)
    assert done.returncode == 0, done.stderr
    lines = " ".join(done.stdout.split())
    assert (
        f"{benchmark}: 3 texts, 1 too short or too common to be looked for; 1 rows held one"
        in lines
    )
    assert f"{second}: 1 texts; 1 rows held one" in lines


def test_data_that_is_the_benchmark_leaves_nothing(command, examples, tmp_path):
    source = tmp_path / "chats.jsonl"
    source.write_text(json.dumps(chat(0, DUCKS, TRAVEL)) + "\n")
    arguments = ["--tokenizer", examples / "tokenizer", "--out", tmp_path / "out"]
    done = command("prepare", source, *arguments, "--decontaminate", source)
    assert done.returncode == 0, done.stderr
    lines = " ".join(done.stdout.split())
    assert "no row is left to train on; `zephyr-data show DIR --rejects` says why" in lines
    assert "ready to train on" not in lines
    (reject,) = command(
        "show", tmp_path / "out", "--rejects", "--reason", "contaminated"
    ).stdout.split("── ")[1:]
    assert "1.0000 of the 8-grams of `" in reject


@pytest.mark.slow
def test_hostile_texts_neither_hang_nor_fill_the_memory(benchmark, tmp_path):
    """Many versions of one question, and messages that repeat it, have no space, or are one word."""
    versions = [f"{DUCKS} Version{number} {number}" for number in range(19)]
    long = "x" * 3_000_000
    texts = [*versions, "word " * 1_000_000, long, f"{long} " * 3]
    benchmark.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    rows = [
        {"id": "repeats", "messages": chat(0, "Hi", f"{DUCKS} " * 40_000)["messages"]},
        {"id": "one word", "messages": chat(0, "Hi", "word " * 2_000_000)["messages"]},
        {"id": "no space", "messages": chat(0, "Hi", long)["messages"]},
    ]
    source, out = tmp_path / "hostile.jsonl", tmp_path / "hostile"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    program = (
        "import resource, sys, time; from zephyr_data import _core; from zephyr_data.config import Config\n"
        "off = {'length': {'enabled': False}, 'repetition': {'enabled': False}}\n"
        "config = Config.load({'clean': off, 'dedup': {'near': False, 'decontaminate': [sys.argv[3]]}})\n"
        "quiet = lambda *_: None\n"
        "_core.clean([sys.argv[1]], sys.argv[2], config.read, config.clean, 1, quiet)\n"
        "before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()\n"
        "_core.dedup(sys.argv[2], config.dedup_options(), 1, quiet)\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print((after - before) // 1024, time.process_time() - start)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, source, out, benchmark],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    megabytes, seconds = map(float, done.stdout.split())
    assert megabytes < 100
    assert seconds < 20
    counts = read_manifest(out / "dedup").counts
    assert counts["dropped"] == {"contaminated": 1}
