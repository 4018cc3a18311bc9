"""Packed rows for a trainer: opened, and held against what the run says it trains.

    data = load(arguments, kind="preference", tokenizer=tokenizer, max_length=None)
    data.train, data.eval         # datasets.Dataset, memory-mapped, rows as tensors or arrays

Every refusal says what was packed, what the run asks for, and the command that would make them fit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr_data.dataset import open_packed, tokenizer_hash
from zephyr_data.errors import ManifestError

if TYPE_CHECKING:
    import datasets

KINDS = {"chat": "chats, for `training/sft.py`", "preference": "preferences, for `training/dpo.py`"}


@dataclass(frozen=True)
class PackedData:
    """What a trainer reads.

    Attributes:
        folder: `DIR/packed`.
        train: Rows to train on.
        eval: Rows to evaluate on, or `None` if there are none.
        max_length: Most tokens of a row, as it was packed.
        key: Hash of the rows, by split: equal keys mean equal bytes.
    """

    folder: str
    train: datasets.Dataset
    eval: datasets.Dataset | None
    max_length: int
    key: dict[str, str]


def load(folder: str, *, kind: str, tokenizer: Any, max_length: int | None) -> PackedData:  # noqa: ANN401 - any of transformers'
    """Opens packed rows for a model.

    Args:
        folder: What `prepare` was given as `--out`, or its folder `packed`.
        kind: `chat` or `preference`, what the trainer takes.
        tokenizer: The model's own.
        max_length: What the run asks for; `None` takes what was packed.

    Raises:
        ManifestError: There is nothing packed, or it was packed for something else.
    """
    packed = open_packed(folder)
    if packed.kind != kind:
        raise ManifestError(
            f"cannot train on `{packed.folder}`: it holds {KINDS[packed.kind]}, not {kind}s"
            f"\nhint: prepare {kind}s into a folder of their own"
        )
    if max_length is not None and max_length != packed.max_length:
        raise ManifestError(
            f"cannot train on `{packed.folder}`: its rows are of {packed.max_length} tokens, the run asks for: {max_length}"
            f"\nhint: leave `--max_length` out, or run `zephyr-data prepare … --max-length {max_length}`"
        )
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default", "")
    found = tokenizer_hash(tokenizer.backend_tokenizer.to_str(), template or "")
    if found != packed.tokenizer_hash:
        raise ManifestError(
            f"cannot train on `{packed.folder}`: it was packed with another tokenizer or chat template, `{packed.tokenizer_name}`"
            f", than the model has: `{tokenizer.name_or_path}`"
            f"\nhint: run `zephyr-data prepare … --tokenizer {tokenizer.name_or_path}`; only packing runs again. A base model"
            f" without a template needs the one of `{packed.tokenizer_name}` beside it (`--tokenizer_name_or_path`)"
        )
    if packed.manifest.counts["train"]["rows"] == 0:
        raise ManifestError(
            f"cannot train on `{packed.folder}`: its train split has no rows"
            "\nhint: `zephyr-data show DIR --rejects` and DIR/report.html say where they went"
        )
    test = packed.test if packed.manifest.counts["test"]["rows"] else None
    keys = {}
    for split in ("train", "test"):
        files = [
            (entry.name, entry.xxh3_128)
            for entry in packed.manifest.files
            if entry.name.startswith(f"{split}/") and entry.name.endswith(".arrow")
        ]
        keys[split] = hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()
    return PackedData(str(packed.folder), packed.train, test, packed.max_length, keys)
