"""The main job: raw chats or preferences to packed Arrow rows, in three stages that are skipped where they are done.

    from zephyr_data import prepare

    result = prepare("chats.jsonl.zst", tokenizer="path/to/tokenizer", out="out", max_length=4096)
    result.train          # PosixPath('out/packed/train')

What is slow to import is imported inside functions: `zephyr_data` imports this module.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from zephyr_data.errors import ConfigError
from zephyr_data.extension import core
from zephyr_data.inputs import benchmarks_of, find_sources, readable
from zephyr_data.progress import Reporter, reporter
from zephyr_data.ultrafeedback import with_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zephyr_data.config import Config
    from zephyr_data.inputs import Input, Source
    from zephyr_data.options import Benchmark, Kind, OnBadRow
    from zephyr_data.summary import Prepared

    BenchmarkFile: TypeAlias = str | os.PathLike[str] | Mapping[str, Any]

FOLDERS = ("packed", "dedup", "clean")
"""The stages' folders, the last first: removed in this order, what is left is always what an interrupted run leaves."""

LOCK = ".lock"


def prepare(
    inputs: Input | Iterable[Input],
    *,
    tokenizer: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: str | os.PathLike[str] | Mapping[str, Any] | Config | None = None,
    kind: Kind | None = None,
    max_length: int | None = None,
    test_fraction: float | None = None,
    decontaminate: BenchmarkFile | Sequence[BenchmarkFile] | None = None,
    workers: int | None = None,
    seed: int | None = None,
    verify: int | None = None,
    on_bad_row: OnBadRow | None = None,
    carry: Sequence[str] | None = None,
    overwrite: bool = False,
    measure_recall: bool = False,
    report: bool = True,
    progress: bool | Callable[[str, int, int, int], object] | None = None,
) -> Prepared:
    """Cleans, deduplicates, splits, tokenizes and packs chats or preferences.

    Running it again skips the stages whose input and options are the same; a changed option re-runs what it touches. A
    run that was killed goes on at the stage it was in. Where an argument is left out, `config` decides, then the default.

    Args:
        inputs: One input or several: files, folders or globs of `.jsonl`, `.json`, `.parquet` or `.arrow`, plain or with
            `.gz` or `.zst` behind it; `.csv`, `.tsv` and addresses such as `hf://…` and `s3://…`, which polars reads; `-`
            for standard input; tables in memory with `__arrow_c_stream__`, and those of `datasets`.
        tokenizer: Folder or name for `transformers.AutoTokenizer`; it needs a chat template.
        out: Folder for the result, made if missing.
        config: Path of a YAML file, a mapping of the same shape, or a `Config`.
        kind: `chat`, `preference`, or `auto` for what the first row is. Default: `auto`.
        max_length: Tokens of a packed row. Default: 2048.
        test_fraction: Share of the prompts that make the test set. Default: 0.01.
        decontaminate: Files of benchmarks, folders or globs; rows that hold a text of one go. `{"path": FILE, "fields":
            [NAME]}` names the fields. They are read before anything is cleaned. Default: none.
        workers: Threads; the result does not depend on them. Default: all CPUs that this process may use.
        seed: Decides the split and the order of the rows. Default: 0.
        verify: Random rows whose ids and masks are held against transformers before anything is packed; a difference ends
            the run with the row. Default: 32.
        on_bad_row: `stop` or `reject` rows that cannot be read. Default: `stop`.
        carry: Other columns of the input that are carried along to the packed rows, as text. Default: none.
        overwrite: Whether to remove what earlier runs left in `out` first. Files of others are never touched.
        measure_recall: Whether copies of some rows are edited, in memory, and looked for, to see how many near-duplicates
            the options find: `Prepared.recall`. No file depends on it.
        report: Whether to write `out/report.html`, what was done on one page.
        progress: `True` shows progress on stderr, `False` nothing, `None` only in a terminal; a function is called about
            ten times a second with the stage, the bytes done, all bytes (0 while not known) and the rows so far.

    Returns:
        What was done, in numbers, and where the rows are.

    Raises:
        ConfigError: An option, the tokenizer or the output folder cannot be used.
        DataError: An input file or row cannot be read.
        ZephyrDataError: Another run works on `out`.
        OSError: A file cannot be read or written.
    """
    from zephyr_data.config import Config

    overrides = {
        "read.kind": kind,
        "read.on_bad_row": on_bad_row,
        "read.carry": _listed(carry),
        "pack.max_length": max_length,
        "dedup.test_fraction": test_fraction,
        "dedup.decontaminate": [decontaminate]
        if isinstance(decontaminate, str | os.PathLike | Mapping)
        else _listed(decontaminate),
        "workers": workers,
        "seed": seed,
        "verify": verify,
    }
    options = Config.load(config, overrides)
    if measure_recall and not options.dedup.near:
        raise ConfigError(
            "there is no recall to measure with `dedup.near`, found: `false`"
            "\nhint: set it to true, or leave out `--measure-recall`",
            key="dedup.near",
        )
    sources = find_sources(inputs)
    options = _with_benchmarks(options)
    folder = Path(out)
    _check_output(folder, sources, overwrite=overwrite)
    # Benchmarks are read twice, here and when the data is clean: what is wrong with one should not cost minutes of
    # cleaning, and its index has no use before.
    core().check_dedup(options.dedup_options())
    with reporter(progress) as told, core().DirectoryLock(os.fspath(folder)):
        if overwrite:
            _remove_stages(folder)
        result = _run_stages(
            sources, folder, tokenizer, options, told, measure_recall=measure_recall
        )
        if report:
            from zephyr_data.report import write_report

            write_report(result, options.workers)
        return result


