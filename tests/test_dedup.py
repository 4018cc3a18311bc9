"""The dedup stage through the extension: near-duplicates, what stays, the split, the clusters and memory."""

import json
import random
import re
import time
from collections import defaultdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zephyr_data import _core, deduplicate
from zephyr_data.config import Config
from zephyr_data.errors import ConfigError
from zephyr_data.manifest import read_manifest

WORDS = 100
LITTLE = 53_400_000
"""A memory limit with which 6,000 rows spill."""


def text(rng, length=WORDS):
    return " ".join(f"w{rng.randrange(5000)}" for _ in range(length))


def edited(rng, words, edits=1):
    words = words.split()
    for at in rng.sample(range(len(words)), edits):
        words[at] = f"e{rng.randrange(5000)}"
    return " ".join(words)


def chat(number, *turns):
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return {"id": f"c{number}", "messages": messages}


def pair(number, prompt, chosen, rejected, **scores):
    def answer(content):
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": content}]

    return {
        "id": f"p{number}",
        "prompt": prompt,
        "chosen": answer(chosen),
        "rejected": answer(rejected),
        **scores,
    }


@pytest.fixture
def dedup(tmp_path, read_rows):
    """Cleans and deduplicates rows; gives the folder, the rows that stay and the rejects by id."""

    def run(rows, name="out", workers=1, clean=None, **options):
        source, out = tmp_path / "rows.jsonl", tmp_path / name
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        options = {"constant_answer": {"enabled": False}, **options}
        config = Config.load({"clean": clean or {}, "dedup": options}, {})
        ignore = lambda *_: None  # noqa: E731
        _core.clean([str(source)], str(out), config.read, config.clean, workers, ignore)
        _core.dedup(str(out), config.dedup_options(), workers, ignore)
        assert not (out / ".dedup.spill").exists()
        folder = out / "dedup"
        rejects = {row["id"]: row for row in read_rows(folder / "rejects")}
        return folder, read_rows(folder), rejects

    return run


def told(rejects):
    return {name: (row["reason"], row["kept_id"]) for name, row in rejects.items()}


# ---- chats ----


def test_a_near_duplicate_goes_with_the_row_that_stays_and_the_similarity(dedup):
    rng = random.Random(0)
    question, answer = text(rng), text(rng, 100)
    rows = [
        chat(0, question, answer),
        chat(1, text(rng), text(rng)),
        chat(2, question, edited(rng, answer)),
    ]
    folder, kept, rejects = dedup(rows)
    assert [row["id"] for row in kept] == ["c0", "c1"]
    assert told(rejects) == {"c2": ("near_duplicate", "c0")}
    shingles = [
        {tuple(words[at : at + 5]) for at in range(len(words) - 4)}
        for words in (
            " ".join(turn["content"] for turn in row["messages"]).split()
            for row in (rows[0], rows[2])
        )
    ]
    similarity = len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])
    assert rejects["c2"]["detail"] == f"similarity {similarity:.4f} over the conversation"
    clusters = pq.read_table(folder / "clusters.parquet").to_pylist()
    assert clusters == [
        {"id": "c0", "cluster": 0, "representative": "c0", "similarity": 1.0},
        {"id": "c2", "cluster": 0, "representative": "c0", "similarity": similarity},
    ]
    near = read_manifest(folder).counts["near"]
    assert near["clusters"] == 1
    assert (near["recall_at_threshold"], near["recall_from_threshold"]) == (0.997712, 0.999814)
    assert near["s_curve"]["0.3"] < 0.015


def test_it_can_be_turned_off_and_the_threshold_set(dedup):
    rng = random.Random(1)
    question, answer = text(rng), text(rng)
    rows = [chat(0, question, answer), chat(1, question, edited(rng, answer, 2))]
    folder, kept, _ = dedup(rows, "off", near=False)
    assert len(kept) == 2
    assert not (folder / "clusters.parquet").exists()
    assert "near" not in read_manifest(folder).counts
    assert len(dedup(rows, "strict", threshold=1.0)[1]) == 2
    assert len(dedup(rows, "loose", threshold=0.5)[1]) == 1


