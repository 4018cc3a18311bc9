"""Loads the tokenizer through transformers and holds the extension's ids against transformers' before rows are packed.

    loaded = load_tokenizer("path/to/tokenizer")
    check_ids(loaded, core.ChatEncoder(loaded.spec), PROBES)      # raises ConfigError if an id differs

transformers decides which ids are right: the same folder can give different ids, depending on the class that
`AutoTokenizer` picks for it. So the extension gets the live backend's JSON, never the files.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from zephyr_data.dataset import tokenizer_hash
from zephyr_data.errors import ConfigError, ZephyrDataError
from zephyr_data.trial import try_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

Chat = list[dict[str, str]]


@dataclass(frozen=True)
class TokenizerSpec:
    """A tokenizer as the extension takes it.

    Attributes:
        name: Folder or name, as the user gave it.
        hash: The tokenizer's identity everywhere: of `backend` and `chat_template`, never of files.
        backend: The live backend as JSON.
        chat_template: Jinja source.
        special_tokens: `bos_token`, `eos_token`, …: what `apply_chat_template` hands to the template.
    """

    name: str
    hash: str
    backend: str
    chat_template: str
    special_tokens: dict[str, str]


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokenizer, ready to pack with.

    Attributes:
        spec: For the extension.
        live: transformers' own object, which decides which ids are right.
        notes: What the user should know about how it was loaded.
    """

    spec: TokenizerSpec
    live: LiveTokenizer
    notes: tuple[str, ...] = ()


class ChatEncoder(Protocol):
    """What is checked: `zephyr_data._core.ChatEncoder`."""

    def encode(self, messages: pa.Array) -> object:
        """Ids and masks of an Arrow array of chats."""


class LiveTokenizer(Protocol):
    """What is needed of transformers' tokenizers."""

    chat_template: object
    special_tokens_map: dict[str, object]
    added_tokens_decoder: dict[int, Any]
    model_max_length: int

    def apply_chat_template(self, conversation: Chat, **options: object) -> dict[str, list[int]]:
        """Ids, and masks if the template marks them."""

    def decode(self, token_ids: list[int], **options: object) -> str:
        """The text of the ids."""


