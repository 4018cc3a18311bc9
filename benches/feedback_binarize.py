"""Time and memory of `feedback binarize` on 64,000 prompts with four answers each.

    python benches/feedback_binarize.py [--prompts 64000]

The store is made here (texts of about 1,200 characters, one score per answer); making it is not timed. Prints JSON.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = """
import json, sys, time
from pathlib import Path
began = time.perf_counter()
from zephyr_data.feedback.binarize import Binarizing, binarize
from zephyr_data.feedback.store import Store
store = Store.read(Path(sys.argv[1]), scan=False)
report = binarize(store, Binarizing("overall", balance_length=True), Path(sys.argv[1]) / "pairs.parquet")
print(json.dumps({"seconds": time.perf_counter() - began, "pairs": report.pairs,
    "peak_mb": int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024}))
"""


def main() -> None:
    from zephyr_data.feedback.prompts import Prompt
    from zephyr_data.feedback.published import Answer, Imported, Rating, Row, _store_row
    from zephyr_data.feedback.store import Store
    from zephyr_data.feedback.tables import write_tables

    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=64_000)
    count = parser.parse_args().prompts
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
        done = subprocess.run(
            [sys.executable, "-c", RUN, name], capture_output=True, text=True, check=True
        )
        figures = json.loads(done.stdout.splitlines()[-1])
    making = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps({"prompts": count, **figures, "peak_mb_of_making_the_store": making}, indent=2)
    )


if __name__ == "__main__":
    main()
