"""The base model of the tiny recipe: what Mistral-7B is to Zephyr, a model that has read and was never told to answer.

    python training/recipes/tiny/base.py --tasks zephyr-tiny/tasks --out zephyr-tiny/base

reads lines such as `- Reverse: d a c -> c a d`, in several styles, but with neither the chat template nor the form `Answer: …`.
It knows the tasks, as far as it learns them in minutes, and none of the manners, so that what the later steps teach can be
told apart. No prompt of `held-out.jsonl` is in what it reads. The tokenizer is the bundled one, trained anew on such lines.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import answerers
import tasks
import torch
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerBase

BUNDLED = Path(__file__).resolve().parents[3] / "examples" / "tokenizer"
LEADS = ("", "- ", "> ", "Q. ", "Task. ", "\n", "\n\n", "* ")
LINKS = (" ->", " =", " gives", ". Result:", "\nIt is", " is", ";", "\n-")

Line = tuple[str, str]
"""What is asked, in some style, and what follows."""


def lines(seed: str, banned: set[str]) -> Iterator[Line]:
    """Endless solved tasks in random order and in random styles."""
    source = random.Random(seed)
    found = (task for task in tasks.tasks(seed) if task.prompt not in banned)
    while True:
        some = list(itertools.islice(found, 64))
        source.shuffle(some)
        for task in some:
            asked = f"{source.choice(LEADS)}{task.prompt}{source.choice(LINKS)}"
            yield asked, f" {task.reference}"


def small_tokenizer(seed: str, banned: set[str]) -> PreTrainedTokenizerBase:
    """The bundled tokenizer with a vocabulary of its own: the bytes, and words and letters as the recipe uses them.

    Digits are left out of what it learns from, so that a number is its digits.
    """
    texts = ["".join(line) for line in itertools.islice(lines(seed, banned), 5000)]
    texts += [answerers.exact("Count: a"), answerers.chatty("Count: a")] * 50
    texts = ["".join(letter for letter in text if not letter.isdecimal()) for text in texts]
    return AutoTokenizer.from_pretrained(BUNDLED).train_new_from_iterator(
        texts, vocab_size=400, show_progress=False
    )


def batch(
    tokenizer: PreTrainedTokenizerBase, some: list[Line]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels (lines, tokens), padded on the right.

    The loss is on what follows, with the end of the text: what is asked is drawn by chance, so nothing can be learnt from it.
    """
    asked = tokenizer([line[0] for line in some], add_special_tokens=False)["input_ids"]
    follows = tokenizer([line[1] for line in some], add_special_tokens=False)["input_ids"]
    follows = [[*ids, tokenizer.eos_token_id] for ids in follows]
    length = max(map(len, map(list.__add__, asked, follows)))
    ids = torch.full((len(some), length), tokenizer.pad_token_id)
    labels = torch.full_like(ids, -100)
    for place, (one, other) in enumerate(zip(asked, follows, strict=True)):
        ids[place, : len(one) + len(other)] = torch.tensor(one + other)
        labels[place, len(one) : len(one) + len(other)] = torch.tensor(other)
    return ids, labels


def main() -> None:
    """Trains and saves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--tasks", type=Path, required=True, help="the folder that tasks.py wrote")
    add("--out", type=Path, required=True, help="where model and tokenizer go")
    add("--seed", type=int, default=0, help="of weights and texts (0)")
    add("--steps", type=int, default=2000, help="steps of the optimizer (2000)")
    add("--lines", type=int, default=64, help="lines a step (64)")
    add("--learning-rate", type=float, default=2e-3, help="at its peak (2e-3)")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    held_out = (options.tasks / "held-out.jsonl").read_text(encoding="utf-8").splitlines()
    banned = {json.loads(line)["prompt"] for line in held_out}
    tokenizer = small_tokenizer(f"tokenizer {options.seed}", banned)
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            sliding_window=None,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{size:,} parameters, {len(tokenizer)} tokens", flush=True)

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=options.steps, pct_start=0.1
    )
    text = lines(f"base {options.seed}", banned)
    model.train()
    start = time.monotonic()
    for step in range(1, options.steps + 1):
        ids, labels = batch(tokenizer, list(itertools.islice(text, options.lines)))
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0 or step == options.steps:
            seconds = time.monotonic() - start
            print(f"step {step}: loss {loss.item():.3f}, {seconds:.0f} s", flush=True)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
