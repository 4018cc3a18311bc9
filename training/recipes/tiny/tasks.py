"""The tasks of the tiny recipe: short prompts with one right answer, of ten kinds, generated from a seed.

    python training/recipes/tiny/tasks.py --out zephyr-tiny/tasks

writes

    feedback.jsonl   prompts for the four answerers and the judge (`id`, `prompt`, `reference`, `source`)
    chats.jsonl      chats to fine-tune on: other prompts, each answered by one of two answerers
    held-out.jsonl   prompts that no training step ever sees

`base.py` draws the lines that the base model reads from the same generator, without the prompts of `held-out.jsonl`. The
same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import answerers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Few letters and short lists, so that minutes on a CPU are enough to learn all but the sums.
LETTERS = "abcdefghij"


class Task(NamedTuple):
    """A prompt, its kind and its right answer."""

    kind: str
    prompt: str
    reference: str


def letters(source: random.Random) -> list[str]:
    """Three to six different letters."""
    return source.sample(LETTERS, source.randint(3, 6))


def number(source: random.Random) -> int:
    """One or two digits."""
    return source.randint(1, 99)


def copy(source: random.Random) -> tuple[str, str]:
    """The letters as they are."""
    given = letters(source)
    return f"Repeat: {' '.join(given)}", " ".join(given)


def reverse(source: random.Random) -> tuple[str, str]:
    """The letters from the end."""
    given = letters(source)
    return f"Reverse: {' '.join(given)}", " ".join(reversed(given))


def sort(source: random.Random) -> tuple[str, str]:
    """The letters in the order of the alphabet."""
    given = letters(source)
    return f"Sort: {' '.join(given)}", " ".join(sorted(given))


def upper_case(source: random.Random) -> tuple[str, str]:
    """The letters as capitals."""
    given = letters(source)
    return f"Upper case: {' '.join(given)}", " ".join(given).upper()


def count(source: random.Random) -> tuple[str, str]:
    """How many letters there are."""
    given = letters(source)
    return f"Count: {' '.join(given)}", str(len(given))


def first(source: random.Random) -> tuple[str, str]:
    """The first letter."""
    given = letters(source)
    return f"First of: {' '.join(given)}", given[0]


def last(source: random.Random) -> tuple[str, str]:
    """The last letter."""
    given = letters(source)
    return f"Last of: {' '.join(given)}", given[-1]


def after(source: random.Random) -> tuple[str, str]:
    """The letter that follows another one."""
    given = letters(source)
    place = source.randrange(len(given) - 1)
    return f"After {given[place]} in: {' '.join(given)}", given[place + 1]


def without(source: random.Random) -> tuple[str, str]:
    """The letters but for one."""
    given = letters(source)
    gone = source.choice(given)
    rest = [letter for letter in given if letter != gone]
    return f"Without {gone}: {' '.join(given)}", " ".join(rest)


def add(source: random.Random) -> tuple[str, str]:
    """A sum of two numbers."""
    one, other = number(source), number(source)
    return f"Add: {one} + {other}", str(one + other)


KINDS: tuple[Callable[[random.Random], tuple[str, str]], ...] = (
    copy,
    reverse,
    sort,
    upper_case,
    count,
    first,
    last,
    after,
    without,
    add,
)


def tasks(seed: str) -> Iterator[Task]:
    """Endless tasks, every kind as often as any other; one may come twice."""
    source = random.Random(seed)
    while True:
        for kind in KINDS:
            yield Task(kind.__name__, *kind(source))


def different(seed: str, many: int, seen: set[str]) -> list[Task]:
    """So many tasks whose prompts are in none before; adds them to `seen`."""
    found: list[Task] = []
    for task in tasks(seed):
        if task.prompt not in seen:
            seen.add(task.prompt)
            found.append(task)
        if len(found) == many:
            return found
    raise AssertionError("tasks never end")


def chat(task: Task, seed: str) -> dict[str, object]:
    """A chat as a teacher of middling quality would write it: half are hasty, half are chatty."""
    answer = random.Random(f"{seed} {task.prompt}").choice([answerers.hasty, answerers.chatty])
    return {
        "messages": [
            {"role": "user", "content": task.prompt},
            {"role": "assistant", "content": answer(task.prompt)},
        ]
    }


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """Writes rows as JSON lines, each with its place as `id`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"id": f"{path.stem}-{place:05}"} | row) for place, row in enumerate(rows))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def prompts(found: list[Task]) -> list[dict[str, object]]:
    """Tasks as `zephyr-data feedback complete` reads them."""
    return [
        {"prompt": task.prompt, "reference": task.reference, "source": task.kind} for task in found
    ]


def main() -> None:
    """Writes the three files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where they go")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other prompts (0)")
    parser.add_argument("--held-out", type=int, default=500, help="prompts to test with (500)")
    parser.add_argument("--feedback", type=int, default=4000, help="prompts for answers (4000)")
    parser.add_argument("--chats", type=int, default=6000, help="chats to fine-tune on (6000)")
    options = parser.parse_args()

    seen: set[str] = set()
    held_out = different(f"held out {options.seed}", options.held_out, seen)
    feedback = different(f"feedback {options.seed}", options.feedback, seen)
    chats = different(f"chats {options.seed}", options.chats, seen)
    write(options.out / "held-out.jsonl", prompts(held_out))
    write(options.out / "feedback.jsonl", prompts(feedback))
    write(options.out / "chats.jsonl", [chat(task, str(options.seed)) for task in chats])


if __name__ == "__main__":
    main()
