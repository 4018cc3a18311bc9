"""The command `zephyr-data`: arguments in, a table out; all work is done by the functions of the same names.

Nothing slow is imported at the top, so that `--help` answers at once. Errors are one line that says what failed and one
that says what to do; a traceback means a defect of this package.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from zephyr_data.errors import ConfigError, LockedError, ZephyrDataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from zephyr_data.shown import Page

INTERRUPTED = 130

EXIT_CODES = (
    "Exit codes: 0 done; 1 the data, a file or the disk; 2 an argument, an option or the tokenizer;"
    " 3 another run works on the folder; 130 Ctrl-C."
)

app = typer.Typer(
    name="zephyr-data",
    help="Raw chats and AI feedback in, packed Arrow rows for SFT and DPO out.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help is there in half the time
    context_settings={"help_option_names": ["-h", "--help"]},
)

PREPARE_EPILOG = f"""
Examples:

\b
  # chats for SFT
  zephyr-data prepare chats.jsonl.zst --tokenizer my-tokenizer --out sft
  # ShareGPT or Alpaca rows, from standard input
  zcat alpaca.json.gz | zephyr-data prepare - --tokenizer my-tokenizer --out sft
  # preferences for DPO, in shorter rows, with more options from a file
  zephyr-data prepare pairs.parquet --tokenizer my-tokenizer --out dpo \\
      --max-length 1024 --config prepare.yaml

The same command again skips what is done; a changed option re-runs only what it touches.

