"""What a stage wrote, as its `manifest.json` says; the file is written last, so a folder without one does not exist.

manifest = read_manifest("out/packed")
manifest.counts["train"]["tokens"]
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_data.errors import ManifestError

if TYPE_CHECKING:
    import os

MANIFEST = "manifest.json"

FORMAT_VERSION = 1
"""Newest version of files and manifests that this package reads. Written here as well as in the extension, because
training reads manifests without loading it."""

STAGE_FOLDERS = {"clean": "clean", "dedup": "dedup", "pack": "packed"}
"""Folder below DIR of each stage, in the order of the work."""


@dataclass(frozen=True)
class FileEntry:
    """A file that a stage read or wrote.

    Attributes:
        name: As the user gave it (inputs), or below the stage's folder (outputs).
        bytes: Its size.
        xxh3_128: Hash of its bytes.
        rows: Rows in it; `None` where that has no meaning.
        note: How its rows were made, where they are not what stands in the file.
    """

    name: str
    bytes: int
    xxh3_128: str
    rows: int | None = None
    note: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A stage's `manifest.json`; `docs/FORMAT.md` describes every key."""

    format_version: int
    zephyr_data: str
    stage: str
    kind: str
    options: dict[str, Any]
    inputs: tuple[FileEntry, ...]
    files: tuple[FileEntry, ...]
    counts: dict[str, Any]
    tokenizer: dict[str, Any] | None = None
    carry: tuple[str, ...] = ()


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of a stage's folder.

    Raises:
        ManifestError: There is none, it cannot be read, or it is of a newer version.
    """
    path = Path(folder) / MANIFEST
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(
            f"cannot use `{folder}`: it has no `{MANIFEST}`"
            "\nhint: name the folder that `zephyr-data prepare` was given as `--out`; if that run did not end, run it again"
        ) from None
    except ValueError:
        raise _damaged(path) from None
    if not isinstance(values, dict) or not isinstance(values.get("format_version"), int):
        raise _damaged(path)
    if values["format_version"] > FORMAT_VERSION:
        raise ManifestError(
            f"cannot use `{folder}`: its format is newer than this package reads ({FORMAT_VERSION}), found:"
            f" {values['format_version']}\nhint: update zephyr-data, or prepare the data with this version"
        )
    try:
        for key in ("inputs", "files"):
            values[key] = tuple(FileEntry(**entry) for entry in values[key])
        values["carry"] = tuple(values.get("carry", ()))
        return Manifest(**values)
    except (KeyError, TypeError):
        raise _damaged(path) from None


def check_sizes(folder: str | os.PathLike[str], manifest: Manifest) -> None:
    """Compares the files of a folder with its manifest.

    Raises:
        ManifestError: A file is missing or has another size.
    """
    for entry in manifest.files:
        path = Path(folder) / entry.name
        found = path.stat().st_size if path.is_file() else None
        if found != entry.bytes:
            state = "is missing" if found is None else f"has {found} bytes instead of {entry.bytes}"
            raise ManifestError(
                f"cannot use `{folder}`: its file `{entry.name}` {state}"
                "\nhint: copy the folder again, or run `zephyr-data prepare` again"
            )


def _damaged(path: Path) -> ManifestError:
    return ManifestError(
        f"cannot use `{path}`: it is not a manifest of zephyr-data"
        "\nhint: remove the folder and run `zephyr-data prepare` again"
    )
