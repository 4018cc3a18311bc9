"""What both scripts load before they build their trainer: tokenizer, attention kernel, model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attention
import torch

if TYPE_CHECKING:
    from arguments import DataArguments
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments
    from trl import ModelConfig


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
