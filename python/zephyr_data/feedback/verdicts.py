"""Reads verdicts strictly: every label exactly once and in range, else a named reason. Never guess.

A verdict is a line that starts with the request's code:

    H4K2QZ text 1: 4
    H4K2QZ text 2: N/A (creative)

Text before, between and after is the judge's business. Markdown around the line is looked
through; a quoted line (`> ...`), a line without the code, `4/5` or `four` is no verdict.

Published prompts (MT-Bench) ask for `[[7]]` without a code. There a verdict inside quotation marks,
a code fence or a block quote does not count, nor does a line that stands word for word in the
answer that is judged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Problem = Literal[
    "empty",
    "truncated",
    "filtered",
    "missing",
    "repeated",
    "malformed",
    "unknown_label",
    "not_a_number",
    "not_an_integer",
    "out_of_range",
    "no_verdict_token",
]
NOT_APPLICABLE = "not_applicable"
EXPLAIN = {
    "empty": "it is empty",
    "truncated": "it was cut off",
    "filtered": "it was filtered",
    "missing": "a line is missing",
    "repeated": "a line comes more than once",
    "malformed": "a line has another form",
    "unknown_label": "a line is about something that was not asked",
    "not_a_number": "a grade is not a number",
    "not_an_integer": "a grade is not a whole number",
    "out_of_range": "a grade is outside the scale",
    "no_verdict_token": "the verdict is not one of the allowed ones",
}

_MARKS = re.compile(r"[*_`#]+")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_NOT_APPLICABLE = re.compile(r"N/?A(\s*\(.*\))?\.?", re.IGNORECASE)
_BRACKETED = re.compile(r"\[\[([^\[\]]*)\]\]")
_LOOSE_QUOTES = (('"', '"'), ("\u201c", "\u201d"), ("\u00ab", "\u00bb"), ("`", "`"))

Value = float | str | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read: a value per label, or the problem. `None` is a stated N/A."""

    values: dict[str, Value] = field(default_factory=dict)
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """The numbers that are allowed."""

    low: float
    high: float
    whole: bool = False
    not_applicable: bool = False

    def read(self, text: str) -> tuple[Value, Problem | None]:
        """Reads the part after the colon."""
        text = text.strip()
        if self.not_applicable and _NOT_APPLICABLE.fullmatch(text):
            return None, None
        if not _NUMBER.fullmatch(text):
            return None, "not_a_number"
        number = float(text)
        if not self.low <= number <= self.high:
            return None, "out_of_range"
        if self.whole and not number.is_integer():
            return None, "not_an_integer"
        return number, None


def read_choice(*allowed: str) -> Callable[[str], tuple[Value, Problem | None]]:
    """A reader for one of the given words; case does not matter, nor does a closing full stop."""
    by_key = {word.lower(): word for word in allowed}

    def read(text: str) -> tuple[Value, Problem | None]:
        word = by_key.get(text.strip().rstrip(".").lower())
        return (word, None) if word is not None else (None, "no_verdict_token")

    return read


def read_finish(answer: str, finish_reason: str | None) -> Problem | None:
    """Answers that cannot hold a verdict; a cut one may end in the 1 of a 10."""
    if finish_reason == "content_filter":
        return "filtered"
    if finish_reason == "length":
        return "truncated"
    return None if answer.strip() else "empty"


def read_lines(
    answer: str,
    tag: str,
    labels: Sequence[str],
    read: Callable[[str], tuple[Value, Problem | None]],
) -> Reading:
    """Reads the lines that start with the code: each label once, no other label."""
    values: dict[str, Value] = {}
    for line in answer.splitlines():
        text = _MARKS.sub("", line).strip()
        if not text.startswith(tag):
            continue
        label, colon, rest = text[len(tag) :].partition(":")
        label = " ".join(label.lower().split())
        if not colon:
            return Reading(problem="malformed")
        if label not in labels:
            return Reading(problem="unknown_label")
        if label in values:
            return Reading(problem="repeated")
        value, problem = read(rest)
        if problem is not None:
            return Reading(problem=problem)
        values[label] = value
    if len(values) != len(labels):
        return Reading(problem="missing")
    return Reading(values)


def read_bracketed(answer: str, judged: Sequence[str], scale: Scale) -> Reading:
    """Reads the one `[[7]]` of a published prompt that the judge itself wrote."""
    lines_judged = {line.strip() for text in judged for line in text.splitlines() if line.strip()}
    found: list[str] = []
    fenced = False
    for line in answer.splitlines():
        stripped = line.strip()
        if stripped.startswith("```"):
            fenced = not fenced
            continue
        quoted = fenced or stripped.startswith(">") or stripped in lines_judged
        found += [
            match.group(1)
            for match in _BRACKETED.finditer(line)
            if not quoted and not _inside_quotes(line, match, judged)
        ]
    if not found:
        return Reading(problem="missing")
    if len(found) > 1:
        return Reading(problem="repeated")
    value, problem = scale.read(found[0])
    return Reading(problem=problem) if problem else Reading({"rating": value})


def _inside_quotes(line: str, match: re.Match[str], judged: Sequence[str]) -> bool:
    """Whether the verdict stands in quotation marks.

    Marks right around it are the judge copying the form it was shown (`"[[7]]"`), unless the
    judged text holds the very same verdict.
    """
    before, after = line[: match.start()], line[match.end() :]
    for opening, closing in _LOOSE_QUOTES:
        opened = (
            before.count(opening) % 2 == 1
            if opening == closing
            else before.count(opening) > before.count(closing)
        )
        tight = before.endswith(opening) and after.startswith(closing)
        copied = any(match.group() in text for text in judged)
        if opened and closing in after and (copied or not tight):
            return True
    return False


def read_token(
    response: dict[str, Any], first: str, second: str
) -> tuple[float | None, Problem | None]:
    """The probability of `second` against `first` from the first token's log-probabilities.

    Both are rarely the only candidates: what other tokens got is left out, as AlpacaEval does.
    """
    import math

    try:
        candidates = response["logprobs"]["content"][0]["top_logprobs"]
        weights = {first: 0.0, second: 0.0}
        for candidate in candidates:
            if candidate["token"] in weights:
                weights[candidate["token"]] += math.exp(candidate["logprob"])
    except (IndexError, KeyError, TypeError):
        return None, "no_verdict_token"
    total = sum(weights.values())
    if not total > 0:
        return None, "no_verdict_token"
    return weights[second] / total, None
