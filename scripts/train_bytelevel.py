#!/usr/bin/env python3
"""Train byte-level BPE vocabularies in the shape of each family that has an engine of its own, for tests and benches.

The families' published vocabularies cannot be shipped, but what is hard about them is not the vocabulary: it is the
regex, the normalizer and the flags around it. So this learns vocabularies of the usual sizes on the shared chats, each
with the exact regex of its family, and writes folders that transformers opens:

    python scripts/train_bytelevel.py ../shared/data/chats_single_turn.jsonl.zst --out ~/.cache/zephyr-data/bytelevel
    ls ~/.cache/zephyr-data/bytelevel       # gpt2-32k gpt2-128k llama3-32k …

With `--tekken`, the vocabularies that the package mistral_common ships are written, too, as `tokenizer.json` has them.

A smaller vocabulary is a prefix of the larger one, since training is greedy: each family is trained once. The same input
gives the same bytes. Tests find the folders by `ZEPHYR_DATA_BYTELEVEL`.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LEAD = r"[^\r\n\p{L}\p{N}]?"


@dataclass(frozen=True)
class Family:
    """What sets one family of byte-level tokenizers apart from the others."""

    regex: str | None
    """Regex of a `Split` before the byte-level step; None: the one that is built into `ByteLevel`."""
    nfc: bool = False
    ignore_merges: bool = False
    add_prefix_space: bool = False


FAMILIES = {
    "gpt2": Family(None),
    "roberta": Family(None, add_prefix_space=True),
    "llama3": Family(
        rf"{CONTRACTIONS}|{LEAD}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}",
        ignore_merges=True,
    ),
    "qwen2": Family(
        rf"{CONTRACTIONS}|{LEAD}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACES}", nfc=True
    ),
    "qwen3_5": Family(
        rf"{CONTRACTIONS}|{LEAD}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACES}",
        nfc=True,
    ),
    "o200k": Family(
        rf"{LEAD}{UPPER}*{LOWER}+{CONTRACTIONS}?|{LEAD}{UPPER}+{LOWER}*{CONTRACTIONS}?"
        rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"
    ),
    "tekken": Family(
        rf"{LEAD}{UPPER}*{LOWER}+|{LEAD}{UPPER}+{LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}",
        ignore_merges=True,
    ),
}
SPECIAL = ["<|begin_of_text|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def contents(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the content of every message of files of chats, plain or compressed."""
    for path in paths:
        with pa.input_stream(str(path), compression="detect") as stream:
            rest = b""
            while block := stream.read(1 << 22):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    for message in json.loads(line)["messages"] if line.strip() else ():
                        yield message["content"]
            for message in json.loads(rest)["messages"] if rest.strip() else ():
                yield message["content"]


