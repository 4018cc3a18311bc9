"""Every option of `prepare` with its default and its bounds: the only place in Python that names them.

The sections of [`Config`][zephyr_data.config.Config] are these models; the extension reads them by attribute. Its own
defaults are the same, which `tests/test_config.py` checks, so that Rust users and Python users get the same data.

    >>> Pack(max_length=4096).overlong
    'truncate'
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["auto", "chat", "preference"]
"""What the rows are; `auto` takes what the first row is."""

Shape = Literal[
    "auto", "messages", "sharegpt", "alpaca", "prompt_completion", "transcript", "preference"
]
"""How a file's columns are understood; `auto` takes what its first row has."""

OnBadRow = Literal["stop", "reject"]
"""Whether a row that cannot be read ends the run or is kept in `rejects/`."""

Role = Literal["system", "user", "assistant"]

ROLES: tuple[Role, ...] = get_args(Role)

MAX_LENGTH = 1 << 24
"""Most tokens of a packed row: far above any model's context, far below what 32-bit positions hold."""

MAX_WORKERS = 1024

MAX_SEED = (1 << 63) - 1
"""Seeds are 64-bit in the extension and in every file that names them."""

PERMUTATIONS = 128
"""Slots of a sketch; the bands and their rows must fit."""

MEMORY_LIMIT = 2_000_000_000
"""Bytes that the dedup stage may take."""

MAX_COUNT = (1 << 32) - 1
"""Most of anything that is counted: what 32 bits hold, more than any row has."""

Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Name = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, no silent conversions (`"2048"` is not a number)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


class Read(Section):
    """How the input is read.

    Attributes:
        kind: `chat`, `preference`, or `auto` for what the first row is.
        shape: How the columns are understood: `messages`, `sharegpt`, `alpaca`, `prompt_completion`, `transcript`,
            `preference`, or `auto` for what each file's first row has.
        on_bad_row: `stop` ends the run with the row's file and line; `reject` keeps it in `rejects/`.
        carry: Other columns of the input that are carried along to the packed rows, as text.
    """

    kind: Kind = "auto"
    shape: Shape = "auto"
    on_bad_row: OnBadRow = "stop"
    carry: list[Name] = []


class Truecase(Section):
    """Repairs lower-case sentence starts and the lone pronoun "i".

    Attributes:
        enabled: Whether it is done.
        roles: Whose turns are repaired.
    """

    enabled: bool = True
    roles: Annotated[list[Role], Field(min_length=1)] = ["assistant"]


class Empty(Section):
    """Drops rows with a turn without visible text."""

    enabled: bool = True


class Turns(Section):
    """Drops rows whose turns are out of order, too few or too many.

    Attributes:
        enabled: Whether it is done.
        min_turns: Fewest exchanges (a user turn and its answer).
        max_turns: Most exchanges; `None` for no limit.
    """

    enabled: bool = True
    min_turns: Count = 1
    max_turns: Count | None = None


class Length(Section):
    """Drops rows with too little assistant text or with too long a turn.

    Attributes:
        enabled: Whether it is done.
        min_chars: Fewest characters of the assistant's turns together, or of one side of a preference.
        max_chars: Most characters of one turn.
    """

    enabled: bool = True
    min_chars: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 1
    max_chars: Count = 200_000


class AiPreface(Section):
    """Drops answers that begin with "As an AI language model, …" where nobody asked."""

    enabled: bool = True


class Repetition(Section):
    """Drops answers that are stuck in a loop.

    Attributes:
        enabled: Whether it is done.
        min_repeats: How often a stretch of text must stand in the turn.
        min_bytes: How many bytes the repeats must fill.
        min_share_percent: How much of the turn the copies of a line must fill that do not follow each other.
    """

    enabled: bool = True
    min_repeats: Annotated[int, Field(ge=2, le=MAX_COUNT)] = 8
    min_bytes: Count = 640
    min_share_percent: Annotated[int, Field(ge=1, le=100)] = 60


class Refusal(Section):
    """Drops answers that decline. Off by default: a model has to learn to decline, too.

    Attributes:
        enabled: Whether it is done.
        max_bytes: The longest answer that is taken for a refusal; longer ones say more than no.
    """

    enabled: bool = False
    max_bytes: Count = 1000


