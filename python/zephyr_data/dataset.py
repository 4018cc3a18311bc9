"""Opens what `prepare` wrote: all that training knows of the data layer.

    packed = open_packed("out")
    trainer = SFTTrainer(model, args=SFTConfig(padding_free=True, packing=False, max_length=None), train_dataset=packed.train)

`train` and `test` are `datasets.Dataset`s, because that is what trl's and transformers' trainers take; they are
memory-mapped, so opening costs nothing however large they are. `table()` gives the same rows as a memory-mapped
`pyarrow.Table`, for polars, DuckDB or plain Python, and needs no `datasets`.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zephyr_data.errors import ConfigError, ManifestError
from zephyr_data.manifest import Manifest, check_sizes, read_manifest

if TYPE_CHECKING:
    import os

    import datasets
    import pyarrow as pa

Split = Literal["train", "test"]


class PackedDataset:
    """Packed rows on disk. Made by [`open_packed`][zephyr_data.open_packed].

    Attributes:
        folder: The folder that `pack` wrote.
        manifest: What its `manifest.json` says.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def kind(self) -> str:
        """`chat` (`input_ids`, `labels`, `seq_lengths`) or `preference` (`prompt_ids`, `chosen_ids`, `rejected_ids`)."""
        return self.manifest.kind

    @property
    def max_length(self) -> int:
        """Most tokens of a row."""
        return int(self.manifest.options["pack"]["max_length"])

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer, as it was named when the rows were packed."""
        return str((self.manifest.tokenizer or {})["name"])

    @property
    def tokenizer_hash(self) -> str:
        """Hash of the tokenizer and its chat template: equal hashes mean equal ids."""
        return str((self.manifest.tokenizer or {})["hash"])

    @cached_property
    def train(self) -> datasets.Dataset:
        """The rows to train on; needs the package `datasets`."""
        return self.load("train")

    @cached_property
    def test(self) -> datasets.Dataset:
        """The rows to evaluate on; no prompt of theirs is in `train`."""
        return self.load("test")

    def load(self, split: Split) -> datasets.Dataset:
        """The rows of a split as a memory-mapped `datasets.Dataset`.

        Raises:
            ModuleNotFoundError: `datasets` is not installed.
        """
        try:
            from datasets import load_from_disk
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "cannot open the rows as a `datasets.Dataset`: the package `datasets` is not installed"
                f"\nhint: `pip install datasets`, or use `.table({split!r})`, which needs pyarrow only"
            ) from error
        return load_from_disk(str(self._split_folder(split)))

    def table(self, split: Split) -> pa.Table:
        """The rows of a split as a memory-mapped `pyarrow.Table`."""
        import pyarrow as pa

        folder = self._split_folder(split)
        parts = [
            pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
            for path in self._arrow_files(folder)
        ]
        return pa.concat_tables(parts)

    def documents(self, split: Split) -> pa.Table:
        """Which document lies where in which packed row; chats only.

        The columns are `row`, `start`, `length`, `id`, `truncated`, and those that `prepare` was told to carry along.

        Raises:
            ConfigError: The rows are preferences, which are not packed together: a row is one pair and has its `id`.
        """
        import pyarrow as pa

        if self.kind != "chat":
            raise ConfigError(
                "cannot list the documents of packed rows: these are preferences"
                '\nhint: each row is one pair; its `id` is a column of `table("train")`'
            )
        folder = self.folder / "index" / self._split_folder(split).name
        parts = [
            pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            for path in self._arrow_files(folder)
        ]
        return pa.concat_tables(parts)

    def _arrow_files(self, folder: Path) -> list[Path]:
        """The Arrow files of a folder, as the manifest names them."""
        paths = [self.folder / entry.name for entry in self.manifest.files]
        found = [path for path in paths if path.parent == folder and path.suffix == ".arrow"]
        if not found:
            raise ManifestError(
                f"cannot use `{folder}`: the manifest names no Arrow file in it"
                "\nhint: run `zephyr-data prepare` again with `--overwrite`"
            )
        return found

    def _split_folder(self, split: Split) -> Path:
        if split not in ("train", "test"):
            raise ConfigError(
                f"unknown split: `{split}`\nhint: the splits are `train` and `test`", key="split"
            )
        return self.folder / split

    def __repr__(self) -> str:
        rows = ", ".join(
            f"{split}: {self.manifest.counts[split]['rows']:,} rows, {self.manifest.counts[split]['tokens']:,} tokens"
            for split in ("train", "test")
        )
        return f"PackedDataset({str(self.folder)!r}, {self.kind}; {rows})"


def tokenizer_hash(backend: str, chat_template: str) -> str:
    """The identity of a tokenizer: equal hashes mean equal ids.

    Args:
        backend: `tokenizer.backend_tokenizer.to_str()`, the live tokenizer and never its files: the same files can give other
            ids, depending on the class that loads them.
        chat_template: The Jinja source of its template.
    """
    return hashlib.sha256(f"{backend}\0{chat_template}".encode()).hexdigest()


def open_packed(folder: str | os.PathLike[str]) -> PackedDataset:
    """Opens the rows that `prepare` packed.

    Args:
        folder: What `prepare` was given as `out`, or its folder `packed`.

    Raises:
        ManifestError: There is nothing packed, it is of a newer version, or files are missing or cut off.
    """
    folder = Path(folder)
    if (folder / "packed").is_dir():
        folder = folder / "packed"
    manifest = read_manifest(folder)
    if manifest.stage != "pack":
        raise ManifestError(
            f"cannot use `{folder}`: it holds the rows of another stage: `{manifest.stage}`"
            "\nhint: name the folder that `zephyr-data prepare` was given as `--out`"
        )
    check_sizes(folder, manifest)
    return PackedDataset(folder, manifest)