def _run_stages(
    sources: list[Source],
    folder: Path,
    tokenizer: str | os.PathLike[str],
    options: Config,
    report: Reporter,
    *,
    measure_recall: bool,
) -> Prepared:
    from zephyr_data.config import DEFAULT_VERIFY
    from zephyr_data.manifest import STAGE_FOLDERS, read_manifest
    from zephyr_data.summary import read_recall, summarize
    from zephyr_data.tokenizer import PROBES, check_ids, load_tokenizer
    from zephyr_data.verify import verify_rows

    # First of all: a tokenizer that cannot be used should not cost a minute of cleaning.
    loaded = load_tokenizer(tokenizer)
    for note in loaded.notes:
        report.note(note)
    literal = options.pack.allow_special_in_content
    encoder = core().ChatEncoder(
        loaded.spec, loss_on=options.pack.loss_on, allow_special_in_content=literal
    )
    if encoder.engine == "tokenizers":
        report.note(
            "this tokenizer's ids come from the `tokenizers` package, which is slower: the fast encoder does not know its kind"
        )
    how = {"literal_specials": literal, "masks": options.pack.loss_on == "assistant"}
    check_ids(loaded, encoder, PROBES, **how)

    out, results = os.fspath(folder), []

    def run(stage: str, *arguments: object) -> None:
        report(stage, 0, 0, 0)  # a short stage would not be heard of before its end
        results.append(getattr(core(), stage)(*arguments, options.workers, report))
        rows = int(read_manifest(folder / STAGE_FOLDERS[stage]).counts["rows_out"])
        report.finished(results[-1], rows)

    with readable(sources, folder) as found:
        paths = with_pairs(found, folder, options.read, options.seed, report)
        run("clean", paths, out, options.read, options.clean)
    run("dedup", out, options.dedup_options())
    recall = None
    if measure_recall:
        recall = read_recall(core().measure_recall(out, options.dedup_options(), lambda *_: None))
    kind = read_manifest(folder / "dedup").kind
    dedup = folder / "dedup"
    verified = verify_rows(
        loaded, encoder, dedup, kind, count=options.verify, seed=options.seed, **how
    )
    if options.verify > DEFAULT_VERIFY:
        report.note(
            f"verified {verified:,} of up to {options.verify:,} random rows: ids are those of transformers"
            " (rows with the text of a special token, which is text here, are left out)"
        )
    run("pack", out, loaded.spec, options.pack_options())
    return summarize(folder, results, recall)


def _listed(values: object) -> object:
    """A list of values; what holds none is left as it is, for the check of the options to refuse."""
    if isinstance(values, Iterable) and not isinstance(values, str | bytes):
        return list(values)
    return values


def _with_benchmarks(options: Config) -> Config:
    """The options with the files that globs of benchmarks match in their place, each of them once."""
    found: list[Benchmark] = []
    for benchmark in options.dedup.decontaminate:
        for path in benchmarks_of(benchmark.path):
            one = benchmark.model_copy(update={"path": path})
            if one not in found:
                found.append(one)
    dedup = options.dedup.model_copy(update={"decontaminate": found})
    return options.model_copy(update={"dedup": dedup})


def _check_output(folder: Path, sources: list[Source], *, overwrite: bool) -> None:
    """Refuses a folder that holds somebody else's things, or the result of other input."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(
            f"cannot write into `--out`, it is not a folder: `{folder}`\nhint: name another",
            key="out",
        )
    if not folder.exists() or not any(folder.iterdir()):
        return
    ours = (folder / LOCK).exists() or any(
        (folder / name / "manifest.json").is_file() for name in FOLDERS
    )
    foreign = [name for name in FOLDERS if (folder / name).exists()]
    if not ours and (foreign or not overwrite):
        named = f"`{folder / foreign[0]}`" if foreign else f"`{folder}`"
        hint = (
            "name another folder; this one's contents bear names that a run would replace"
            if foreign
            else "name a new folder, or add `--overwrite` to use this one; its files stay as they are"
        )
        raise ConfigError(
            f"cannot write into `--out`, it holds what zephyr-data did not write: {named}\nhint: {hint}",
            key="out",
        )
    if not overwrite:
        _check_same_input(folder, sources)


def _check_same_input(folder: Path, sources: list[Source]) -> None:
    """Refuses to replace the result of wholly other files: that is a mistyped `--out` more often than a wish."""
    from zephyr_data.errors import ManifestError
    from zephyr_data.manifest import read_manifest

    try:
        before = [Path(entry.name).name for entry in read_manifest(folder / "clean").inputs]
    except ManifestError:
        return  # the stage runs anew in any case
    now = {name for source in sources for name in _file_names(Path(source.name))}
    if before and now.isdisjoint(before):
        raise ConfigError(
            f"cannot write into `--out`, it holds the result of other input, from `{before[0]}`: `{folder}`"
            "\nhint: name another folder, or add `--overwrite` to replace that result",
            key="out",
        )


def _file_names(path: Path) -> list[str]:
    return (
        [name for _, _, names in os.walk(path) for name in names] if path.is_dir() else [path.name]
    )


def _remove_stages(folder: Path) -> None:
    from zephyr_data.report import REPORT

    (folder / REPORT).unlink(missing_ok=True)
    for name in FOLDERS:
        target = folder / name
        # The manifest goes first: a folder without one does not exist, whenever this is interrupted.
        (target / "manifest.json").unlink(missing_ok=True)
        if target.exists():
            shutil.rmtree(target)
