"""What the benches share: lines of figures, what they were measured on, and a program in a process of its own.

No program itself: `from figures import …` finds it, since Python looks beside the script that it runs.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def writer(file: Path | None) -> Callable[[dict[str, object]], None]:
    """A function that prints a JSON line, and appends it to the file if there is one."""

    def say(line: dict[str, object]) -> None:
        print(json.dumps(line), flush=True)
        if file:
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(line) + "\n")

    return say


def environment(bench: str, packages: tuple[str, ...]) -> dict[str, object]:
    """The first line of every run: the command, the machine and the versions."""
    return {
        "command": " ".join(["python", f"benches/{bench}", *sys.argv[1:]]),
        "cpu": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "time": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """A program to its end; if it fails, its own last words and an end of the bench."""
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        said = "\n".join(result.stderr.splitlines()[-3:])
        sys.exit(
            f"failed: {' '.join(command[:3])} …\n{said}"
            "\nhint: a peer needs its packages; ZEPHYR_DATA_PEERS names an interpreter that has them"
        )
    return result
