"""When the next request may leave: rates per minute, pauses after a 429, backoff with jitter."""

from __future__ import annotations

import asyncio
import email.utils
import math
import time
from typing import TYPE_CHECKING

from zephyr_data.feedback import draws

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RETRY_AFTER = 300.0


class Rate:
    """Spaces work so that no more than `per_minute` units leave in a minute.

    One second's worth may leave at once; without that, a low concurrency could not use its rate.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._free_at = 0.0

    def reserve(self, units: float, now: float) -> float:
        """Takes the units and returns how long to wait before using them."""
        start = max(self._free_at, now - 1.0)
        self._free_at = start + units * self._interval
        return max(0.0, start - now)

    def give_back(self, units: float) -> None:
        """Returns units that were reserved and not used (or takes more, if negative)."""
        self._free_at -= units * self._interval


class Pace:
    """The pace of one endpoint."""

    def __init__(self, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        self._requests = Rate(requests_per_minute)
        self._tokens = Rate(tokens_per_minute)
        self._paused_until = 0.0

    async def wait(self, tokens: float) -> None:
        """Waits until a request of about so many tokens may leave."""
        now = asyncio.get_running_loop().time()
        delay = max(self._requests.reserve(1, now), self._tokens.reserve(tokens, now))
        ready = now + delay
        while (now := asyncio.get_running_loop().time()) < max(ready, self._paused_until):
            await asyncio.sleep(max(ready, self._paused_until) - now)

    def settle(self, reserved: float, used: float) -> None:
        """Corrects the token rate by what a request really used."""
        self._tokens.give_back(reserved - used)

    def pause(self, seconds: float) -> None:
        """Holds all requests back: the endpoint said so."""
        until = asyncio.get_running_loop().time() + seconds
        self._paused_until = max(self._paused_until, until)


def backoff(attempt: int, first: float, longest: float, seed: int, key: str) -> float:
    """The pause after failed attempt number `attempt` (from 1), doubled each time.

    The jitter of half to one and a half is a hash, like every other draw.
    """
    jitter = 0.5 + draws.fraction(seed, "backoff", key, str(attempt))
    return float(min(longest, first * 2.0 ** (attempt - 1)) * jitter)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a Retry-After header asks for: a number, a date or milliseconds."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return _bounded(float(milliseconds) / 1000)
        if (value := headers.get("retry-after")) is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return _bounded(float(value))
        return _bounded(email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _bounded(seconds: float) -> float:
    if not math.isfinite(seconds):
        raise ValueError(f"no number of seconds: {seconds}")
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
