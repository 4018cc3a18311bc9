"""The first step: N of the pool's models answer each prompt.

Which models, and under which principle, is a hash of the seed and the prompt. The plan is computed
from `store.json` and `prompts.jsonl` alone, so every later step knows which answers belong to the
present settings and which are left over from earlier ones.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr_data.errors import ConfigError
from zephyr_data.feedback import draws
from zephyr_data.feedback.collect import Asker, Budget, Job, Request, collect
from zephyr_data.feedback.endpoint import Endpoint
from zephyr_data.feedback.progress import Progress
from zephyr_data.feedback.store import Store, request_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from zephyr_data.feedback.options import ModelsFile
    from zephyr_data.feedback.prompts import Message, Prompt

TEMPLATE = "completion.v1"


@dataclass(frozen=True, slots=True)
class Planned:
    """One answer that the settings ask for."""

    prompt: Prompt
    model: str
    position: int
    """Place among the prompt's answers, by model name."""
    principle: str | None
    messages: list[Message]
    key: str


def plan(state: dict[str, Any], prompts: Iterable[Prompt]) -> Iterator[Planned]:
    """The answers that a store shall hold, by its own settings."""
    seed: int = state["seed"]
    pool: dict[str, dict[str, Any]] = state["pool"]
    principles: dict[str, dict[str, Any]] = state["principles"]
    weights = [(name, p["weight"]) for name, p in principles.items()]
    for prompt in prompts:
        drawn = draws.rank(seed, "models", prompt.id, pool)[: state["per_prompt"]]
        for position, model in enumerate(sorted(drawn)):
            principle = None
            system = pool[model]["system"]
            if weights:
                principle = draws.choose_weighted(
                    seed, "principle", f"{prompt.id}\n{model}", weights
                )
                text = principles[principle]["text"]
                system = text if system is None else f"{system}\n\n{text}"
            messages = prompt.chat(system)
            key = request_key(
                kind="completion",
                template=TEMPLATE,
                prompt=prompt.id,
                messages=messages,
                model=pool[model]["identity"],
            )
            yield Planned(prompt, model, position, principle, messages, key)


def settle_settings(
    store: Store, models: ModelsFile, endpoints: list[Endpoint], k: int, seed: int
) -> None:
    """Writes the settings into the store, or refuses a seed or number that would mix two draws.

    Raises:
        ConfigError: The store was begun with another seed or number of answers.
    """
    if k > len(endpoints):
        raise ConfigError(
            f"`--per-prompt` is larger than the pool of {len(endpoints)} models: {k}", "per_prompt"
        )
    if "imported" in store.state:
        raise ConfigError(f"the store holds imported answers, use another one: {store.path}")
    for name, value in (("seed", seed), ("per_prompt", k)):
        known = store.state.get(name, value)
        if known != value:
            raise ConfigError(
                f"the store was begun with `{name}` {known}, this run asks for: {value}\n"
                "hint: use the same value or a new store",
                name,
            )
    store.state |= {
        "seed": seed,
        "per_prompt": k,
        "pool": {e.name: {"identity": e.identity, "system": e.options.system} for e in endpoints},
        "principles": {p.name: {"text": p.text, "weight": p.weight} for p in models.principles},
    }
    store.save_state()


def complete(
    store: Store,
    prompts: list[Prompt],
    models: ModelsFile,
    *,
    folder: Path,
    per_prompt: int,
    seed: int,
    budget: Budget,
) -> None:
    """Adds the prompts to the store and brings in every answer that is missing.

    Raises:
        EndpointError: It stopped early; the store is whole and the same call goes on.
    """
    endpoints = [Endpoint(options, folder) for options in models.models]
    settle_settings(store, models, endpoints, per_prompt, seed)
    everything = store.add_prompts(prompts)
    by_name = {endpoint.name: endpoint for endpoint in endpoints}
    jobs: list[Job] = []
    stored = 0
    for planned in plan(store.state, everything):
        if planned.key in store.done:
            stored += 1
        else:
            endpoint = by_name[planned.model]
            jobs.append((endpoint, _job(endpoint, planned)))
    progress = Progress(len(jobs) + stored)
    progress.done = progress.stored = stored
    progress.cost = store.cost
    asyncio.run(collect(jobs, Asker(store, budget, progress, seed)))


def _job(endpoint: Endpoint, planned: Planned) -> Any:  # noqa: ANN401 # a coroutine function
    async def job(asker: Asker) -> None:
        task = {
            "prompt_id": planned.prompt.id,
            "model": planned.model,
            "principle": planned.principle,
            "position": planned.position,
            "template": TEMPLATE,
        }
        request = Request(
            endpoint, planned.key, "completion", planned.prompt.id, planned.messages, task, {}
        )
        await asker.ask(request)

    return job
