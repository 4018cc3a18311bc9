"""One line of progress on standard error: done, in flight, failed, cost and remaining time.

812/1600 done (400 stored before), 32 in flight, 1 failed, cost 0.4131, 2m05s left
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

TERMINAL_SECONDS = 0.2
LOG_SECONDS = 10.0


def duration(seconds: float) -> str:
    """`65.2` -> `1m05s`."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{left:02}s" if minutes else f"{left}s"


class Progress:
    """Counts jobs and requests, and shows them now and then."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total = total
        self.done = 0
        self.stored = 0
        self.sent = 0
        self.in_flight = 0
        self.failed = 0
        self.cost = 0.0
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._began = time.monotonic()
        self._shown = self._began

    def line(self, now: float) -> str:
        """The line as it stands at the monotonic time `now`."""
        parts = [f"{self.done}/{self.total} done"]
        if self.stored:
            parts[0] += f" ({self.stored} stored before)"
        parts += [f"{self.in_flight} in flight", f"{self.failed} failed", f"cost {self.cost:.4f}"]
        fresh = self.done - self.stored
        if fresh > 0 and self.done < self.total:
            left = (now - self._began) / fresh * (self.total - self.done)
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def tick(self) -> None:
        """Shows the line if it is time to."""
        now = time.monotonic()
        if now - self._shown < (TERMINAL_SECONDS if self._terminal else LOG_SECONDS):
            return
        self._shown = now
        self._stream.write(
            f"\r\x1b[2K{self.line(now)}" if self._terminal else self.line(now) + "\n"
        )
        self._stream.flush()

    def finish(self) -> None:
        """Shows the last state."""
        start = "\r\x1b[2K" if self._terminal else ""
        self._stream.write(f"{start}{self.line(time.monotonic())}\n")
        self._stream.flush()
