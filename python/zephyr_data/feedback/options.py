"""Options of models and judges as they stand in YAML files; an unknown key names the nearest one.

models:
- name: small
base_url: http://127.0.0.1:8231/v1
model: my-org/small
key_env: SMALL_KEY          # the name of the variable, never the key
sampling: {temperature: 1.0, max_tokens: 512}
price: {input: 0.15, output: 0.60}
- name: bundled
answers: answers/bundled.jsonl
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path  # pydantic needs it when the program runs
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zephyr_data.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

RESERVED = frozenset({"model", "messages", "stream", "n"})
"""Body fields that are ours: of `n` answers all would be paid for and one read."""
Mode = Literal["aspects", "overall", "pairwise", "reference", "rule"]
Aspect = Literal["instruction_following", "truthfulness", "honesty", "helpfulness"]
ASPECTS: tuple[str, ...] = get_args(Aspect)


class Options(BaseModel):
    """Base of all option models: frozen, and no key that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Sampling(Options):
    """How a model is asked; all of it is part of a request's key."""

    temperature: float | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int = Field(1024, ge=1)
    seed: int | None = None
    stop: list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request body, sent as they are."""

    @model_validator(mode="after")
    def _extra_is_extra(self) -> Self:
        for name in self.extra:
            if name in type(self).model_fields or name == "max_completion_tokens":
                raise ValueError(f"`extra` holds a field that has an option of its own: {name}")
            if name in RESERVED:
                raise ValueError(f"`extra` holds a field that must not change: {name}")
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`extra` cannot be sent as JSON: {error}") from None
        return self

    def body(self) -> dict[str, Any]:
        """The fields of the request body, without those that were not set."""
        fields = self.model_dump(
            exclude={"extra", "max_tokens", "max_tokens_field"}, exclude_none=True
        )
        return {**fields, self.max_tokens_field: self.max_tokens, **self.extra}


class Price(Options):
    """What a million tokens costs, in the currency that `--max-cost` is given in."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Answerer(Options):
    """One model: an endpoint, a Python function or a file of answers."""

    name: str = Field(min_length=1)
    base_url: str | None = None
    model: str | None = None
    key_env: str | None = None
    function: str | None = None
    """`module:name` or `file.py:name` (relative to the YAML file): prompt text -> answer."""
    answers: Path | None = None
    """JSONL of `id` and `answer` (relative to the YAML file)."""
    system: str | None = None
    sampling: Sampling = Sampling()  # type: ignore[call-arg] # pydantic fills the defaults
    price: Price | None = None
    concurrency: int = Field(8, ge=1)
    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)
    timeout_s: float = Field(120.0, gt=0)
    max_attempts: int = Field(6, ge=1)
    backoff_s: float = Field(0.5, ge=0)
    """First pause after a failed attempt; it doubles up to `max_backoff_s`."""
    max_backoff_s: float = Field(30.0, ge=0)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [k for k in ("base_url", "function", "answers") if getattr(self, k) is not None]
        if len(kinds) != 1:
            raise ValueError(
                f"model `{self.name}` needs exactly one of `base_url`, `function`, `answers`, "
                f"found: {', '.join(kinds) or 'none'}"
            )
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(
                f"`base_url` of model `{self.name}` must begin with http:// or https://, "
                f"found: {self.base_url}"
            )
        if self.base_url is not None and not self.model:
            raise ValueError(f"model `{self.name}` has a `base_url` but no `model`")
        return self


class Principle(Options):
    """A system prompt that some answers are written under (UltraFeedback draws one an answer)."""

    name: str
    text: str
    weight: float = Field(1.0, gt=0)


class ModelsFile(Options):
    """The file that `--models` names."""

    models: list[Answerer] = Field(min_length=1)
    principles: list[Principle] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for what, names in (
            ("models", [m.name for m in self.models]),
            ("principles", [p.name for p in self.principles]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"two {what} have the same name: {twice[0]}")
        return self


class Rule(Options):
    """A check that needs no model: the answer against the prompt's `reference`."""

    kind: Literal["exact", "final_answer", "regex", "function"]
    pattern: str | None = None
    """regex: group 1 (or the whole match) of its LAST match must equal the reference, or, where
    `must_match` is set, matching is all that counts."""
    must_match: bool = False
    function: str | None = None
    """`module:name` or `file.py:name`: (prompt, answer, reference) -> number or bool."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for kind, field in (("regex", "pattern"), ("function", "function")):
            if (self.kind == kind) != (getattr(self, field) is not None):
                raise ValueError(f"`{field}` belongs to rule kind `{kind}`, kind is: {self.kind}")
        if self.must_match and self.kind != "regex":
            raise ValueError(f"`must_match` belongs to rule kind `regex`, kind is: {self.kind}")
        return self


class JudgeFile(Options):
    """The file that `--judge` names: an endpoint under `judge`, or a `rule`."""

    judge: Answerer | None = None
    rule: Rule | None = None
    verdict: Literal["text", "logprobs"] = "text"
    """AlpacaEval only: read the verdict from the text, or from the first token's top_logprobs."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.judge is None) == (self.rule is None):
            raise ValueError("needs exactly one of `judge` and `rule`")
        return self


OptionsT = TypeVar("OptionsT", bound=Options)


def load_options(path: Path, kind: type[OptionsT]) -> OptionsT:
    """Reads a YAML file into an option model.

    Raises:
        ConfigError: The file is no YAML mapping, or a key or value is unknown.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read `{path}` as YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"`{path}` must hold a mapping, found: {type(data).__name__}")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _config_error(path, kind, error) from None


def _config_error(path: Path, kind: type[Options], error: ValidationError) -> ConfigError:
    # a misspelt key usually comes with a missing one: the misspelling is what helps
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        known = sorted(_known_keys(kind, first["loc"][:-1]))
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        hint = f"hint: did you mean `{near[0]}`? known keys: {', '.join(known)}"
        return ConfigError(f"unknown key in `{path}`: {key}\n{hint}", key)
    message = first["msg"].removeprefix("Value error, ")
    where = f" at `{key}`" if key else ""
    return ConfigError(f"bad option in `{path}`{where}: {message}", key or None)


def _known_keys(kind: type[Options], loc: tuple[int | str, ...]) -> set[str]:
    """The keys of the model that stands at `loc`."""
    current: type[Options] = kind
    for part in loc:
        if isinstance(part, str) and part in current.model_fields:
            current = next(_option_types(current.model_fields[part].annotation), current)
    return set(current.model_fields)


def _option_types(annotation: object) -> Iterator[type[Options]]:
    if isinstance(annotation, type) and issubclass(annotation, Options):
        yield annotation
    for argument in get_args(annotation):
        yield from _option_types(argument)
