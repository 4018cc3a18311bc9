"""Runs requests against several endpoints until all are answered, the budget is spent or too many fail.

A job is a coroutine that asks one or more questions through an `Asker`. `Asker.ask` first looks
into the store: what was answered before is never asked again. Each endpoint has its own workers,
so a slow model holds nobody else up.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr_data.errors import ConfigError, EndpointError
from zephyr_data.feedback import pace
from zephyr_data.feedback.endpoint import Endpoint, Outcome, estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from zephyr_data.feedback.progress import Progress
    from zephyr_data.feedback.prompts import Message
    from zephyr_data.feedback.store import Record, Store

EMPTY_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop."""

    max_cost: float | None = None
    """What the store may cost in all, earlier runs included."""
    max_failures: int = 100
    """How many requests may fail for good in this run."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question, complete: everything that its key is made of."""

    endpoint: Endpoint
    key: str
    kind: str
    prompt_id: str
    messages: list[Message]
    task: dict[str, Any]
    extra: dict[str, Any]
    """Body fields beyond the sampling, such as `logprobs`."""


Job = tuple[Endpoint, "Callable[[Asker], Awaitable[None]]"]


class RequestFailed(Exception):
    """A request failed for good; the job ends, the run goes on."""


class Stopped(Exception):
    """The run is stopping; no new request leaves."""


