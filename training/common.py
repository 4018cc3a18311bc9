"""What both scripts do before they build their trainer: arguments, model, tokenizer, attention."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import attention
import torch
from trl import ModelConfig, TrlParser

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments


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
    """The arguments of a script: ours, the trainer's, the model's. `--config FILE.yaml` sets defaults."""
    # Trackers and hubs are asked only when the user names them.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    parser = TrlParser((kind, config, ModelConfig), prog=prog)
    return parser.parse_args_and_config(fail_with_unknown_args=True)


def fail(error: Exception) -> NoReturn:
    """Ends with the error's message: what failed, and on the next line the way out."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)


def load_tokenizer(
    ours: DataArguments, model: ModelConfig, *, trust: bool
) -> PreTrainedTokenizerBase:
    """The tokenizer whose template packed the rows; it needs a token to pad with."""
    from transformers import AutoTokenizer

    name = ours.tokenizer_name_or_path or model.model_name_or_path
    tokenizer = AutoTokenizer.from_pretrained(
        name, revision=model.model_revision, trust_remote_code=trust
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def choose_attention(ours: DataArguments, training: TrainingArguments, dtype: str | None) -> str:
    """Chooses the attention kernel, says so once, and gives the name for `attn_implementation`."""
    computed = torch.bfloat16 if training.bf16 else torch.float16 if training.fp16 else None
    if computed is None:
        computed = getattr(torch, dtype) if dtype not in (None, "auto") else torch.float32
    choice = attention.choose(ours.attn, training.device, computed)
    if training.process_index == 0:
        print(f"attention: {choice.kernel}, {choice.reason}")
    return attention.register(choice)


def load_model(
    model: ModelConfig, training: TrainingArguments, attn_implementation: str, *, trust: bool
) -> PreTrainedModel:
    """The model by path or name, with the packed attention.

    Raises:
        ValueError: It drops attention weights.
    """
    from transformers import AutoModelForCausalLM
    from trl import get_quantization_config

    quantization = get_quantization_config(model)
    # Quantized weights cannot be moved later, so they go to this process's device at once.
    place = None if quantization is None else {"": training.device}
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        model.model_name_or_path,
        revision=model.model_revision,
        trust_remote_code=trust,
        attn_implementation=attn_implementation,
        dtype=model.dtype or "float32",
        quantization_config=quantization,
        device_map=place,
        **(training.model_init_kwargs or {}),
    )
    loaded.config.use_cache = False
    return loaded


def resume_point(training: TrainingArguments) -> str | bool | None:
    """`--resume_from_checkpoint PATH`, or `true` for the newest in `--output_dir`, if there is one."""
    from transformers.trainer_utils import get_last_checkpoint

    asked = training.resume_from_checkpoint
    if str(asked).lower() in ("true", "auto"):
        there = Path(training.output_dir).is_dir()
        return get_last_checkpoint(training.output_dir) if there else None
    return asked or None
