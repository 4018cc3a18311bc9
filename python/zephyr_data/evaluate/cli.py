"""The commands `zephyr-data evaluate …`; results on standard output, progress on standard error."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path  # typer reads the annotations when the program runs
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zephyr_data.evaluate.mt_bench import Summary

app = typer.Typer(no_args_is_help=True, help="MT-Bench and AlpacaEval with any judge.")

MaxCost = Annotated[
    float | None, typer.Option(help="Stop before the store has cost more than this in all.")
]
MaxFailures = Annotated[int, typer.Option(help="Stop after this many failed requests.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("mt-bench")
def mt_bench(
    questions: Annotated[Path, typer.Option(help="FastChat's question.jsonl.")],
    judge: Annotated[Path, typer.Option(help="YAML file of the judge.")],
    judge_prompts: Annotated[Path, typer.Option(help="FastChat's judge_prompts.jsonl.")],
    out: Annotated[Path, typer.Option(metavar="STORE", help="The store; made if missing.")],
    answers: Annotated[Path | None, typer.Option(help="FastChat answer file.")] = None,
    model: Annotated[Path | None, typer.Option(help="YAML file of models that answer now.")] = None,
    references: Annotated[Path | None, typer.Option(help="FastChat reference answers.")] = None,
    max_cost: MaxCost = None,
    max_failures: MaxFailures = 100,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Grade two-turn answers from 1 to 10; run it again to go on where it stopped."""
    from zephyr_data.errors import ConfigError
    from zephyr_data.evaluate import mt_bench as bench
    from zephyr_data.feedback.collect import Budget
    from zephyr_data.feedback.options import JudgeFile, ModelsFile, load_options
    from zephyr_data.feedback.store import Store

    if (answers is None) == (model is None):
        raise ConfigError("give exactly one of `--answers` and `--model`")
    options = load_options(judge, JudgeFile)
    if options.judge is None:
        raise ConfigError("MT-Bench needs a `judge` in the judge file", "judge")
    asked = bench.read_questions(questions, references)
    prompts = bench.read_judge_prompts(judge_prompts)
    with Store.write(out) as store:
        run = bench.MtBench(store, asked, prompts, Budget(max_cost, max_failures))
        if answers is not None:
            run.answers = bench.read_answers(answers)
        elif model is not None:
            run.generate(load_options(model, ModelsFile), model.parent)
            for name, own in run.answers.items():
                bench.write_answers(out / f"answers-{name.replace('/', '__')}.jsonl", name, own)
        grades = run.grade(options.judge, judge.parent)
    rows = [asdict(grade) for grade in grades]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (out / "grades.jsonl").write_text(text, encoding="utf-8")
    summaries = bench.summarize(grades)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in summaries], indent=2))
        return
    for one in summaries:
        _echo_summary(one)


def _echo_summary(one: Summary) -> None:
    def show(score: float | None) -> str:
        return "-" if score is None else f"{score:.4f}"

    turns = ", ".join(f"turn {turn} {show(score)}" for turn, score in one.turns.items())
    typer.echo(f"{one.model}  {show(one.score)}  ({turns})  {one.graded} of {one.asked} graded")
    for category, score in one.categories.items():
        typer.echo(f"  {category}  {show(score)}")
    for reason, count in one.ungraded.items():
        typer.echo(f"  not graded, {reason}: {count}")


@app.command("alpaca-eval")
def alpaca_eval(
    answers: Annotated[list[Path], typer.Option(help="Answer file; may be given several times.")],
    reference: Annotated[Path, typer.Option(help="The baseline's answer file.")],
    judge: Annotated[Path, typer.Option(help="YAML file of the judge.")],
    out: Annotated[Path, typer.Option(metavar="STORE", help="The store; made if missing.")],
    length_controlled: Annotated[
        Path | None,
        typer.Option(metavar="DIFFICULTIES", help="JSON of difficulties in the reference's order."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the order of the texts.")] = 0,
    max_cost: MaxCost = None,
    max_failures: MaxFailures = 100,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Win rate against a baseline; run it again to go on where it stopped."""
    from zephyr_data.errors import ConfigError
    from zephyr_data.evaluate import alpaca_eval as bench
    from zephyr_data.feedback.cli import winrate
    from zephyr_data.feedback.collect import Budget
    from zephyr_data.feedback.options import JudgeFile, load_options
    from zephyr_data.feedback.store import Store

    options = load_options(judge, JudgeFile)
    if options.judge is None:
        raise ConfigError("AlpacaEval needs a `judge` in the judge file", "judge")
    base = bench.read_outputs(reference)
    outputs = [bench.read_outputs(path) for path in answers]
    with Store.write(out) as store:
        annotations, counts = bench.compare(
            store,
            options,
            judge.parent,
            reference=base,
            answers=outputs,
            seed=seed,
            budget=Budget(max_cost, max_failures),
        )
    bench.write_annotations(out / "annotations.json", annotations)
    for (model, reason), count in sorted(counts.items()):
        typer.echo(f"{model}: not judged, {reason}: {count}", err=True)
    winrate(out / "annotations.json", length_controlled, as_json=as_json)


@app.command("answers")
def answers(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A feedback store.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the answer files go.")],
) -> None:
    """Write a store's answers as AlpacaEval answer files, one per model."""
    from zephyr_data.evaluate.alpaca_eval import write_outputs
    from zephyr_data.feedback.store import Store

    opened = Store.read(store)
    for path in write_outputs(out, opened):
        typer.echo(str(path))
    opened.close()
