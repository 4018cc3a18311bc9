"""The commands `zephyr-data feedback …`: they read options, call one function and print the result.

Results go to standard output, progress and remarks to standard error. Everything heavy is imported
inside the command, so that `--help` stays quick.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zephyr_data.feedback.collect import Budget
    from zephyr_data.feedback.length_controlled import Weights
    from zephyr_data.feedback.winrate import Judged, Rate

app = typer.Typer(
    no_args_is_help=True, help="Models answer, a judge ranks, preference pairs come out."
)


class Mode(StrEnum):
    """How to judge."""

    aspects = "aspects"
    overall = "overall"
    pairwise = "pairwise"
    reference = "reference"
    rule = "rule"


class ScoreName(StrEnum):
    """What ranks the answers."""

    overall = "overall"
    mean_aspects = "mean_aspects"
    winrate = "winrate"
    bradley_terry = "bradley_terry"


class RejectedName(StrEnum):
    """Which answer is rejected."""

    random = "random"
    worst = "worst"
    all = "all"


class Ties(StrEnum):
    """What happens to pairs with equal scores."""

    drop = "drop"
    keep = "keep"


class Format(StrEnum):
    """A published format."""

    ultrafeedback = "ultrafeedback"
    alpacaeval = "alpacaeval"
    gsm8k = "gsm8k"


class Compat(StrEnum):
    """A published set whose choice is repeated."""

    ultrafeedback_binarized = "ultrafeedback_binarized"


StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="The feedback store.")]
MaxCost = Annotated[
    float | None, typer.Option(help="Stop before the store has cost more than this in all.")
]
MaxFailures = Annotated[int, typer.Option(help="Stop after this many failed requests.")]


def budget(max_cost: float | None, max_failures: int) -> Budget:
    """The budget of a run."""
    from zephyr_data.feedback.collect import Budget

    return Budget(max_cost, max_failures)


@app.command()
def complete(
    prompts: Annotated[Path, typer.Argument(metavar="PROMPTS", help="JSONL, JSON or Parquet.")],
    models: Annotated[Path, typer.Option(help="YAML file of the model pool.")],
    out: Annotated[Path, typer.Option(metavar="STORE", help="The store; made if missing.")],
    per_prompt: Annotated[int, typer.Option(min=1, help="Models that answer each prompt.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
    max_cost: MaxCost = None,
    max_failures: MaxFailures = 100,
) -> None:
    """Let models answer prompts; run it again to go on where it stopped."""
    from zephyr_data.feedback.complete import complete as run
    from zephyr_data.feedback.options import ModelsFile, load_options
    from zephyr_data.feedback.prompts import read_prompts
    from zephyr_data.feedback.store import Store
    from zephyr_data.feedback.tables import write_tables

    pool = load_options(models, ModelsFile)
    rows = read_prompts(prompts)
    with Store.write(out) as store:
        _tell_cut(store.cut_bytes)
        run(
            store,
            rows,
            pool,
            folder=models.parent,
            per_prompt=per_prompt,
            seed=seed,
            budget=budget(max_cost, max_failures),
        )
        write_tables(store)


def _tell_cut(cut_bytes: int) -> None:
    if cut_bytes:
        typer.echo(f"cut {cut_bytes} bytes of a line that was not finished", err=True)


@app.command()
def judge(
    store: StoreArgument,
    judge: Annotated[Path, typer.Option(help="YAML file of the judge.")],
    mode: Annotated[Mode, typer.Option(help="How to judge.")],
    aspects: Annotated[
        str, typer.Option(help="Comma-separated aspects; default: all four.")
    ] = "instruction_following,truthfulness,honesty,helpfulness",
    seed: Annotated[int | None, typer.Option(help="Seed; default: the store's.")] = None,
    max_cost: MaxCost = None,
    max_failures: MaxFailures = 100,
) -> None:
    """Let a judge grade the answers; run it again to go on where it stopped."""
    from zephyr_data.errors import ConfigError
    from zephyr_data.feedback.judge import judge as run
    from zephyr_data.feedback.options import ASPECTS, JudgeFile, load_options
    from zephyr_data.feedback.status import agreement, verdict_counts
    from zephyr_data.feedback.store import Store
    from zephyr_data.feedback.tables import write_tables

    chosen = [aspect.strip() for aspect in aspects.split(",") if aspect.strip()]
    for aspect in chosen:
        if aspect not in ASPECTS:
            raise ConfigError(
                f"unknown aspect: {aspect}\nhint: known aspects: {', '.join(ASPECTS)}", "aspects"
            )
    options = load_options(judge, JudgeFile)
    Store.read(store).close()
    with Store.write(store) as opened:
        _tell_cut(opened.cut_bytes)
        counts = run(
            opened,
            options,
            mode.value,
            folder=judge.parent,
            aspects=chosen,
            seed=seed,
            budget=budget(max_cost, max_failures),
        )
        write_tables(opened)
        for reason, count in sorted(counts.items()):
            typer.echo(f"not judged, {reason}: {count}")
        for text in verdict_counts(opened, mode.value):
            typer.echo(text)
        if (agreed := agreement(opened, mode.value)) is not None:
            typer.echo(agreed)


@app.command()
def binarize(
    store: StoreArgument,
    out: Annotated[Path, typer.Option(metavar="FILE.parquet", help="Where the pairs go.")],
    score: Annotated[ScoreName, typer.Option(help="What ranks the answers.")],
    rejected: Annotated[RejectedName, typer.Option(help="Which answer is rejected.")] = (
        RejectedName.random
    ),
    ties: Annotated[Ties, typer.Option(help="Pairs with equal scores.")] = Ties.drop,
    min_margin: Annotated[float, typer.Option(min=0, help="Smallest score difference.")] = 0.0,
    mode: Annotated[
        str | None, typer.Option(help="overall: verdicts of this mode, if there are several.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Verdicts of this judge; default: last.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; default: the store's.")] = None,
    max_prompts_per_text: Annotated[
        int | None,
        typer.Option(help="Leave out texts given to more prompts; default: 10 or 1 %."),
    ] = None,
    balance_length: Annotated[  # noqa: FBT002 # typer's way to declare a flag
        bool, typer.Option("--balance-length", help="As many longer as shorter chosen texts.")
    ] = False,
    compat: Annotated[
        Compat | None, typer.Option(help="Repeat a published set's rejected answer.")
    ] = None,
) -> None:
    """Make preference pairs for `zephyr-data prepare --kind preference`."""
    from zephyr_data.feedback.binarize import Binarizing
    from zephyr_data.feedback.binarize import binarize as run
    from zephyr_data.feedback.store import Store
    from zephyr_data.feedback.tables import tables_are_current, write_tables

    opened = Store.read(store, scan=False)
    if not tables_are_current(opened):
        with Store.write(store) as writer:
            write_tables(writer)
        opened = Store.read(store, scan=False)
    options = Binarizing(
        score=score.value,
        rejected=rejected.value,
        keep_ties=ties is Ties.keep or compat is not None,
        min_margin=min_margin,
        seed=int(opened.state.get("seed", 0)) if seed is None else seed,
        mode=mode,
        judge=judge,
        max_prompts_per_text=max_prompts_per_text,
        balance_length=balance_length,
        compat=compat is not None,
    )
    report = run(opened, options, out)
    opened.close()
    typer.echo(f"{report.prompts} prompts, {report.answers} answers -> {report.pairs} pairs: {out}")
    for what, counts in (
        ("answers", report.left_out_answers),
        ("prompts", report.left_out_prompts),
    ):
        for reason, count in sorted(counts.items()):
            typer.echo(f"left out {what}, {reason}: {count}")
    _echo_lengths("", report.lengths)
    if report.lengths_balanced is not None:
        _echo_lengths("balanced, ", report.lengths_balanced)


def _echo_lengths(start: str, lengths: Mapping[str, Any]) -> None:
    if lengths.get("pairs"):
        typer.echo(
            f"{start}{lengths['pairs']} pairs, characters chosen / rejected: mean "
            f"{lengths['chosen_mean']:.0f} / {lengths['rejected_mean']:.0f}, median "
            f"{lengths['chosen_median']:.0f} / {lengths['rejected_median']:.0f}; chosen longer in "
            f"{lengths['chosen_longer']:.1%}, shorter in {lengths['chosen_shorter']:.1%}"
        )


@app.command()
def winrate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Judgments or a leaderboard.")],
    length_controlled: Annotated[
        Path | None,
        typer.Option(metavar="DIFFICULTIES", help="JSON of difficulties, or their folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,  # noqa: FBT002
) -> None:
    """Print name, win rate, standard error and n, one model a line, best first."""
    from zephyr_data.feedback import winrate as rates
    from zephyr_data.feedback.length_controlled import read_difficulties, read_weights

    published: dict[str, float | None] = {}
    judged: dict[str, Judged] = {}
    if file.suffix == ".csv":
        board = rates.read_leaderboard(file)
        rows = rates.leaderboard(rate for rate, _ in board.values())
        published = {name: controlled for name, (_, controlled) in board.items()}
    else:
        judged = rates.read_judged(file)
        rows = rates.leaderboard(rates.win_rate(name, one) for name, one in judged.items())
    controlled: dict[str, tuple[float, bool]] = {}
    if length_controlled is not None:
        controlled = control_lengths(
            rows, judged, read_difficulties(length_controlled), read_weights(length_controlled)
        )
    _remark(judged, controlled)
    if as_json:
        typer.echo(json.dumps(_winrate_json(rows, judged, controlled, published), indent=2))
        return
    width = max((len(rate.model) for rate in rows), default=0)
    for rate in rows:
        value = controlled.get(rate.model)
        typer.echo(rates.line(rate, value[0] if value else None, width=width))


def control_lengths(
    rows: list[Rate],
    judged: Mapping[str, Judged],
    difficulties: list[float],
    weights: Mapping[str, Weights],
) -> dict[str, tuple[float, bool]]:
    """Model -> (length-controlled win rate, whether its weights were fitted here)."""
    from zephyr_data.errors import DataError
    from zephyr_data.feedback.length_controlled import fit, predict

    for one in judged.values():
        if one.places and max(one.places) >= len(difficulties):
            raise DataError(
                f"{len(difficulties)} difficulties cannot belong to a file with more prompts, "
                f"found prompt: {max(one.places) + 1}"
            )
    found: dict[str, tuple[float, bool]] = {}
    for rate in rows:
        if rate.model in weights:
            found[rate.model] = predict(weights[rate.model], difficulties), False
        elif rate.model in judged and (own := fit(judged[rate.model], difficulties)) is not None:
            found[rate.model] = predict(own, difficulties), True
    return found


def _remark(judged: Mapping[str, Judged], controlled: Mapping[str, tuple[float, bool]]) -> None:
    from zephyr_data.feedback.winrate import constant_texts, copies

    for one, two in copies(judged):
        typer.echo(
            f"`{one}` and `{two}` have the same texts and preferences: one is a copy", err=True
        )
    for name in constant_texts(judged):
        typer.echo(f"`{name}` gave the same text to every prompt", err=True)
    fitted = [name for name, (_, own) in controlled.items() if own]
    if fitted:
        typer.echo(f"length-controlled rates fitted here: {', '.join(sorted(fitted))}", err=True)


def _winrate_json(
    rows: list[Rate],
    judged: Mapping[str, Judged],
    controlled: Mapping[str, tuple[float, bool]],
    published: Mapping[str, float | None],
) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from zephyr_data.feedback.winrate import length_correlation

    found = []
    for rate in rows:
        row = {k: None if v != v else v for k, v in asdict(rate).items()}  # NaN
        if rate.model in judged:
            row["length_correlation"] = length_correlation(judged[rate.model])
        if rate.model in controlled:
            row["length_controlled"], row["length_controlled_fitted"] = controlled[rate.model]
        if rate.model in published:
            row["length_controlled_published"] = published[rate.model]
        found.append(row)
    return found


@app.command("import")
def import_(
    format: Annotated[Format, typer.Argument(metavar="FORMAT", help="The published format.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The published files.")],
    out: Annotated[Path, typer.Option(metavar="STORE", help="The store; made if missing.")],
) -> None:
    """Import published feedback, its known faults repaired and counted."""
    from zephyr_data.feedback.published import import_published
    from zephyr_data.feedback.store import Store
    from zephyr_data.feedback.tables import write_tables

    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"no such file: {file}")
    with Store.write(out) as store:
        counts = import_published(store, format.value, files)
        write_tables(store)
    typer.echo(
        f"{counts.prompts} prompts, {counts.answers} answers, {counts.ratings} ratings: {out}"
    )
    for what, found in (("repaired", counts.repaired), ("left out", counts.left_out)):
        for reason, count in sorted(found.items()):
            typer.echo(f"{what}, {reason}: {count}")


@app.command()
def status(
    store: StoreArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,  # noqa: FBT002
) -> None:
    """Tell what a store holds, what is missing and what it has cost."""
    from zephyr_data.feedback.status import describe, status_lines
    from zephyr_data.feedback.store import Store

    opened = Store.read(store)
    found = describe(opened)
    opened.close()
    if as_json:
        typer.echo(json.dumps(found, indent=2, sort_keys=True))
        return
    for text in status_lines(found):
        typer.echo(text)
