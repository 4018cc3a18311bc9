"""Preference pairs into one packed row without padding, the prompt of a pair once.

A pair [prompt P, chosen C, rejected R] stands in the row as P C R. Its first segment has the queries P C and the keys P C, its
second the queries R and the keys P R, gathered by `kv_index`; positions of R go on where P ends. So R sees P but not C, and
the last token of P predicts the first token of both answers. Without sharing the row is P C P R, and nothing is gathered.
(The layout of arXiv 2410.20305 without its doubled prompt token; proof in tests/training/test_collate.py.)

trl's loss wants (2 x pairs, length) tensors, chosen rows first. They hold the answers alone, each behind the last token of its
prompt: `unpack` says which place of the packed row each cell is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Layout:
    """Where everything of a batch of pairs stands; all arrays int64 unless said otherwise.

    Attributes:
        ids: (T) token ids of the packed row.
        positions: (T).
        kv_index: (T_k) keys of the segments, or `None` where nothing is shared.
        cu_q: (2 x pairs + 1) int32.
        cu_k: Likewise.
        unpack: (2 x pairs, L) places in the row: the last prompt token, then the answer; 0 behind its end.
        lengths: (2 x pairs) tokens of the answers.
        useful: Tokens of prompts and answers, each prompt once.
    """

    ids: np.ndarray
    positions: np.ndarray
    kv_index: np.ndarray | None
    cu_q: np.ndarray
    cu_k: np.ndarray
    unpack: np.ndarray
    lengths: np.ndarray
    useful: int


def lay_out(pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]], *, share: bool) -> Layout:
    """Lays out (prompt, chosen, rejected) pairs of token ids.

    Raises:
        ValueError: A prompt or an answer is empty: nothing would predict the answer's first token.
    """
    for prompt, *answers in pairs:
        if not len(prompt) or not all(map(len, answers)):
            raise ValueError("a pair needs a prompt and two answers of at least one token")
    ids, positions, keys = [], [], []
    lens_q, lens_k, firsts, lasts = [], [], [[], []], [[], []]
    start = 0
    for prompt, chosen, rejected in pairs:
        p, c, r = len(prompt), len(chosen), len(rejected)
        whole = np.arange(p + max(c, r))
        if share:
            ids += [prompt, chosen, rejected]
            positions += [whole[: p + c], whole[p : p + r]]
            keys += [start + whole[: p + c], start + whole[:p], start + p + c + np.arange(r)]
            lens_q += [p + c, r]
            lens_k += [p + c, p + r]
            last, begin, size = start + p - 1, start + p + c, p + c + r
        else:
            ids += [prompt, chosen, prompt, rejected]
            positions += [whole[: p + c], whole[: p + r]]
            lens_q += [p + c, p + r]
            lens_k += [p + c, p + r]
            last, begin, size = start + p + c + p - 1, start + p + c + p, p + c + p + r
        # The place of the last prompt token, and that of the answer's first one.
        for side, (before, first) in enumerate(((start + p - 1, start + p), (last, begin))):
            lasts[side].append(before)
            firsts[side].append(first)
        start += size
    lengths = np.array([[len(pair[side]) for pair in pairs] for side in (1, 2)]).reshape(-1)
    cells = np.arange(lengths.max())
    rows = np.where(cells < lengths[:, None], np.concatenate(firsts)[:, None] + cells, 0)
    unpack = np.concatenate([np.concatenate(lasts)[:, None], rows], axis=1)
    bounds = [np.concatenate([[0], np.cumsum(lens)]).astype(np.int32) for lens in (lens_q, lens_k)]
    return Layout(
        ids=np.concatenate(ids).astype(np.int64),
        positions=np.concatenate(positions),
        kv_index=np.concatenate(keys) if share else None,
        cu_q=bounds[0],
        cu_k=bounds[1],
        unpack=unpack,
        lengths=lengths,
        useful=sum(map(len, (part for pair in pairs for part in pair))),
    )


@dataclass
class PairCollator:
    """Rows of a packed preference data set into what the trainer's model and loss take.

    Attributes:
        pad_token_id: Fills cells behind an answer's end; never seen by the model.
        share_prefix: Whether a prompt is computed once for both answers.
    """

    pad_token_id: int
    share_prefix: bool = True

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """One batch; integers stay Python integers so that no layer asks the device for them."""
        pairs = [
            tuple(np.asarray(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
            for row in rows
        ]
        layout = lay_out(pairs, share=self.share_prefix)
        cells = np.arange(layout.unpack.shape[1])
        there = cells <= layout.lengths[:, None]
        answer = there & (cells > 0)
        padded = np.where(there, layout.ids[layout.unpack], self.pad_token_id)
        tensor = torch.from_numpy
        batch: dict[str, Any] = {
            "input_ids": tensor(padded),
            "attention_mask": tensor(there.astype(np.int64)),
            "completion_mask": tensor(answer.astype(np.int64)),
            "packed_ids": tensor(layout.ids)[None],
            "packed_position_ids": tensor(layout.positions)[None],
            "unpack": tensor(layout.unpack),
            "cu_seq_lens_q": tensor(layout.cu_q),
            "cu_seq_lens_k": tensor(layout.cu_k),
            "max_length_q": int(np.diff(layout.cu_q).max()),
            "max_length_k": int(np.diff(layout.cu_k).max()),
            "tokens_useful": layout.useful,
        }
        if layout.kv_index is not None:
            batch["kv_index"] = tensor(layout.kv_index)
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in rows[0]:
                batch[name] = torch.tensor([float(row[name]) for row in rows])
        return batch


def pack_backbone(model: torch.nn.Module) -> None:
    """Makes the model's backbone run on packed rows where a batch has them, and give hidden states as (2 x pairs, L, hidden).

    Heads, losses, PEFT and checkpointing of trl and transformers stay as they are.
    """
    backbone = model.base_model
    original = backbone.forward

    def forward(
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        packed_ids: torch.Tensor | None = None,
        packed_position_ids: torch.Tensor | None = None,
        unpack: torch.Tensor | None = None,
        **kwargs: Any,  # noqa: ANN401 - the model's own
    ) -> Any:  # noqa: ANN401 - likewise
        if packed_ids is None:
            return original(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                **kwargs,
            )
        out = original(
            input_ids=packed_ids, attention_mask=None, position_ids=packed_position_ids, **kwargs
        )
        hidden = out.last_hidden_state[0]
        out.last_hidden_state = hidden.index_select(0, unpack.reshape(-1)).view(
            *unpack.shape, hidden.shape[-1]
        )
        return out

    backbone.forward = forward
