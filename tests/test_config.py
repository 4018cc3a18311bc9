"""`Config`: where options come from, which are refused, and with what words."""

import json

import pytest

from zephyr_data import Config, ConfigError
from zephyr_data.config import known_keys
from zephyr_data.options import Pack


def test_defaults_are_those_of_the_core():
    from zephyr_data import _core

    core = json.loads(_core.default_options())
    config = Config()
    assert core == {
        "clean": config.clean.model_dump(),
        "dedup": config.dedup_options().model_dump(),
        "pack": config.pack_options().model_dump(),
    }


def test_workers_are_the_cpus_that_may_be_used(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert Config().workers == 3


def test_arguments_count_more_than_the_file_and_the_file_more_than_defaults(tmp_path):
    path = tmp_path / "prepare.yaml"
    path.write_text("seed: 7\npack:\n  max_length: 512\n  overlong: drop\nclean:\n")
    config = Config.load(path, {"pack.max_length": 1024, "dedup.test_fraction": None})
    assert (config.seed, config.pack.max_length, config.pack.overlong) == (7, 1024, "drop")
    assert config.dedup.test_fraction == 0.01
    assert config.pack_options().seed == config.dedup_options().seed == 7


def test_a_source_is_never_changed():
    source = {"pack": {"max_length": 512}}
    Config.load(source, {"pack.max_length": 1024, "read.kind": "chat"})
    assert source == {"pack": {"max_length": 512}}


def test_every_source_gives_the_same(tmp_path):
    path = tmp_path / "prepare.yaml"
    path.write_text("pack: {loss_on: all}\nworkers: 3\n")
    models = {"pack": Pack(loss_on="all"), "workers": 3}
    first = Config.load(path)
    assert first == Config.load(str(path)) == Config.load(models) == Config.load(first)
    assert Config.load(first, {"seed": 1}) == Config.load({**models, "seed": 1})


def test_an_empty_file_holds_the_defaults(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")
    assert Config.load(path) == Config()


def test_options_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3


REFUSED = {
    "pack.max_lenght": (
        {"pack": {"max_lenght": 4096}},
        "unknown option: `pack.max_lenght`\nhint: did you mean `pack.max_length`?",
    ),
    "max_length": (
        {"max_length": 4096},
        "unknown option: `max_length`\nhint: did you mean `pack.max_length`?",
    ),
    "pakc": ({"pakc": {}}, "unknown option: `pakc`\nhint: did you mean `pack`?"),
    "pack.seed": ({"pack": {"seed": 1}}, "unknown option: `pack.seed`\nhint: did you mean `seed`?"),
    "clean.truecase.rolls": (
        {"clean": {"truecase": {"rolls": []}}},
        "unknown option: `clean.truecase.rolls`\nhint: did you mean `clean.truecase.roles`?",
    ),
    "tokenizer": (
        {"tokenizer": "x"},
        (
            "unknown option: `tokenizer`\n"
            "hint: the sections and options are `read`, `clean`, `dedup`, `pack`, `seed`, `workers` and `verify`"
        ),
    ),
    "pack.zzz": (
        {"pack": {"zzz": 1}},
        (
            "unknown option: `pack.zzz`\n"
            "hint: `pack` has `max_length`, `loss_on`, `overlong` and `allow_special_in_content`"
        ),
    ),
    "read.carry": (
        {"read": {"carry": ["source", ""]}},
        (
            "`read.carry` must be a text that is not empty, found: `''`\n"
            "hint: name columns of the input, as in `carry: [source]`"
        ),
    ),
    "dedup.decontaminate.fields": (
        {"dedup": {"decontaminate": [{"path": "x.jsonl", "fields": [""]}]}},
        (
            "`dedup.decontaminate.fields` must be a text that is not empty, found: `''`\n"
            "hint: the names of the fields that hold the texts, such as `[question]`"
        ),
    ),
    "dedup.decontaminate.field": (
        {"dedup": {"decontaminate": [{"path": "x.jsonl", "field": ["q"]}]}},
        "unknown option: `dedup.decontaminate.field`\nhint: did you mean `dedup.decontaminate.fields`?",
    ),
    "pack.max_length": (
        {"pack": {"max_length": 7}},
        "`pack.max_length` must be at least 8, found: `7`\nhint: 2048 is usual; it counts tokens, not characters",
    ),
    "dedup.test_fraction": (
        {"dedup": {"test_fraction": 1.0}},
        (
            "`dedup.test_fraction` must be below 1, found: `1.0`\n"
            "hint: 0.01 keeps one prompt in a hundred for the test set, 0 keeps none"
        ),
    ),
    "workers": (
        {"workers": 0},
        "`workers` must be at least 1, found: `0`\nhint: leave it out to use all CPUs that this process may use",
    ),
    "seed": (
        {"seed": -1},
        (
            "`seed` must be at least 0, found: `-1`\n"
            "hint: any whole number from 0 on; the same seed gives the same bytes"
        ),
    ),
    "clean.refusal": (
        {"clean": {"refusal": True}},
        (
            "`clean.refusal` must be a section with options below it, found: `true`\n"
            "hint: the options of `clean.refusal` are `enabled` and `max_bytes`"
        ),
    ),
    "clean.refusal.enabled": (
        {"clean": {"refusal": {"enabled": "yes"}}},
        "`clean.refusal.enabled` must be `true` or `false`, found: `'yes'`\nhint: the default is `false`",
    ),
    "pack.overlong": (
        {"pack": {"overlong": "cut"}},
        (
            "`pack.overlong` must be `truncate`, `drop` or `split_turns`, found: `'cut'`\n"
            "hint: the default is `'truncate'`"
        ),
    ),
    "clean.truecase.roles": (
        {"clean": {"truecase": {"roles": ["assistant", "tool"]}}},
        (
            "`clean.truecase.roles` must be `system`, `user` or `assistant`, found: `'tool'`\n"
            "hint: the default is `['assistant']`"
        ),
    ),
}


@pytest.mark.parametrize("key", REFUSED)
def test_refusals_name_the_option_the_value_and_the_way_out(key):
    source, message = REFUSED[key]
    with pytest.raises(ConfigError) as caught:
        Config.load(source)
    assert str(caught.value) == message
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pack.max_length", 1 << 30),
        ("pack.max_length", "2048"),
        ("pack.max_length", True),
        ("pack.max_length", 2048.5),
        ("clean.length.min_chars", 1 << 64),
        ("clean.repetition.min_repeats", 1 << 64),
        ("dedup.constant_answer.min_prompts", 1 << 32),
        ("dedup.contamination.min_words", 1 << 64),
        ("dedup.memory_limit", 1 << 64),
        ("dedup.test_fraction", -0.01),
        ("dedup.test_fraction", float("nan")),
        ("workers", 100_000),
        ("seed", 1 << 63),
        ("clean.turns.max_turns", 0),
        ("clean.truecase.roles", []),
        ("read.kind", "chats"),
        ("pack", [1]),
    ],
)
def test_absurd_values_are_refused(key, value):
    with pytest.raises(ConfigError) as caught:
        Config.load(None, {key: value})
    assert caught.value.key == key
    assert "\nhint: " in str(caught.value)