class Clean(Section):
    """What is repaired and what is dropped, row by row."""

    truecase: Truecase = Truecase()
    empty: Empty = Empty()
    turns: Turns = Turns()
    length: Length = Length()
    ai_preface: AiPreface = AiPreface()
    repetition: Repetition = Repetition()
    refusal: Refusal = Refusal()


class ConstantAnswer(Section):
    """Drops rows whose answer is given to many different prompts.

    Attributes:
        enabled: Whether it is done.
        min_prompts: How many prompts.
        min_chars: How long the answer must be: "Yes." is a good answer to many prompts.
    """

    enabled: bool = True
    min_prompts: Annotated[int, Field(ge=2, le=MAX_COUNT)] = 10
    min_chars: Count = 40


class Benchmark(Section):
    """A file whose texts must not be in the data; the path alone may stand for it.

    Attributes:
        path: A file of `.jsonl`, `.json`, `.parquet` or `.arrow`, plain or with `.gz` or `.zst` behind it, a folder, or a glob.
        fields: The fields that hold its texts; empty for all of a usual name, such as `turns` or `question`.
    """

    path: Name
    fields: list[Name] = []

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: object) -> object:
        """A path becomes a mapping, and a path object a string."""
        if isinstance(value, str | os.PathLike):
            value = {"path": value}
        if isinstance(value, Mapping) and isinstance(value.get("path"), os.PathLike):
            return {**value, "path": os.fspath(value["path"])}
        return value


class Contamination(Section):
    """When a row holds the text of a benchmark.

    Attributes:
        ngram: Words of the runs that are looked for.
        coverage: Share of a text's runs that must stand in one message.
        min_words: Words of the stretch that they must make there, unless the message is that text and nothing else.
    """

    ngram: Annotated[int, Field(ge=2, le=32)] = 8
    coverage: Annotated[float, Field(gt=0, le=1)] = 0.5
    min_words: Count = 13


class Dedup(Section):
    """What is dropped for the sake of other rows, and how the rest is split.

    Attributes:
        exact: Whether rows go that equal an earlier one but for case, white space and punctuation.
        constant_answer: One answer given to many prompts.
        near: Whether near-duplicates go: rows that share most of their runs of five words with one that stays.
        compare: What of a row is compared: `prompt`, `conversation` or `assistant`.
        threshold: From which Jaccard index on rows are near-duplicates.
        policy: `direct` drops a row only if it is itself similar to the row that stays; `component` keeps one row of all
            that are connected by similar ones.
        keep: Which row stays: the `first`, the `longest`, or that with the `best_score`.
        bands: Number of bands in which rows are looked for.
        rows: Slots of a band, of 128.
        memory_limit: Bytes of memory that the stage may take; the result does not depend on it.
        decontaminate: Benchmarks; rows that hold a text of one go. A path each, or a `Benchmark` to name its fields.
        contamination: When a row holds one.
        test_fraction: Share of all prompts that make the test set.
    """

    exact: bool = True
    constant_answer: ConstantAnswer = ConstantAnswer()
    near: bool = True
    compare: Literal["prompt", "conversation", "assistant"] = "conversation"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.8
    policy: Literal["direct", "component"] = "direct"
    keep: Literal["first", "longest", "best_score"] = "first"
    bands: Annotated[int, Field(ge=1, le=PERMUTATIONS)] = 20
    rows: Annotated[int, Field(ge=1, le=PERMUTATIONS)] = 6
    memory_limit: Annotated[int, Field(ge=1, le=MAX_SEED)] = MEMORY_LIMIT
    decontaminate: list[Benchmark] = []
    contamination: Contamination = Contamination()
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.01


class Pack(Section):
    """How rows become tokens.

    Attributes:
        max_length: Tokens of a packed row, and the most of one document or pair.
        loss_on: Which tokens carry the loss: the assistant's, or all.
        overlong: What happens to a longer document: `truncate`, `drop`, or `split_turns`.
        allow_special_in_content: Whether `</s>` in a message means the special token instead of the text.
    """

    max_length: Annotated[int, Field(ge=8, le=MAX_LENGTH)] = 2048
    loss_on: Literal["assistant", "all"] = "assistant"
    overlong: Literal["truncate", "drop", "split_turns"] = "truncate"
    allow_special_in_content: bool = False


class DedupOptions(Dedup):
    """`Dedup` as the extension takes it: with the seed, which a configuration names once, at its top."""

    seed: Seed = 0


class PackOptions(Pack):
    """`Pack` as the extension takes it: with the seed."""

    seed: Seed = 0
