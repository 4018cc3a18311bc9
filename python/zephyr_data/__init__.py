"""Raw chats and AI feedback in, packed Arrow rows for SFT and DPO out.

    import zephyr_data

    result = zephyr_data.prepare("chats.jsonl.zst", tokenizer="path/to/tokenizer", out="out")
    packed = zephyr_data.open_packed("out")

Importing the package is quick: pydantic, pyarrow, transformers and the extension are loaded by the first call that needs
them, and training, which only opens packed rows, never loads the extension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

# These four bear the name of their module. Were they imported on first use, whoever imports the module first would leave
# the module under that name; so they are imported here, and their modules import what is slow inside functions.
from zephyr_data.deduplicate import deduplicate
from zephyr_data.errors import (
    ConfigError,
    DataError,
    EndpointError,
    LockedError,
    ManifestError,
    ZephyrDataError,
)
from zephyr_data.inspect import inspect
from zephyr_data.prepare import prepare
from zephyr_data.truecase import truecase

if TYPE_CHECKING:
    from zephyr_data.config import Config
    from zephyr_data.dataset import PackedDataset, open_packed
    from zephyr_data.encoder import Encoder
    from zephyr_data.verbs import Cleaned, Packed, clean, encode, pack, render

    __version__: str

__all__ = [
    "Cleaned",
    "Config",
    "ConfigError",
    "DataError",
    "Encoder",
    "EndpointError",
    "LockedError",
    "ManifestError",
    "Packed",
    "PackedDataset",
    "ZephyrDataError",
    "__version__",
    "clean",
    "deduplicate",
    "encode",
    "inspect",
    "open_packed",
    "pack",
    "prepare",
    "render",
    "truecase",
]


def __getattr__(name: str) -> object:
    """Imports the rest on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("zephyr-data")
    modules = {
        "Cleaned": "verbs",
        "Config": "config",
        "Encoder": "encoder",
        "Packed": "verbs",
        "PackedDataset": "dataset",
        "clean": "verbs",
        "encode": "verbs",
        "open_packed": "dataset",
        "pack": "verbs",
        "render": "verbs",
    }
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"zephyr_data.{modules[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
