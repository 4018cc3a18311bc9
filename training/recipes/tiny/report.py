"""The table and the curves of a run of the tiny recipe.

    python training/recipes/tiny/report.py --run zephyr-tiny

| column | meaning |
| --- | --- |
| exact | held-out prompts answered with `Answer: ` and the right answer, and nothing else |
| right | held-out prompts whose answer is right, in whatever form |
| form | answers that keep the form, right or wrong |
| template | answers that end their turn, are not empty and open no other turn |
| by reward | pairs whose chosen answer gained more likelihood than the rejected one, against the model before DPO |
| margin | by how much, times beta |
| by likelihood | pairs whose chosen answer is the likelier one |

Behind ± stands the standard error.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import answerers
from run import ARMS, Arm

ROLES = ("<|system|>", "<|user|>", "<|assistant|>")


def graded(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """What the held-out answers are worth."""
    scores = [answerers.score(row["instruction"], row["output"], row["reference"]) for row in rows]
    judged = {
        "exact": [
            score == 3 and row["finish_reason"] == "stop"
            for score, row in zip(scores, rows, strict=True)
        ],
        "right": [score >= 2 for score in scores],
        "form": [row["output"].startswith(answerers.FORM.format("")) for row in rows],
        "template": [keeps_template(row) for row in rows],
    }
    return {name: share(values) for name, values in judged.items()}


def keeps_template(row: dict[str, Any]) -> bool:
    """Whether a turn ends by itself, says something, and begins no other turn."""
    text = row["output"]
    return (
        row["finish_reason"] == "stop"
        and bool(text.strip())
        and not any(role in text for role in ROLES)
    )


def share(values: list[bool]) -> dict[str, float]:
    """Share of true values, and its standard error."""
    value = sum(values) / len(values)
    return {"value": value, "error": math.sqrt(value * (1 - value) / len(values))}


def by_kind(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Share of right answers, in whatever form, for each kind of task."""
    kinds: dict[str, list[bool]] = {}
    for row in rows:
        right = answerers.score(row["instruction"], row["output"], row["reference"]) >= 2
        kinds.setdefault(row["source"], []).append(right)
    return {kind: sum(values) / len(values) for kind, values in sorted(kinds.items())}


def results(run: Path) -> dict[str, dict[str, Any]]:
    """All figures by arm."""
    found = {}
    for arm in ARMS:
        lines = (run / "figures" / f"{arm.folder}.answers.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in lines.splitlines()]
        pairs = (run / "figures" / f"{arm.folder}.preferences.json").read_text(encoding="utf-8")
        found[arm.title] = {
            "answers": len(rows),
            **graded(rows),
            "right_by_kind": by_kind(rows),
            "preferences": json.loads(pairs),
        }
    return found


# ---- the table ----


def percent(figure: dict[str, float] | None) -> str:
    """`81.2 ± 1.7`, or a dash."""
    if figure is None:
        return "-"
    return f"{100 * figure['value']:.1f} ± {100 * figure['error']:.1f}"


def number(figure: dict[str, float] | None) -> str:
    """`1.25 ± 0.04`, or a dash."""
    return "-" if figure is None else f"{figure['value']:.2f} ± {figure['error']:.2f}"


def table(found: dict[str, dict[str, Any]]) -> str:
    """Two tables in Markdown: answers, and pairs."""
    first = next(iter(found.values()))
    kinds = list(first["right_by_kind"])
    pairs = {split: first["preferences"][split]["pairs"] for split in ("train", "test")}
    lines = [
        f"{first['answers']} held-out prompts, greedy answers, percent:",
        "",
        "| arm | exact | right | form | template |",
        "| --- | --- | --- | --- | --- |",
    ]
    for title, arm in found.items():
        cells = [percent(arm[name]) for name in ("exact", "right", "form", "template")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Pairs, percent ({pairs['train']} of the train side, {pairs['test']} held out):",
        "",
        "| arm | by reward, train | held out | margin, train | held out | by likelihood, held out |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for title, arm in found.items():
        train, test = arm["preferences"]["train"], arm["preferences"]["test"]
        cells = [percent(side.get("by_reward")) for side in (train, test)]
        cells += [number(side.get("margin")) for side in (train, test)]
        lines.append(f"| {title} | {' | '.join([*cells, percent(test['by_likelihood'])])} |")
    lines += [
        "",
        "Right answers by kind of task, percent:",
        "",
        f"| arm | {' | '.join(kind.replace('_', ' ') for kind in kinds)} |",
        f"| --- {'| --- ' * len(kinds)}|",
    ]
    for title, arm in found.items():
        cells = [f"{100 * arm['right_by_kind'][kind]:.0f}" for kind in kinds]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


# ---- the curves ----


def history(folder: Path) -> list[dict[str, float]]:
    """What the trainer logged: the last checkpoint has all of it."""
    states = list(folder.glob("checkpoint-*/trainer_state.json"))
    if not states:
        sys.exit(f"no checkpoint of the trainer in: {folder}")
    last = max(states, key=lambda path: int(path.parent.name.partition("-")[2]))
    return list(json.loads(last.read_text(encoding="utf-8"))["log_history"])


def plot(run: Path, path: Path) -> None:
    """Loss, accuracy and margin over the epochs; held out with points."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    panels = {
        "loss": "loss",
        "rewards/accuracies": "preference accuracy",
        "rewards/margins": "margin",
    }
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4))
    trained: list[Arm] = [arm for arm in ARMS if arm.reference is not None]
    for color, arm in enumerate(trained):
        logs = history(run / arm.folder)
        for axis, (key, label) in zip(axes, panels.items(), strict=True):
            train = [(log["epoch"], log[key]) for log in logs if key in log]
            test = [(log["epoch"], log[f"eval_{key}"]) for log in logs if f"eval_{key}" in log]
            axis.plot(*zip(*train, strict=True), color=f"C{color}", alpha=0.35, linewidth=1)
            if test:
                axis.plot(
                    *zip(*test, strict=True), "o-", color=f"C{color}", markersize=3, label=arm.title
                )
            axis.set(xlabel="epoch", title=label)
    axes[0].legend(fontsize="small", title="thin: train, points: held out", title_fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    """Writes `results.json`, `results.md` and `curves.png`, and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="the folder that run.py wrote")
    options = parser.parse_args()
    found = results(options.run)
    text = table(found)
    (options.run / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (options.run / "results.md").write_text(text, encoding="utf-8")
    plot(options.run, options.run / "curves.png")
    print(text)


if __name__ == "__main__":
    main()
