"""MT-Bench: eighty questions of two turns, each answer graded 1 to 10 by a judge.

Questions, answers, references and judge prompts are FastChat's files; the prompts are read from
the file the user names and never changed. Grading is single-answer: turn 1 alone, turn 2 with the
whole conversation, against a reference where there is one. What FastChat leaves out silently (a
grade that cannot be read is -1 and dropped) is asked for once more and then counted by reason.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from zephyr_data.errors import ConfigError, DataError
from zephyr_data.feedback import verdicts
from zephyr_data.feedback.collect import Asker, Budget, Job, Request, collect
from zephyr_data.feedback.endpoint import Endpoint
from zephyr_data.feedback.judge import ask_and_repair
from zephyr_data.feedback.progress import Progress
from zephyr_data.feedback.rows import read_rows
from zephyr_data.feedback.store import Record, Store, request_key, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from zephyr_data.feedback.options import Answerer, ModelsFile
    from zephyr_data.feedback.prompts import Message

TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
PROMPT_NAMES = ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn")
SCALE = verdicts.Scale(1, 10)
NO_ANSWER = "no_answer"
REQUEST_FAILED = "request_failed"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")

Answers = dict[str, tuple[str, ...]]
"""Question id -> the answers of the turns."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question of two turns."""

    id: str
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Grade:
    """One graded turn; without a score there is a reason."""

    model: str
    question: str
    category: str
    turn: int
    score: float | None
    reason: str | None


@dataclass(slots=True)
class Summary:
    """One model's result."""

    model: str
    score: float | None
    turns: dict[int, float | None]
    categories: dict[str, float | None]
    graded: int
    asked: int
    ungraded: dict[str, int] = field(default_factory=dict)


def read_questions(path: Path, references: Path | None) -> list[Question]:
    """Reads FastChat's `question.jsonl` and, if named, its reference answers.

    Raises:
        DataError: A row has another form, or an id comes twice.
    """
    given = {} if references is None else next(iter(read_answers(references).values()))
    questions: dict[str, Question] = {}
    for number, row in read_rows(path):
        turns, identifier = row.get("turns"), str(row.get("question_id"))
        if not isinstance(turns, list) or not turns or not isinstance(row.get("category"), str):
            raise DataError(
                f"no MT-Bench question at {path}:{number}, found: {', '.join(sorted(row))}",
                str(path),
                number,
                "turns",
            )
        if identifier in questions:
            raise DataError(
                f"`question_id` at {path}:{number} comes twice: {identifier}",
                str(path),
                number,
                "question_id",
            )
        # the `reference` of a question row is not what FastChat shows the judge
        questions[identifier] = Question(
            identifier, row["category"], tuple(turns), given.get(identifier)
        )
    return list(questions.values())


def read_answers(path: Path) -> dict[str, Answers]:
    """Reads FastChat's answer files: model -> its answers (the first choice of each question)."""
    models: dict[str, Answers] = {}
    for number, row in read_rows(path):
        try:
            model, identifier = str(row["model_id"]), str(row["question_id"])
            turns = tuple(row["choices"][0]["turns"])
        except (IndexError, KeyError, TypeError):
            raise DataError(
                f"no MT-Bench answer at {path}:{number}, found: {', '.join(sorted(row))}",
                str(path),
                number,
                "choices",
            ) from None
        if identifier in models.setdefault(model, {}):
            raise DataError(
                f"model `{model}` answers a question twice at {path}:{number}: {identifier}",
                str(path),
                number,
                "question_id",
            )
        models[model][identifier] = turns
    if not models:
        raise DataError(f"no answers in file: {path}", str(path))
    return models


def read_judge_prompts(path: Path) -> dict[str, dict[str, str]]:
    """Reads the published judge prompts.

    Raises:
        ConfigError: One of the four single-answer prompts is missing.
    """
    prompts = {row["name"]: row for _, row in read_rows(path) if "name" in row}
    for name in PROMPT_NAMES:
        if name not in prompts:
            raise ConfigError(f"`{path}` lacks the judge prompt: {name}", "judge_prompts")
    return prompts


