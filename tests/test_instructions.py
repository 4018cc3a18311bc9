"""`ZEPHYR_DATA_SIMD`: each path gives the same ids and pairs in a process of its own, and a name that cannot be is an error."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ["avx512vbmi", "avx512", "avx2", "scalar"]

PROGRAM = r"""
import hashlib
from zephyr_data import Encoder
from pathlib import Path

text = Path("README.md").read_text() + "  caf\u00e9 \u2581\u2581 \U0001f600\u4e2d\u6587\t\r\n e\u0301\0 don't 12,345"
ids = Encoder.from_pretrained("examples/tokenizer").encode([text[at:at + 300] for at in range(0, len(text), 77)])
print(ids.value_lengths().to_pylist(), hashlib.sha256(repr(ids.to_pylist()).encode()).hexdigest())
"""


def run(arguments: list[str], name: str | None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "ZEPHYR_DATA_SIMD"}
    if name is not None:
        environment["ZEPHYR_DATA_SIMD"] = name
    return subprocess.run(arguments, env=environment, cwd=ROOT, capture_output=True, text=True)


def test_every_path_gives_the_same_ids() -> None:
    expected = run([sys.executable, "-c", PROGRAM], None)
    assert expected.returncode == 0, expected.stderr
    ran = []
    for name in NAMES:
        result = run([sys.executable, "-c", PROGRAM], name)
        if "this processor lacks" in result.stderr:
            continue
        ran.append(name)
        assert result.stdout == expected.stdout, name
    assert "scalar" in ran


def test_a_name_that_cannot_be_is_an_error() -> None:
    command = [sys.executable, "-m", "zephyr_data", "inspect", "examples/chats.jsonl"]
    result = run(command, "sse9")
    assert result.returncode == 2
    assert "`ZEPHYR_DATA_SIMD` must name an instruction set, found: `sse9`" in result.stderr
    assert "hint: here it may be `" in result.stderr
    assert "Traceback" not in result.stderr
    assert run(command, "scalar").returncode == 0
    # Empty is as if it were not there.
    assert run(command, "").returncode == 0
