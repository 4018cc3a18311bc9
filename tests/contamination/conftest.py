"""What the tests of decontamination share: a file of questions, and the stage that looks for them."""

import json
from pathlib import Path

import pytest

from zephyr_data import _core
from zephyr_data.config import Config

QUESTIONS = json.loads(Path(__file__).with_name("questions.json").read_text(encoding="utf-8"))


@pytest.fixture
def benchmark(tmp_path):
    """A file of questions."""
    path = tmp_path / "bench.jsonl"
    rows = [
        {"question_id": 1, "turns": [QUESTIONS["TRAVEL"], "Thanks!"]},
        {"question_id": 2, "question": QUESTIONS["DUCKS"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def dedup(tmp_path, read_rows):
    """Cleans and deduplicates rows; gives the folder, the ids that stay and the rejects by id."""

    def run(rows, name="out", workers=1, **options):
        source, out = tmp_path / "rows.jsonl", tmp_path / name
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        config = Config.load({"dedup": options}, {})
        ignore = lambda *_: None  # noqa: E731
        _core.clean([str(source)], str(out), config.read, config.clean, workers, ignore)
        _core.dedup(str(out), config.dedup_options(), workers, ignore)
        folder = out / "dedup"
        rejects = {row["id"]: row for row in read_rows(folder / "rejects")}
        return folder, [row["id"] for row in read_rows(folder)], rejects

    return run
