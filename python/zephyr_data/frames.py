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
from zephyr_data.inputs import exported

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

_TEXTS = HINT + ", or a list of texts"


def table_of(rows: object, *, texts: str = "messages") -> pa.Table:
    """The rows as a table; chats without a table around them become its column `messages`.

    Args:
        rows: A table, a column, or a list of rows or of chats.
        texts: The name of the column that strings without a table around them become.

    Raises:
        ConfigError: It is neither Arrow nor a list of rows or chats.
        DataError: A column has no type that Arrow could give it.
    """
    import pyarrow as pa

    hint = HINT if texts == "messages" else _TEXTS
    try:
        table = _table(rows, texts)
        if table is not None:
            return _whole(table)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        words = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        where = _odd_one_out(rows)
        raise DataError(f"cannot read these rows: {where or words}\nhint: {hint}") from error
    if hasattr(rows, "collect"):
        hint = "collect the frame first: `.collect()`"
    raise ConfigError(
        f"cannot read rows from an object of this type: `{type(rows).__name__}`\nhint: {hint}"
    )


def _odd_one_out(rows: object) -> str | None:
    """Which row of a list is of another type than those before it, from 1, if that is what is wrong with it."""
    if not isinstance(rows, list | tuple):
        return None
    present = [(at, type(row).__name__) for at, row in enumerate(rows, 1) if row is not None]
    for at, kind in present:
        if kind != present[0][1]:
            return f"row {at} is of type `{kind}`, row {present[0][0]} of type `{present[0][1]}`"
    return None


def _table(rows: object, texts: str) -> pa.Table | None:
    """The rows as a table, or nothing if they are of no type that is read."""
    import pyarrow as pa

    rows = exported(rows)
    if hasattr(rows, "__arrow_c_stream__"):
        return _of_stream(cast("ArrowStream", rows), texts)
    if hasattr(rows, "__arrow_c_array__"):
        array = pa.array(rows)
        if isinstance(array, pa.StructArray):
            return pa.Table.from_batches([pa.RecordBatch.from_struct_array(array)])
        return _of_column(array, texts)
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        return _of_list(rows, texts)
    return None


def _whole(table: pa.Table) -> pa.Table:
    """The table; written anew if it has lists of one length of structs, of which the extension's Arrow takes no slices."""
    import pyarrow as pa

    if not any(_has_fixed_structs(kind) for kind in table.schema.types):
        return table
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def _has_fixed_structs(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind) and pa.types.is_struct(kind.value_type):
        return True
    return any(_has_fixed_structs(kind.field(at).type) for at in range(kind.num_fields))


def _of_stream(rows: ArrowStream, texts: str) -> pa.Table:
    import pyarrow as pa

    if isinstance(rows, pa.Table):
        return rows
    try:
        reader = pa.RecordBatchReader.from_stream(rows)
    except pa.ArrowInvalid:  # a column, not a table
        return _of_column(pa.chunked_array(rows), texts)
    return reader.read_all()


def _of_column(column: pa.Array | pa.ChunkedArray, texts: str) -> pa.Table:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    kinds = (pa.string(), pa.large_string(), pa.string_view())
    return pa.table({texts if kind in kinds else "messages": column})


def _of_list(rows: Sequence[Any], texts: str) -> pa.Table:
    import pyarrow as pa

    if rows and all(isinstance(row, Mapping) for row in rows):
        names = dict.fromkeys(name for row in rows for name in row)
        return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    return _of_column(pa.array(rows), texts)
