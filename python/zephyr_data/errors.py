"""What can go wrong, as exceptions; every message ends with the way out.

The extension raises these classes too. Where Python has a builtin (`FileNotFoundError`, `PermissionError`, `OSError`,
`KeyboardInterrupt`) that one is raised instead, with the same kind of message; an `OSError` has it in `strerror`.
"""

from __future__ import annotations


class ZephyrDataError(Exception):
    """Base of all errors of this package."""


class ConfigError(ZephyrDataError):
    """An option has a value, or a name, that cannot be honoured.

    Attributes:
        key: The option as it stands in a configuration file, such as `pack.max_length`.
    """

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class DataError(ZephyrDataError):
    """An input file or one of its rows cannot be read.

    Attributes:
        path: The file, as it was named.
        line: Line (JSON lines), or row or element (other formats), from 1; `None` if the file as a whole is meant.
        field: The field, such as `messages[2].content`; `None` if the row as a whole is meant.
    """

    def __init__(
        self,
        message: str,
        path: str | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message)
        self.path = path
        self.line = line
        self.field = field


class ManifestError(ZephyrDataError):
    """What an earlier step wrote is missing, incomplete, damaged or made for something else."""


class EndpointError(ZephyrDataError):
    """A model endpoint refused, failed or answered with something that cannot be used."""


class LockedError(ZephyrDataError):
    """Another run works on the same folder."""
