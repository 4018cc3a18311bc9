"""How fast texts of benchmarks are found in the shared chats, and how many of the hits are right.

    python benches/decontaminate.py speed       # CPU seconds on one worker, against ten benchmark files
    python benches/decontaminate.py precision   # the hits at the defaults, held against benches/labels/contaminated.tsv
    python benches/decontaminate.py precision --list    # the hits, for the next round of labels

`speed` is the difference of two runs of the dedup stage, with and without the ten files, near-duplicates off in both: MT-Bench
questions, answers and judge prompts, GSM8K questions in three files, and code instructions in four. `precision` looks
for two sets of benchmarks in all chats: `questions` (MT-Bench, GSM8K, code instructions and their inputs) is the usual case;
`code` (the answers to the code instructions as if they were a benchmark) is the hardest, since they are made of what many
programs have. Every hit is labelled: `right` if the row holds the question, as it is or but for a few words; `wrong` if
what it shares with it is a phrase or an idiom.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zephyr_data import _core
from zephyr_data.config import Config

SHARED = Path(os.environ.get("ZEPHYR_DATA_SHARED", Path(__file__).parents[2] / "shared" / "data"))
CHATS = [
    str(SHARED / name)
    for name in ("chats_single_turn.jsonl.zst", "chats_multi_turn_train.jsonl.zst")
]
LABELS = Path(__file__).parent / "labels" / "contaminated.tsv"

MT_BENCH = {"path": str(SHARED / "mt_bench_questions.jsonl"), "fields": ["turns"]}
GSM8K = {"path": str(SHARED / "feedback_gsm8k4.parquet"), "fields": ["instruction"]}
CODE = str(SHARED / "instructions_codegen.json")
SETS: dict[str, list[dict[str, object]]] = {
    "questions": [MT_BENCH, GSM8K, {"path": CODE, "fields": ["instruction", "input"]}],
    "code": [{"path": CODE, "fields": ["response"]}],
}
OTHERS_OFF = {"near": False, "exact": False, "constant_answer": {"enabled": False}}


def ten_files(folder: Path) -> list[dict[str, object]]:
    """Ten benchmark files out of the shared ones."""
    files: list[dict[str, object]] = [
        MT_BENCH,
        {"path": str(SHARED / "mt_bench_reference_answers.jsonl"), "fields": ["choices"]},
        {"path": str(SHARED / "mt_bench_judge_prompts.jsonl"), "fields": ["prompt_template"]},
    ]
    questions = pq.ParquetFile(SHARED / "feedback_gsm8k4.parquet").read(columns=["instruction"])
    code = json.loads(Path(CODE).read_text(encoding="utf-8"))
    for name, rows, parts in (("gsm8k", questions.to_pylist(), 3), ("code", code, 4)):
        for part in range(parts):
            path = folder / f"{name}-{part}.jsonl"
            lines = [json.dumps(row) for row in rows[part::parts]]
            path.write_text("\n".join(lines), encoding="utf-8")
            files.append({"path": str(path), "fields": []})
    return files


def dedup(out: Path, options: dict[str, object], workers: int) -> float:
    """Runs the stage on what is in `out/clean`; its CPU seconds."""
    config = Config.load({"dedup": {**OTHERS_OFF, **options}})
    (out / "dedup" / "manifest.json").unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_SELF)
    _core.dedup(out, config.dedup_options(), workers, lambda *_: None)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def clean(out: Path) -> int:
    """Cleans the shared chats into `out`; their bytes of text."""
    config = Config.load({})
    _core.clean(CHATS, out, config.read, config.clean, config.workers, lambda *_: None)
    counts = json.loads((out / "clean" / "manifest.json").read_text())["counts"]
    return int(counts["text_bytes"])


def speed(_: argparse.Namespace) -> None:
    """Three runs with the files and three without, in turns, and the difference of the fastest of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text_mb = clean(folder / "out") / 1e6
        files = ten_files(folder)
        pairs: list[tuple[float, float]] = []
        for _run in range(3):
            without = dedup(folder / "out", {}, 1)
            seconds = dedup(folder / "out", {"decontaminate": files}, 1)
            pairs.append((seconds, without))
            counts = json.loads((folder / "out/dedup/manifest.json").read_text())["counts"]
            print(
                json.dumps(
                    {
                        "text_mb": round(text_mb, 1),
                        "benchmark_texts": sum(
                            file["texts"] for file in counts["contamination"]["benchmarks"]
                        ),
                        "stage_cpu_s": round(seconds, 3),
                        "without_cpu_s": round(without, 3),
                        "mb_per_cpu_s": round(text_mb / (seconds - without), 1),
                    }
                ),
                flush=True,
            )
        least = min(seconds for seconds, _ in pairs) - min(without for _, without in pairs)
        print(
            json.dumps({"least_cpu_s": round(least, 3), "mb_per_cpu_s": round(text_mb / least, 1)})
        )
        peaks = [peak(folder / "out", some) for some in ([], files)]
        print(json.dumps({"peak_mb_without": peaks[0], "peak_mb": peaks[1]}))


def peak(out: Path, files: list[dict[str, object]]) -> int:
    """Megabytes at most of a process that runs the stage."""
    program = (
        "import json, resource, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "import decontaminate; decontaminate.dedup(Path(sys.argv[2]), {'decontaminate': json.loads(sys.argv[3])}, 1);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6)"
    )
    arguments = [str(Path(__file__).parent), str(out), json.dumps(files)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


def precision(options: argparse.Namespace) -> None:
    """The hits of both sets, and how many of the labelled ones are right."""
    with LABELS.open(encoding="utf-8", newline="") as file:
        labels = {
            (row["set"], row["id"]): row["verdict"] for row in csv.DictReader(file, delimiter="\t")
        }
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        clean(out)
        for which, files in SETS.items():
            dedup(out, {"decontaminate": files}, 2)
            hits: list[dict[str, Any]] = []
            for part in sorted((out / "dedup/rejects").glob("*.arrow")):
                hits += pa.ipc.open_file(part).read_all().to_pylist()
            if options.list:
                for row in hits:
                    detail = re.sub(r"`[^`]*/", "`", row["detail"], count=1)
                    question = row["messages"][0]["content"][:100]
                    print(which, row["id"], detail, repr(question), sep="\t")
                continue
            verdicts = [labels.get((which, row["id"]), "not labelled") for row in hits]
            right, labelled = (
                verdicts.count("right"),
                len(verdicts) - verdicts.count("not labelled"),
            )
            gone = {name for of, name in labels if of == which} - {row["id"] for row in hits}
            print(
                f"{which:<10} {len(hits):>4} hits, {labelled:>4} labelled, {right:>4} right"
                + (f", no hit any more: {sorted(gone)}" if gone else "")
            )


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["speed", "precision"], nargs="?", default="precision")
    parser.add_argument("--list", action="store_true", help="print the hits of `precision`")
    options = parser.parse_args()
    if not all(map(os.path.exists, CHATS)):
        sys.exit(f"no real data: `{SHARED}` (set ZEPHYR_DATA_SHARED)")
    load = os.getloadavg()[0]
    if not options.list:
        print(
            json.dumps(
                {
                    "date": time.strftime("%Y-%m-%d"),
                    "load": load,
                    "cpus": os.cpu_count(),
                    "python": platform.python_version(),
                }
            )
        )
    {"speed": speed, "precision": precision}[options.what](options)


if __name__ == "__main__":
    main()