def fill_published(template: str, values: Mapping[str, str]) -> str:
    """Puts values in for `{name}`, in one pass; other braces stay as they are."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            raise ConfigError(f"a judge prompt names an unknown value: {name}", "judge_prompts")
        return values[name]

    return _PLACEHOLDER.sub(value, template)


def read_grade(record: Record) -> verdicts.Reading:
    """Reads the grade of a stored judgment; quoted ones do not count."""
    problem = verdicts.read_finish(record["answer"], record["finish_reason"])
    if problem is not None:
        return verdicts.Reading(problem=problem)
    return verdicts.read_bracketed(record["answer"], record["task"]["judged"], SCALE)


class MtBench:
    """One run: answers where they are to be made, then grades."""

    def __init__(
        self,
        store: Store,
        questions: Sequence[Question],
        prompts: Mapping[str, Mapping[str, str]],
        budget: Budget,
    ) -> None:
        self.store = store
        self.questions = questions
        self._prompts = prompts
        self._budget = budget
        self.answers: dict[str, Answers] = {}
        self._grades: dict[tuple[str, str, int], Grade] = {}

    def _asker(self, total: int) -> Asker:
        progress = Progress(total)
        progress.cost = self.store.cost
        return Asker(self.store, self._budget, progress, seed=0)

    def generate(self, models: ModelsFile, folder: Path) -> None:
        """Lets models answer, turn after turn, at each category's temperature."""
        jobs: list[Job] = []
        for options in models.models:
            endpoint = Endpoint(options, folder)
            self.answers[endpoint.name] = {}
            jobs += [(endpoint, self._answering(endpoint, q)) for q in self.questions]
        asyncio.run(collect(jobs, self._asker(len(jobs))))

    def _answering(self, endpoint: Endpoint, question: Question) -> Any:  # noqa: ANN401
        async def job(asker: Asker) -> None:
            messages: list[Message] = []
            if endpoint.options.system is not None:
                messages.append({"role": "system", "content": endpoint.options.system})
            turns: list[str] = []
            for turn in question.turns:
                messages = [*messages, {"role": "user", "content": turn}]
                request = _answer_request(endpoint, question, len(turns) + 1, messages)
                answer = (await asker.ask(request))["answer"]
                turns.append(answer)
                messages = [*messages, {"role": "assistant", "content": answer}]
                self.answers[endpoint.name][question.id] = tuple(turns)

        return job

    def grade(self, options: Answerer, folder: Path) -> list[Grade]:
        """Grades every turn of every answer; what cannot be graded says why."""
        endpoint = Endpoint(options, folder)
        jobs: list[Job] = []
        for model in sorted(self.answers):
            for question in self.questions:
                turns = self.answers[model].get(question.id, ())
                for turn in range(1, len(question.turns) + 1):
                    missing = NO_ANSWER if turn > len(turns) else REQUEST_FAILED
                    self._note(model, question, turn, None, missing)
                    if turn <= len(turns):
                        jobs.append((endpoint, self._grading(endpoint, model, question, turn)))
        asyncio.run(collect(jobs, self._asker(len(jobs))))
        return [self._grades[key] for key in sorted(self._grades)]

    def _note(
        self, model: str, question: Question, turn: int, score: float | None, reason: str | None
    ) -> None:
        key = (model, question.id, turn)
        self._grades[key] = Grade(model, question.id, question.category, turn, score, reason)

    def _grading(self, endpoint: Endpoint, model: str, question: Question, turn: int) -> Any:  # noqa: ANN401
        async def job(asker: Asker) -> None:
            request = self._grade_request(endpoint, model, question, turn)
            reading = await ask_and_repair(asker, request, read_grade)
            value = reading.values.get("rating")
            score = value if isinstance(value, float) else None
            self._note(model, question, turn, score, reading.problem)

        return job

    def _grade_request(
        self, endpoint: Endpoint, model: str, question: Question, turn: int
    ) -> Request:
        answers, reference = self.answers[model][question.id], question.reference
        name = "single-math-v1" if reference else "single-v1"
        values = {"question": question.turns[0], "answer": answers[0]}
        if turn > 1:
            name += "-multi-turn"
            for number in range(turn):
                values[f"question_{number + 1}"] = question.turns[number]
                values[f"answer_{number + 1}"] = answers[number]
        for number, text in enumerate(reference or (), start=1):
            values[f"ref_answer_{number}"] = text
        prompt = self._prompts[name]
        messages: list[Message] = [
            {"role": "system", "content": prompt["system_prompt"]},
            {"role": "user", "content": fill_published(prompt["prompt_template"], values)},
        ]
        version = sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()[:16]
        task = {
            "prompt_id": question.id,
            "mode": "mt_bench",
            "aspect": None,
            "model": model,
            "turn": turn,
            "judge": endpoint.name,
            "template": f"{name} {version}",
            "judged": [*answers[:turn], *(reference or ()), *question.turns[:turn]],
            "example": "Rating: [[N]]",
        }
        key = request_key(
            kind="mt_bench_grade",
            template=version,
            question=question.id,
            messages=messages,
            judge=endpoint.identity,
        )
        return Request(endpoint, key, "judgment", question.id, messages, task, {})


def _answer_request(
    endpoint: Endpoint, question: Question, turn: int, messages: list[Message]
) -> Request:
    temperature = TEMPERATURES.get(question.category)
    extra = {} if temperature is None else {"temperature": temperature}
    key = request_key(
        kind="mt_bench_answer",
        question=question.id,
        messages=messages,
        model=endpoint.identity,
        extra=extra,
    )
    task = {"prompt_id": question.id, "model": endpoint.name, "turn": turn}
    return Request(endpoint, key, "completion", question.id, messages, task, extra)


def summarize(grades: Sequence[Grade]) -> list[Summary]:
    """Means per model, turn and category over what was graded, and counts of what was not."""
    summaries = []
    for model in sorted({grade.model for grade in grades}):
        own = [grade for grade in grades if grade.model == model]
        reasons: dict[str, int] = {}
        for grade in own:
            if grade.reason is not None:
                reasons[grade.reason] = reasons.get(grade.reason, 0) + 1
        summaries.append(
            Summary(
                model,
                _mean(own),
                {t: _mean([g for g in own if g.turn == t]) for t in sorted({g.turn for g in own})},
                {
                    c: _mean([g for g in own if g.category == c])
                    for c in sorted({g.category for g in own})
                },
                sum(g.score is not None for g in own),
                len(own),
                dict(sorted(reasons.items())),
            )
        )
    return summaries


def _mean(grades: Sequence[Grade]) -> float | None:
    scores = [g.score for g in grades if g.score is not None]
    return math.fsum(scores) / len(scores) if scores else None


def write_answers(path: Path, model: str, answers: Answers) -> None:
    """Writes FastChat's answer format, so that its own tools can read it."""
    rows = [
        {"question_id": q, "model_id": model, "choices": [{"index": 0, "turns": list(turns)}]}
        for q, turns in answers.items()
    ]
    write_atomically(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
