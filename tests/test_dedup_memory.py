"""The peak memory of the dedup stage does not grow with the rows."""

import json
import subprocess
import sys

import pytest

from zephyr_data.manifest import read_manifest

MEASURED = """
import resource, sys
from zephyr_data import _core
from zephyr_data.config import Config

config = Config.load({"dedup": {"memory_limit": 60_000_000}}, {})
ignore = lambda *_: None
_core.clean([sys.argv[1]], sys.argv[2], config.read, config.clean, 1, ignore)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
_core.dedup(sys.argv[2], config.dedup_options(), 1, ignore)
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of `ru_maxrss` is that of Linux")
def test_the_memory_does_not_grow_with_the_rows(tmp_path):
    peaks = []
    for rows in (20_000, 300_000):
        source, out = tmp_path / "rows.jsonl", tmp_path / str(rows)
        with source.open("w", encoding="utf-8") as file:
            for row in range(rows):
                # Every second row is a near-duplicate of the one before it.
                answer = " ".join(f"{row // 2}x{word}" for word in range(12)) + " indeed" * (
                    row % 2
                )
                messages = [
                    {"role": "user", "content": f"What is {row // 2}?"},
                    {"role": "assistant", "content": answer},
                ]
                file.write(json.dumps({"id": str(row), "messages": messages}) + "\n")
        command = [sys.executable, "-c", MEASURED, str(source), str(out)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        before, peak = map(int, said.split())
        assert peak - before < 40_000
        peaks.append(peak)
    assert read_manifest(out / "dedup").counts["dropped"]["near_duplicate"] == 150_000
    # In kibibytes: 280,000 rows at 112 bytes each, as it was once, are 31,000.
    assert peaks[1] - peaks[0] < 12_000
