"""Model and judge files: what is refused, and in which words."""

import pytest

from zephyr_data.errors import ConfigError
from zephyr_data.feedback.options import JudgeFile, ModelsFile, load_options

ONE = {"name": "a", "base_url": "http://127.0.0.1:1/v1", "model": "m"}

BAD_MODELS = {
    "nearest top key": (
        {"modles": [ONE]},
        "unknown key in .*: modles\nhint: did you mean `models`",
    ),
    "nearest model key": (
        {"models": [{**ONE, "tempo": 1}]},
        r"models\.0\.tempo\nhint: did you mean `timeout_s`|known keys: answers, backoff_s",
    ),
    "nearest sampling key": (
        {"models": [{**ONE, "sampling": {"temprature": 1}}]},
        r"models\.0\.sampling\.temprature\nhint: did you mean `temperature`",
    ),
    "nearest price key": (
        {"models": [{**ONE, "price": {"input": 1, "outptu": 1}}]},
        r"models\.0\.price\.outptu\nhint: did you mean `output`",
    ),
    "two kinds": (
        {"models": [{**ONE, "function": "f:g"}]},
        "needs exactly one of .*, found: base_url, function",
    ),
    "no kind": ({"models": [{"name": "a"}]}, "found: none"),
    "no model": (
        {"models": [{"name": "a", "base_url": "http://x"}]},
        "a `base_url` but no `model`",
    ),
    "same name": ({"models": [ONE, ONE]}, "two models have the same name: a"),
    "negative price": (
        {"models": [{**ONE, "price": {"input": -1, "output": 1}}]},
        r"bad option in .* at `models\.0\.price\.input`",
    ),
    "no models": ({"models": []}, "at `models`"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_models_file(write_yaml, name):
    data, message = BAD_MODELS[name]
    with pytest.raises(ConfigError, match=message):
        load_options(write_yaml("models.yaml", data), ModelsFile)


BAD_JUDGES = {
    "both": ({"judge": ONE, "rule": {"kind": "exact"}}, "exactly one of `judge` and `rule`"),
    "neither": ({"verdict": "text"}, "exactly one of `judge` and `rule`"),
    "rule without pattern": ({"rule": {"kind": "regex"}}, "`pattern` belongs to rule kind `regex`"),
    "pattern without regex": (
        {"rule": {"kind": "exact", "pattern": "x"}},
        "`pattern` belongs to rule kind `regex`, kind is: exact",
    ),
    "nearest": ({"rule": {"kind": "exact", "patern": "x"}}, "did you mean `pattern`"),
}


@pytest.mark.parametrize("name", BAD_JUDGES)
def test_bad_judge_file(write_yaml, name):
    data, message = BAD_JUDGES[name]
    with pytest.raises(ConfigError, match=message):
        load_options(write_yaml("judge.yaml", data), JudgeFile)


def test_no_yaml_mapping(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("- a list")
    with pytest.raises(ConfigError, match="must hold a mapping, found: list"):
        load_options(path, ModelsFile)
    path.write_text("a: [")
    with pytest.raises(ConfigError, match="cannot read .* as YAML"):
        load_options(path, ModelsFile)


def test_body_has_what_was_set_and_extra_fields(write_yaml):
    sampling = {"temperature": 0, "max_tokens": 9, "extra": {"generation_config": "{}"}}
    models = load_options(
        write_yaml("m.yaml", {"models": [{**ONE, "sampling": sampling}]}), ModelsFile
    )
    body = models.models[0].sampling.body()
    assert body == {"temperature": 0.0, "max_tokens": 9, "generation_config": "{}"}


def test_newer_token_field(write_yaml):
    sampling = {"max_tokens": 9, "max_tokens_field": "max_completion_tokens"}
    models = load_options(
        write_yaml("m.yaml", {"models": [{**ONE, "sampling": sampling}]}), ModelsFile
    )
    assert models.models[0].sampling.body() == {"max_completion_tokens": 9}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": {"extra": {"max_tokens": 9}}}, "an option of its own: max_tokens"),
        ({"sampling": {"extra": {"max_completion_tokens": 9}}}, "an option of its own: max_comp"),
        ({"sampling": {"extra": {"n": 2}}}, "must not change: n"),
        ({"sampling": {"extra": {"stream": True}}}, "must not change: stream"),
        ({"sampling": {"extra": {"x": float("nan")}}}, "cannot be sent as JSON"),
        ({"base_url": "localhost:8000/v1"}, "must begin with http:// or https://, found: localh"),
    ],
)
def test_options_that_would_break_every_request(write_yaml, changes, message):
    model = {"name": "x", "base_url": "http://h/v1", "model": "m", **changes}
    with pytest.raises(ConfigError, match=message):
        load_options(write_yaml("m.yaml", {"models": [model]}), ModelsFile)
