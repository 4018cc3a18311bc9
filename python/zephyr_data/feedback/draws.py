"""Every random choice of the feedback steps, as a hash of the seed and what is chosen for.

Items are ranked by a hash of (seed, purpose, prompt, item): which four of N models answer is the
four smallest, an order is the whole ranking, one choice is the smallest. So a choice does not
depend on the order of prompts, models or files, nor on what was drawn before, and one more model
in the pool changes only those prompts that draw it.

    >>> rank(7, "models", "p1", ["a", "b", "c"]) == rank(7, "models", "p1", ["c", "b", "a"])
    True
"""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_two_numbers: Callable[[bytes], tuple[int, int]] = Struct(">QQ16x").unpack


def digest(seed: int, *parts: str) -> bytes:
    """The hash of the parts; their lengths keep `("ab", "c")` apart from `("a", "bc")`."""
    text = "".join([f"{len(part)}:{part}" for part in parts])
    return sha256(f"{seed}|{text}".encode("utf-8", "surrogatepass")).digest()


def fraction(seed: int, *parts: str) -> float:
    """A number in [0, 1) with 53 random bits."""
    return int.from_bytes(digest(seed, *parts)[:8], "big") / 2**64


def numbers(seed: int, *parts: str) -> tuple[int, int]:
    """Two independent 64-bit numbers, for draws that are made inside a data frame."""
    return _two_numbers(digest(seed, *parts))


def columns_of_numbers(
    seed: int, purpose: str, *columns: Iterable[str]
) -> tuple[list[int], list[int]]:
    """`numbers` for every row of some columns; what the rows share is put together once."""
    start = f"{seed}|{len(purpose)}:{purpose}"
    pairs = [
        _two_numbers(
            sha256(
                (start + "".join([f"{len(part)}:{part}" for part in row])).encode(
                    "utf-8", "surrogatepass"
                )
            ).digest()
        )
        for row in zip(*columns, strict=True)
    ]
    return [one for one, _ in pairs], [two for _, two in pairs]


def rank(seed: int, purpose: str, prompt_id: str, items: Iterable[str]) -> list[str]:
    """The items in an order that only depends on the arguments, not on the order they came in."""
    return sorted(items, key=lambda item: (digest(seed, purpose, prompt_id, item), item))


def choose(seed: int, purpose: str, prompt_id: str, items: Iterable[str]) -> str:
    """One of the items, each equally likely."""
    return min(items, key=lambda item: (digest(seed, purpose, prompt_id, item), item))


def choose_weighted(seed: int, purpose: str, key: str, items: Sequence[tuple[str, float]]) -> str:
    """One of the items by weight; the order of the items is irrelevant."""
    ordered = sorted(items)
    point = fraction(seed, purpose, key) * sum(weight for _, weight in ordered)
    for name, weight in ordered:
        point -= weight
        if point < 0:
            return name
    return ordered[-1][0]
