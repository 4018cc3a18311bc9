"""Says how far a run is: live bars in a terminal, plain lines elsewhere, nothing on request. All of it goes to stderr.

A reporter is called by the extension about ten times a second with the stage, the bytes done, all bytes (0 while not
known) and the rows so far; `prepare` tells it when a stage ends.

    with reporter(True) as report:
        report.note("loading the tokenizer")
        report("clean", 1_000_000, 4_000_000, 812)
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress, TaskID

LINE_SECONDS = 10.0
"""Pause between two plain lines of one stage."""

WHAT = {"clean": "read, clean", "dedup": "dedup, split", "pack": "tokenize, pack"}
"""What each stage does, in two words."""


class StageEnd(Protocol):
    """What a stage's end is told by: `zephyr_data._core.StageResult`."""

    stage: str
    skipped: bool
    seconds: float
    text_bytes: int


class Reporter:
    """Reports nothing; the others extend it."""

    def __call__(self, stage: str, done: int, total: int, rows: int) -> None:
        """A stage is so far."""

    def note(self, text: str) -> None:
        """Something the user should know."""

    def finished(self, result: StageEnd, rows: int) -> None:
        """A stage has ended, with so many rows."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


class Forward(Reporter):
    """Calls a function of the user's."""

    def __init__(self, observer: Callable[[str, int, int, int], object]) -> None:
        self._observer = observer

    def __call__(self, stage: str, done: int, total: int, rows: int) -> None:
        """Passed on."""
        self._observer(stage, done, total, rows)


class Lines(Reporter):
    """Plain lines: when a stage begins, every ten seconds, when it ends."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._stage = ""
        self._begun = self._said = 0.0

    def _say(self, text: str) -> None:
        print(text, file=self._stream or sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """A line."""
        self._say(f"note: {text}")

    def __call__(self, stage: str, done: int, total: int, rows: int) -> None:
        """A line at the beginning and every ten seconds."""
        now = self._clock()
        if stage != self._stage:
            self._stage, self._begun, self._said = stage, now, now
            self._say(f"{stage}: {WHAT.get(stage, stage)}")
        if now - self._said >= LINE_SECONDS:
            self._said = now
            self._say(f"{stage}: {_state(done, total, rows, now - self._begun)}")

    def finished(self, result: StageEnd, rows: int) -> None:
        """A line."""
        if result.skipped:
            self._say(f"{result.stage}: up to date, skipped")
        else:
            rate = _rate(result.text_bytes, result.seconds)
            self._say(
                f"{result.stage}: done, {rows:,} rows in {_duration(result.seconds)}{rate and ', ' + rate}"
            )


class Bars(Reporter):
    """A live bar a stage, with rate and remaining time."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._progress: Progress = Progress(
            TextColumn("{task.description:<5}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[state]}"),
            console=Console(stderr=True),
            auto_refresh=False,  # drawn when the extension calls: no thread beside its workers
        )
        self._tasks: dict[str, TaskID] = {}
        self._begun = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """A line."""
        self._progress.console.print(f"note: {text}", markup=False, highlight=False)

    def _task(self, stage: str) -> TaskID:
        if stage not in self._tasks:
            self._begun = time.monotonic()
            self._tasks[stage] = self._progress.add_task(stage, total=None, state="")
        return self._tasks[stage]

    def __call__(self, stage: str, done: int, total: int, rows: int) -> None:
        """The bar moves."""
        task = self._task(stage)
        state = _state(done, total, rows, time.monotonic() - self._begun, percent=False)
        self._progress.update(task, total=total or None, completed=done, state=state, refresh=True)

    def finished(self, result: StageEnd, rows: int) -> None:
        """The bar is full."""
        task = self._task(result.stage)
        state = "up to date, skipped"
        if not result.skipped:
            rate = _rate(result.text_bytes, result.seconds)
            state = f"{rows:,} rows, {_duration(result.seconds)}{rate and ', ' + rate}"
        self._progress.update(task, total=1, completed=1, state=state, refresh=True)


def reporter(choice: bool | Callable[[str, int, int, int], object] | None, /) -> Reporter:  # noqa: FBT001 - as in `prepare(progress=True)`
    """The reporter for `prepare(progress=…)`.

    Args:
        choice: `True` for bars or lines, `False` for silence, `None` for bars in a terminal and silence elsewhere, or a
            function that is called about ten times a second.
    """
    if callable(choice):
        return Forward(choice)
    terminal = sys.stderr is not None and sys.stderr.isatty()
    if choice is False or (choice is None and not terminal):
        return Reporter()
    return Bars() if terminal else Lines()


def _state(done: int, total: int, rows: int, seconds: float, *, percent: bool = True) -> str:
    if not total:
        return f"{done / 1e6:,.0f} MB checked" if done else ""
    parts = [f"{100 * done / total:.0f} % of {total / 1e6:,.1f} MB"] if percent else []
    parts.append(f"{rows:,} rows")
    if seconds > 0 and done:
        parts.append(_rate(done, seconds))
        parts.append(f"{_duration(seconds * (total - done) / done)} left")
    return ", ".join(part for part in parts if part)


def _rate(handled: int, seconds: float) -> str:
    return f"{handled / seconds / 1e6:,.1f} MB/s" if handled and seconds > 0 else ""


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
