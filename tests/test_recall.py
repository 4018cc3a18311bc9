"""`--measure-recall`: edited copies of rows are looked for, and nothing else changes."""

import json
import random

import pytest

from zephyr_data import _core
from zephyr_data.config import Config
from zephyr_data.errors import ConfigError, ManifestError
from zephyr_data.summary import read_recall


def rows(count, words, seed=0):
    rng = random.Random(seed)

    def text(length):
        return " ".join(f"w{rng.randrange(5000)}" for _ in range(length))

    return [(text(words // 2), text(words), text(words)) for _ in range(count)]


def test_a_flipped_bit_is_named(measure, tmp_path):
    measure(rows(20, 30))
    part = tmp_path / "out" / "clean" / "part-00000.arrow"
    whole = bytearray(part.read_bytes())
    whole[len(whole) // 2] ^= 1
    part.write_bytes(whole)
    config = Config.load({}, {})
    with pytest.raises(ManifestError, match="it is damaged: its bytes are not those of"):
        _core.measure_recall(str(tmp_path / "out"), config.dedup_options(), lambda *_: None)


@pytest.fixture
def measure(tmp_path):
    """Cleans chats or preferences, and measures with these options."""

    def run(made, name="out", kind="chat", seed=0, **options):
        source, out = tmp_path / f"{name}.jsonl", tmp_path / name
        with source.open("w") as file:
            for prompt, one, two in made:
                pair = {"prompt": prompt, "chosen": one, "rejected": two}
                chat = {
                    "messages": [
                        {"role": "user", "content": prompt},
                        {"role": "assistant", "content": one},
                    ]
                }
                file.write(json.dumps(pair if kind == "preference" else chat) + "\n")
        config = Config.load({"dedup": options}, {"seed": seed})
        ignore = lambda *_: None  # noqa: E731
        _core.clean([str(source)], str(out), config.read, config.clean, 1, ignore)
        return read_recall(_core.measure_recall(str(out), config.dedup_options(), ignore))

    return run


@pytest.mark.parametrize("kind", ["chat", "preference"])
def test_the_recall_is_what_the_bands_promise(measure, kind):
    usual = measure(rows(400, 120), "usual", kind)
    assert [(bucket.low, bucket.high) for bucket in usual] == [
        (0.8, 0.85),
        (0.85, 0.9),
        (0.9, 0.95),
        (0.95, 1.0),
    ]
    assert sum(bucket.found for bucket in usual) >= 0.995 * sum(bucket.pairs for bucket in usual)
    few = measure(rows(400, 120), "few", kind, bands=4, rows=6)
    shared = [(bucket, other) for bucket, other in zip(few, usual, strict=True) if other.pairs]
    # An edit in each of the three parts of a preference leaves none of them above 0.95.
    assert len(shared) == (4 if kind == "chat" else 3)
    for bucket, other in shared:
        assert bucket.pairs == other.pairs > 100
        assert bucket.found < other.found
        assert abs(bucket.found / bucket.pairs - bucket.expected) < 0.05
    assert few[0].found < 0.95 * few[0].pairs


def test_the_buckets_begin_at_the_threshold_and_the_seed_decides(measure):
    made = rows(100, 200)
    one, again = measure(made, "one", threshold=0.93), measure(made, "again", threshold=0.93)
    assert one == again
    assert [(bucket.low, bucket.high) for bucket in one] == [(0.93, 0.95), (0.95, 1.0)]
    assert measure(made, "other", threshold=0.93, seed=1) != one


def test_rows_that_cannot_be_edited_make_no_copies(measure):
    made = [("?", "…", "!"), ("🙂", "🙂", "🙂")]
    assert sum(bucket.pairs for bucket in measure(made)) == 0


def test_the_bytes_are_the_same_and_the_table_is_printed(command, examples, tmp_path, digests):
    arguments = ["prepare", examples / "chats.jsonl", "--tokenizer", examples / "tokenizer"]
    plain = command(*arguments, "--out", tmp_path / "plain")
    measured = command(*arguments, "--out", tmp_path / "measured", "--measure-recall")
    assert plain.returncode == measured.returncode == 0, measured.stderr
    assert digests(tmp_path / "plain") == digests(tmp_path / "measured")
    assert "edited copies" in measured.stdout
    assert "edited copies" not in plain.stdout
    # Also of a run in which every stage is skipped.
    again = command(*arguments, "--out", tmp_path / "plain", "--measure-recall")
    table = measured.stdout[measured.stdout.index("similarity") :]
    assert again.stdout[again.stdout.index("similarity") :].split()[:30] == table.split()[:30]
    assert digests(tmp_path / "plain") == digests(tmp_path / "measured")


def test_without_near_duplicates_there_is_nothing_to_measure(prepare, examples, tmp_path):
    config = {"dedup": {"near": False}}
    with pytest.raises(ConfigError) as error:
        prepare(examples / "chats.jsonl", tmp_path / "out", config=config, measure_recall=True)
    assert str(error.value) == (
        "there is no recall to measure with `dedup.near`, found: `false`\n"
        "hint: set it to true, or leave out `--measure-recall`"
    )
    assert not (tmp_path / "out").exists()
