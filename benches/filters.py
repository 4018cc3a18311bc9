"""How many rows each filter drops of the shared chats, and how many of the labelled drops are right.

`benches/labels/FILTER.tsv` holds a verdict on each of 300 hits (`random.Random(0).sample` over the hits in the order of the
files), or on all where there are fewer: question, evidence and answer were read, and the row is `right` if it is what the
filter's page says that it drops, `wrong` if the page would keep it or if it is a good row all the same. Where the two
readings were possible the verdict is `wrong`. Every labelled row is checked to be a hit still.

Run: python benches/filters.py [--list FILTER]
`--list` prints the hits of a filter, for the next round of labels: id, detail, question.
"""

import argparse
import csv
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import pyarrow as pa

from zephyr_data import _core
from zephyr_data.config import Config

LABELS = Path(__file__).parent / "labels"
FILTERS = ("ai_preface", "repetition", "refusal")
FILES = ("chats_single_turn.jsonl.zst", "chats_multi_turn_train.jsonl.zst")


def shared_folder() -> Path:
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("ZEPHYR_DATA_SHARED", default))


def hits_of(paths: list[Path]) -> tuple[int, dict[str, list[dict]]]:
    """The number of rows, and what each filter drops of them, in the order of the files."""
    config = Config.load({"clean": {"refusal": {"enabled": True}}})
    rows, hits = 0, defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        _core.clean(paths, folder, config.read, config.clean, config.workers, lambda *_: None)
        for part in sorted(Path(folder, "clean").glob("part-*.arrow")):
            rows += pa.ipc.open_file(part).read_all().num_rows
        for part in sorted(Path(folder, "clean", "rejects").glob("part-*.arrow")):
            for row in pa.ipc.open_file(part).read_all().to_pylist():
                hits[row["reason"]].append(row)
    return rows + sum(map(len, hits.values())), hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--list", choices=FILTERS, metavar="FILTER")
    wanted = parser.parse_args().list
    paths = [shared_folder() / name for name in FILES]
    if not all(path.exists() for path in paths):
        sys.exit(f"no real data: `{shared_folder()}` (set ZEPHYR_DATA_SHARED)")
    rows, hits = hits_of(paths)
    if wanted:
        for row in hits[wanted]:
            print(row["id"], row["detail"], row["messages"][0]["content"][:100], sep="\t")
        return
    print(f"{rows} rows")
    for name in FILTERS:
        with (LABELS / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
            verdicts = {row["id"]: row["verdict"] for row in csv.DictReader(file, delimiter="\t")}
        gone = verdicts.keys() - {row["id"] for row in hits[name]}
        right = sum(verdict == "right" for verdict in verdicts.values())
        print(
            f"{name:<12} {len(hits[name]):>5} hits, {len(verdicts):>3} labelled, {right:>3} right,"
            f" precision {right / len(verdicts):.3f}"
            + (f", no hit any more: {sorted(gone)}" if gone else "")
        )


if __name__ == "__main__":
    main()
