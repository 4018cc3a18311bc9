"""What is given in memory, as an Arrow table: tables of any library, lists of rows, lists or arrays of chats.

>>> table_of([{"prompt": "Hi", "completion": "Hello!"}, {"id": 7, "prompt": "Bye"}]).column_names
['prompt', 'completion', 'id']
>>> table_of([[{"role": "user", "content": "Hi"}]]).column_names
['messages']

Nothing is copied where Arrow comes in. Whether the rows make chats or preferences is the extension's business, which reads
tables as it reads files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from zephyr_data.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

    from zephyr_data.inputs import ArrowStream
    from zephyr_data.tokenizer import Chat

    Rows: TypeAlias = ArrowStream | pa.Array | pa.RecordBatch | Sequence[Mapping[str, Any]]
    Chats: TypeAlias = Rows | Sequence[Chat]

HINT = (
    'give a table such as polars, pyarrow or pandas have, a list of rows such as `{"messages": [{"role": "user",'
    ' "content": "…"}]}`, or a list of such `messages`'
)


def table_of(rows: object) -> pa.Table:
    """The rows as a table; chats without a table around them become its column `messages`.

    Raises:
        ConfigError: It is neither Arrow nor a list of rows or chats.
        DataError: A column has no type that Arrow could give it.
    """
    import pyarrow as pa

    try:
        if hasattr(rows, "__arrow_c_stream__"):
            return _of_stream(cast("ArrowStream", rows))
        if hasattr(rows, "__arrow_c_array__"):
            array = pa.array(rows)
            if isinstance(array, pa.StructArray):
                return pa.Table.from_batches([pa.RecordBatch.from_struct_array(array)])
            return pa.table({"messages": array})
        if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
            return _of_list(rows)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        words = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(f"cannot read these rows: {words}\nhint: {HINT}") from error
    raise ConfigError(
        f"cannot read rows from an object of this type: `{type(rows).__name__}`\nhint: {HINT}"
    )


def _of_stream(rows: ArrowStream) -> pa.Table:
    import pyarrow as pa

    if isinstance(rows, pa.Table):
        return rows
    try:
        reader = pa.RecordBatchReader.from_stream(rows)
    except pa.ArrowInvalid:  # a column, not a table
        return pa.table({"messages": pa.chunked_array(rows)})
    return reader.read_all()


def _of_list(rows: Sequence[Any]) -> pa.Table:
    import pyarrow as pa

    if rows and all(isinstance(row, Mapping) for row in rows):
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    return pa.table({"messages": pa.array(rows)})
