#!/usr/bin/env python3
"""Train the small tokenizer of the bundled sample.

A byte-level BPE of 4,096 tokens, learnt from every text in `examples/*.jsonl`. It exists so that the demo and the
tests need no download, and so that a byte-level vocabulary is covered beside SentencePiece ones. The same files give
the same bytes, whatever the number of threads.

    python scripts/train_tokenizer.py            # writes examples/tokenizer/
    python scripts/train_tokenizer.py --check    # writes nothing, fails if the folder would change

`chat_template.jinja` and `README.md` in the same folder are written by hand; this script does not touch them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
# The roles are special tokens here and plain text in Mistral's vocabulary, so that both ways are tested.
SPECIAL = ["<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>"]


def texts(value: object) -> Iterator[str]:
    """Yield every message content, or plain prompt or answer, in one row."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for message in value:
            yield message["content"]


def read(paths: list[Path]) -> Iterator[str]:
    """Yield the texts of the files in their order."""
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    sys.exit(f"not a JSON object at {path}:{number}: {error}")
                for column in ("messages", "prompt", "chosen", "rejected"):
                    yield from texts(row.get(column))


def train(paths: list[Path], vocab_size: int) -> Tokenizer:
    """Learn a byte-level BPE of `vocab_size` tokens, the special ones and the 256 bytes included."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        # All 256 bytes, so that no text is unknown, whatever the sample holds.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(read(paths), trainer)
    return tokenizer


def files(tokenizer: Tokenizer, model_max_length: int) -> dict[str, str]:
    """Give name and text of each file that makes up the folder."""
    config = {
        "add_prefix_space": False,
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "model_max_length": model_max_length,
        "pad_token": "<pad>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return {
        "tokenizer.json": tokenizer.to_str(pretty=True) + "\n",
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
    }


def main() -> None:
    """Train and write, or train and compare."""
    parser = argparse.ArgumentParser(
        description="Train the byte-level BPE tokenizer of the bundled sample; the same input gives the same bytes.",
    )
    parser.add_argument(
        "inputs",
        nargs="*",
        type=Path,
        metavar="JSONL",
        help="files with `messages` or `prompt`/`chosen`/`rejected`; none given: examples/*.jsonl, sorted by name",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "examples" / "tokenizer",
        metavar="DIR",
        help="folder to write into (examples/tokenizer)",
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        default=4096,
        metavar="N",
        help="number of tokens, with the special ones and the 256 bytes (4096)",
    )
    parser.add_argument(
        "--model-max-length",
        type=int,
        default=2048,
        metavar="N",
        help="value for tokenizer_config.json (2048)",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a file would change"
    )
    args = parser.parse_args()

    smallest = 256 + len(SPECIAL)
    if args.vocab_size < smallest:
        parser.error(
            f"`--vocab-size` must be at least {smallest} (256 bytes and {len(SPECIAL)} special tokens)"
        )
    inputs = args.inputs or sorted((ROOT / "examples").glob("*.jsonl"))
    if not inputs:
        parser.error(f"no `*.jsonl` to train on in: {ROOT / 'examples'}")
    missing = [path for path in inputs if not path.is_file()]
    if missing:
        parser.error(f"no such file: {missing[0]}")

    tokenizer = train(inputs, args.vocab_size)
    changed = []
    for name, text in files(tokenizer, args.model_max_length).items():
        path = args.out / name
        if path.is_file() and path.read_bytes() == text.encode():
            continue
        changed.append(name)
        if not args.check:
            args.out.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    verb = "would change" if args.check else "written"
    state = f"{verb}: {', '.join(changed)}" if changed else "up to date"
    sys.stdout.write(f"{args.out}: {tokenizer.get_vocab_size()} tokens, {state}\n")
    if args.check and changed:
        sys.exit("tokenizer differs from its sample\nhint: run `python scripts/train_tokenizer.py`")


if __name__ == "__main__":
    main()
