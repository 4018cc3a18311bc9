"""How well a model tells chosen from rejected answers, against the model that DPO started from.

    python training/recipes/tiny/preferences.py --model dpo --reference sft --data pairs/packed --out dpo.preferences.json

Two readings of a pair: by *reward*, how much more likely the model made the answer than the reference had it, which is what
DPO trains; and by *likelihood*, the model alone, for models that have no reference. One padded batch after the other, without
any code of the trainer, so that this checks it.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM

from zephyr_data.dataset import open_packed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Row = dict[str, list[int]]


def answer_logps(
    model: PreTrainedModel, rows: list[Row], name: str, size: int = 64
) -> torch.Tensor:
    """Log-probability of each row's answer (rows,), `name` being `chosen_ids` or `rejected_ids`."""
    found = []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        texts = [row["prompt_ids"] + row[name] for row in some]
        length = max(map(len, texts))
        ids = torch.zeros(len(some), length, dtype=torch.long)
        answered = torch.zeros(len(some), length, dtype=torch.bool)
        for place, (row, text) in enumerate(zip(some, texts, strict=True)):
            ids[place, : len(text)] = torch.tensor(text)
            answered[place, len(row["prompt_ids"]) : len(text)] = True
        with torch.inference_mode():  # padding stands on the right, where nothing attends to it
            logits = model(input_ids=ids, use_cache=False).logits.float()
        logps = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        found.append((logps * answered[:, 1:]).sum(1))
    return torch.cat(found)


def share(right: torch.Tensor) -> dict[str, float]:
    """Share of true values, and its standard error."""
    value = right.float().mean().item()
    return {"value": value, "error": math.sqrt(value * (1 - value) / len(right))}


def mean(values: torch.Tensor) -> dict[str, float]:
    """Mean, and its standard error."""
    return {"value": values.mean().item(), "error": (values.std() / math.sqrt(len(values))).item()}


def main() -> None:
    """Measures both sides of the split."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="the model folder")
    add("--reference", type=Path, help="the model that DPO started from; none: by likelihood only")
    add("--data", type=Path, required=True, help="the packed pairs")
    add("--beta", type=float, required=True, help="of DPO; the unit of margins")
    add("--train-pairs", type=int, default=1000, help="pairs of the train side to look at (1000)")
    add("--out", type=Path, required=True, help="the figures, as JSON")
    options = parser.parse_args()

    model = AutoModelForCausalLM.from_pretrained(options.model).eval()
    packed = open_packed(options.data)
    figures: dict[str, object] = {}
    for split in ("train", "test"):
        rows = packed.table(split).to_pylist()
        rows = rows[: options.train_pairs] if split == "train" else rows
        chosen, rejected = (
            answer_logps(model, rows, name) for name in ("chosen_ids", "rejected_ids")
        )
        found = {"pairs": len(rows), "by_likelihood": share(chosen > rejected)}
        if options.reference is not None:
            reference = AutoModelForCausalLM.from_pretrained(options.reference).eval()
            margin = (chosen - answer_logps(reference, rows, "chosen_ids")) - (
                rejected - answer_logps(reference, rows, "rejected_ids")
            )
            found |= {"by_reward": share(margin > 0), "margin": mean(options.beta * margin)}
        figures[split] = found
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
