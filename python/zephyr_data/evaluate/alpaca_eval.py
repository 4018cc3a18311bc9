"""AlpacaEval: a judge prefers the model's output or the reference's; the win rate is what counts.

Answer files have the format of the `alpaca_eval` package: a JSON array of `instruction`, `output`,
`generator`. Which text stands first is a hash of seed and instruction. The verdict is a word (text)
or the first token's log-probabilities, as AlpacaEval 2 has it. The judgments are written as
`annotations.json`, which `feedback winrate` and the package read.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr_data.errors import DataError
from zephyr_data.feedback import draws, templates, verdicts
from zephyr_data.feedback.collect import Asker, Budget, Job, Request, collect
from zephyr_data.feedback.endpoint import Endpoint
from zephyr_data.feedback.judge import ask_and_repair
from zephyr_data.feedback.progress import Progress
from zephyr_data.feedback.rows import read_rows
from zephyr_data.feedback.store import Record, Store, request_key, write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from zephyr_data.feedback.options import JudgeFile

FIRST, SECOND = "m", "M"
NO_OUTPUT = "no_output"
REQUEST_FAILED = "request_failed"


@dataclass(frozen=True, slots=True)
class Output:
    """One row of an answer file."""

    instruction: str
    output: str
    generator: str
    dataset: str | None


def read_outputs(path: Path) -> dict[str, Output]:
    """Reads an answer file: instruction -> row.

    Raises:
        DataError: A field is missing, an instruction comes twice, or several models are mixed.
    """
    outputs: dict[str, Output] = {}
    for number, row in read_rows(path):
        if not all(isinstance(row.get(n), str) for n in ("instruction", "output", "generator")):
            raise DataError(
                f"an answer needs `instruction`, `output` and `generator` at {path}:{number}, "
                f"found: {', '.join(sorted(row))}",
                str(path),
                number,
                "output",
            )
        one = Output(row["instruction"], row["output"], row["generator"], row.get("dataset"))
        if one.instruction in outputs:
            raise DataError(
                f"an instruction comes twice at {path}:{number}: {one.instruction[:80]}",
                str(path),
                number,
                "instruction",
            )
        outputs[one.instruction] = one
    generators = sorted({one.generator for one in outputs.values()})
    if len(generators) != 1:
        found = ", ".join(generators) or "none"
        raise DataError(f"`{path}` must hold one generator's answers, found: {found}", str(path))
    return outputs


def read_preference(record: Record) -> verdicts.Reading:
    """The probability that the text shown second is better."""
    task = record["task"]
    if task["verdict"] == "logprobs":
        value, problem = verdicts.read_token(record["response"], FIRST, SECOND)
        return verdicts.Reading({"verdict": value}, problem)
    problem = verdicts.read_finish(record["answer"], record["finish_reason"])
    if problem is not None:
        return verdicts.Reading(problem=problem)
    read = verdicts.read_choice("A", "B", "tie")
    reading = verdicts.read_lines(record["answer"], task["tag"], ["verdict"], read)
    if reading.problem is not None:
        return reading
    chance = {"A": 0.0, "tie": 0.5, "B": 1.0}[str(reading.values["verdict"])]
    return verdicts.Reading({"verdict": chance})


class Comparison:
    """A judge between a model's outputs and the reference's."""

    def __init__(self, options: JudgeFile, folder: Path, seed: int) -> None:
        assert options.judge is not None
        self.endpoint = Endpoint(options.judge, folder)
        self.verdict = options.verdict
        self.template = templates.load_template(
            "pairwise_token.v1" if self.verdict == "logprobs" else "pairwise.v1"
        )
        self._seed = seed

    def swapped(self, instruction: str) -> bool:
        """Whether the model's output is shown first; the same for every model."""
        return draws.fraction(self._seed, "alpaca_eval", instruction) < 0.5

    def request(self, reference: Output, output: Output) -> Request:
        """The request for one row."""
        texts = [reference.output, output.output]
        if self.swapped(output.instruction):
            texts.reverse()
        tag = templates.tag(self._seed, "alpaca_eval", output.instruction, *texts)
        user = templates.fill(
            self.template.user,
            tag=tag,
            instruction=output.instruction,
            first=texts[0],
            second=texts[1],
            example=f"{tag} verdict: X",
        )
        messages = [
            {"role": "system", "content": self.template.system},
            {"role": "user", "content": user.rstrip()},
        ]
        extra: dict[str, Any] = {}
        if self.verdict == "logprobs":
            field = self.endpoint.options.sampling.max_tokens_field
            extra = {"logprobs": True, "top_logprobs": 5, field: 1}
        task = {
            "prompt_id": output.instruction,
            "mode": "alpaca_eval",
            "aspect": None,
            "model": output.generator,
            "judge": self.endpoint.name,
            "template": self.template.version,
            "tag": tag,
            "verdict": self.verdict,
            "example": "m, or M" if self.verdict == "logprobs" else f"{tag} verdict: X",
        }
        key = request_key(
            kind="alpaca_eval",
            template=self.template.version,
            messages=messages,
            judge=self.endpoint.identity,
            extra=extra,
        )
        return Request(self.endpoint, key, "judgment", output.instruction, messages, task, extra)


