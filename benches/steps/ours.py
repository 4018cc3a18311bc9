"""Our columns: the modules of `training/` in a plain loop, so that they run where trl is absent.

Attention, the layout of pairs and the optimizer are those of the scripts. The loss is the sum that trl's is, written out:
log-probabilities of the answers' tokens, and only their places pass the head.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attention
import numpy as np
import torch
import torch.nn.functional as F
from collate import lay_out
from optimizer import MasterAdamW

from steps.figures import Counted, figures, tick
from steps.model import make_model
from steps.rows import documents, mean_length, packed, pairs

if TYPE_CHECKING:
    import argparse

BETA = 0.1


def ours(options: argparse.Namespace, column: str) -> dict:
    """A column: the steps and what they took."""
    choice = attention.choose(
        options.attn, torch.device(options.device), getattr(torch, options.dtype)
    )
    model = make_model(options, attention.register(choice))
    if column == "ours-checkpointing":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    steps = options.warmup + options.steps
    if options.what == "sft":
        many = max(1, options.batch_tokens // options.max_length)
        per_step = max(1, round(options.batch_tokens / mean_length(options)))
        rows = packed(documents(options, steps * per_step), options.max_length)
        rows = (rows * steps)[: steps * many]
        collate, loss_of = chats, sft_loss
    else:
        many = options.pairs
        rows = pairs(options, steps * many)
        collate, loss_of = partial(preferences, share=column == "ours"), dpo_loss
    counted = Counted(collate, options)
    batches = [rows[start : start + many] for start in range(0, len(rows), many)]
    references = [None] * len(batches)
    if (
        options.what == "dpo"
    ):  # once before, as with `precompute_ref_log_probs`: not in the steps' time
        with torch.no_grad():
            references = [answer_logps(model, on(collate(some), options)) for some in batches]
    optimizer = optimizer_of(model, options)
    ticks = [tick(options)]
    for some, reference in zip(batches, references, strict=True):
        loss = loss_of(model, on(counted(some), options), reference)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # a trainer logs it
        ticks.append(tick(options))
    found = figures(options, ticks, counted, 3 + (column == "ours-checkpointing"))
    return {"attention": choice.kernel, **found}


def optimizer_of(model: torch.nn.Module, options: argparse.Namespace) -> torch.optim.Optimizer:
    """What the scripts take: trl's default for float32 weights, float32 masters for bfloat16 ones."""
    if options.dtype == "float32":
        return torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0, fused=True)
    return MasterAdamW(model.parameters(), lr=1e-6)


def on(batch: dict, options: argparse.Namespace) -> dict:
    """The batch with its tensors on the device."""
    return {
        name: value.to(options.device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }


# ---- batches ----


def given(cu_q: np.ndarray, cu_k: np.ndarray) -> dict:
    """The segments, as the attention takes them."""
    return {
        "cu_seq_lens_q": torch.from_numpy(cu_q),
        "cu_seq_lens_k": torch.from_numpy(cu_k),
        "max_length_q": int(np.diff(cu_q).max()),
        "max_length_k": int(np.diff(cu_k).max()),
    }


def chats(rows: list[dict]) -> dict:
    """Packed rows as one sequence, with which place predicts which id."""
    lengths = np.concatenate([row["seq_lengths"] for row in rows])
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    labels = torch.from_numpy(np.concatenate([row["labels"] for row in rows]))
    labels[bounds[:-1]] = -100  # nothing predicts the first token of a document
    where = (labels != -100).nonzero()[:, 0]
    positions = np.arange(bounds[-1]) - np.repeat(bounds[:-1], lengths)
    return {
        "input_ids": torch.from_numpy(np.concatenate([row["input_ids"] for row in rows]))[None],
        "position_ids": torch.from_numpy(positions)[None],
        **given(bounds, bounds),
        "predict_from": where - 1,
        "predict": labels[where],
    }


def preferences(rows: list[dict], *, share: bool) -> dict:
    """Pairs as one sequence; `answer` says which answer a predicted id belongs to, chosen ones first."""
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    layout = lay_out([tuple(np.asarray(row[name]) for name in names) for row in rows], share=share)
    there = np.arange(layout.unpack.shape[1]) <= layout.lengths[:, None]
    before, after = there[:, :-1] & there[:, 1:], there[:, 1:]
    batch = {
        "input_ids": torch.from_numpy(layout.ids)[None],
        "position_ids": torch.from_numpy(layout.positions)[None],
        **given(layout.cu_q, layout.cu_k),
        "predict_from": torch.from_numpy(layout.unpack[:, :-1][before]),
        "predict": torch.from_numpy(layout.ids[layout.unpack[:, 1:][after]]),
        "answer": torch.from_numpy(np.repeat(np.arange(2 * len(rows)), layout.lengths)),
        "pairs": len(rows),
    }
    if layout.kv_index is not None:
        batch["kv_index"] = torch.from_numpy(layout.kv_index)
    return batch


# ---- losses ----


def logps(model: torch.nn.Module, batch: dict) -> torch.Tensor:
    """Log-probability of each predicted id (ids,)."""
    others = ("predict_from", "predict", "answer", "pairs")
    inputs = {name: value for name, value in batch.items() if name not in others}
    hidden = model.model(**inputs, use_cache=False).last_hidden_state[0]
    logits = model.lm_head(hidden[batch["predict_from"]]).float()
    return -F.cross_entropy(logits, batch["predict"], reduction="none")


def answer_logps(model: torch.nn.Module, batch: dict) -> torch.Tensor:
    """Log-probability of each answer (2 x pairs,), chosen ones first."""
    found = logps(model, batch)
    return found.new_zeros(2 * batch["pairs"]).index_add(0, batch["answer"], found)


def sft_loss(model: torch.nn.Module, batch: dict, _reference: None) -> torch.Tensor:
    """Mean negative log-probability of the ids that carry the loss."""
    return -logps(model, batch).mean()


def dpo_loss(model: torch.nn.Module, batch: dict, reference: torch.Tensor) -> torch.Tensor:
    """The sigmoid loss of DPO, equation 7 of arXiv 2305.18290."""
    gain = answer_logps(model, batch) - reference
    return -F.logsigmoid(BETA * (gain[: batch["pairs"]] - gain[batch["pairs"] :])).mean()