def test_short_common_turns_do_not_merge_conversations(dedup):
    rng = random.Random(2)
    rows = [
        chat(
            number,
            "Hi!",
            "Hello, how can I help you today?",
            text(rng),
            text(rng),
            "Thanks!",
            "You are welcome.",
        )
        for number in range(30)
    ]
    for compare in ("conversation", "prompt", "assistant"):
        assert dedup(rows, compare, compare=compare)[2] == {}


def test_what_is_compared(dedup):
    rng = random.Random(3)
    question, answer = text(rng), text(rng)
    rows = [
        chat(0, question, answer),
        chat(1, edited(rng, question), text(rng)),
        chat(2, text(rng), edited(rng, answer)),
    ]
    assert dedup(rows, "conversation")[2] == {}
    rejects = dedup(rows, "prompt", compare="prompt")[2]
    assert told(rejects) == {"c1": ("near_duplicate", "c0")}
    assert rejects["c1"]["detail"].endswith("over the prompt")
    assert told(dedup(rows, "assistant", compare="assistant")[2]) == {
        "c2": ("near_duplicate", "c0")
    }


def test_the_policy_and_which_row_stays(dedup):
    words = [f"w{number}" for number in range(100)]

    def without(start, end="end"):
        return " ".join(words[:start] + ["x"] * 6 + words[start + 6 :]) + f" {end}"

    # A chain: its ends are less alike than neighbours.
    rows = [
        chat(0, "Go.", without(0)),
        chat(1, "Go.", " ".join(words)),
        chat(2, "Go.", without(90, "end of it all")),
    ]
    options = {"threshold": 0.75}
    assert told(dedup(rows, "direct", **options)[2]) == {"c1": ("near_duplicate", "c0")}
    rejects = dedup(rows, "component", policy="component", **options)[2]
    assert told(rejects) == {"c1": ("near_duplicate", "c0"), "c2": ("near_duplicate", "c0")}
    assert rejects["c2"]["detail"].endswith("over the conversation, connected by other rows")
    longest = dedup(rows, "longest", policy="component", keep="longest", **options)[2]
    assert set(told(longest).values()) == {("near_duplicate", "c2")}
    with pytest.raises(ConfigError, match="`dedup.keep` cannot be `best_score` for chats"):
        dedup(rows, "score", keep="best_score")


def test_a_copy_of_a_near_duplicate_names_the_row_that_stays(dedup):
    rng = random.Random(5)
    question, answer = text(rng), text(rng)
    other = edited(rng, answer)
    rows = [chat(0, question, answer), chat(1, question, other), chat(2, question, other.upper())]
    rejects = dedup(rows)[2]
    assert told(rejects) == {"c1": ("near_duplicate", "c0"), "c2": ("exact_duplicate", "c0")}
    assert rejects["c2"]["detail"].endswith("to `c1`, a near-duplicate of the row that stays")


def test_texts_without_words_are_like_no_other(dedup):
    rows = [chat(number, "😀" * (number + 1), "🙂" * (number + 2)) for number in range(5)]
    assert dedup(rows)[2] == {}


def test_what_the_system_says_to_all_brings_none_together(dedup):
    rng = random.Random(11)
    always = {"role": "system", "content": " ".join(text(rng) for _ in range(5))}
    rows = [chat(number, text(rng), text(rng)) for number in range(20)]
    rows.append({"id": "again", "messages": rows[3]["messages"]})  # but for the system's words
    for row in rows:
        row["messages"] = [always, *row["messages"]]
    rows[-1]["messages"][0] = {"role": "system", "content": "You are somebody else."}
    assert told(dedup(rows)[2]) == {"again": ("near_duplicate", "c3")}
    result = deduplicate([row["messages"] for row in rows])
    assert result.dropped["row"].to_pylist() == [20]


# ---- preferences ----


