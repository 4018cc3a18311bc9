"""A model with random weights, and how many operations a pass over it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

# hidden, intermediate, layers, heads, key/value heads, vocabulary
PRESETS = {
    "small": (128, 352, 4, 4, 2, 2048),
    "mistral-7b": (4096, 14336, 32, 32, 8, 32000),
    "mistral-7b-8-layers": (4096, 14336, 8, 32, 8, 32000),
}


def make_model(options: argparse.Namespace, attention: str):
    """A Mistral of the preset's shape with random weights, made on the device."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    hidden, intermediate, layers, heads, shared, vocabulary = options.shape
    torch.manual_seed(options.seed)
    config = MistralConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        max_position_embeddings=4096,
        sliding_window=None,
        use_cache=False,
        attn_implementation=attention,
    )
    dtype = getattr(torch, options.dtype)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(options.device):
            return MistralForCausalLM(config)
    finally:
        torch.set_default_dtype(default)


def flops(options: argparse.Namespace, segments: list[tuple[int, int]]) -> float:
    """Of one forward pass over segments (queries, keys), causal and aligned at their ends; the head on every query."""
    hidden, intermediate, layers, heads, shared, vocabulary = options.shape
    width = hidden // heads
    block = hidden * width * (2 * heads + 2 * shared) + 3 * hidden * intermediate
    total = 0.0
    for queries, keys in segments:
        seen = queries * keys - queries * (queries - 1) / 2
        total += 2 * queries * (layers * block + hidden * vocabulary)
        total += 4 * layers * hidden * seen
    return total