def test_every_option_that_is_misspelt_is_told_its_name():
    for key in known_keys():
        head, dot, last = key.rpartition(".")
        wrong = last[:-1] if len(last) > 4 else last + last[-1]
        with pytest.raises(ConfigError, match="unknown option") as caught:
            Config.load(None, {f"{head}{dot}{wrong}": {}})
        assert f"did you mean `{key}`?" in str(caught.value)


def test_a_file_that_is_no_yaml(tmp_path):
    path = tmp_path / "prepare.yaml"
    path.write_text("pack:\n  max_length: [1\nseed: 3\n")
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    assert str(caught.value).startswith(f"cannot read the configuration `{path}:3`: ")
    assert "\nhint: " in str(caught.value)


def test_a_file_without_sections(tmp_path):
    path = tmp_path / "prepare.yaml"
    path.write_text("- pack\n")
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    assert str(caught.value) == (
        f"cannot read the configuration `{path}`, expected sections such as `pack:`, found: `['pack']`\n"
        "hint: the sections and options are `read`, `clean`, `dedup`, `pack`, `seed`, `workers` and `verify`"
    )


def test_a_missing_file():
    with pytest.raises(FileNotFoundError, match="cannot read `nowhere.yaml`") as caught:
        Config.load("nowhere.yaml")
    assert caught.value.errno == 2
