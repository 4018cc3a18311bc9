"""Every way in which the extension fails, with the whole message: what failed, where, the value, and the way out."""

import gzip
import json
from dataclasses import replace

import pytest

from zephyr_data import ConfigError, DataError, LockedError, ManifestError, ZephyrDataError, _core
from zephyr_data.config import Config
from zephyr_data.tokenizer import encode_chat, load_tokenizer

KNOWN = (
    "a chat has `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, or a `text` that is a"
    " transcript; a preference has `chosen` and `rejected` (and `prompt`)"
)
MESSAGE = "a message is an object with the strings `role` and `content`"
ENDINGS = (
    "`.jsonl`, `.ndjson`, `.json`, `.parquet` or `.arrow`, plain or with `.gz` or `.zst` behind it"
)
CHAT = (
    '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}'
)


def quiet(*_):
    pass


@pytest.fixture
def clean(tmp_path):
    """A function: runs the first stage on one file of this name and content."""

    def run(content, name="rows.jsonl", **read):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        config = Config.load({"read": read})
        return _core.clean([path], tmp_path / "out", config.read, config.clean, 2, quiet)

    return run


# Content of the second line, kind, message, field, hint.
ROWS = {
    "not JSON": (
        '{"messages": [',
        "chat",
        "not valid JSON: EOF while parsing a list, column 14",
        None,
        "each line must be one JSON object",
    ),
    "not an object": ("[1]", "chat", "expected a JSON object, found a list", None, KNOWN),
    "no messages": (
        '{"conversations": [], "n": 1}',
        "chat",
        "no field `messages`",
        None,
        (
            "the row has `conversations`, `n`: its shape is `sharegpt`, that of the file `messages`; put rows of each shape into"
            " files of their own"
        ),
    ),
    "a preference among chats": (
        '{"prompt": "p", "chosen": "a", "rejected": "b"}',
        "chat",
        "no field `messages`",
        None,
        (
            "the row has `prompt`, `chosen`, `rejected`: it is a preference, the run is for rows of the kind `chat`;"
            " prepare each kind on its own"
        ),
    ),
    "messages of a wrong type": (
        '{"messages": "Hi"}',
        "chat",
        "expected a list of messages, found a string",
        "messages",
        KNOWN,
    ),
    "a message of a wrong type": (
        '{"messages": ["Hi"]}',
        "chat",
        "expected a message, found a string",
        "messages[0]",
        MESSAGE,
    ),
    "no content": (
        '{"messages": [{"role": "user"}]}',
        "chat",
        "no field `content`",
        "messages[0]",
        MESSAGE,
    ),
    "a content of a wrong type": (
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": 4}]}',
        "chat",
        "expected a string, found a number",
        "messages[1].content",
        MESSAGE,
    ),
    "an unknown role": (
        '{"messages": [{"role": "tool", "content": "Hi"}]}',
        "chat",
        "unknown role `tool`",
        "messages[0].role",
        "the roles are `system`, `user` and `assistant`; rename the role or leave such rows out",
    ),
    "strings without a prompt": (
        '{"chosen": "a", "rejected": "b"}',
        "preference",
        "no field `prompt`",
        None,
        "answers that are strings need a `prompt`, a string or a message list",
    ),
    "answers of different types": (
        '{"prompt": "p", "chosen": "a", "rejected": [{"role": "assistant", "content": "b"}]}',
        "preference",
        "`chosen` and `rejected` are of different types",
        "rejected",
        "make both strings, or both message lists",
    ),
    "answers to different prompts": (
        json.dumps(
            {
                side: [{"role": "user", "content": side}, {"role": "assistant", "content": "a"}]
                for side in ("chosen", "rejected")
            }
        ),
        "preference",
        "`chosen` and `rejected` do not begin with the same messages",
        "chosen",
        "put the prompt at the start of both, or into a column `prompt`",
    ),
    "a score of a wrong type": (
        '{"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": "high"}',
        "preference",
        "expected a number, found a string",
        "score_chosen",
        "write scores as numbers, or leave the column out",
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows(clean, tmp_path, case):
    content, kind, message, field, hint = ROWS[case]
    good = CHAT if kind == "chat" else '{"prompt": "p", "chosen": "a", "rejected": "b"}'
    with pytest.raises(DataError) as caught:
        clean(f"{good}\n{content}\n", kind=kind)
    path = f"{tmp_path}/rows.jsonl"
    place = f" at {path}:2" + (f", field: `{field}`" if field else "")
    assert str(caught.value) == f"{message}{place}\nhint: {hint}"
    assert (caught.value.path, caught.value.line, caught.value.field) == (path, 2, field)


def test_a_row_that_is_not_utf_8(clean, tmp_path):
    with pytest.raises(DataError) as caught:
        clean(CHAT.encode() + b"\n" + CHAT.encode().replace(b"Hello", b"H\xe9llo") + b"\n")
    assert str(caught.value) == (
        f"the line is not UTF-8 from byte 85 on at {tmp_path}/rows.jsonl:2\nhint: convert the file to UTF-8"
    )


FILES = {
    "an ending that is not read": (
        CHAT,
        "rows.csv",
        "the name's ending is not one that is read",
        f"rename or convert it to {ENDINGS}",
    ),
    "no row of a known shape": (
        '{"text": "a"}\n',
        "rows.jsonl",
        "no row has the columns of a chat or of a preference",
        f"{KNOWN}; name the kind with `--kind` to see what is wrong with the first row",
    ),
    "gzip that ends too early": (
        gzip.compress(f"{CHAT}\n".encode() * 1000, mtime=0)[:-20],
        "rows.jsonl.gz",
        "the gzip data ends too early",
        "fetch or write the file again; decompress it by hand to see how far it is good",
    ),
    "zstd that is none": (
        b"not zstd at all",
        "rows.jsonl.zst",
        "the zstd data is damaged",
        "fetch or write the file again; decompress it by hand to see how far it is good",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_files(clean, tmp_path, case):
    content, name, message, hint = FILES[case]
    with pytest.raises(DataError) as caught:
        clean(content, name)
    assert str(caught.value) == f"cannot read `{tmp_path}/{name}`: {message}\nhint: {hint}"
    assert (caught.value.path, caught.value.line, caught.value.field) == (
        f"{tmp_path}/{name}",
        None,
        None,
    )


def test_a_file_that_is_no_parquet(clean, tmp_path):
    with pytest.raises(DataError) as caught:
        clean("not parquet at all", "rows.parquet")
    first, hint = str(caught.value).splitlines()
    assert first.startswith(
        f"cannot read `{tmp_path}/rows.parquet`: not a Parquet file that can be read: "
    )
    assert hint == "hint: fetch or write the file again"


def test_a_folder_without_data(tmp_path):
    (tmp_path / "input").mkdir()
    config = Config()
    with pytest.raises(DataError) as caught:
        _core.clean([tmp_path / "input"], tmp_path / "out", config.read, config.clean, 1, quiet)
    assert str(caught.value) == (
        f"cannot read `{tmp_path}/input`: the folder has no file that is read\nhint: its files must end in {ENDINGS}"
    )


def test_the_system_refuses(tmp_path):
    config = Config()
    with pytest.raises(FileNotFoundError) as caught:
        _core.clean(
            [tmp_path / "nowhere.jsonl"], tmp_path / "out", config.read, config.clean, 1, quiet
        )
    assert caught.value.errno == 2
    assert caught.value.strerror == (
        f"cannot read `{tmp_path}/nowhere.jsonl`: No such file or directory\n"
        "hint: check the spelling; a relative path starts at the current directory"
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"cannot create `{tmp_path}/file") as caught:
        _core.DirectoryLock(tmp_path / "file")
    assert caught.value.errno in (17, 20)


def test_an_option_that_python_checks_is_checked_by_the_core_too(tmp_path, usable):
    config = Config()
    with pytest.raises(ConfigError) as caught:
        _core.dedup(
            tmp_path, config.dedup_options().model_copy(update={"test_fraction": 1.0}), 1, quiet
        )
    assert str(caught.value) == (
        "`dedup.test_fraction` must be at least 0 and below 1, found: 1\n"
        "hint: 0.01 keeps one prompt in a hundred for the test set"
    )
    assert caught.value.key == "dedup.test_fraction"
    with pytest.raises(ConfigError) as caught:
        _core.pack(
            tmp_path, usable, config.pack_options().model_copy(update={"max_length": 7}), 1, quiet
        )
    assert str(caught.value) == (
        "`pack.max_length` must be from 8 to 16777216 tokens, found: 7\nhint: 2048 is what the Zephyr recipe takes"
    )
    assert caught.value.key == "pack.max_length"
    with pytest.raises(
        ValueError, match="`pack.loss_on` must be one of `assistant`, `all`, found: `user`"
    ):
        _core.ChatEncoder(usable, loss_on="user")


@pytest.fixture
def usable(transformers, examples):  # noqa: ARG001 - loaded where its warnings do not count
    """What the extension takes of the bundled tokenizer."""
    return load_tokenizer(examples / "tokenizer").spec


def test_a_tokenizer_that_cannot_be_read(usable):
    with pytest.raises(ConfigError) as caught:
        _core.ChatEncoder(replace(usable, backend="{}"))
    first, hint = str(caught.value).splitlines()
    assert first.startswith("cannot use the tokenizer: its JSON cannot be read: ")
    assert hint == (
        "hint: give the text of `tokenizer.backend_tokenizer.to_str()`; slow (Python) tokenizers have none"
    )
    assert caught.value.key == "tokenizer"


USER = [{"role": "user", "content": "Hi"}]

TEMPLATES = {
    "that cannot be read": (
        "{% for m in messages %}",
        "cannot apply the chat template: it cannot be read: ",
        "correct the template; `transformers.AutoTokenizer` shows the same error, or please report this one",
    ),
    "that refuses a chat": (
        "{{ raise_exception('users first') }}",
        "cannot apply the chat template: it refuses this chat: users first",
        "drop such chats, or give a template that takes them",
    ),
    "that prints today's date": (
        "{{ strftime_now('%Y') }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "cannot apply the chat template: it prints today's date, so that the same chats would give other tokens tomorrow",
        "give a template with a fixed date in place of `strftime_now(...)`",
    ),
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_a_template(usable, case):
    template, message, hint = TEMPLATES[case]
    with pytest.raises(ConfigError) as caught:
        encode_chat(_core.ChatEncoder(replace(usable, chat_template=template)), USER)
    first, last = str(caught.value).splitlines()
    assert first.startswith(message)
    assert last == f"hint: {hint}"
    assert caught.value.key == "tokenizer"


def test_a_stage_without_the_one_before(tmp_path, usable):
    config = Config()
    runs = {
        "clean": lambda: _core.dedup(tmp_path, config.dedup_options(), 1, quiet),
        "dedup": lambda: _core.pack(tmp_path, usable, config.pack_options(), 1, quiet),
    }
    for folder, run in runs.items():
        with pytest.raises(ManifestError) as caught:
            run()
        assert str(caught.value) == (
            f"cannot use `{tmp_path}/{folder}`: no `manifest.json` that can be read\n"
            "hint: the stage before has not finished; run `zephyr-data prepare` again"
        )


def test_a_folder_that_another_run_holds(tmp_path):
    held = _core.DirectoryLock(tmp_path)
    with pytest.raises(LockedError) as caught:
        _core.DirectoryLock(tmp_path)
    assert str(caught.value) == (
        f"cannot lock `{tmp_path}`: another `zephyr-data prepare` works on this folder\n"
        "hint: wait for it to end, or choose another `--out`"
    )
    held.release()
    held.release()
    with _core.DirectoryLock(tmp_path):
        pass
    _core.DirectoryLock(tmp_path).release()


def test_what_is_no_chat(usable):
    import pyarrow as pa

    encoder = _core.ChatEncoder(usable)
    with pytest.raises(
        TypeError, match="expected an Arrow array of list<struct<role: string, content: string>>"
    ):
        encoder.encode(pa.array(["Hi"]))
    with pytest.raises(ValueError, match="unknown role in chat 1"):
        encoder.encode(pa.array([USER, [{"role": "tool", "content": "Hi"}]]))


def test_all_are_errors_of_this_package():
    for error in (ConfigError, DataError, ManifestError, LockedError):
        assert issubclass(error, ZephyrDataError)
