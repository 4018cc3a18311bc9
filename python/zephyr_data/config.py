"""The options of a run: from a YAML file, a mapping or arguments, checked, with messages that name the way out.

>>> Config.load({"pack": {"max_lenght": 4096}})
Traceback (most recent call last):
...
zephyr_data.errors.ConfigError: unknown option: `pack.max_lenght`
hint: did you mean `pack.max_length`?
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from zephyr_data.errors import ConfigError
from zephyr_data.options import (
    MAX_WORKERS,
    Benchmark,
    Clean,
    Dedup,
    DedupOptions,
    Pack,
    PackOptions,
    Read,
    Section,
    Seed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic_core import ErrorDetails


def schedulable_cpus() -> int:
    """How many CPUs this process may use, which in a container is often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


DEFAULT_VERIFY = 32
"""Rows that are verified unless another number is asked for: a few hundredths of a second."""


class Config(Section):
    """All options of `prepare`; `Config()` holds the defaults.

    Attributes:
        read: How the input is read.
        clean: What is repaired and dropped, row by row.
        dedup: Duplicates and the train/test split.
        pack: Tokens and rows.
        seed: Decides the train/test split and the order of the packed rows.
        workers: Threads. They decide how long a run takes and nothing else.
        verify: Random rows whose ids are held against transformers before anything is packed.
    """

    read: Read = Read()
    clean: Clean = Clean()
    dedup: Dedup = Dedup()
    pack: Pack = Pack()
    seed: Seed = 0
    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] = Field(default_factory=schedulable_cpus)
    verify: Annotated[int, Field(ge=0)] = DEFAULT_VERIFY

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Config:
        """Options from `source`, with `overrides` on top.

        Args:
            source: A YAML file, a mapping of the same shape, another `Config`, or nothing for the defaults.
            overrides: Values by dotted key, such as `{"pack.max_length": 4096}`; `None` leaves what the source says.

        Raises:
            ConfigError: An option is unknown or has a value that cannot be honoured.
            FileNotFoundError: There is no such file.
        """
        values = _values(source)
        for key, value in (overrides or {}).items():
            if value is not None:
                _set(values, key.split("."), value)
        # In YAML, a section whose options are all commented out is `null`.
        values = {key: {} if value is None else value for key, value in values.items()}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _explain(error.errors(include_url=False)[0]) from None

    def dedup_options(self) -> DedupOptions:
        """What the extension's `dedup` takes."""
        return DedupOptions(**dict(self.dedup), seed=self.seed)

    def pack_options(self) -> PackOptions:
        """What the extension's `pack` takes."""
        return PackOptions(**dict(self.pack), seed=self.seed)


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Dotted names of all options, such as `clean.length.max_chars`, sections included."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_keys(field.annotation, f"{prefix}{name}.")


def _values(source: str | os.PathLike[str] | Mapping[str, Any] | Config | None) -> dict[str, Any]:
    """A copy of the source as nested dictionaries, free to be changed."""
    if source is None:
        return {}
    if isinstance(source, Config):
        return source.model_dump()
    if isinstance(source, Mapping):
        return _copied(source)
    return _read_yaml(Path(source))


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml  # 0.1 s, needed only where there is a file

    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            errno.ENOENT,
            f"cannot read `{path}`: No such file or directory"
            "\nhint: check the spelling; a relative path starts at the current directory",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = f"{path}"
        if (mark := getattr(error, "problem_mark", None)) is not None:
            place += f":{mark.line + 1}"
        problem = getattr(error, "problem", None) or "not a UTF-8 text"
        raise ConfigError(
            f"cannot read the configuration `{place}`: {problem}"
            "\nhint: check the indentation, and put values with `:` or `#` in quotes"
        ) from None
    if loaded is None:
        return {}
    if not isinstance(loaded, Mapping):
        raise ConfigError(
            f"cannot read the configuration `{path}`, expected sections such as `pack:`, found: {_literal(loaded)}"
            f"\nhint: the sections and options are {_listed(Config.model_fields)}"
        )
    return _copied(loaded)


