"""The one door to the compiled module: says what to do where it is missing, and warns where it is slow.

The environment variable `ZEPHYR_DATA_SIMD` is read here, once in a process (docs/ENCODER.md).

Nothing imports `zephyr_data._core` at its top, so that a training process, which forks its data loaders, never loads it.

    >>> core().FORMAT_VERSION
    1
"""

from __future__ import annotations

import functools
import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


@functools.cache
def core() -> ModuleType:
    """The module `zephyr_data._core`.

    Raises:
        ImportError: It is missing or cannot be loaded.
        ConfigError: `ZEPHYR_DATA_SIMD` names instructions that do not exist, or that the processor lacks.
    """
    try:
        import zephyr_data._core as module
    except ImportError as error:
        raise ImportError(
            f"cannot load the extension module `zephyr_data._core`: {error}"
            "\nhint: install the package with `pip install .`, or build the module with `maturin develop --release`"
        ) from error
    instructions = os.environ.get("ZEPHYR_DATA_SIMD")
    if instructions:
        module.choose_instructions(instructions)
    if module.DEBUG_BUILD:
        warnings.warn(
            "this zephyr-data is a debug build and many times slower than it should be"
            "\nhint: build it with `maturin develop --release`",
            RuntimeWarning,
            stacklevel=3,
        )
    return module