{EXIT_CODES}
"""


def _version(*, asked: bool) -> None:
    if asked:
        from zephyr_data import __version__

        print(f"zephyr-data {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and exit.",
            is_eager=True,
            callback=lambda asked: _version(asked=asked),
        ),
    ] = False,
) -> None:
    """Raw chats and AI feedback in, packed Arrow rows for SFT and DPO out."""


@app.command(epilog=PREPARE_EPILOG)
def prepare(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Files, folders or globs of .jsonl, .json, .parquet or .arrow, plain or with .gz or .zst behind it; .csv,"
            " .tsv, hf://, s3:// and gs:// through polars; - for standard input. The columns say what a row is: `messages`,"
            " `conversations`, `instruction` and `output`, `prompt` and `completion`, or `chosen` and `rejected`; other"
            " columns do not matter. UltraFeedback's rows are made into pairs.",
        ),
    ],
    tokenizer: Annotated[
        str,
        typer.Option(
            metavar="FOLDER_OR_NAME",
            show_default=False,
            help="What transformers.AutoTokenizer loads; it needs a chat template.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", show_default=False, help="Folder for the result, made if missing."
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yaml",
            show_default="none",
            help="All options, in the sections read, clean, dedup and pack. What is given here on the command line counts"
            " more.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="auto|chat|preference",
            show_default="auto",
            help="What the rows are; auto takes what the first row is.",
        ),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(metavar="N", show_default="2048", help="Tokens of a packed row.")
    ] = None,
    test_fraction: Annotated[
        float | None,
        typer.Option(
            metavar="X", show_default="0.01", help="Share of all prompts that make the test set."
        ),
    ] = None,
    decontaminate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            show_default="none",
            help="A benchmark, .jsonl, .json, .parquet or .arrow, or a folder or a glob of them: rows that hold one of its"
            " questions go. Quote a glob, 'bench/*.jsonl', or the shell makes inputs of all files but the first. Can be"
            " given several times.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            show_default="all CPUs",
            help="Threads. The result does not depend on them.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", show_default="0", help="Decides the split and the order of the rows."
        ),
    ] = None,
    verify: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            show_default="32",
            help="Random rows whose ids and masks are held against transformers before anything is packed; a difference"
            " ends the run with the row. A row takes about a millisecond.",
        ),
    ] = None,
    on_bad_row: Annotated[
        str | None,
        typer.Option(
            metavar="stop|reject",
            show_default="stop",
            help="Whether a row that cannot be read ends the run, or is kept in rejects/ and the run goes on.",
        ),
    ] = None,
    carry: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            show_default="none",
            help="Another column of the input that is carried along, as text, to the index of the packed rows (to the rows"
            " themselves for preferences). Can be given several times.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Remove what earlier runs left in DIR and start anew. Other files in it stay.",
        ),
    ] = False,
    measure_recall: Annotated[
        bool,
        typer.Option(
            "--measure-recall",
            help="Edit copies of some rows, in memory, and say how many of them are found as near-duplicates. No file"
            " depends on it.",
        ),
    ] = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Do not write DIR/report.html.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress and no table, errors only.")
    ] = False,
) -> None:
    """Turn chats or preferences into packed rows.

    Cleans, deduplicates, splits, tokenizes and packs. Writes DIR/clean, DIR/dedup and DIR/packed; DIR/packed/train and DIR/packed/test are what trl's trainers take. DIR/report.html shows on one page what was done.
    """
    _without_torch()
    from zephyr_data.inputs import check_not_spelt_out
    from zephyr_data.prepare import prepare as run

    check_not_spelt_out(sys.argv, inputs)
    result = run(
        inputs,
        tokenizer=tokenizer,
        out=out,
        config=config,
        kind=kind,  # type: ignore[arg-type]  # any text may be typed; the options check it and say what there is
        max_length=max_length,
        test_fraction=test_fraction,
        decontaminate=decontaminate or None,
        workers=workers,
        seed=seed,
        verify=verify,
        on_bad_row=on_bad_row,  # type: ignore[arg-type]  # likewise
        carry=carry or None,
        overwrite=overwrite,
        measure_recall=measure_recall,
        report=not no_report,
        progress=not quiet,
    )
    if not quiet:
        from zephyr_data.summary import render

        _console().print(render(result))


@app.command(epilog=EXIT_CODES)
def show(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", show_default=False, help="What prepare was given as --out."),
    ],
    row: Annotated[int, typer.Option(metavar="N", help="The first one to show, from 0.")] = 0,
    rows: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="How many to show.",
            min=1,
            show_default="1; 10 of --rejects and --changes",
        ),
    ] = None,
    rejects: Annotated[
        bool, typer.Option("--rejects", help="Show dropped rows with their evidence.")
    ] = False,
    changes: Annotated[
        bool, typer.Option("--changes", help="Show the letters that truecasing changed.")
    ] = False,
    reason: Annotated[
        str | None,
        typer.Option(
            metavar="R",
            help="Only rows that went for this reason, or letters changed by this rule.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="train|test", show_default="train", help="Which packed rows."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER_OR_NAME",
            show_default="what prepare was given",
            help="Where the tokenizer is now, if it has moved.",
        ),
    ] = None,
) -> None:
    """Show packed rows as text; or, with --rejects or --changes, what was dropped or changed on the way.

    What carries the loss is green and the rest grey; the borders of the documents are marked. Without colour, what carries the loss stands between ⟦ and ⟧. A row that went for another one is shown as a diff by words: red is only in the row that went, green only in the one that stayed; without colour between [- -] and {+ +}.
    """
    if reason is not None and not (rejects or changes):
        raise ConfigError(
            "`--reason` needs `--rejects` or `--changes`\nhint: `zephyr-data show DIR --rejects --reason R`",
            key="reason",
        )
    console = _console()
    colour = console.color_system is not None and not console.no_color
    if rejects or changes:
        _refuse_beside(
            "--rejects" if rejects else "--changes",
            {"--changes": rejects and changes, "--split": split, "--tokenizer": tokenizer},
        )
        page = _page(folder, row, rows or 10, reason, changes=changes, colour=colour)
        for text in page.texts:
            console.print(text, soft_wrap=True)
        console.print(page.summary, soft_wrap=True)
        return
    split = split or "train"
    rows = rows or 1
    _without_torch()
    from zephyr_data.dataset import open_packed
    from zephyr_data.show import load_decoder, render_row, rows_of

    packed = open_packed(folder)
    packed.table(split)  # type: ignore[arg-type]  # refuses an unknown split before a tokenizer is loaded
    decoder = load_decoder(packed, tokenizer)
    last = max(row + 1, min(row + rows, rows_of(packed, split)))  # type: ignore[arg-type]
    for number in range(row, last):
        text = render_row(packed, split, number, decoder, colour=colour)  # type: ignore[arg-type]
        console.print(text, soft_wrap=True)


def _page(
    folder: Path, first: int, count: int, reason: str | None, *, changes: bool, colour: bool
) -> Page:
    if changes:
        from zephyr_data.changes import show_changes

        return show_changes(folder, first=first, count=count, rule=reason, colour=colour)
    from zephyr_data.rejects import show_rejects

    return show_rejects(folder, first=first, count=count, reason=reason, colour=colour)


def _refuse_beside(option: str, others: dict[str, object]) -> None:
    """Refuses options that would be without effect."""
    for other, given in others.items():
        if given:
            raise ConfigError(
                f"`{other}` has no meaning beside `{option}`\nhint: leave one of them out",
                key=other.removeprefix("--"),
            )


@app.command(epilog=EXIT_CODES)
def inspect(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", show_default=False, help="What prepare would be given."),
    ],
    kind: Annotated[
        str,
        typer.Option(
            metavar="auto|chat|preference", help="Whether only the columns of one kind count."
        ),
    ] = "auto",
    shape: Annotated[
        str,
        typer.Option(
            metavar="auto|NAME",
            help="How the columns are understood: messages, sharegpt, alpaca, prompt_completion, transcript, preference.",
        ),
    ] = "auto",
    carry: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            show_default="none",
            help="A column that prepare would be given with --carry; rows without it cannot be read.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", show_default="all CPUs", help="Threads.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Say what files hold, before anything is done with them.

    Shapes, rows, roles, lengths, scripts, and the first row that cannot be read. Writes nothing.
    """
    from zephyr_data.inspect import inspect as look
    from zephyr_data.inspect import render

    found = look(
        inputs,
        kind=kind,  # type: ignore[arg-type]  # any text may be typed; the options check it and say what there is
        shape=shape,  # type: ignore[arg-type]  # likewise
        carry=carry or None,
        workers=workers,
        progress=False if quiet else None,
    )
    if json:
        import json as format_json
        from dataclasses import asdict

        print(format_json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        _console().print(render(found), soft_wrap=True)


def _mount(name: str, package: str) -> None:
    """Adds the commands of a part of the package that brings its own."""
    if find_spec(f"zephyr_data.{package}") and find_spec(f"zephyr_data.{package}.cli"):
        app.add_typer(import_module(f"zephyr_data.{package}.cli").app, name=name)


_mount("feedback", "feedback")
_mount("evaluate", "evaluate")


def _without_torch() -> None:
    """Hides torch from transformers in this process, which needs tokenizers only: importing torch takes six seconds."""
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]


