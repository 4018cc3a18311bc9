"""The scripts of `training/` as modules, tiny models, and packed data for them."""

import importlib
import sys
from pathlib import Path

import pytest

TRAINING = Path(__file__).resolve().parents[2] / "training"
NAMES = ("attention", "collate", "optimizer", "packed", "reference", "reliable", "trainer")


@pytest.fixture(scope="session")
def training(transformers):  # noqa: ARG001 - loaded where its warnings do not count
    """The modules beside the scripts, by name; a script's folder is where it finds them."""
    pytest.importorskip("torch", reason="needs the extra `train`")
    pytest.importorskip("trl", reason="needs the extra `train`")
    sys.path.insert(0, str(TRAINING))
    try:
        modules = {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path.remove(str(TRAINING))
    return type("Training", (), modules)


@pytest.fixture(scope="session")
def tiny(training):
    """A function: a small random model of an architecture, in a dtype, with one of our kernels or transformers' own."""
    import torch
    import transformers

    def make(
        kind="Mistral",
        *,
        dtype=torch.float32,
        kernel="sdpa",
        seed=0,
        vocab=211,
        packed=True,
        **more,
    ):
        torch.manual_seed(seed)
        sizes = {
            "vocab_size": vocab,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "pad_token_id": 1,
        }
        if kind == "Mistral":
            sizes["sliding_window"] = None
        config = getattr(transformers, f"{kind}Config")(**sizes | more)
        name = (
            training.attention.register(training.attention.Choice(kernel, "test"))
            if packed
            else kernel
        )
        model = getattr(transformers, f"{kind}ForCausalLM")._from_config(
            config, attn_implementation=name
        )
        return model.to(dtype)

    return make


@pytest.fixture(scope="session")
def random_pairs():
    """A function: ragged (prompt, chosen, rejected) arrays of random ids."""
    import numpy as np

    def make(lengths, seed=1, vocab=211):
        random = np.random.default_rng(seed)
        return [
            tuple(random.integers(3, vocab, size).astype(np.int32) for size in sizes)
            for sizes in lengths
        ]

    return make