def empty(family: Family, model: models.BPE) -> Tokenizer:
    """Give a tokenizer of the family around `model`, without special tokens."""
    tokenizer = Tokenizer(model)
    if family.nfc:
        tokenizer.normalizer = normalizers.NFC()
    if family.regex is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=family.add_prefix_space)
    else:
        split = pre_tokenizers.Split(Regex(family.regex), behavior="isolated", invert=False)
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, last])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train(family: Family, texts: Iterable[str], vocab_size: int) -> dict[str, Any]:
    """Learn a BPE of at most `vocab_size` tokens, the 256 bytes included, and give its model as `tokenizer.json` has it."""
    tokenizer = empty(family, models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def build(family: Family, model: dict[str, Any], size: int) -> Tokenizer:
    """Give the tokenizer of the first `size` tokens of `model`; the special tokens come behind them."""
    vocab = {token: id for token, id in model["vocab"].items() if id < size}
    merges = [tuple(merge) for merge in model["merges"] if "".join(merge) in vocab]
    bpe = models.BPE(vocab, merges, ignore_merges=family.ignore_merges)
    tokenizer = empty(family, bpe)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    return tokenizer


def tekken(path: Path) -> Tokenizer:
    """Give the tokenizer of one of Mistral's `tekken_*.json`.

    The file ranks its tokens and names no merges; each way to make a token of two others becomes one, as transformers does.
    """
    description = json.loads(path.read_text(encoding="utf-8"))
    config = description["config"]
    size = config["default_vocab_size"] - config["default_num_special_tokens"]
    alphabet = byte_characters()
    tokens = [base64.b64decode(token["token_bytes"]) for token in description["vocab"][:size]]
    ranks = {token: rank for rank, token in enumerate(tokens)}

    def name(token: bytes) -> str:
        return "".join(alphabet[byte] for byte in token)

    merges = []
    for token in tokens:
        ways = [(token[:at], token[at:]) for at in range(1, len(token))]
        known = [way for way in ways if way[0] in ranks and way[1] in ranks]
        known.sort(key=lambda way: (ranks[way[0]], ranks[way[1]]))
        merges += [(name(left), name(right)) for left, right in known]
    vocab = {name(token): rank for token, rank in ranks.items()}
    tokenizer = empty(FAMILIES["tekken"], models.BPE(vocab, merges, ignore_merges=True))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    return tokenizer


def byte_characters() -> list[str]:
    """Give the character that byte-level vocabularies write for each byte: itself where it is printable in Latin-1."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a folder that `AutoTokenizer.from_pretrained` opens as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "bos_token": SPECIAL[0],
        "clean_up_tokenization_spaces": False,
        "eos_token": SPECIAL[2],
        "model_max_length": 1 << 20,
        "pad_token": SPECIAL[3],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer.to_str() + "\n", encoding="utf-8")


def main() -> None:
    """Train each family once, and write one folder for each family and size."""
    parser = argparse.ArgumentParser(
        description="Train byte-level BPE vocabularies in the shape of each family."
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="JSONL",
        help="files of chats with `messages`, plain, .gz or .zst",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write the folders into"
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[32, 128],
        metavar="K",
        help="tokens, in units of 1,024 (32 128)",
    )
    parser.add_argument(
        "--families",
        nargs="*",
        default=list(FAMILIES),
        choices=FAMILIES,
        metavar="NAME",
        help=f"which of {', '.join(FAMILIES)} (all)",
    )
    parser.add_argument(
        "--megabytes",
        type=float,
        default=float("inf"),
        metavar="M",
        help="how much text to learn from (all)",
    )
    parser.add_argument(
        "--tekken",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="also write these `tekken_*.json` of mistral_common",
    )
    args = parser.parse_args()
    missing = [path for path in [*args.inputs, *args.tekken] if not path.is_file()]
    if missing:
        parser.error(f"no such file: {missing[0]}")
    if min(args.sizes) < 1:
        parser.error(f"`--sizes` must be at least 1, found: `{min(args.sizes)}`")

    for path in args.tekken:
        tokenizer = tekken(path)
        write(tokenizer, args.out / path.stem)
        sys.stdout.write(f"{args.out / path.stem}: {tokenizer.get_vocab_size()} tokens\n")

    texts, size = [], 0
    for text in contents(args.inputs):
        texts.append(text)
        size += len(text.encode())
        if size >= args.megabytes * 1e6:
            break
    sys.stderr.write(f"{len(texts)} texts, {size / 1e6:.1f} MB\n")
    for name in args.families:
        started = time.monotonic()
        model = train(FAMILIES[name], texts, max(args.sizes) * 1024)
        for kilo in args.sizes:
            folder = args.out / f"{name}-{kilo}k"
            tokenizer = build(FAMILIES[name], model, kilo * 1024)
            write(tokenizer, folder)
            sys.stdout.write(f"{folder}: {tokenizer.get_vocab_size()} tokens\n")
        sys.stderr.write(f"{name}: {time.monotonic() - started:.0f} s\n")


if __name__ == "__main__":
    main()
