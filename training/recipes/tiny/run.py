"""The whole recipe at toy size, with the paper's ablation: what `make zephyr-tiny` runs.

    python training/recipes/tiny/run.py --out zephyr-tiny

    tasks ► base model ► feedback complete ► judge ► binarize ► prepare ► dSFT ► dDPO ► generate ► a table and curves

Every step is a command of its own, the ones a user would type; two of them run at a time, each on one core. A step that is
done is skipped when the run is started again. The results are `results.json`, `results.md` and `curves.png`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
TRAINING = HERE.parents[1]
PYTHON = sys.executable
ZEPHYR_DATA = (PYTHON, "-m", "zephyr_data")
BETA = 0.1  # as in dpo.yaml


class Arm(NamedTuple):
    """A model to compare: its name in the table, its folder, and the model that it was trained against."""

    title: str
    folder: str
    reference: str | None


ARMS = (
    Arm("none", "base", None),
    Arm("dSFT", "sft", None),
    Arm("dDPO alone, 1 epoch", "dpo-alone", "base"),
    Arm("dSFT + dDPO, 1 epoch", "dpo-1", "sft"),
    Arm("dSFT + dDPO, 2 epochs", "dpo-2", "sft"),
    Arm("dSFT + dDPO, 3 epochs", "dpo-3", "sft"),
)


class Step(NamedTuple):
    """A command and the steps that must be done before it."""

    command: tuple[str, ...]
    needs: tuple[str, ...] = ()


def steps(out: Path, seed: int) -> dict[str, Step]:
    """All steps by name; a step stands after those that it needs."""

    def script(name: str, *more: object) -> tuple[str, ...]:
        folder = HERE if (HERE / name).is_file() else TRAINING
        return (PYTHON, str(folder / name), *map(str, more))

    def zephyr(*more: object) -> tuple[str, ...]:
        return (*ZEPHYR_DATA, *map(str, more))

    def prepare(inputs: Path, kind: str, folder: str) -> tuple[str, ...]:
        return zephyr(
            *("prepare", inputs, "--kind", kind, "--tokenizer", out / "base"),
            *("--out", out / folder, "--config", HERE / "prepare.yaml", "--seed", seed),
        )

    def dpo(start: str, folder: str, epochs: int) -> tuple[str, ...]:
        return script(
            *("dpo.py", "--config", HERE / "dpo.yaml", "--data", out / "pairs" / "packed"),
            *("--model_name_or_path", out / start, "--output_dir", out / folder),
            *("--num_train_epochs", epochs, "--seed", seed),
        )

    tasks, store = out / "tasks", out / "store"
    found = {
        "tasks": Step(script("tasks.py", "--out", tasks, "--seed", seed)),
        "base": Step(
            script("base.py", "--tasks", tasks, "--out", out / "base", "--seed", seed), ("tasks",)
        ),
        "complete": Step(
            zephyr(
                *("feedback", "complete", tasks / "feedback.jsonl", "--seed", seed, "--out", store),
                *("--models", HERE / "models.yaml", "--per-prompt", 4),
            ),
            ("tasks",),
        ),
        "judge": Step(
            zephyr("feedback", "judge", store, "--judge", HERE / "judge.yaml", "--mode", "rule"),
            ("complete",),
        ),
        "binarize": Step(
            zephyr(
                *("feedback", "binarize", store, "--score", "overall", "--rejected", "random"),
                *("--max-prompts-per-text", 10**6, "--out", out / "pairs.parquet"),
            ),
            ("judge",),
        ),
        "chats": Step(prepare(tasks / "chats.jsonl", "chat", "chats"), ("base",)),
        "pairs": Step(prepare(out / "pairs.parquet", "preference", "pairs"), ("base", "binarize")),
        "sft": Step(
            script(
                *("sft.py", "--config", HERE / "sft.yaml", "--data", out / "chats" / "packed"),
                *(
                    "--model_name_or_path",
                    out / "base",
                    "--output_dir",
                    out / "sft",
                    "--seed",
                    seed,
                ),
            ),
            ("chats",),
        ),
        "dpo-alone": Step(dpo("base", "dpo-alone", 1), ("pairs",)),
        # The first of these computes the reference's log-probabilities; the others find them beside the pairs.
        "dpo-3": Step(dpo("sft", "dpo-3", 3), ("pairs", "sft")),
        "dpo-2": Step(dpo("sft", "dpo-2", 2), ("dpo-3",)),
        "dpo-1": Step(dpo("sft", "dpo-1", 1), ("dpo-3",)),
    }
    for arm in ARMS:
        against = ("--reference", out / arm.reference) if arm.reference else ()
        found[f"preferences of {arm.folder}"] = Step(
            script(
                *("preferences.py", "--model", out / arm.folder, *against, "--beta", BETA),
                *("--data", out / "pairs" / "packed"),
                *("--out", out / "figures" / f"{arm.folder}.preferences.json"),
            ),
            (arm.folder, "pairs"),
        )
        found[f"answers of {arm.folder}"] = Step(
            script(
                *("generate.py", "--model_name_or_path", out / arm.folder, "--device", "cpu"),
                *("--prompts", tasks / "held-out.jsonl", "--max_new_tokens", 40),
                *("--batch_size", 100, "--keep_special_tokens"),
                *("--out", out / "figures" / f"{arm.folder}.answers.jsonl"),
            ),
            (arm.folder,),
        )
    return found


# ---- running them ----


def run_step(name: str, step: Step, out: Path, environment: dict[str, str]) -> float:
    """Runs a command unless it is done; gives its seconds. Its words go to `logs/`.

    Raises:
        RuntimeError: It failed.
    """
    done = out / "done" / name.replace(" ", "-")
    line = shlex.join(step.command)
    if done.is_file() and (known := json.loads(done.read_text()))["command"] == line:
        print(f"{name}: done before", flush=True)
        return float(known["seconds"])
    log = out / "logs" / f"{name.replace(' ', '-')}.txt"
    start = time.monotonic()
    with log.open("w") as words:
        code = subprocess.run(
            step.command, stdout=words, stderr=subprocess.STDOUT, env=environment, check=False
        ).returncode
    if code:
        end = "\n".join(log.read_text().splitlines()[-15:])
        raise RuntimeError(f"{name} failed with status {code}: {log}\n{line}\n{end}")
    seconds = time.monotonic() - start
    done.write_text(json.dumps({"command": line, "seconds": round(seconds, 1)}))
    print(f"{name}: {seconds:.0f} s", flush=True)
    return seconds


def run_steps(plan: dict[str, Step], out: Path, jobs: int) -> dict[str, float]:
    """Runs all steps, as many at a time as there are jobs, each when those that it needs are done; gives their seconds."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",  # two steps at a time; and models this small are slower on two threads
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    for folder in ("done", "logs", "figures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    waiting, seconds = dict(plan), dict[str, float]()
    running: dict[Future[float], str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            ready = [name for name, step in waiting.items() if set(step.needs) <= set(seconds)]
            for name in ready[: jobs - len(running)]:
                step = waiting.pop(name)
                running[pool.submit(run_step, name, step, out, environment)] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                seconds[running.pop(future)] = future.result()
    return seconds


def main() -> None:
    """Runs the recipe and reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("zephyr-tiny"), help="where all of it goes"
    )
    parser.add_argument("--seed", type=int, default=1, help="of tasks, weights and data order (1)")
    parser.add_argument("--jobs", type=int, default=2, help="steps at a time (2)")
    options = parser.parse_args()
    start = time.monotonic()
    try:
        run_steps(steps(options.out, options.seed), options.out, options.jobs)
    except RuntimeError as error:
        sys.exit(str(error))
    minutes = (time.monotonic() - start) / 60
    report = [PYTHON, str(HERE / "report.py"), "--run", str(options.out)]
    subprocess.run(report, check=True)
    print(f"{minutes:.1f} minutes; {options.out / 'results.md'}, {options.out / 'curves.png'}")


if __name__ == "__main__":
    main()
