"""The judge's prompts: this project's own words, in versioned files under `judge_prompts/`.

The version is part of every request's key, so changed words are asked anew and old verdicts are
never mixed with new ones. Each request carries a code (`tag`) that is a hash of the seed and the
texts. Texts stand between lines with that code and verdicts start with it: an answer that holds a
verdict of its own, or pretends to end, cannot know it.
"""

from __future__ import annotations

import re
from base64 import b32encode
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml

from zephyr_data.errors import ConfigError
from zephyr_data.feedback import draws

PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt file."""

    version: str
    system: str
    user: str
    parts: dict[str, Any] = field(default_factory=dict)
    """What else the file holds: the block of one text, the aspects."""


@cache
def load_template(name: str) -> Template:
    """Loads a prompt file of this package by its version, such as `overall.v1`."""
    file = resources.files("zephyr_data.feedback") / "judge_prompts" / f"{name}.yaml"
    data: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return Template(data.pop("version"), data.pop("system"), data.pop("user"), data)


def fill(template: str, **values: str) -> str:
    """Puts the values in, in one pass: a `{{name}}` inside a value stays as it is.

    Raises:
        ConfigError: The template names something that there is no value for.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            raise ConfigError(f"a judge prompt names an unknown value: {name}")
        return values[name]

    return PLACEHOLDER.sub(value, template)


def tag(seed: int, *parts: str) -> str:
    """The code of one request: six letters and digits that no answer can know."""
    return b32encode(draws.digest(seed, "tag", *parts))[:6].decode()
