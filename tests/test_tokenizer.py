"""Loading the tokenizer, and holding ids against transformers' before anything is packed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from zephyr_data import ConfigError, ZephyrDataError
from zephyr_data.tokenizer import PROBES, _nearest_folder, check_ids, load_tokenizer

pytestmark = pytest.mark.usefixtures("transformers")


@pytest.fixture
def folder(examples, tmp_path):
    """A copy of the bundled tokenizer, free to be broken."""
    return shutil.copytree(examples / "tokenizer", tmp_path / "tokenizer")


def change_config(folder, **values):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


class Encoder:
    """Stands for the extension: what transformers says, with one chat's ids changed."""

    def __init__(self, live, change=lambda ids: ids, broken=(), refused=()):
        self.live, self.change, self.broken, self.refused = live, change, broken, refused

    def encode(self, messages):
        (chat,) = messages.to_pylist()
        if chat in self.refused:
            raise ZephyrDataError("refused")
        ids = self.live.apply_chat_template(chat)["input_ids"]
        if chat in self.broken:
            ids = self.change(ids)
        return pa.array([{"input_ids": ids, "assistant_masks": [0] * len(ids)}])


def test_the_extension_gets_the_live_backend(examples, live_tokenizer):
    loaded = load_tokenizer(examples / "tokenizer")
    assert loaded.spec.backend == live_tokenizer.backend_tokenizer.to_str()
    assert loaded.spec.chat_template == live_tokenizer.chat_template
    assert loaded.spec.special_tokens == live_tokenizer.special_tokens_map
    assert loaded.notes == ()


def test_the_hash_is_that_of_backend_and_template_not_of_files(folder, examples):
    before = load_tokenizer(folder).spec.hash
    assert before == load_tokenizer(examples / "tokenizer").spec.hash
    change_config(folder, model_max_length=77)
    assert load_tokenizer(folder).spec.hash == before
    with (folder / "chat_template.jinja").open("a") as file:
        file.write(" ")
    assert load_tokenizer(folder).spec.hash != before


def test_a_long_chat_brings_no_warning(folder, caplog):
    change_config(folder, model_max_length=8)
    loaded = load_tokenizer(folder)
    chats = [("long", [{"role": "user", "content": "word " * 50}])]
    assert check_ids(loaded, Encoder(loaded.live), chats, literal_specials=True) == 1
    assert caplog.records == []


def test_no_such_folder():
    with pytest.raises(ConfigError) as caught:
        load_tokenizer("./nowhere")
    assert str(caught.value) == (
        "cannot load the tokenizer, there is no such folder: `./nowhere`\n"
        "hint: name a folder with a `tokenizer.json`, or a model such as `HuggingFaceH4/zephyr-7b-beta`"
    )


NEAR = {
    "./models/zefyr-7b": "./models/zephyr-7b",
    "modles/zephyr-7b": "models/zephyr-7b",
    "zephyr-7b-bta": "zephyr-7b-beta",
    "{tmp}/models/zepyhr-7b": "{tmp}/models/zephyr-7b",
    "../{name}/zephyr-7b-bet": "../{name}/zephyr-7b-beta",
}


@pytest.mark.parametrize("name", NEAR)
def test_the_nearest_folder_is_named(examples, tmp_path, monkeypatch, name):
    for folder in ("models/zephyr-7b", "zephyr-7b-beta"):
        shutil.copytree(examples / "tokenizer", tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    places = {"tmp": tmp_path, "name": tmp_path.name}
    asked, expected = name.format(**places), NEAR[name]
    with pytest.raises(ConfigError) as caught:
        load_tokenizer(asked)
    near = Path(expected.format(**places))
    hint = f"did you mean `{near}`?"
    if not asked.startswith((".", "/")):
        hint += f" a model of the hub is fetched first with `hf download {asked}`"
    assert str(caught.value) == (
        f"cannot load the tokenizer, there is no such folder: `{asked}`\nhint: {hint}"
    )


def test_what_is_no_misspelling(examples, tmp_path, monkeypatch):
    shutil.copytree(examples / "tokenizer", tmp_path / "models" / "zephyr-7b")
    monkeypatch.chdir(tmp_path)
    assert _nearest_folder(Path("models/zephyr7b")) == Path("models/zephyr-7b")
    assert _nearest_folder(Path("models/zephyr-8b")) is None  # another model
    assert _nearest_folder(Path("model")) is None  # there is one, without a tokenizer in it
    assert _nearest_folder(Path("gpt2")) is None


def test_a_model_that_was_fetched_may_be_called_as_a_folder_nearly_is(
    examples, tmp_path, monkeypatch
):
    shutil.copytree(examples / "tokenizer", tmp_path / "zephyr-7b-beta")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zephyr_data.tokenizer._is_fetched", lambda name: name == "zephyr-7b-bta")
    with pytest.raises(ConfigError, match="^cannot load the tokenizer `zephyr-7b-bta`: "):
        load_tokenizer("zephyr-7b-bta")


def test_what_was_fetched_is_known_from_the_cache(tmp_path):
    model = tmp_path / "models--org--name"
    for path, text in (("snapshots/abc/tokenizer_config.json", "{}"), ("refs/main", "abc")):
        (model / path).parent.mkdir(parents=True)
        (model / path).write_text(text)
    program = "from zephyr_data.tokenizer import _is_fetched as f; print(f('org/name'), f('org/other'), f('a b'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False", "False"]


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(ConfigError, match=f"^cannot load the tokenizer `{tmp_path}`: ") as caught:
        load_tokenizer(tmp_path)
    problem, _ = str(caught.value).splitlines()
    assert problem[-1].isalnum()  # a list that follows is not begun
    assert str(caught.value).endswith(
        "hint: the folder needs `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`,"
        " as `save_pretrained` writes them"
    )


