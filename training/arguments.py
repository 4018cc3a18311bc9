"""The command line of both scripts: trl's own options, ours, a config file, and messages that name the nearest option."""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import attention
import yaml
from trl import ModelConfig, TrlParser

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import TrainingArguments


@dataclass
class DataArguments:
    """What these scripts add to trl's arguments."""

    data: str = field(
        metadata={
            "help": "Folder with packed rows: what `zephyr-data prepare` was given as --out, or its folder packed."
        }
    )
    attn: str = field(
        default="auto",
        metadata={
            "help": "Attention kernel: auto, varlen (Flash Attention inside torch), fa3 or fa4 (their packages), flex, or sdpa"
            " (any device). A choice that cannot be honoured is an error.",
            "choices": list(attention.CHOICES),
        },
    )
    master_weights: bool = field(
        default=True,
        metadata={
            "help": "Keep float32 copies of bfloat16 weights in AdamW; without them small updates round to nothing."
        },
    )
    tokenizer_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Tokenizer with the chat template that the rows were packed with; default: the model's own. It is saved with"
            " the trained model."
        },
    )


@dataclass
class PairArguments(DataArguments):
    """What `dpo.py` adds besides."""

    share_prefix: bool = field(
        default=True,
        metadata={
            "help": "Compute the prompt of a pair once for both answers. The losses are the same."
        },
    )


def parse(kind: type, config: type, prog: str) -> tuple[Any, Any, ModelConfig]:
    """The arguments of a script: ours, the trainer's, the model's. `--config FILE.yaml` sets defaults.

    Raises:
        ValueError: An option or a key of the file is unknown, the file is no YAML mapping, or values do not fit together.
        OSError: The file cannot be read.
    """
    # Trackers and hubs are asked only when the user names them.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    parser = TrlParser((kind, config, ModelConfig), prog=prog, allow_abbrev=False)
    # trl takes `--config FILE` only; people also write `--config=FILE`.
    given = [
        part
        for word in sys.argv[1:]
        for part in (word.split("=", 1) if word.startswith("--config=") else (word,))
    ]
    _check_names(parser, given)
    try:
        return parser.parse_args_and_config(given, fail_with_unknown_args=True)
    except ValueError as error:
        if "bf16" in str(error):
            # trl's default needs a GPU; transformers' message does not say what to do without one.
            raise ValueError(
                f"{error}\nhint: without a GPU add `--bf16 false --use_cpu true`"
            ) from None
        raise


def _check_names(parser: TrlParser, given: list[str]) -> None:
    """Unknown names come first, or argparse would only say that `--data` is missing."""
    options = set(parser._option_string_actions) | {"--config"}
    for word in given:
        name = word.split("=", 1)[0]
        if name.startswith("--") and name not in options:
            raise _unknown("option", name, options)
    if "--config" not in given:
        return
    place = given.index("--config") + 1
    if place == len(given):
        raise ValueError(
            "`--config` names no file\nhint: `--config training/recipes/zephyr-7b/sft.yaml`"
        )
    path = given[place]
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        where = " ".join(str(error).split())
        raise ValueError(f"cannot read `{path}` as YAML: {where}") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"`{path}` is no mapping of options to values\nhint: one option a line: `learning_rate: 2.0e-5`"
        )
    keys = {action.dest for action in parser._actions} | {"env"}
    for key in content:
        if key not in keys:
            raise _unknown(f"key in `{path}`", str(key), keys)


def _unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    nearest = difflib.get_close_matches(name, sorted(known), n=1)
    way = f"did you mean `{nearest[0]}`?" if nearest else "`--help` lists them"
    return ValueError(f"unknown {what}: `{name}`\nhint: {way}")


def fail(error: Exception) -> NoReturn:
    """Ends with the error's message: what failed, and on the next line the way out."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)


def resume_point(training: TrainingArguments) -> str | bool | None:
    """`--resume_from_checkpoint PATH`, or `true` for the newest in `--output_dir`, if there is one."""
    from transformers.trainer_utils import get_last_checkpoint

    asked = training.resume_from_checkpoint
    if str(asked).lower() in ("true", "auto"):
        there = Path(training.output_dir).is_dir()
        return get_last_checkpoint(training.output_dir) if there else None
    return asked or None
