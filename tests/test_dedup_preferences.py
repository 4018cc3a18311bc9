"""Preferences in the dedup stage: held against the definition pair by pair, what is planted is found, and the split."""

import json
import random
from itertools import combinations

import pyarrow as pa
import pytest

from zephyr_data import _core
from zephyr_data.config import Config
from zephyr_data.summary import read_recall

PARTS = ("prompt", "chosen", "rejected")
COMPARED = {"conversation": PARTS, "assistant": PARTS[1:], "prompt": PARTS[:1]}
EXHAUSTIVE = {"bands": 64, "rows": 2}
"""Misses one pair of 0.6 in a trillion, so that what is found can be held against all pairs."""


def text(rng, length=80):
    return " ".join(f"w{rng.randrange(5000)}" for _ in range(length))


def edited(rng, words, edits):
    words = words.split()
    for at in rng.sample(range(len(words)), edits):
        words[at] = f"e{rng.randrange(5000)}"
    return " ".join(words)


def mixed(rng, count):
    """Pairs of which many are edited copies of others, with the answers swapped or alike or not."""
    pairs = []
    for number in range(count):
        if number % 4 == 0:
            made = {part: text(rng) for part in PARTS}
        else:
            base = pairs[rng.randrange(len(pairs) // 2, len(pairs))]
            made = {part: edited(rng, base[part], rng.randrange(3)) for part in PARTS}
            match rng.randrange(6):
                case 0:
                    made["chosen"], made["rejected"] = made["rejected"], made["chosen"]
                case 1:
                    made["rejected"] = edited(rng, made["chosen"], rng.randrange(1, 4))
                case 2:
                    made[rng.choice(PARTS)] = text(rng)
        pairs.append({"id": f"p{number}", **made})
    return pairs


def shingles(words):
    words = words.split()
    return {tuple(words[at : at + 5]) for at in range(max(len(words) - 4, 1))}


def jaccard(a, b):
    return len(a & b) / len(a | b)


def by_definition(pairs, compare, threshold):
    """What goes and why, by comparing every row with every other."""
    sets = [{part: shingles(pair[part]) for part in PARTS} for pair in pairs]
    likeness = lambda a, b, parts: min(jaccard(a[x], b[y]) for x, y in parts)  # noqa: E731
    same = [(part, part) for part in COMPARED[compare]]
    near = "near_duplicate_prompt" if compare == "prompt" else "near_duplicate"
    gone, stays = {}, []
    for row, found in enumerate(sets):
        if jaccard(found["chosen"], found["rejected"]) >= threshold:
            gone[row] = ("no_signal", None)
            continue
        kept = next(
            (other for other in stays if likeness(sets[other], found, same) >= threshold), None
        )
        if kept is None:
            stays.append(row)
        else:
            gone[row] = (near, kept)
    if compare == "conversation":
        swapped = [("prompt", "prompt"), ("chosen", "rejected"), ("rejected", "chosen")]
        for row, other in combinations(stays, 2):
            if likeness(sets[row], sets[other], swapped) >= threshold:
                gone[row] = gone[other] = ("contradiction", None)
    # What goes for the sake of a row that goes, goes for the same reason.
    return {
        f"p{row}": gone.get(kept, (reason, f"p{kept}")) if kept is not None else (reason, None)
        for row, (reason, kept) in gone.items()
    }


@pytest.fixture
def run(tmp_path, read_rows):
    """Cleans and deduplicates pairs; gives the rows that stay, and the rejects by id."""

    def dedup(pairs, name="out", **options):
        source, out = tmp_path / "pairs.jsonl", tmp_path / name
        source.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
        config = Config.load({"dedup": {"constant_answer": {"enabled": False}, **options}}, {})
        ignore = lambda *_: None  # noqa: E731
        _core.clean([str(source)], str(out), config.read, config.clean, 2, ignore)
        _core.dedup(str(out), config.dedup_options(), 2, ignore)
        rejects = {row["id"]: row for row in read_rows(out / "dedup" / "rejects")}
        return read_rows(out / "dedup"), rejects

    return dedup


@pytest.mark.parametrize("threshold", [0.8, 0.6])
@pytest.mark.parametrize("compare", COMPARED)
def test_what_goes_is_what_the_definition_says(run, compare, threshold):
    pairs = mixed(random.Random(11), 360)
    expected = by_definition(pairs, compare, threshold)
    _, rejects = run(pairs, exact=False, compare=compare, threshold=threshold, **EXHAUSTIVE)
    assert {name: (row["reason"], row["kept_id"]) for name, row in rejects.items()} == expected
    reasons = [reason for reason, _ in expected.values()]
    assert reasons.count("no_signal") > 10
    assert reasons.count("contradiction") > 5 or compare != "conversation"
    assert sum(reason.startswith("near_duplicate") for reason in reasons) > 20


def test_planted_contradictions_are_found_with_the_usual_bands(run):
    """From 0.8 on, counted by the part that differs most, as `--measure-recall` counts near-duplicates."""
    rng = random.Random(12)
    pairs, similar = [], set()
    for number in range(400):
        pair = {part: text(rng, 120) for part in PARTS}
        other = {part: edited(rng, pair[part], rng.randrange(1, 3)) for part in PARTS}
        swapped = {
            "prompt": other["prompt"],
            "chosen": other["rejected"],
            "rejected": other["chosen"],
        }
        pairs += [{"id": f"a{number}", **pair}, {"id": f"b{number}", **swapped}]
        if min(jaccard(shingles(pair[part]), shingles(other[part])) for part in PARTS) >= 0.8:
            similar |= {f"a{number}", f"b{number}"}
    rng.shuffle(pairs)
    _, rejects = run(pairs)
    assert {row["reason"] for row in rejects.values()} == {"contradiction"}
    assert rejects.keys() <= similar
    assert len(rejects) >= 0.99 * len(similar) > 300


def test_short_answers_contradict_each_other_and_those_without_words_do_not(run):
    pairs = [
        {"id": "yes", "prompt": "Is the sea salty?", "chosen": "Yes.", "rejected": "No."},
        {"id": "no", "prompt": "Is the sea salty, please?", "chosen": "NO!", "rejected": "yes"},
        {"id": "again", "prompt": "is the sea salty", "chosen": "no", "rejected": "Yes"},
        {"id": "up", "prompt": "Do you like it?", "chosen": "👍", "rejected": "👎"},
        {"id": "down", "prompt": "Do you like it?", "chosen": "👎", "rejected": "👍"},
        {"id": "same", "prompt": "How many legs?", "chosen": "Eight.", "rejected": "eight"},
    ]
    _, rejects = run(pairs)
    # Questions of five words at most are one run of words: another word makes another question.
    assert {name: row["reason"] for name, row in rejects.items()} == {
        "yes": "contradiction",
        "again": "contradiction",
        "same": "no_signal",
    }


def test_a_row_that_prefers_the_opposite_takes_the_copies_of_its_opponent_along(run):
    rng = random.Random(13)
    pair = {part: text(rng, 100) for part in PARTS}
    swapped = {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}
    near = {**pair, "prompt": edited(rng, pair["prompt"], 1)}
    upper = {part: words.upper() for part, words in pair.items()}
    rows = [{"id": f"p{at}", **one} for at, one in enumerate((pair, near, upper, swapped))]
    kept, rejects = run(rows)
    assert kept == []
    assert {row["reason"] for row in rejects.values()} == {"contradiction"}


@pytest.mark.parametrize("compare", COMPARED)
def test_train_and_test_share_no_near_duplicate_prompt(run, compare):
    """Of several turns the first one of the user is the prompt."""
    rng, pairs = random.Random(14), []
    prompts = [text(rng, 60) for _ in range(80)]
    for number in range(700):
        prompt = edited(rng, rng.choice(prompts), rng.randrange(3))
        turns = [{"role": "user", "content": prompt}]
        if number % 2:
            turns = [{"role": "system", "content": text(rng, 5)}, *turns]
            turns += [
                {"role": "assistant", "content": text(rng)},
                {"role": "user", "content": text(rng)},
            ]
        answers = {
            part: [{"role": "assistant", "content": text(rng)}] for part in ("chosen", "rejected")
        }
        pairs.append({"id": f"p{number}", "prompt": turns, **answers})

    def across(**options):
        kept, _ = run(pairs, compare=compare, test_fraction=0.3, **options)
        assert {row["split"] for row in kept} == {"train", "test"}
        firsts = [
            next(turn["content"] for turn in row["prompt"] if turn["role"] == "user")
            for row in kept
        ]
        found = pa.record_batch(_core.near_pairs(pa.array(firsts))).to_pylist()
        sides = [(kept[pair["row"]]["split"], kept[pair["other"]]["split"]) for pair in found]
        assert len(sides) > 100
        return sum(one != other for one, other in sides)

    assert across() == 0
    assert across(name="off", near=False) > 0


@pytest.mark.parametrize("compare", COMPARED)
def test_the_recall_is_that_of_what_is_compared(run, tmp_path, compare):
    rng = random.Random(15)
    run([{part: text(rng, 100) for part in PARTS} for _ in range(300)])
    config = Config.load({"dedup": {"compare": compare}}, {})
    found = read_recall(_core.measure_recall(str(tmp_path / "out"), config.dedup_options(), print))
    pairs = sum(bucket.pairs for bucket in found)
    assert pairs > 500
    assert sum(bucket.found for bucket in found) >= 0.995 * pairs
    # The more parts are edited, the fewer copies are alike in all of them.
    assert (found[-1].pairs > 50) == (compare == "prompt")