def compare(
    store: Store,
    options: JudgeFile,
    folder: Path,
    *,
    reference: dict[str, Output],
    answers: Sequence[dict[str, Output]],
    seed: int,
    budget: Budget,
) -> tuple[list[dict[str, Any]], Counter[tuple[str, str]]]:
    """Judges all rows; returns annotations in the reference's order and (model, reason) counts."""
    comparison = Comparison(options, folder, seed)
    readings: dict[tuple[str, str], verdicts.Reading] = {}
    jobs: list[Job] = []
    counts: Counter[tuple[str, str]] = Counter()
    generators = [next(iter(outputs.values())).generator for outputs in answers]
    twice = sorted({name for name in generators if generators.count(name) > 1})
    if twice:
        raise DataError(f"two answer files have the same generator: {twice[0]}", field="generator")
    for outputs in answers:
        for instruction, output in outputs.items():
            if instruction not in reference:
                counts[output.generator, "instruction_not_in_reference"] += 1
                continue
            jobs.append((comparison.endpoint, _job(comparison, reference, output, readings)))
    progress = Progress(len(jobs))
    progress.cost = store.cost
    asyncio.run(collect(jobs, Asker(store, budget, progress, seed)))
    annotations = []
    for generator, outputs in zip(generators, answers, strict=True):
        for instruction, base in reference.items():
            if instruction not in outputs:
                counts[generator, NO_OUTPUT] += 1
                continue
            reading = readings.get((generator, instruction))
            annotations.append(_annotation(comparison, base, outputs[instruction], reading))
            if reading is None or reading.problem is not None:
                counts[generator, reading.problem or "" if reading else REQUEST_FAILED] += 1
    return annotations, counts


def _job(
    comparison: Comparison,
    reference: dict[str, Output],
    output: Output,
    readings: dict[tuple[str, str], verdicts.Reading],
) -> Any:  # noqa: ANN401 # a coroutine function
    async def job(asker: Asker) -> None:
        request = comparison.request(reference[output.instruction], output)
        readings[output.generator, output.instruction] = await ask_and_repair(
            asker, request, read_preference
        )

    return job


def _annotation(
    comparison: Comparison, base: Output, output: Output, reading: verdicts.Reading | None
) -> dict[str, Any]:
    value = reading.values.get("verdict") if reading is not None and not reading.problem else None
    preference = None
    if isinstance(value, float):
        wins = 1.0 - value if comparison.swapped(output.instruction) else value
        preference = 1.0 + wins
    return {
        "dataset": base.dataset,
        "instruction": output.instruction,
        "output_1": base.output,
        "generator_1": base.generator,
        "output_2": output.output,
        "generator_2": output.generator,
        "annotator": comparison.endpoint.name,
        "preference": preference,
    }


def write_annotations(path: Path, annotations: Sequence[dict[str, Any]]) -> None:
    """Writes the judgments in AlpacaEval's format."""
    write_atomically(path, json.dumps(annotations, ensure_ascii=False, indent=1) + "\n")


def write_outputs(folder: Path, store: Store) -> list[Path]:
    """Writes the answers of a feedback store as one answer file per model, prompts by id."""
    from zephyr_data.feedback.tables import answered_prompts

    by_model: dict[str, list[dict[str, Any]]] = {}
    for prompt, completions in answered_prompts(store):
        for completion in completions:
            by_model.setdefault(completion.model, []).append(
                {
                    "instruction": prompt.text,
                    "output": completion.text,
                    "generator": completion.model,
                    "dataset": prompt.source or "",
                }
            )
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for model in sorted(by_model):
        path = folder / f"{model.replace('/', '__')}.json"
        write_atomically(path, json.dumps(by_model[model], ensure_ascii=False, indent=1) + "\n")
        written.append(path)
    return written