class Asker:
    """Answers requests from the store, else from the endpoint, and keeps the budget."""

    def __init__(self, store: Store, budget: Budget, progress: Progress, seed: int) -> None:
        self.store = store
        self.progress = progress
        self._budget = budget
        self._seed = seed
        self._reserved = 0.0
        self._unbooked: dict[str, float] = {}
        self._freed = asyncio.Condition()
        self._asked: dict[str, asyncio.Future[Record]] = {}
        self.stop_error: EndpointError | None = None

    async def ask(self, request: Request) -> Record:
        """The finished record of a request.

        Raises:
            RequestFailed: No attempt brought a usable answer.
            Stopped: The run is stopping.
        """
        record = self.store.get(request.key)
        if record is not None:
            return record
        # two jobs may ask the same question (one text at two places): one request answers both
        running = self._asked.get(request.key)
        if running is not None:
            return await asyncio.shield(running)
        running = self._asked[request.key] = asyncio.get_running_loop().create_future()
        try:
            record = await self._ask_endpoint(request)
        except BaseException as error:
            if isinstance(error, (RequestFailed, Stopped)):
                running.set_exception(error)
                running.exception()  # often nobody else waits; that is no error to log
            else:
                running.cancel()
            raise
        else:
            running.set_result(record)
            return record
        finally:
            del self._asked[request.key]

    async def _ask_endpoint(self, request: Request) -> Record:
        endpoint = request.endpoint
        tokens = estimate_tokens(request.messages)
        longest = endpoint.options.sampling.max_tokens
        reserved = self._price(endpoint, tokens, longest)
        await self._reserve(reserved)
        self.progress.in_flight += 1
        began = time.perf_counter()
        try:
            outcome, usages, attempts = await self._attempts(request, tokens + longest)
            return self._finish(request, outcome, usages, attempts, time.perf_counter() - began)
        finally:
            # only now: between the two the cost would be in neither sum
            self.progress.in_flight -= 1
            await self._release(request.key, reserved)

    async def _attempts(
        self, request: Request, tokens: int
    ) -> tuple[Outcome, list[dict[str, int]], list[dict[str, Any]]]:
        """Asks until an answer is final; also returns what each attempt used and how it went."""
        endpoint, options = request.endpoint, request.endpoint.options
        body = {**endpoint.body, **request.extra}
        usages: list[dict[str, int]] = []
        attempts: list[dict[str, Any]] = []
        outcome = Outcome("retry")
        while True:
            await endpoint.pace.wait(tokens)
            if self.stop_error and usages:
                return outcome, usages, attempts  # it was paid for: into the store with it
            self._check_stopping()
            began = time.perf_counter()
            outcome = await endpoint.ask(request.prompt_id, request.messages, body)
            seconds = time.perf_counter() - began
            self.progress.sent += 1
            if outcome.kind == "ok":
                usage = (
                    _estimated_usage(request, outcome) if outcome.usage is None else outcome.usage
                )
                usages.append(usage)
                endpoint.pace.settle(tokens, sum(usage.values()))
            attempts.append({"error": outcome.error, "seconds": round(seconds, 4)})
            again = outcome.kind == "retry" or (outcome.empty and len(usages) < EMPTY_ATTEMPTS)
            if not again or len(attempts) >= options.max_attempts or self.stop_error:
                return outcome, usages, attempts
            if outcome.empty and not self._fits(endpoint, request, usages):
                return outcome, usages, attempts
            wait = outcome.retry_after
            if wait is None:
                wait = pace.backoff(
                    len(attempts), options.backoff_s, options.max_backoff_s, self._seed, request.key
                )
            if outcome.rate_limited:
                endpoint.pace.pause(wait)
            self.progress.tick()
            await asyncio.sleep(wait)

    def _finish(
        self,
        request: Request,
        outcome: Outcome,
        usages: list[dict[str, int]],
        attempts: list[dict[str, Any]],
        seconds: float,
    ) -> Record:
        endpoint = request.endpoint
        used = {
            name: sum(u.get(name, 0) for u in usages)
            for name in ("prompt_tokens", "completion_tokens")
        }
        ok = outcome.kind == "ok"
        record: Record = {
            "key": request.key,
            "status": "ok" if ok else "failed",
            "cost": self._price(endpoint, used["prompt_tokens"], used["completion_tokens"]),
            "kind": request.kind,
            "task": request.task,
            "request": {
                "model": endpoint.options.model or endpoint.name,
                "messages": request.messages,
                **endpoint.body,
                **request.extra,
            },
            "answer": outcome.answer,
            "finish_reason": outcome.finish_reason,
            "usage": usages[-1] if ok else {},
            "usage_all_attempts": used,
            "usage_estimated": ok and outcome.usage is None,
            "seconds": round(seconds, 4),
            "attempts": attempts,
            "response": outcome.response,
            "error": outcome.error,
        }
        self.store.append(record)
        self.progress.cost = self.store.cost
        if ok:
            return record
        self._count_failure(request, outcome)
        raise RequestFailed

    def _count_failure(self, request: Request, outcome: Outcome) -> None:
        self.progress.failed += 1
        name = request.endpoint.name
        if outcome.kind == "fatal":
            self.stop(
                f"model `{name}` refuses all requests: {outcome.error}\n"
                "hint: check `base_url`, `model` and the key; what was answered is in the store"
            )
        elif self.progress.failed > self._budget.max_failures:
            self.stop(
                f"more than {self._budget.max_failures} requests failed, the last one for model "
                f"`{name}`: {outcome.error}\nhint: run the same command again to go on where it"
                " stopped, or raise `--max-failures`"
            )

    def stop(self, message: str) -> None:
        """Lets what is in flight finish and sends nothing more; the first reason is told."""
        if self.stop_error is None:
            self.stop_error = EndpointError(message)

    def _check_stopping(self) -> None:
        if self.stop_error is not None:
            raise Stopped

    async def _reserve(self, cost: float) -> None:
        """Waits until the request fits the budget even if it uses all its tokens."""
        self._check_stopping()
        limit = self._budget.max_cost
        if limit is None:
            return
        async with self._freed:
            while self._booked() + cost > limit:
                if self._reserved <= 0:
                    self.stop(
                        f"the budget is spent: {self.store.cost:.4f} of {limit:g}, the next request"
                        f" may cost {cost:.4f}\nhint: raise `--max-cost` and run the same command"
                        " again; nothing is asked twice"
                    )
                self._check_stopping()
                await self._freed.wait()
            self._reserved += cost

    def _fits(self, endpoint: Endpoint, request: Request, usages: list[dict[str, int]]) -> bool:
        """Whether another attempt at an empty answer, which was paid for, fits the budget too."""
        limit = self._budget.max_cost
        if limit is None:
            return True
        spent = sum(self._price(endpoint, *_both(usage)) for usage in usages)
        # what this request reserved covers the next attempt; what it spent is in no sum yet
        self._unbooked[request.key] = spent
        return self._booked() <= limit

    def _booked(self) -> float:
        """What was spent, in or not yet in the store, and what may be by requests in flight."""
        return self.store.cost + self._reserved + sum(self._unbooked.values())

    async def _release(self, key: str, cost: float) -> None:
        if self._budget.max_cost is not None:
            async with self._freed:
                self._reserved -= cost
                self._unbooked.pop(key, None)
                self._freed.notify_all()

    @staticmethod
    def _price(endpoint: Endpoint, prompt_tokens: int, completion_tokens: int) -> float:
        price = endpoint.options.price
        if price is None:
            return 0.0
        return (prompt_tokens * price.input + completion_tokens * price.output) / 1e6


