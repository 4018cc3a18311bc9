"""What is said of arguments that cannot be parsed.

    message, hint = complaint(error)        # an error of typer's parser

typer's own message of a bad value says what it should be and leaves out what it is; pydantic, which typer asks, knows both.
"""

from __future__ import annotations

from typing import Protocol


class _Complaint(Protocol):
    """An error of typer's or click's parser; `ctx`, `param` and a cause are not always there."""

    __cause__: BaseException | None

    def format_message(self) -> str: ...


def complaint(error: _Complaint) -> tuple[str, str]:
    """Message and hint for an argument that cannot be parsed."""
    message = _bad_value(error) or error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "zephyr-data"
    return message[:1].lower() + message[1:], f"see `{command} --help`"


def _bad_value(error: _Complaint) -> str | None:
    """What an option must be, and what it is."""
    errors = getattr(error.__cause__, "errors", None)
    parameter = getattr(error, "param", None)
    if errors is None or parameter is None:
        return None
    first = errors()[0]
    wanted = first["msg"].removeprefix("Input should be ").partition(",")[0]
    return f"`{parameter.opts[0]}` must be {wanted}, found: `{first['input']}`"