def _copied(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Nested mappings as dictionaries of our own; models in them become mappings, too."""
    copied: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, BaseModel):
            value = value.model_dump()
        copied[str(key)] = _copied(value) if isinstance(value, Mapping) else value
    return copied


def _set(values: dict[str, Any], keys: list[str], value: object) -> None:
    """Sets a nested value; a section that is no mapping is left as it is, for the check to refuse."""
    for key in keys[:-1]:
        section = values[key] = values.get(key) or {}
        if not isinstance(section, dict):
            return
        values = section
    values[keys[-1]] = value


def _explain(error: ErrorDetails) -> ConfigError:
    """One error of pydantic in this project's words."""
    key = ".".join(str(part) for part in error["loc"] if isinstance(part, str) and part != "int")
    if error["type"] == "extra_forbidden":
        return _unknown(key)
    expected = _expected(error)
    message = f"`{key}` must be {expected}, found: {_literal(error['input'])}"
    return ConfigError(f"{message}\nhint: {_hint(key)}", key=key)


def _unknown(key: str) -> ConfigError:
    known = [*known_keys(), *known_keys(Benchmark, "dedup.decontaminate.")]
    near = _nearest(key, known)
    if near is not None:
        return ConfigError(f"unknown option: `{key}`\nhint: did you mean `{near}`?", key=key)
    parent = key.rpartition(".")[0]
    siblings = [
        name.removeprefix(f"{parent}.") for name in known if name.rpartition(".")[0] == parent
    ]
    where = f"`{parent}` has" if parent else "the sections and options are"
    return ConfigError(f"unknown option: `{key}`\nhint: {where} {_listed(siblings)}", key=key)


def _nearest(key: str, known: list[str]) -> str | None:
    """The option that was meant: the nearest name in full, else the nearest by its last part, in whatever section."""
    for candidates in (
        [name for name in known if "." not in name] if "." not in key else [],
        known,
    ):
        if near := difflib.get_close_matches(key, candidates, n=1, cutoff=0.75):
            return near[0]
    last = key.rpartition(".")[2]
    by_last = {name.rpartition(".")[2]: name for name in reversed(known)}
    near = difflib.get_close_matches(last, by_last, n=1, cutoff=0.8)
    return by_last[near[0]] if near else None


_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "`true` or `false`",
    "string": "a text",
    "list": "a list",
    "model": "a section with options below it",
    "dict": "a section with options below it",
}


def _expected(error: ErrorDetails) -> str:
    """What would have been right, from pydantic's type of error."""
    context = error.get("ctx", {})
    match error["type"]:
        case "greater_than_equal":
            return f"at least {context['ge']:g}"
        case "greater_than":
            return f"above {context['gt']:g}"
        case "less_than_equal":
            return f"at most {context['le']}"
        case "less_than":
            return f"below {context['lt']:g}"
        case "too_short":
            return f"a list of {context['min_length']} or more"
        case "string_too_short":
            return "a text that is not empty"
        case "literal_error":
            return str(context["expected"]).replace("'", "`")
        case "missing":
            return "given"
        case "finite_number":
            return "a finite number"
        case kind:
            return _TYPES.get(kind.partition("_")[0], error["msg"].lower())


_HINTS = {
    "pack.max_length": "2048 is usual; it counts tokens, not characters",
    "dedup.decontaminate": "a list of files or globs, or of `{path: FILE, fields: [NAME]}`",
    "dedup.decontaminate.path": "the file of a benchmark, or a folder or glob of them",
    "dedup.decontaminate.fields": "the names of the fields that hold the texts, such as `[question]`",
    "dedup.memory_limit": "bytes, without a unit: `2000000000` are two gigabytes",
    "dedup.test_fraction": "0.01 keeps one prompt in a hundred for the test set, 0 keeps none",
    "workers": "leave it out to use all CPUs that this process may use",
    "verify": "a number of rows; each takes about a millisecond, and 0 verifies none",
    "seed": "any whole number from 0 on; the same seed gives the same bytes",
    "read.kind": "`auto` takes what the first row is",
    "read.shape": "`auto` takes what each file's first row has; docs/SHAPES.md shows a row of each",
    "read.carry": "name columns of the input, as in `carry: [source]`",
    "read.on_bad_row": "`reject` keeps rows that cannot be read in `rejects/` and goes on",
}


def _hint(key: str) -> str:
    if key in _HINTS:
        return _HINTS[key]
    model: type[BaseModel] = Config
    default: object = None
    for part in key.split("."):
        if part not in model.model_fields:
            break
        field = model.model_fields[part]
        default = field.get_default(call_default_factory=False)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
    if isinstance(default, BaseModel):
        return f"the options of `{key}` are {_listed(model.model_fields)}"
    return f"the default is {_literal(default)}"


def _literal(value: object) -> str:
    """A value as a configuration file has it, not longer than a line bears."""
    if value is None or isinstance(value, bool):
        return {None: "`null`", True: "`true`", False: "`false`"}[value]
    text = str(value) if isinstance(value, int | float) else repr(value)
    return f"`{text}`" if len(text) <= 60 else f"`{text[:57]}...`"


def _listed(names: Iterable[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