def test_reasons_of_preferences(dedup):
    rng = random.Random(6)
    prompt, good, bad = text(rng), text(rng), text(rng)
    other, answer = text(rng), text(rng)
    rows = [
        pair(0, prompt, good, bad),
        pair(1, edited(rng, prompt), edited(rng, good), edited(rng, bad)),  # the same again
        pair(2, prompt, good, text(rng)),  # another answer: says something new
        pair(3, text(rng), answer, edited(rng, answer)),  # no signal
        pair(4, other, good, bad),  # the same answers to another prompt
        pair(5, edited(rng, other), edited(rng, bad), edited(rng, good)),  # against p4
    ]
    _, kept, rejects = dedup(rows)
    assert [row["id"] for row in kept] == ["p0", "p2"]
    assert told(rejects) == {
        "p1": ("near_duplicate", "p0"),
        "p3": ("no_signal", None),
        "p4": ("contradiction", None),
        "p5": ("contradiction", None),
    }
    assert rejects["p3"]["detail"].startswith("similarity 0.")
    assert rejects["p3"]["detail"].endswith(" between `chosen` and `rejected`")
    assert rejects["p4"]["detail"].startswith("`p5` prefers the opposite, similarity 0.")
    assert rejects["p5"]["detail"].startswith("`p4` prefers the opposite, similarity 0.")
    rejects = dedup(rows, "prompts", compare="prompt")[2]
    assert told(rejects) == {
        "p1": ("near_duplicate_prompt", "p0"),
        "p2": ("near_duplicate_prompt", "p0"),
        "p3": ("no_signal", None),
        "p5": ("near_duplicate_prompt", "p4"),
    }


def test_what_goes_with_a_contradicted_row_names_that_row(dedup):
    rng = random.Random(12)
    prompt, good, bad = text(rng), text(rng), text(rng)
    rows = [pair(0, prompt, good, bad), pair(1, prompt, edited(rng, bad), edited(rng, good))]
    near = [(edited(rng, good), edited(rng, bad)) for _ in range(2)]
    rows += [pair(number, prompt, *answers) for number, answers in zip((2, 3), near, strict=True)]
    rows.append(pair(4, prompt, *(answer.upper() for answer in near[0])))  # p2 again
    folder, kept, rejects = dedup(rows, threshold=0.7)
    assert kept == []
    assert told(rejects) == {f"p{number}": ("contradiction", None) for number in range(5)}
    for name in ("p2", "p3", "p4"):
        detail = re.fullmatch(
            r"similarity (0\.\d{4}) to `p0`, to which `p1` prefers the opposite",
            rejects[name]["detail"],
        )
        assert float(detail[1]) >= 0.7
    assert pq.read_table(folder / "clusters.parquet").num_rows == 0


def test_a_long_prompt_does_not_hide_that_answers_differ(dedup):
    prompt = " ".join(f"w{number}" for number in range(500))
    rows = [
        pair(0, prompt, "Yes, it is.", "No, not at all."),
        pair(1, prompt, "It is blue.", "It is green."),
    ]
    assert dedup(rows)[2] == {}


def test_the_best_score_stays(dedup):
    rng = random.Random(7)
    prompt, good, bad = text(rng), text(rng), text(rng)
    scores = [
        {"score_chosen": 5.0, "score_rejected": 1.0},
        {"score_chosen": 9.0, "score_rejected": 1.0},
        {},
    ]
    rows = [
        pair(number, prompt, edited(rng, good), edited(rng, bad), **score)
        for number, score in enumerate(scores)
    ]
    assert told(dedup(rows, keep="best_score", threshold=0.5)[2]) == {
        "p0": ("near_duplicate", "p1"),
        "p2": ("near_duplicate", "p1"),
    }


# ---- the split ----


