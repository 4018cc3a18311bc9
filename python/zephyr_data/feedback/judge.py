"""The second step: a judge says how good the answers are.

| mode | asked | read |
| --- | --- | --- |
| `aspects` | all answers of a prompt at once, per aspect, in hashed order | 1 to 5 a text, whole, N/A where allowed |
| `overall` | one answer | a critique and 1 to 10 |
| `reference` | one answer beside the prompt's `reference` | 1 to 10 |
| `pairwise` | each pair, in both orders | A, B or tie; a disagreement is a tie |
| `rule` | nobody | `rules.py` |

A verdict that cannot be read gets one repair request; what stays unreadable becomes a null with a
reason. Only raw answers are stored: verdicts are read from them anew each time, so a stricter
reader costs nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from zephyr_data.errors import ConfigError
from zephyr_data.feedback import draws, templates, verdicts
from zephyr_data.feedback.collect import Asker, Budget, Job, Request, collect
from zephyr_data.feedback.endpoint import Endpoint
from zephyr_data.feedback.progress import Progress
from zephyr_data.feedback.rules import RuleJudge
from zephyr_data.feedback.store import Record, Store, request_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from zephyr_data.feedback.options import Answerer, JudgeFile
    from zephyr_data.feedback.prompts import Message, Prompt
    from zephyr_data.feedback.tables import Completion

TEMPLATES = {mode: f"{mode}.v1" for mode in ("aspects", "overall", "reference", "pairwise")}
REPAIR = "repair.v1"
LABELS = {"overall": "overall", "reference": "score", "pairwise": "verdict"}


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask a judge."""

    prompt: Prompt
    mode: str
    aspect: str | None
    shown: tuple[Completion, ...]
    """The answers in the order in which the judge sees them."""


def questions(
    mode: str,
    aspects: Sequence[str],
    seed: int,
    answered: Sequence[tuple[Prompt, Sequence[Completion]]],
) -> Iterator[Question]:
    """All questions of a mode; answers without text are not shown to anybody."""
    for prompt, completions in answered:
        usable = [c for c in completions if c.usable]
        if mode == "aspects":
            by_model = {c.model: c for c in usable}
            for aspect in aspects if usable else ():
                order = draws.rank(seed, f"order {aspect}", prompt.id, by_model)
                yield Question(prompt, mode, aspect, tuple(by_model[model] for model in order))
        elif mode == "pairwise":
            for one, two in combinations(usable, 2):
                yield Question(prompt, mode, None, (one, two))
                yield Question(prompt, mode, None, (two, one))
        elif mode == "overall" or prompt.reference is not None:
            for completion in usable:
                yield Question(prompt, mode, None, (completion,))