def _both(usage: dict[str, int]) -> tuple[int, int]:
    return usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)


def _estimated_usage(request: Request, outcome: Outcome) -> dict[str, int]:
    """Without it an endpoint that reports no usage would make the budget blind."""
    return {
        "prompt_tokens": estimate_tokens(request.messages),
        "completion_tokens": len(outcome.answer.encode("utf-8", "replace")) // 3 + 1,
    }


def check_budget(endpoints: Iterable[Endpoint], budget: Budget) -> None:
    """Refuses a cost limit that could not be kept.

    Raises:
        ConfigError: An endpoint that is asked over the network has no price.
    """
    for endpoint in endpoints:
        if budget.max_cost is not None and endpoint.options.base_url and not endpoint.options.price:
            raise ConfigError(
                f"`--max-cost` needs the price of model: {endpoint.name}\n"
                "hint: add `price: {input: ..., output: ...}` per million tokens",
                "price",
            )


async def collect(jobs: Sequence[Job], asker: Asker) -> None:
    """Runs all jobs.

    Raises:
        EndpointError: The run stopped early; the store is whole and the run can go on later.
    """
    queues: dict[str, list[Callable[[Asker], Awaitable[None]]]] = defaultdict(list)
    endpoints: dict[str, Endpoint] = {}
    for endpoint, job in jobs:
        queues[endpoint.name].append(job)
        endpoints[endpoint.name] = endpoint
    check_budget(endpoints.values(), asker._budget)
    # what is alive now stays to the end; without this the garbage collector walks through all of
    # it (imported packages, prompts, jobs) again and again while requests come and go
    gc.freeze()
    try:
        for endpoint in endpoints.values():
            await endpoint.prepare()
        async with asyncio.TaskGroup() as group:
            for name, queue in queues.items():
                waiting = iter(queue)
                for _ in range(min(endpoints[name].options.concurrency, len(queue))):
                    group.create_task(_work(waiting, asker))
    finally:
        gc.unfreeze()
        for endpoint in endpoints.values():
            await endpoint.close()
        asker.progress.finish()
    if asker.stop_error is not None:
        raise asker.stop_error


async def _work(waiting: Iterator[Callable[[Asker], Awaitable[None]]], asker: Asker) -> None:
    progress = asker.progress
    for job in waiting:
        if asker.stop_error is not None:
            return
        sent = progress.sent
        try:
            await job(asker)
        except RequestFailed:
            continue
        except Stopped:
            return
        progress.done += 1
        progress.tick()
        if progress.sent == sent:
            # all its answers were stored, so it never gave way to the others
            progress.stored += 1
            await asyncio.sleep(0)
