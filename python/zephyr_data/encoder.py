"""Encodes texts and chats in memory, to the ids that transformers gives.

    encoder = Encoder.from_pretrained("path/to/tokenizer")
    encoder.encode(["Hello!", None])                                       # list<int32>, null
    encoder.encode_chats([[{"role": "user", "content": "Hello!"}]])        # input_ids, assistant_masks

An encoder has no threads and shares nothing, so forked workers of a data loader use the one of their parent, and spawned
ones get a copy by pickling.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from zephyr_data.errors import ConfigError, DataError
from zephyr_data.extension import core
from zephyr_data.tokenizer import PROBES, check_ids, load_tokenizer, messages_type

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    import pyarrow as pa
    from tokenizers import Tokenizer as Backend

    from zephyr_data.inputs import ArrowStream
    from zephyr_data.tokenizer import Chat, LoadedTokenizer, TokenizerSpec

    Exported: TypeAlias = pa.Array | pa.ChunkedArray | ArrowStream


class Encoder:
    """A tokenizer with its chat template; `Encoder.from_pretrained` makes it.

    Calls release the GIL, so threads may share an encoder. Pickling keeps the tokenizer itself and not its folder's name,
    so a copy gives the same ids anywhere and needs no files.

    Attributes:
        core: The extension's encoder, for those parts of this package that call the extension themselves.
    """

    def __init__(self, spec: TokenizerSpec, *, allow_special_in_content: bool = False) -> None:
        """Takes a tokenizer that was checked before; `from_pretrained` loads and checks one.

        Args:
            spec: The tokenizer as `zephyr_data.tokenizer.load_tokenizer` gives it.
            allow_special_in_content: As for `from_pretrained`.
        """
        self._spec = spec
        self._allow_special = allow_special_in_content
        self._last_bounded: tuple[int, Backend] | None = None
        self.core = core().ChatEncoder(spec, allow_special_in_content=allow_special_in_content)

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str], *, allow_special_in_content: bool = False
    ) -> Encoder:
        """Loads a tokenizer with transformers, and compares ids with it on hard chats and texts, once.

        Args:
            name: A folder, or a model's name, with a chat template.
            allow_special_in_content: Whether the text of a special token in a message becomes that token, as in plain
                transformers. If not, it is text like any other. It concerns `encode_chats` only.

        Raises:
            ConfigError: There is no such tokenizer, it has no fast backend or no chat template, or an id differs from
                that of transformers.
        """
        loaded = load_tokenizer(name)
        for note in loaded.notes:
            warnings.warn(note, stacklevel=2)
        encoder = cls(loaded.spec, allow_special_in_content=allow_special_in_content)
        check_ids(loaded, encoder.core, PROBES, literal_specials=allow_special_in_content)
        _check_texts(loaded, encoder)
        return encoder

    @property
    def engine(self) -> str:
        """What makes the ids: `exact-fast`, or `tokenizers` where that one is not known to be exact."""
        return str(self.core.engine)

    @property
    def template(self) -> str:
        """How the chat template is formatted: `zephyr`, `chatml`, …, or `jinja`."""
        return str(self.core.template)

    def encode(
        self,
        texts: Sequence[str | None] | Exported,
        *,
        add_special_tokens: bool = False,
        max_length: int | None = None,
    ) -> pa.ListArray:
        """Ids of each text, equal to `tokenizer(text, add_special_tokens=…)`: the text of a special token becomes the token.

        Args:
            texts: A list of strings, or an Arrow array of strings from any library that exports one (pyarrow, polars).
            add_special_tokens: Whether the tokenizer adds what it puts around a text, such as `<s>`. The `tokenizers`
                package does that, text by text, so it is much slower.
            max_length: The most ids of a text, as with `truncation=True` and truncation on the right; no more of a text is
                encoded than they need, unless special tokens are added.

        Returns:
            An array of `list<int32>`, as long as `texts`; what is null or `None` stays null.

        Raises:
            DataError: An element is no string.
            ConfigError: `max_length` is negative, or too small for the special tokens.
        """
        import pyarrow as pa

        array = _strings(texts)
        if max_length is not None and max_length < 0:
            raise ConfigError(
                f"`max_length` must be at least 0, found: `{max_length}`\nhint: leave it out for all ids",
                key="max_length",
            )
        if max_length is not None:
            # No list of an Arrow array has more.
            max_length = min(max_length, 2**31 - 1)
        if not add_special_tokens:
            return cast("pa.ListArray", pa.array(self.core.encode_texts(array, max_length)))
        backend = self._bounded(max_length)
        try:
            strings = array.to_pylist()
        except UnicodeDecodeError as error:
            raise DataError(
                f"cannot encode strings that are not UTF-8: {error}"
                "\nhint: decode them from their own encoding, or leave such rows out"
            ) from error
        ids = [
            None if text is None else backend.encode(text, add_special_tokens=True).ids
            for text in strings
        ]
        return cast("pa.ListArray", pa.array(ids, pa.list_(pa.int32())))

    def encode_chats(self, messages: Sequence[Chat] | Exported) -> pa.Table:
        """Ids and loss masks of chats, as `prepare` packs them; ids equal `apply_chat_template(tokenize=True)`.

        Args:
            messages: A list of chats, each a list of `{"role": …, "content": …}`; or an Arrow array of them.

        Returns:
            A table, a row for each chat: `input_ids` (`list<int32>`) and `assistant_masks` (`list<int8>`, 1 where the
            assistant speaks, with the token that ends the turn).

        Raises:
            DataError: A chat, a role or a content is missing or no text, or a role is unknown; or a message has another key,
                such as `tool_calls`, that the chat template might read.
            ZephyrDataError: The chat template refuses a chat.
        """
        import pyarrow as pa

        # Templates that are formatted natively are known to read no other keys.
        chats = _chats(messages, other_keys=self.template != "jinja")
        encoded = pa.array(self.core.encode(chats))
        return pa.Table.from_batches(
            [pa.RecordBatch.from_struct_array(cast("pa.StructArray", encoded))]
        )

    def _bounded(self, max_length: int | None) -> Backend:
        """The tokenizer with what it adds around a text, and with this many ids at most."""
        if max_length is None:
            return self._backend
        # Another length takes another copy, since threads may share the encoder; most programs ask for one length only.
        last = self._last_bounded
        if last is None or last[0] != max_length:
            backend = type(self._backend).from_str(self._spec.backend)
            backend.no_padding()
            try:
                backend.enable_truncation(max_length)
            except ValueError as error:
                raise ConfigError(
                    f"cannot cut texts to {max_length} ids: {error}\nhint: it must leave room for the special tokens",
                    key="max_length",
                ) from error
            last = self._last_bounded = (max_length, backend)
        return last[1]

    @functools.cached_property
    def _backend(self) -> Backend:
        """The tokenizer with what it adds around a text: a copy of its own, so that nobody else changes its state."""
        from tokenizers import Tokenizer

        backend = Tokenizer.from_str(self._spec.backend)
        backend.no_truncation()
        backend.no_padding()
        return backend

    def __reduce__(self) -> tuple[object, ...]:
        make = functools.partial(type(self), allow_special_in_content=self._allow_special)
        return make, (self._spec,)

    def __repr__(self) -> str:
        return f"Encoder({self._spec.name!r}, engine={self.engine!r}, template={self.template!r})"


# ---- the check ----


def _check_texts(loaded: LoadedTokenizer, encoder: Encoder) -> None:
    """Encodes texts without a template, also around special tokens, with and without what the tokenizer adds."""
    texts = [message["content"] for _, chat in PROBES for message in chat]
    texts += [f"a {token}b{token} {token}" for token in loaded.live.added_tokens_decoder.values()]
    for add, text in itertools.product((False, True), texts):
        theirs = cast("Any", loaded.live)(text, add_special_tokens=add)["input_ids"]
        if encoder.encode([text], add_special_tokens=add)[0].as_py() != theirs:
            raise ConfigError(
                f"cannot encode with the tokenizer `{loaded.spec.name}`, with `add_special_tokens={add}` its ids are not"
                f" those of transformers for the text: {text!r}"
                "\nhint: please report this with the tokenizer's name and the versions of zephyr-data, transformers and"
                " tokenizers",
                key="tokenizer",
            )


# ---- what may be given ----

KEYS = ("role", "content")
"""All that is read of a message."""


def _arrow(values: object, kind: pa.DataType, hint: str) -> pa.Array:
    """One Arrow array of a sequence or of what another library exports."""
    import pyarrow as pa

    if isinstance(values, str | bytes | dict):
        raise DataError(f"expected a list, found one `{type(values).__name__}`\nhint: {hint}")
    try:
        if hasattr(values, "__arrow_c_array__"):
            return pa.array(values)
        if hasattr(values, "__arrow_c_stream__"):
            chunked = pa.chunked_array(values)
            return chunked.combine_chunks() if chunked.num_chunks != 1 else chunked.chunk(0)
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError) as error:
        words = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(f"cannot encode this: {words}\nhint: {hint}") from error


def _strings(texts: object) -> pa.Array:
    import pyarrow as pa

    hint = "give a list of strings, or an Arrow array of strings such as pyarrow and polars have"
    array = _arrow(texts, pa.large_string(), hint)
    kinds = (pa.string(), pa.large_string(), pa.string_view())
    if isinstance(array, pa.DictionaryArray) and array.type.value_type in kinds:
        # A cast does not take dictionaries of string views apart, which polars has.
        array = array.dictionary.cast(pa.large_string()).take(array.indices)
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    if array.type not in kinds:
        raise DataError(f"expected strings, found: `{array.type}`\nhint: {hint}")
    return array


def _chats(messages: object, *, other_keys: bool) -> pa.Array:
    """The chats, of whose messages only roles and contents are taken: an error if `other_keys` may not be left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from zephyr_data.options import ROLES

    hint = 'give a list of chats, each a list of `{"role": "user", "content": "…"}`'
    if isinstance(messages, Iterator):
        messages = list(messages)  # it is gone through twice
    given = _arrow(messages, messages_type(), hint)
    try:
        array = given.cast(messages_type())
    except pa.ArrowException as error:
        raise DataError(f"expected chats, found: `{given.type}`\nhint: {hint}") from error
    turns = array.flatten()
    missing = array.null_count + turns.null_count
    if missing or any(turns.field(name).null_count for name in KEYS):
        number = next(index for index, chat in enumerate(array.to_pylist()) if _has_gap(chat))
        raise DataError(
            f"chat {number} is null, or lacks a role or a content\nhint: drop such chats before"
        )
    unknown = pc.filter(
        turns.field("role"), pc.invert(pc.is_in(turns.field("role"), pa.array(ROLES)))
    )
    if len(unknown):
        raise DataError(
            f"a message has an unknown role: `{unknown[0]}`"
            "\nhint: the roles are `system`, `user` and `assistant`; rename or drop the others before"
        )
    if not other_keys:
        _refuse_other_keys(messages, given)
    return array


def _refuse_other_keys(messages: object, array: pa.Array) -> None:
    """Raises if a message has more than is read; a null is to transformers as if it were not there."""
    chats = cast("Iterable[Any]", messages)
    if hasattr(messages, "__arrow_c_array__") or hasattr(messages, "__arrow_c_stream__"):
        turns = array.flatten()
        columns = (turns.field(field.name) for field in turns.type if field.name not in KEYS)
        if all(column.null_count == len(column) for column in columns):
            return
        chats = array.to_pylist()
    for number, chat in enumerate(chats):
        for key, value in itertools.chain.from_iterable(dict(turn).items() for turn in chat):
            if key not in KEYS and value is not None:
                raise DataError(
                    f"chat {number} has a message with more than a role and a content: `{key}`"
                    "\nhint: only these two are read, and the chat template might read it; drop it before, or set it to null"
                )


def _has_gap(chat: list[dict[str, str | None] | None] | None) -> bool:
    return chat is None or any(
        turn is None or turn["role"] is None or turn["content"] is None for turn in chat
    )