class Judge:
    """A model that judges in one mode."""

    def __init__(self, options: Answerer, folder: Path, mode: str, seed: int) -> None:
        self.endpoint = Endpoint(options, folder)
        self.name = options.name
        self.template = templates.load_template(TEMPLATES[mode])
        self._seed = seed
        # as canonical as the requests' keys: else what counts as the same request would not count
        # as the same judge
        self.setup = request_key(
            template=self.template.version,
            repair=REPAIR,
            seed=seed,
            judge=self.endpoint.identity,
            system=options.system,
        )[:16]

    def request(self, question: Question) -> Request:
        """The request of a question."""
        shown = [completion.key for completion in question.shown]
        tag = templates.tag(self._seed, question.mode, question.aspect or "", *shown)
        messages = self._messages(question, tag)
        if self.endpoint.options.system:
            messages[0]["content"] = f"{self.endpoint.options.system}\n\n{messages[0]['content']}"
        task = {
            "prompt_id": question.prompt.id,
            "mode": question.mode,
            "aspect": question.aspect,
            "judge": self.name,
            "setup": self.setup,
            "template": self.template.version,
            "tag": tag,
            "shown": shown,
            "models": [completion.model for completion in question.shown],
        }
        key = request_key(
            kind="judgment",
            template=self.template.version,
            prompt=question.prompt.id,
            messages=messages,
            judge=self.endpoint.identity,
        )
        return Request(self.endpoint, key, "judgment", question.prompt.id, messages, task, {})

    def _messages(self, question: Question, tag: str) -> list[Message]:
        prompt, texts = question.prompt, [c.text for c in question.shown]
        template, values = self.template, {"tag": tag, "instruction": question.prompt.text}
        values["example"] = example(question.mode, tag, len(texts))
        if question.mode == "aspects":
            assert question.aspect is not None
            aspect = template.parts["aspects"][question.aspect]
            blocks = [
                templates.fill(template.parts["text"], tag=tag, number=str(number), text=text)
                for number, text in enumerate(texts, start=1)
            ]
            knowledge = ""
            if prompt.reference is not None and question.aspect == "truthfulness":
                knowledge = templates.fill(
                    template.parts["knowledge"], tag=tag, reference=prompt.reference
                )
            values |= {
                "count": str(len(texts)),
                "aspect_name": aspect["name"],
                "rubric": aspect["rubric"].rstrip(),
                "knowledge": knowledge,
                "texts": "\n".join(blocks),
            }
        elif question.mode == "pairwise":
            values |= {"first": texts[0], "second": texts[1]}
        else:
            values |= {"text": texts[0], "reference": prompt.reference or ""}
        return [
            {"role": "system", "content": template.system},
            {"role": "user", "content": templates.fill(template.user, **values).rstrip()},
        ]

    async def ask(self, asker: Asker, question: Question) -> None:
        """Asks, and once more if the verdict cannot be read."""
        await ask_and_repair(asker, self.request(question), read_judgment)


async def ask_and_repair(
    asker: Asker, request: Request, read: Callable[[Record], verdicts.Reading]
) -> verdicts.Reading:
    """Asks for a verdict, and once more in other words if it cannot be read."""
    record = await asker.ask(request)
    reading = read(record)
    if reading.problem is None or reading.problem == "filtered":
        return reading
    return read(await asker.ask(repair_request(request, record, reading.problem)))


def example(mode: str, tag: str, count: int) -> str:
    """The form of the verdict, as prompts show it."""
    if mode == "aspects":
        return "\n".join(f"{tag} text {number}: N" for number in range(1, count + 1))
    return f"{tag} {LABELS[mode]}: {'X' if mode == 'pairwise' else 'N'}"


def repair_request(request: Request, record: Record, problem: str) -> Request:
    """The one second chance; a request of its own, with a key of its own."""
    template = templates.load_template(REPAIR)
    task = request.task
    text = templates.fill(
        template.user,
        problem=verdicts.EXPLAIN[problem],
        example=task.get("example") or example(task["mode"], task["tag"], len(task["shown"])),
    )
    messages = [
        *request.messages,
        {"role": "assistant", "content": record["answer"]},
        {"role": "user", "content": text.rstrip()},
    ]
    key = request_key(kind="repair", template=template.version, of=request.key, messages=messages)
    return Request(
        request.endpoint,
        key,
        request.kind,
        request.prompt_id,
        messages,
        {**task, "repairs": request.key},
        request.extra,
    )


def read_judgment(record: Record) -> verdicts.Reading:
    """Reads the verdict of a stored judgment; the record alone says how."""
    task = record["task"]
    problem = verdicts.read_finish(record["answer"], record["finish_reason"])
    if problem is not None:
        return verdicts.Reading(problem=problem)
    if task["mode"] == "aspects":
        template = templates.load_template(task["template"])
        allowed = template.parts["aspects"][task["aspect"]]["not_applicable"]
        scale = verdicts.Scale(1, 5, whole=True, not_applicable=allowed)
        labels = [f"text {number}" for number in range(1, len(task["shown"]) + 1)]
        return verdicts.read_lines(record["answer"], task["tag"], labels, scale.read)
    label = [LABELS[task["mode"]]]
    if task["mode"] == "pairwise":
        read = verdicts.read_choice("A", "B", "tie")
        return verdicts.read_lines(record["answer"], task["tag"], label, read)
    return verdicts.read_lines(record["answer"], task["tag"], label, verdicts.Scale(1, 10).read)