def test_no_chat_template(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError) as caught:
        load_tokenizer(folder)
    assert str(caught.value) == (
        f"cannot use the tokenizer, it has no chat template: `{folder}`\n"
        f"hint: write one to `{folder}/chat_template.jinja`; base models have none, so take the one that you will chat"
        " with, such as Zephyr's: `examples/tokenizer/chat_template.jinja`"
    )


def test_of_several_templates_the_default_is_taken_and_said(folder):
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "default", "template": template}, {"name": "tool_use", "template": "{{ 1 }}"}]
    change_config(folder, chat_template=named)
    loaded = load_tokenizer(folder)
    assert loaded.spec.chat_template == template
    assert loaded.notes == (
        f"`{folder}` has several chat templates: `default` is used, not `tool_use`",
    )


def test_of_several_templates_none_is_the_default(folder):
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "rag", "template": "{{ 0 }}"}, {"name": "tool_use", "template": "{{ 1 }}"}]
    change_config(folder, chat_template=named)
    with pytest.raises(
        ConfigError, match="none is named `default`, found: `rag`, `tool_use`\nhint: save"
    ):
        load_tokenizer(folder)


def test_a_slow_tokenizer(folder, monkeypatch, transformers):
    class Slow:
        chat_template = "{{ 1 }}"

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: Slow())
    with pytest.raises(
        ConfigError, match="it has no fast backend, its class is `Slow`\nhint: convert it: "
    ):
        load_tokenizer(folder)


# ---- the check ----


def test_equal_ids_pass(examples):
    loaded = load_tokenizer(examples / "tokenizer")
    assert check_ids(loaded, Encoder(loaded.live), PROBES, literal_specials=True) == len(PROBES)
    # The probe with `<|x|>` holds no special token of this tokenizer; one that does is left out.
    literal = [("literal", [{"role": "user", "content": "What is </s>?"}])]
    assert check_ids(loaded, Encoder(loaded.live), literal, literal_specials=False) == 0
    assert check_ids(loaded, Encoder(loaded.live), literal, literal_specials=True) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ids: [*ids[:3], 77, *ids[4:]], "id 3 is 77 instead of "),
        (lambda ids: ids[:-1], "ids instead of "),
        (lambda ids: [*ids, 5], "ids instead of "),
    ],
)
def test_one_wrong_id_stops_the_run(examples, change, words):
    loaded = load_tokenizer(examples / "tokenizer")
    name, chat = PROBES[7]
    encoder = Encoder(loaded.live, change, broken=[chat])
    with pytest.raises(ConfigError) as caught:
        check_ids(loaded, encoder, PROBES, literal_specials=True)
    message = str(caught.value)
    assert message.startswith(
        f"cannot pack with the tokenizer `{examples / 'tokenizer'}`, its result is not that"
    )
    assert f"of transformers for {name}: " in message
    assert words in message
    assert "\nhint: nothing was packed; please report this" in message


def test_the_extension_may_refuse_what_transformers_takes_but_not_the_reverse(folder):
    refusing = "{% if messages[0].role != 'user' %}{{ raise_exception('users first') }}{% endif %}"
    path = folder / "chat_template.jinja"
    path.write_text(refusing + path.read_text())
    loaded = load_tokenizer(folder)
    plain = Encoder(load_tokenizer(folder).live)
    plain.live.chat_template = path.read_text().removeprefix(refusing)
    refused = [chat for _, chat in PROBES if chat[0]["role"] != "user"]
    stricter = Encoder(plain.live, refused=refused)
    assert check_ids(loaded, stricter, PROBES, literal_specials=True) == len(PROBES) - len(refused)
    with pytest.raises(
        ConfigError, match="for system message: transformers refuses it: users first"
    ):
        check_ids(loaded, plain, PROBES, literal_specials=True)


def test_the_extension_passes_its_own_check(examples):
    from zephyr_data import _core

    loaded = load_tokenizer(examples / "tokenizer")
    for literal in (False, True):
        encoder = _core.ChatEncoder(loaded.spec, allow_special_in_content=literal)
        assert check_ids(loaded, encoder, PROBES, literal_specials=literal) == len(PROBES)
    assert (encoder.template, encoder.engine) == ("zephyr", "exact-fast")


def test_a_template_that_the_extension_never_takes_stops_the_run(folder):
    loaded = load_tokenizer(folder)
    encoder = Encoder(loaded.live, refused=[chat for _, chat in PROBES])
    with pytest.raises(ZephyrDataError, match="^refused$"):
        check_ids(loaded, encoder, PROBES, literal_specials=True)


TAGGED = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content + eos_token }}"
    "{% endgeneration %}{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)


def test_where_the_template_marks_what_the_assistant_says_masks_are_compared_too(folder):
    from zephyr_data import _core

    (folder / "chat_template.jinja").write_text(TAGGED)
    loaded = load_tokenizer(folder)
    with pytest.raises(ConfigError, match="mask [0-9]+ is 0 instead of 1"):
        check_ids(loaded, Encoder(loaded.live), PROBES, literal_specials=True)
    for loss_on in ("assistant", "all"):
        encoder = _core.ChatEncoder(loaded.spec, loss_on=loss_on)
        masks = loss_on == "assistant"
        assert check_ids(loaded, encoder, PROBES, literal_specials=False, masks=masks) == len(
            PROBES
        )
