"""Time and memory of `feedback binarize` on 64,000 prompts with four answers each.

    python benches/feedback_binarize.py [--prompts 64000] [--repeat 3]

The store is made here (texts of about 1,200 characters, one score per answer); making it is not timed. Timed is the
whole command in a process of its own, from its first import. Prints JSON.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = """
import json, sys, time
from pathlib import Path
began, cpu = time.perf_counter(), time.process_time()
from zephyr_data.cli import app
folder = Path(sys.argv[1])
app(["feedback", "binarize", str(folder), "--score", "overall", "--balance-length", "--out", str(folder / "pairs.parquet")],
    standalone_mode=False)
print(json.dumps({"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu,
    "peak_mb": int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024}))
"""


def main() -> None:
    from zephyr_data.feedback.prompts import Prompt
    from zephyr_data.feedback.published import Answer, Imported, Rating, Row, _store_row
    from zephyr_data.feedback.store import Store
    from zephyr_data.feedback.tables import write_tables

    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=64_000)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    count, repeat = arguments.prompts, arguments.repeat
    dice = random.Random(0)
    words = [f"word{n}" for n in range(2000)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Store.write(folder) as store:
            judges = {"judges": {"j": {"setup": "imported:bench", "aspects": []}}, "last": "j"}
            store.state |= {"imported": "bench", "judgings": {"imported": judges}}
            store.save_state()
            rows = []
            for n in range(count):
                answers = tuple(
                    Answer(m, f"{n} {m} " + " ".join(dice.choices(words, k=dice.randint(60, 260))),
                           (Rating("imported", "j", float(dice.randint(1, 10))),))
                    for m in "abcd"
                )  # fmt: skip
                rows.append(Row(Prompt(f"p{n}", (("user", f"Prompt {n}"),)), answers))
            store.add_prompts(row.prompt for row in rows)
            for row in rows:
                _store_row(store, "bench", row, Imported())
            write_tables(store)
        runs = []
        for _ in range(repeat):
            done = subprocess.run(
                [sys.executable, "-c", RUN, name], capture_output=True, text=True, check=True
            )
            said, figures = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
            runs.append({"said": said.split(":")[0], **json.loads(figures)})
    making = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "prompts": count,
                "load_average": os.getloadavg(),
                "runs": runs,
                "peak_mb_of_making_the_store": making,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