def judge(
    store: Store,
    options: JudgeFile,
    mode: str,
    *,
    folder: Path,
    aspects: Sequence[str],
    seed: int | None,
    budget: Budget,
) -> Counter[str]:
    """Brings in every verdict that is missing; returns counts of what could not be judged.

    Raises:
        EndpointError: It stopped early; the store is whole and the same call goes on.
    """
    from zephyr_data.feedback.tables import answered_prompts

    chosen_seed = int(store.state.get("seed", 0)) if seed is None else seed
    answered = answered_prompts(store)
    if not any(completions for _, completions in answered):
        raise ConfigError(f"the store holds no answers yet: {store.path}")
    counts = _skipped(mode, answered)
    if mode == "rule":
        if options.rule is None:
            raise ConfigError("mode `rule` needs a `rule` in the judge file", "rule")
        rule = RuleJudge(options.rule, folder)
        _remember(store, mode, rule.name, rule.setup, ())
        _apply_rule(store, rule, answered, counts)
        return counts
    if options.judge is None:
        raise ConfigError(f"mode `{mode}` needs a `judge` in the judge file", "judge")
    model = Judge(options.judge, folder, mode, chosen_seed)
    _remember(store, mode, model.name, model.setup, aspects)
    jobs: list[Job] = [
        (model.endpoint, _job(model, question))
        for question in questions(mode, aspects, chosen_seed, answered)
    ]
    progress = Progress(len(jobs))
    progress.cost = store.cost
    asyncio.run(collect(jobs, Asker(store, budget, progress, chosen_seed)))
    return counts


def _job(model: Judge, question: Question) -> Any:  # noqa: ANN401 # a coroutine function
    async def job(asker: Asker) -> None:
        await model.ask(asker, question)

    return job


def _remember(store: Store, mode: str, name: str, setup: str, aspects: Sequence[str]) -> None:
    """Notes how this mode was judged last: later steps read these verdicts and no others."""
    judgings = store.state.setdefault("judgings", {}).setdefault(mode, {"judges": {}})
    judgings["judges"][name] = {"setup": setup, "aspects": list(aspects)}
    judgings["last"] = name
    store.save_state()


def _skipped(mode: str, answered: Sequence[tuple[Prompt, Sequence[Completion]]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for prompt, completions in answered:
        unusable = sum(not c.usable for c in completions)
        if unusable:
            counts["empty_answer"] += unusable
        if mode == "reference" and prompt.reference is None:
            counts["no_reference"] += len(completions) - unusable
        if mode == "pairwise" and len(completions) - unusable < 2:
            counts["fewer_than_two_answers"] += 1
    return counts


def _apply_rule(
    store: Store,
    rule: RuleJudge,
    answered: Sequence[tuple[Prompt, Sequence[Completion]]],
    counts: Counter[str],
) -> None:
    for prompt, completions in answered:
        for completion in completions:
            if not completion.usable:
                continue
            key = request_key(
                kind="rating",
                rule=rule.setup,
                completion=completion.key,
                reference=prompt.reference,
            )
            score, reason = rule.score(prompt, completion.text)
            if reason is not None:
                counts[reason] += 1
            if key in store.done:
                continue
            task = {
                "prompt_id": prompt.id,
                "mode": "rule",
                "aspect": None,
                "judge": rule.name,
                "setup": rule.setup,
                "shown": [completion.key],
                "models": [completion.model],
            }
            store.append(
                {
                    "key": key,
                    "status": "ok",
                    "cost": 0.0,
                    "kind": "rating",
                    "task": task,
                    "score": score,
                    "reason": reason,
                }
            )
