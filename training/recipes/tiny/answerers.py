"""The four answerers of the tiny recipe, and the rule that ranks them.

    exact     right, in the form that the judge wants
    hasty     in that form, and wrong for every third prompt
    chatty    right, but in a form of its own
    wrong     in the form, never right

They read the prompt alone, as a model would; what they know is in `solve`. This file imports nothing of the recipe, because
`zephyr-data feedback` hashes it into the keys of its store: an edit here, and all are asked again.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FORM = "Answer: {}"


def solve(prompt: str) -> str:
    """The right answer to a prompt of `tasks.py`."""
    task, _, given = prompt.partition(": ")
    name, *rest = task.removesuffix(" in").split()
    return " ".join(SOLVERS[name](given.split(), *rest))


SOLVERS: dict[str, Callable[..., list[str]]] = {
    "Repeat": lambda items: items,
    "Reverse": lambda items: items[::-1],
    "Sort": lambda items: sorted(items),
    "Upper": lambda items, _: [item.upper() for item in items],
    "Count": lambda items: [str(len(items))],
    "First": lambda items, _: items[:1],
    "Last": lambda items, _: items[-1:],
    "After": lambda items, known: [items[items.index(known) + 1]],
    "Without": lambda items, gone: [item for item in items if item != gone],
    "Add": lambda items: [str(int(items[0]) + int(items[2]))],
}


def slip(prompt: str) -> str:
    """A wrong answer that looks like a right one."""
    right = solve(prompt)
    items = right.split()
    if right.isdecimal():
        return str(int(right) + (1 if draw(prompt) % 2 else -1))
    if len(items) == 1:
        given = prompt.partition(": ")[2].split()
        return given[(given.index(right) + 1 + draw(prompt) % (len(given) - 1)) % len(given)]
    place = draw(prompt) % (len(items) - 1)
    items[place], items[place + 1] = items[place + 1], items[place]
    return " ".join(items)


def draw(prompt: str) -> int:
    """A number that depends on the prompt alone."""
    return int.from_bytes(sha256(prompt.encode()).digest()[:4])


def exact(prompt: str) -> str:
    """Right, in the form."""
    return FORM.format(solve(prompt))


def hasty(prompt: str) -> str:
    """In the form, and wrong for every third prompt."""
    return FORM.format(slip(prompt) if draw(f"hasty {prompt}") % 3 == 0 else solve(prompt))


def chatty(prompt: str) -> str:
    """Right, in words of its own."""
    return f"Well, I think that it is {solve(prompt)}."


def wrong(prompt: str) -> str:
    """In the form, never right."""
    return FORM.format(slip(prompt))


def score(_prompt: str, answer: str, reference: str) -> float:
    """The rule: two points for the right answer, one for the form.

    3 is `Answer: ` and the reference and nothing else; 2 has the reference as its last words, but for a full stop; 1 keeps
    the form; 0 is all else.
    """
    if answer == FORM.format(reference):
        return 3.0
    if f" {answer}".removesuffix(".").endswith(f" {reference}"):
        return 2.0
    return float(answer.startswith(FORM.format("")))
