"""Progress: bars in a terminal, lines elsewhere, nothing on request."""

import io
from types import SimpleNamespace

import pytest

from zephyr_data.progress import Bars, Forward, Lines, Reporter, reporter


def ended(stage, seconds=2.0, text_bytes=100_000_000, *, skipped=False):
    return SimpleNamespace(stage=stage, skipped=skipped, seconds=seconds, text_bytes=text_bytes)


def test_lines_tell_the_beginning_every_ten_seconds_and_the_end():
    now = 0.0
    stream = io.StringIO()
    lines = Lines(stream, clock=lambda: now)
    lines.note("careful")
    for step in range(231):
        now = step / 10
        lines("clean", step * 1_000_000, 400_000_000, step * 10)
    lines.finished(ended("clean", seconds=40), 4000)
    lines("dedup", 0, 0, 0)
    lines.finished(ended("dedup", seconds=90, text_bytes=0), 3990)
    lines.finished(ended("pack", skipped=True), 3990)
    assert stream.getvalue().splitlines() == [
        "note: careful",
        "clean: read, clean",
        "clean: 25 % of 400.0 MB, 1,000 rows, 10.0 MB/s, 30.0 s left",
        "clean: 50 % of 400.0 MB, 2,000 rows, 10.0 MB/s, 20.0 s left",
        "clean: done, 4,000 rows in 40.0 s, 2.5 MB/s",
        "dedup: dedup, split",
        "dedup: done, 3,990 rows in 1 min 30 s",
        "pack: up to date, skipped",
    ]


def test_bars_show_rate_and_remaining_time(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with Bars() as bars:
        bars.note("careful")
        bars("clean", 0, 0, 0)
        bars("clean", 50_000_000, 100_000_000, 1234)
        bars.finished(ended("clean"), 4000)
        bars.finished(ended("dedup", skipped=True), 4000)
    shown = capsys.readouterr()
    assert shown.out == ""
    for words in (
        "note: careful",
        "1,234 rows",
        "MB/s",
        " left",
        "4,000 rows, 2.0 s",
        "up to date, skipped",
    ):
        assert words in shown.err


def test_the_choice(monkeypatch):
    assert type(reporter(False)) is Reporter
    assert type(reporter(None)) is Reporter  # pytest's stderr is no terminal
    assert type(reporter(True)) is Lines
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert type(reporter(None)) is type(reporter(True)) is Bars
    assert type(reporter(False)) is Reporter


def test_a_function_is_called_with_stage_bytes_and_rows():
    calls = []
    with reporter(lambda *state: calls.append(state)) as report:
        assert type(report) is Forward
        report.note("unheard")
        report("pack", 1, 2, 3)
    assert calls == [("pack", 1, 2, 3)]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 01 s"), (7300, "2 h 01 min")],
)
def test_durations(seconds, words):
    stream = io.StringIO()
    Lines(stream).finished(ended("clean", seconds=seconds, text_bytes=0), 1)
    assert stream.getvalue() == f"clean: done, 1 rows in {words}\n"
