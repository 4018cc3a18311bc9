"""Repairs the casing of texts in memory, by the rule that `prepare` applies to assistant turns.

>>> truecase("hello. how are you? i am fine.")
'Hello. How are you? I am fine.'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from zephyr_data.extension import core

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa


@overload
def truecase(texts: str) -> str: ...
@overload
def truecase(texts: list[str]) -> list[str]: ...
@overload
def truecase(texts: Sequence[str | None]) -> Sequence[str | None]: ...
@overload
def truecase(texts: pa.Array | pa.ChunkedArray) -> pa.Array: ...


def truecase(texts: Any) -> Any:
    """Upper-cases the first letter of sentences and the lone pronoun "i", and touches nothing else.

    Code, URLs, names such as "iPhone" and texts that are in lower case throughout stay as they are; so does every byte
    outside the repaired letters.

    Args:
        texts: A text, a sequence of texts, or an Arrow array of strings from any library that exports one (pyarrow,
            polars).

    Returns:
        The same shape: a text, a list, or a `pyarrow.Array`.
    """
    import pyarrow as pa

    if isinstance(texts, str):
        return truecase([texts])[0]
    if hasattr(texts, "__arrow_c_array__"):
        return pa.array(core().truecase(texts))
    if hasattr(texts, "__arrow_c_stream__"):
        return pa.array(core().truecase(pa.chunked_array(texts).combine_chunks()))
    return pa.array(core().truecase(pa.array(texts, pa.string()))).to_pylist()