def many(rows, seed=8):
    """Chats of which many are edited copies of others."""
    rng = random.Random(seed)
    prompts = [text(rng, 60) for _ in range(rows // 9)]
    answers = [text(rng, 150) for _ in range(rows // 3)]
    chats = []
    for number in range(rows):
        base = rng.randrange(len(answers))
        prompt = edited(rng, prompts[base % len(prompts)], rng.randrange(2))
        chats.append(chat(number, prompt, edited(rng, answers[base], rng.randrange(3))))
    return chats


def test_train_and_test_share_no_near_duplicate_prompt(dedup):
    _, kept, _ = dedup(many(900), test_fraction=0.3)
    sides = defaultdict(set)
    prompts = [row["messages"][0]["content"] for row in kept]
    for row in kept:
        sides[row["messages"][0]["content"]].add(row["split"])
    pairs = pa.record_batch(_core.near_pairs(pa.array(prompts))).to_pylist()
    assert len(pairs) > 200
    across = [
        found for found in pairs if kept[found["row"]]["split"] != kept[found["other"]]["split"]
    ]
    assert across == []
    assert {side for found in sides.values() for side in found} == {"train", "test"}
    apart = dedup(many(900), "off", near=False, test_fraction=0.3)[1]
    prompts = [row["messages"][0]["content"] for row in apart]
    pairs = pa.record_batch(_core.near_pairs(pa.array(prompts))).to_pylist()
    assert any(apart[found["row"]]["split"] != apart[found["other"]]["split"] for found in pairs)


# ---- the same bytes, memory ----


def test_the_bytes_depend_on_neither_workers_nor_memory(dedup, digests):
    rows = many(6000)
    folders = {
        name: dedup(rows, name, workers, memory_limit=limit)[0]
        for name, workers, limit in (
            ("one", 1, 2_000_000_000),
            ("two", 2, LITTLE),
            ("three", 3, LITTLE),
        )
    }
    assert digests(folders["one"]) == digests(folders["two"]) == digests(folders["three"])
    assert read_manifest(folders["one"]).counts["dropped"]["near_duplicate"] > 1000


def test_a_limit_that_cannot_be_kept_is_refused(dedup):
    with pytest.raises(ConfigError) as caught:
        dedup(many(60), memory_limit=1_000_000)
    message = str(caught.value)
    assert message.startswith("`dedup.memory_limit` must be at least ")
    assert message.endswith(
        " bytes for 60 rows, found: 1000000\nhint: give it more, or set `dedup.near` to false"
    )


def test_pairs_are_those_of_the_definition():
    rng = random.Random(9)
    base = [text(rng, 60) for _ in range(60)]
    texts = base + [edited(rng, rng.choice(base), rng.randrange(1, 4)) for _ in range(200)]
    sets = [
        {tuple(words[at : at + 5]) for at in range(len(words) - 4)}
        for words in map(str.split, texts)
    ]
    expected = {}
    for row in range(len(texts)):
        for other in range(row):
            index = len(sets[row] & sets[other]) / len(sets[row] | sets[other])
            if index >= 0.8:
                expected[row, other] = index
    found = pa.record_batch(_core.near_pairs(pa.array(texts))).to_pylist()
    found = {(pair["row"], pair["other"]): pair["similarity"] for pair in found}
    assert found.items() <= expected.items()
    assert len(found) >= 0.99 * len(expected) > 50
    with pytest.raises(TypeError, match="expected an Arrow array of strings, found: Int64"):
        _core.near_pairs(pa.array([1]))


@pytest.mark.slow
def test_hostile_rows_neither_hang_nor_take_more_memory(dedup):
    rng = random.Random(10)
    boilerplate = text(rng, 140)
    rows = [chat(f"same{number}", "Hi", "word " * (5 + number)) for number in range(3000)]
    rows += [
        chat(f"long{number}", "Hi", letter * 10_000_000) for number, letter in enumerate("xXy")
    ]
    rows += [
        chat(f"plate{number}", "Hi", f"{boilerplate} {text(rng, 60)}") for number in range(3000)
    ]
    rows += [
        chat(f"equal{number}", "Hi", f"The very same answer, {'!' * (number % 7)} again and again.")
        for number in range(100_000)
    ]
    before = time.monotonic()
    clean = {"length": {"enabled": False}, "repetition": {"enabled": False}}
    _, kept, rejects = dedup(rows, clean=clean, exact=False, memory_limit=300_000_000)
    assert time.monotonic() - before < 120
    names = [row["id"] for row in kept]
    assert sum(name.startswith("cequal") for name in names) == 1
    assert sum(name.startswith("cplate") for name in names) == 3000
    assert told(rejects)["cequal99999"] == ("near_duplicate", "cequal0")
