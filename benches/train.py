"""What a training step costs: stock trl beside ours, switch by switch, on the same rows.

    python benches/train.py                              # SFT, DPO and feeding on the CPU; minutes
    python benches/train.py dpo --columns stock-best,ours
    python benches/train.py sft --preset mistral-7b --device cuda --dtype bfloat16 --batch-tokens 16384
    python benches/train.py dpo --lengths my-lengths.json

The model has random weights, the rows random ids (never zeros, which compress), the lengths are drawn from `--lengths`
(`benches/lengths/`: measured on the shared data, no text). Every column runs in a process of its own. A figure is the mean over
the timed steps, collating and the optimizer in it. trl is imported by the stock columns only; where it is absent, ours runs.

Useful tokens are those of the documents, or of both sides of a pair, prompt counted twice, padding never: the same rows have
the same useful tokens in every column. On CUDA there are two readings of the same time: `mfu_model` counts the causal FLOPs
of the useful work (forward and backward), `mfu_executed` all that was computed: padding, recomputation, the reference.

Figures go to standard output as JSON lines, and with `--json FILE` to a file as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from figures import writer
from steps.model import PRESETS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

COLUMNS = {
    "sft": {
        "stock-default": "SFTTrainer: padded, gradient checkpointing",
        "stock-best": "SFTTrainer: packed, padding-free, no checkpointing",
        "ours-checkpointing": "packed rows, attention per segment, gradient checkpointing",
        "ours": "the same without checkpointing",
    },
    "dpo": {
        "stock-default": "DPOTrainer: padded, gradient checkpointing, reference in every step",
        "stock-no-checkpointing": "the same without checkpointing",
        "stock-best": "the same with the reference computed before",
        "stock-grouped": "the same with batches of like length: another order of the rows",
        "ours-padding-free": "no padding, prompts computed twice",
        "ours": "no padding, the prompt computed once",
    },
    "feed": {
        "stock": "rows of `datasets` through trl's padding-free collator, no model",
        "ours": "views of the mapped file, as `training/sft.py` takes them, no model",
    },
}


def environment(options: argparse.Namespace) -> dict:
    """Command, machine and versions."""
    import torch

    versions = {}
    for package in ("torch", "transformers", "trl", "datasets"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    cuda = options.device.startswith("cuda")
    return {
        "command": " ".join(["python", "benches/train.py", *sys.argv[1:]]),
        "cpu": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": options.threads,
        "python": platform.python_version(),
        "versions": versions,
    }


def one(options: argparse.Namespace, column: str) -> dict:
    """A column, in this process."""
    import torch

    torch.set_num_threads(options.threads)
    if options.what == "feed":
        from steps.feed import feed

        return feed(options, column)
    if column.startswith("stock"):
        from steps.stock import stock

        return stock(options, column)
    from steps.ours import ours

    return ours(options, column)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("what", nargs="?", choices=list(COLUMNS), help="sft, dpo or feed; all by default")
    add("--columns", help="some of them, with commas between; see below for what they are")
    add("--lengths", type=Path, help="a JSON file with `lengths` (benches/lengths/)")
    add("--preset", choices=list(PRESETS), default="small", help="shape of the model (small)")
    add("--device", default="cpu", help="`cpu` or `cuda` (cpu)")
    add("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the weights")
    add("--threads", type=int, default=1, help="of torch on the CPU (1)")
    add("--max-length", type=int, default=2048, help="tokens of a packed row (2048)")
    add("--batch-tokens", type=int, default=4096, help="tokens of an SFT step, about (4096)")
    add("--pairs", type=int, default=8, help="pairs of a DPO step (8)")
    add("--warmup", type=int, default=1, help="steps that do not count (1)")
    add("--steps", type=int, default=5, help="steps that count (5)")
    add("--seed", type=int, default=0, help="of weights, lengths and ids (0)")
    add("--attn", default="auto", help="our attention backend (auto)")
    add(
        "--stock-attention",
        default="sdpa",
        help="`attn_implementation` of the stock columns (sdpa)",
    )
    add("--json", type=Path, help="append the lines to this file, too")
    add("--in-process", help=argparse.SUPPRESS)
    found.epilog = "columns:\n" + "\n".join(
        f"  {what:4} {name:24} {text}" for what in COLUMNS for name, text in COLUMNS[what].items()
    )
    return found


def main() -> None:
    """Runs the columns that the command line asks for, each in a process of its own."""
    options = parser().parse_args()
    options.shape = PRESETS[options.preset]
    if options.in_process:
        with tempfile.TemporaryDirectory() as options.scratch:
            print(json.dumps(one(options, options.in_process)))
        return

    say = writer(options.json)
    say(environment(options))
    asked = sys.argv[2:] if options.what else sys.argv[1:]
    for what in [options.what] if options.what else COLUMNS:
        chosen = options.columns.split(",") if options.columns else list(COLUMNS[what])
        if unknown := [column for column in chosen if column not in COLUMNS[what]]:
            sys.exit(
                f"no such column of {what}: {', '.join(unknown)}\nhint: {', '.join(COLUMNS[what])}"
            )
        found = {}
        for column in chosen:
            command = [sys.executable, __file__, what, *asked, "--in-process", column]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{what} {column} failed:\n{done.stderr[-3000:]}")
            found[column] = json.loads(done.stdout.splitlines()[-1])
            say({"what": what, "column": column, "is": COLUMNS[what][column], **found[column]})
        if "ours" in found and len(found) > 1:
            say({"what": what, "ratios": ratios(found, options)})


def ratios(found: dict[str, dict], options: argparse.Namespace) -> dict[str, float]:
    """Ours against each column, by useful tokens: per CPU second on the CPU, else per second."""
    unit = "tokens_per_cpu_s" if options.device == "cpu" else "tokens_per_s"
    if f"useful_{unit}" in found["ours"]:
        unit = f"useful_{unit}"
    return {
        column: round(found["ours"][unit] / line[unit], 2)
        for column, line in found.items()
        if column != "ours"
    }


if __name__ == "__main__":
    main()