def _console() -> Console:
    """Standard output; a fixed width where it is no terminal, so that tables are not cut to 80 columns."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else 120, highlight=False)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the command and ends the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot show must not end a run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    interrupted = False

    def interrupt(*_: object) -> NoReturn:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    code = _run(arguments, lambda: interrupted)
    if code == INTERRUPTED:
        _fail("interrupted", "the same command goes on where this one stopped", code)
    sys.exit(code)


def _run(arguments: list[str] | None, interrupted: Callable[[], bool]) -> int:
    """Runs the command; every error becomes its message and an exit code."""
    try:
        code = app(args=arguments, prog_name="zephyr-data", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BrokenPipeError, SystemExit) as error:
        # typer ends the process with 1 where the reader of a pipe has seen enough; we call that success.
        if not isinstance(error.__context__ or error, BrokenPipeError):
            raise
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), 1
        )  # or Python complains once more as it flushes at exit
        return 0
    except Exception as error:
        # Ctrl-C in the midst of an import can end in any error.
        return INTERRUPTED if interrupted() else _report(error)
    return code if isinstance(code, int) else 0


def _report(error: Exception) -> int:
    """Prints an error and gives its exit code; what nobody foresaw is raised again, with its traceback."""
    if isinstance(error, ConfigError | LockedError):
        return _fail(str(error), None, 3 if isinstance(error, LockedError) else 2)
    if isinstance(error, ZephyrDataError | OSError | ImportError):
        return _fail(_words(error), None, 1)
    if not hasattr(error, "format_message"):  # not a complaint of the argument parser either
        raise error
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error, file=sys.stderr)
        return 2
    from zephyr_data.usage import complaint

    return _fail(*complaint(error), 2)


def _fail(message: str, hint: str | None, code: int) -> int:
    print(f"error: {message}" + (f"\nhint: {hint}" if hint else ""), file=sys.stderr)
    return code


def _words(error: BaseException) -> str:
    """The message alone: `OSError` prints its number in front."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: `{error.filename}`" if error.filename else error.strerror
    return str(error)