def load_tokenizer(name: str | os.PathLike[str]) -> LoadedTokenizer:
    """Loads a folder or a model's name with `transformers.AutoTokenizer`.

    Raises:
        ConfigError: There is no such tokenizer, it has no fast backend, or no chat template, or one that does not come to
            an end.
    """
    name = os.fspath(name)
    live = _from_pretrained(name)
    backend = getattr(live, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError(
            f"cannot use the tokenizer `{name}`: it has no fast backend, its class is `{type(live).__name__}`"
            "\nhint: convert it: `from transformers.convert_slow_tokenizer import convert_slow_tokenizer`, then"
            ' `convert_slow_tokenizer(tokenizer).save("tokenizer.json")` into its folder',
            key="tokenizer",
        )
    template, notes = _chat_template(name, live.chat_template)
    if Path(name).is_dir() and not Path(name, "tokenizer.json").is_file():
        notes.append(
            f"`{name}` has no `tokenizer.json`: transformers builds the tokenizer anew, and its ids can differ from those"
            " of the model; compare a few, or add the model's `tokenizer.json`"
        )
    special = {key: text for key, text in live.special_tokens_map.items() if isinstance(text, str)}
    try_template(name, template, special)
    live_json = backend.to_str()
    identity = tokenizer_hash(live_json, template)
    spec = TokenizerSpec(
        name=name, hash=identity, backend=live_json, chat_template=template, special_tokens=special
    )
    # Chats may be longer than the model's context here: packing cuts them, so the warning would be noise.
    live.model_max_length = 1 << 62
    return LoadedTokenizer(spec=spec, live=live, notes=tuple(notes))


def _from_pretrained(name: str) -> LiveTokenizer:
    folder = Path(name)
    local = folder.is_dir()
    if not local:
        _refuse_paths(name)
    with _without_advice():
        from transformers import AutoTokenizer
    try:
        live: LiveTokenizer = cast("Any", AutoTokenizer).from_pretrained(
            name, local_files_only=local
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        problem = (str(error).strip() or type(error).__name__).splitlines()[0].strip(" .:")
        problem = problem.removesuffix(" from one of")  # which a list follows
        files = "`tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`"
        hint = (
            f"the folder needs {files}, as `save_pretrained` writes them"
            if local
            else f"check the name and the network, or download {files} into a folder and name that"
        )
        raise ConfigError(
            f"cannot load the tokenizer `{name}`: {problem}\nhint: {hint}", key="tokenizer"
        ) from error
    return live


def _refuse_paths(name: str) -> None:
    """Refuses what is meant for a folder and is none, before transformers asks the hub for a model of that name.

    It asks several times, and its answer says nothing of the folder. A name without the form of a path can be that of a
    model; if a tokenizer's folder has nearly the same name, only a model that was fetched before is taken for meant.
    """
    folder = Path(name)
    is_path = folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1 or not name
    near = _nearest_folder(folder) if name and not folder.exists() else None
    if not is_path and (near is None or _is_fetched(name)):
        return
    state = "that is a file" if folder.exists() else "there is no such folder"
    hint = (
        "name a folder with a `tokenizer.json`, or a model such as `HuggingFaceH4/zephyr-7b-beta`"
    )
    if near is not None:
        hint = f"did you mean `{near}`?" + (
            "" if is_path else f" a model of the hub is fetched first with `hf download {name}`"
        )
    raise ConfigError(
        f"cannot load the tokenizer, {state}: `{name}`\nhint: {hint}", key="tokenizer"
    )


def _nearest_folder(path: Path) -> Path | None:
    """The folder with a tokenizer whose path is nearly this one: each part as it is, or the nearest name that is there.

    Names with other digits are no misspellings: `qwen-4b` is not `qwen-8b`.
    """
    path = path.expanduser()
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        if part != ".." and not (found / part).is_dir():
            digits = re.findall(r"\d+", part)
            try:
                names = [entry.name for entry in found.iterdir() if entry.is_dir()]
            except OSError:
                return None
            names = [name for name in names if re.findall(r"\d+", name) == digits]
            near = difflib.get_close_matches(part, sorted(names), n=1, cutoff=0.75)
            if not near:
                return None
            part = near[0]
        found /= part
    files = ("tokenizer.json", "tokenizer_config.json")
    return found if any((found / name).is_file() for name in files) else None


def _is_fetched(name: str) -> bool:
    """Whether the hub's cache holds a model of that name."""
    with _without_advice():
        from transformers.utils.hub import cached_file
    try:
        return cached_file(name, "tokenizer_config.json", local_files_only=True) is not None
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Keeps transformers from advising to install torch, which nothing here needs. Real warnings stay."""
    variable = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before


def _chat_template(name: str, template: object) -> tuple[str, list[str]]:
    """The template that `apply_chat_template` would take, and what to tell the user about the choice."""
    if isinstance(template, dict):
        if "default" not in template:
            raise ConfigError(
                f"cannot use the tokenizer `{name}`: it has several chat templates and none is named `default`, found:"
                f" {', '.join(f'`{key}`' for key in sorted(template))}"
                "\nhint: save the one that you mean as `chat_template.jinja` in the tokenizer's folder",
                key="tokenizer",
            )
        others = ", ".join(f"`{key}`" for key in sorted(template) if key != "default")
        notes = (
            [f"`{name}` has several chat templates: `default` is used, not {others}"]
            if others
            else []
        )
        return str(template["default"]), notes
    if not template:
        where = f"`{Path(name) / 'chat_template.jinja'}`" if Path(name).is_dir() else "its folder"
        add = (
            f"write one to {where}"
            if Path(name).is_dir()
            else "save the tokenizer to a folder with `save_pretrained`, add a `chat_template.jinja` and name that folder"
        )
        raise ConfigError(
            f"cannot use the tokenizer, it has no chat template: `{name}`"
            f"\nhint: {add}; base models have none, so take the one that you will chat with, such as Zephyr's:"
            " `examples/tokenizer/chat_template.jinja`",
            key="tokenizer",
        )
    return str(template), []


# ---- the check ----

_CODE = "Try:\n\n```python\ndef f(x):\n\treturn  x  **  2\n\n\n    # four\n```\n"

PROBES: tuple[tuple[str, Chat], ...] = tuple(
    (name, [{"role": role, "content": content} for role, content in turns])
    for name, turns in (
        ("one exchange", [("user", "Hi"), ("assistant", "Hello! How can I help?")]),
        ("system message", [("system", "Be brief."), ("user", "Why?"), ("assistant", "Because.")]),
        ("empty system message", [("system", ""), ("user", "Why?"), ("assistant", "Because.")]),
        (
            "three exchanges",
            [
                ("user", "1+1?"),
                ("assistant", "2"),
                ("user", "2+2?"),
                ("assistant", "4"),
                ("user", "And 3+3?"),
                ("assistant", "6."),
            ],
        ),
        ("no answer yet", [("user", "Are you there?")]),
        ("leading white space", [("user", "  hi"), ("assistant", "\n\n  - one\n  - two")]),
        (
            "trailing white space",
            [("user", "hi  "), ("assistant", "yes \n\n"), ("user", "\t"), ("assistant", "ok\t")],
        ),
        ("empty contents", [("user", ""), ("assistant", "")]),
        ("blank contents", [("user", " "), ("assistant", "\n")]),
        ("emoji", [("user", "👍🏽 👩‍👩‍👧‍👦"), ("assistant", "🎉🇯🇵 done ✅")]),
        ("CJK", [("user", "你好,世界!東京タワー"), ("assistant", "안녕하세요。全角　空白")]),
        ("right to left", [("user", "שלום עולם"), ("assistant", "مرحبا بالعالم ١٢٣")]),
        ("combining marks", [("user", "Cafe\u0301 n\u0303 ﬁ"), ("assistant", "Å Å ＡＢＣ ½ ²")]),
        ("code block", [("user", "Square?"), ("assistant", _CODE)]),
        ("CRLF", [("user", "a\r\nb\r\n"), ("assistant", "c\r\n\r\nd\r")]),
        (
            "digits",
            [("user", "1234567890 3.14159 1,000,000"), ("assistant", "0xFF 1e-9 2024-01-01")],
        ),
        (
            "repeats",
            [
                ("user", "a" * 40 + " " * 20 + "!" * 15),
                ("assistant", "-" * 33 + "\n" * 9 + "=" * 17),
            ],
        ),
        (
            "markup",
            [
                ("user", "<b>x</b> &amp; <|x|> [INST] {{ y }}"),
                ("assistant", "{% if z %}\\n\\\\ 'q' \"r\""),
            ],
        ),
        (
            "control characters",
            [("user", "a\u0000b\u0007\u200b\ufeffc"), ("assistant", "\u2028x\u00a0y\u0085")],
        ),
        (
            "long words",
            [
                ("user", "Donaudampfschifffahrtsgesellschaft" * 3),
                ("assistant", "https://a.b/c?d=e&f=%20#g"),
            ],
        ),
        ("two questions in a row", [("user", "One?"), ("user", "Two?"), ("assistant", "Three.")]),
        (
            "assistant begins",
            [("assistant", "Welcome."), ("user", "Thanks."), ("assistant", "Sure.")],
        ),
    )
)
"""Chats that tokenizers and templates are known to disagree on. A template may refuse some of them."""


def check_ids(
    loaded: LoadedTokenizer,
    encoder: ChatEncoder,
    chats: Iterable[tuple[str, Chat]],
    *,
    literal_specials: bool,
    masks: bool = True,
) -> int:
    """Encodes chats with the extension and with transformers, which must agree.

    A chat that the extension refuses is passed over, as `pack` drops it with its reason, unless it refuses all. So is one that
    holds a special token's text, unless `literal_specials`: there transformers is not what decides.

    Args:
        loaded: The tokenizer.
        encoder: The extension's encoder for it.
        chats: Names, for the message, and chats.
        literal_specials: Whether the encoder takes `</s>` in a content for the special token, as transformers does.
        masks: Whether the encoder's masks are those of the assistant's turns, so that they can be compared, too.

    Returns:
        How many chats were compared.

    Raises:
        ConfigError: Ids, or masks where the template marks what the assistant says, are not the same; or the extension
            refuses every chat.
    """
    specials = () if literal_specials else special_texts(loaded.live)
    marked = masks and re.search(r"{%[-+]? *generation", loaded.spec.chat_template) is not None
    compared, refusal = 0, None
    for name, chat in chats:
        if any(text in message["content"] for message, text in itertools.product(chat, specials)):
            continue
        try:
            ours = encode_chat(encoder, chat)
        except ZephyrDataError as error:
            refusal = refusal or error
            continue
        try:
            theirs = loaded.live.apply_chat_template(
                chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=marked
            )
        except Exception as error:  # templates raise whatever they like
            raise differs(
                loaded, name, f"transformers refuses it: {str(error).splitlines()[0]}"
            ) from error
        compared += 1
        for column in ("input_ids", "assistant_masks") if marked else ("input_ids",):
            if ours[column] != theirs[column]:
                raise differs(loaded, name, first_difference(column, ours[column], theirs[column]))
    if refusal is not None and not compared:
        raise refusal
    return compared


def encode_chat(encoder: ChatEncoder, chat: Chat) -> dict[str, list[int]]:
    """Ids and masks of one chat by the extension."""
    import pyarrow as pa

    encoded: dict[str, list[int]] = pa.array(encoder.encode(_one_chat(chat)))[0].as_py()
    return encoded


def _one_chat(chat: Chat) -> pa.ListArray:
    """An array of one chat, from buffers: `pa.array` of Python objects imports pandas, which costs more than all checks."""
    import pyarrow as pa

    def offsets(lengths: Iterable[int]) -> pa.Buffer:
        return pa.py_buffer(array("i", itertools.accumulate(lengths, initial=0)))

    def strings(texts: list[bytes]) -> pa.StringArray:
        return pa.StringArray.from_buffers(
            len(texts), offsets(map(len, texts)), pa.py_buffer(b"".join(texts))
        )

    columns = [strings([turn[name].encode() for turn in chat]) for name in ("role", "content")]
    kind = messages_type()
    turns = pa.StructArray.from_arrays(columns, fields=list(kind.value_type))
    return pa.ListArray.from_buffers(kind, 1, [None, offsets([len(chat)])], children=[turns])


def messages_type() -> pa.DataType:
    """Arrow type of a chat: what every stage's files and the encoder take."""
    import pyarrow as pa

    return pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))


def special_texts(live: LiveTokenizer) -> tuple[str, ...]:
    """What a special token looks like in a text."""
    return tuple(str(token) for token in live.added_tokens_decoder.values() if token.special)


def first_difference(column: str, ours: list[int], theirs: list[int]) -> str:
    """Where two lists part, in words."""
    what = "id" if column == "input_ids" else "mask"
    for position, (our, their) in enumerate(zip(ours, theirs, strict=False)):
        if our != their:
            return f"{what} {position} is {our} instead of {their}"
    return f"it has {len(ours)} {what}s instead of {len(theirs)}"


def differs(loaded: LoadedTokenizer, chat: str, difference: str) -> ConfigError:
    """The error that ends a run before anything is packed."""
    return ConfigError(
        f"cannot pack with the tokenizer `{loaded.spec.name}`, its result is not that of transformers for {chat}: {difference}"
        "\nhint: nothing was packed; please report this with the tokenizer's name and the versions of zephyr-data,"
        " transformers and tokenizers",
        key="tokenizer",
    )
