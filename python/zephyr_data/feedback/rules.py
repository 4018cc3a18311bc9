r"""The judge that needs no model: the answer against the prompt's reference.

rule: {kind: final_answer}      the number or words after the last `A:`, `####` or `\\boxed{`
rule: {kind: exact}             the whole answer, but for spaces and case at the ends
rule: {kind: regex, pattern: "Answer: (.*)"}
rule: {kind: function, function: rules.py:score}
"""

from __future__ import annotations

import math
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from zephyr_data.errors import ConfigError, DataError
from zephyr_data.feedback.endpoint import load_function, source_hash

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zephyr_data.feedback.options import Rule
    from zephyr_data.feedback.prompts import Prompt

RULES_VERSION = "rule.v1"
Score = tuple[float | None, str | None]
"""The score, or None and the reason."""

_FINAL = re.compile(r"^\s*A:(.*)$|####(.*)$|\\boxed\{([^{}]*)\}", re.MULTILINE)
_NUMBER = re.compile(r"-?(\d[\d,]*)?\.?\d+")


def final_answer(text: str) -> str | None:
    r"""What stands after the last answer mark, or None where there is no mark.

    >>> final_answer("6 * 3 = 18\\nA: 1,800.0")
    '1800'
    """
    found: str | None = None
    for match in _FINAL.finditer(text):
        found = next(group for group in match.groups() if group is not None)
    return None if found is None else normal(found)


def normal(answer: str) -> str:
    """`$1,800.00.` and `1800` are the same answer; words are compared without case."""
    plain = answer.strip().strip("$ ").rstrip(".").strip()
    if not _NUMBER.fullmatch(plain):
        return " ".join(plain.lower().split())
    plain = plain.replace(",", "")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    sign = "-" if plain.startswith("-") else ""
    digits = plain.lstrip("-").lstrip("0")
    if not digits or digits.startswith("."):
        digits = f"0{digits}"
    return "0" if digits == "0" else sign + digits


class RuleJudge:
    """Scores answers by one rule."""

    def __init__(self, rule: Rule, folder: Path) -> None:
        self.rule = rule
        self._score: Callable[[Prompt, str], Score]
        version = RULES_VERSION
        if rule.kind == "function":
            assert rule.function is not None
            self._function = load_function(rule.function, folder)
            version += source_hash(rule.function, folder)
            self._score = self._by_function
        elif rule.kind == "regex":
            assert rule.pattern is not None
            try:
                self._pattern = re.compile(rule.pattern, re.MULTILINE)
            except re.error as error:
                raise ConfigError(
                    f"`pattern` is no regular expression: {error}", "pattern"
                ) from None
            self._score = self._by_regex
        else:
            self._score = self._final if rule.kind == "final_answer" else self._exact
        self.name = f"rule:{rule.kind}"
        self.setup = sha256((version + rule.model_dump_json()).encode()).hexdigest()[:16]

    def score(self, prompt: Prompt, answer: str) -> Score:
        """0 to 1 (or what the function says), or None with a reason."""
        return self._score(prompt, answer)

    def _exact(self, prompt: Prompt, answer: str) -> Score:
        if prompt.reference is None:
            return None, "no_reference"
        return float(answer.strip().lower() == prompt.reference.strip().lower()), None

    def _final(self, prompt: Prompt, answer: str) -> Score:
        if prompt.reference is None:
            return None, "no_reference"
        right = final_answer(prompt.reference)
        if right is None:
            # a reference of one line may be the bare answer; a longer one must mark it
            right = normal(prompt.reference)
        return float(final_answer(answer) == right), None

    def _by_regex(self, prompt: Prompt, answer: str) -> Score:
        last: re.Match[str] | None = None
        for match in self._pattern.finditer(answer):
            last = match
        if self.rule.must_match:
            return float(last is not None), None
        if prompt.reference is None:
            return None, "no_reference"
        if last is None:
            return 0.0, None
        found = last.group(1) if self._pattern.groups else last.group()
        return float(normal(found or "") == normal(prompt.reference)), None

    def _by_function(self, prompt: Prompt, answer: str) -> Score:
        value: Any = self._function(prompt.text, answer, prompt.reference)
        if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
            raise DataError(
                f"the rule `{self.rule.function}` must return a finite number, found: {value!r}"
            )
        return float(value), None
