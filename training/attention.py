"""Attention over packed rows: one interface, the fastest kernel that the machine has, the same mathematics everywhere.

A packed row is several segments end to end. Every segment attends to itself only, causally. `cu_seq_lens_q` and
`cu_seq_lens_k` (int32, segments + 1) say where segments begin and end among the queries and among the keys; where a segment has
more keys than queries, its last query sees its last key (aligned bottom-right, as Flash Attention has it). `kv_index` (int64),
if given, says which keys and values of the row the segments hold, so that two segments can share a prompt.

    name = register(choose("auto", torch.device("cuda"), torch.bfloat16))
    model = AutoModelForCausalLM.from_pretrained(path, attn_implementation=name)

The names must not contain "flash": transformers takes such names for kernels of its hub. No mask function is registered, so
transformers builds no mask; a batch without segments is therefore refused instead of attending to its padding.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

if TYPE_CHECKING:
    from collections.abc import Callable

CHOICES = ("auto", "varlen", "fa3", "fa4", "flex", "sdpa")


@dataclass(frozen=True)
class Segments:
    """Where segments begin and end.

    Attributes:
        cu_q: (segments + 1) int32, among the queries.
        cu_k: (segments + 1) int32, among the keys after `kv_index`; the same object as `cu_q` where nothing is shared.
        max_q: Most queries of a segment, a Python int: a tensor would cost a device synchronization in every layer.
        max_k: Most keys of a segment.
    """

    cu_q: torch.Tensor
    cu_k: torch.Tensor
    max_q: int
    max_k: int


def sdpa(
    segments: Segments,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float | None,
    window: int | None,
) -> torch.Tensor:
    """Segment by segment through `scaled_dot_product_attention`: any device, any dtype; the reference for the others.

    Args:
        segments: The segments.
        q: (T_q, heads, dim).
        k: (T_k, key-value heads, dim).
        v: As `k`.
        scale: Factor of the scores; `None` for 1 / sqrt(dim).
        window: How many keys back a query sees, itself among them; `None` for all.
    """
    outputs = []
    q_ends, k_ends = segments.cu_q.tolist(), segments.cu_k.tolist()
    for (q0, q1), (k0, k1) in zip(pairwise(q_ends), pairwise(k_ends), strict=True):
        queries, keys, values = (
            x[a:b].transpose(0, 1)[None] for x, a, b in ((q, q0, q1), (k, k0, k1), (v, k0, k1))
        )
        len_q, len_k = q1 - q0, k1 - k0
        # Without a window and a shared prompt the mask is the usual triangle, which needs no memory.
        square = len_q == len_k and (window is None or window >= len_k)
        mask = None if square else _band(len_q, len_k, window, q.device)
        out = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=square, scale=scale, enable_gqa=True
        )
        outputs.append(out[0].transpose(0, 1))
    return torch.cat(outputs)


def _band(len_q: int, len_k: int, window: int | None, device: torch.device) -> torch.Tensor:
    """(len_q, len_k) bool: which keys a query sees, aligned bottom-right."""
    band = torch.ones(len_q, len_k, dtype=torch.bool, device=device).tril(len_k - len_q)
    return band if window is None else band.triu(len_k - len_q - window + 1)


def varlen(
    segments: Segments,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float | None,
    window: int | None,
) -> torch.Tensor:
    """Flash Attention inside torch, `torch.nn.attention.varlen`; arguments as for `sdpa`. CUDA, float16 or bfloat16."""
    from torch.nn.attention.varlen import varlen_attn

    # The left bound counts the keys before the query's own. A window that bounds nothing is left out: it would rule out cuDNN.
    left = -1 if window is None or window >= segments.max_k else window - 1
    more = {"enable_gqa": True} if _takes_gqa() else {}
    return varlen_attn(
        q,
        k,
        v,
        segments.cu_q,
        segments.cu_k,
        segments.max_q,
        segments.max_k,
        scale=scale,
        window_size=(left, 0),
        **more,
    )


@functools.cache
def _takes_gqa() -> bool:
    """Whether this version wants to be told of grouped queries: 2.11 has no such argument, later ones check the heads."""
    import inspect

    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in inspect.signature(varlen_attn).parameters


def flex(
    segments: Segments,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float | None,
    window: int | None,
) -> torch.Tensor:
    """Compiled FlexAttention with a block mask of the segments; arguments as for `sdpa`. CPU has no backward of it."""
    from torch.nn.attention.flex_attention import flex_attention

    attend = _compiled_flex() if q.is_cuda else flex_attention
    queries, keys, values = (x.transpose(0, 1)[None] for x in (q, k, v))
    mask = _block_mask(segments, len(q), len(k), window)
    out = attend(queries, keys, values, block_mask=mask, scale=scale, enable_gqa=True)
    return out[0].transpose(0, 1)


@functools.cache
def _compiled_flex() -> Any:  # noqa: ANN401 - whatever torch.compile gives
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


_last_mask: tuple[object, ...] | None = None


def _block_mask(segments: Segments, len_q: int, len_k: int, window: int | None) -> Any:  # noqa: ANN401 - a BlockMask
    """The mask of a batch; every layer asks for the same one, so the last is kept."""
    from torch.nn.attention.flex_attention import create_block_mask

    global _last_mask
    if (
        _last_mask is not None
        and _last_mask[0] is segments.cu_q
        and _last_mask[1:3] == (len_k, window)
    ):
        return _last_mask[3]
    device = segments.cu_q.device

    def of(cu: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Segment of each place, and its distance from the segment's end."""
        places = torch.arange(length, device=device)
        segment = torch.searchsorted(cu, places, right=True) - 1
        return segment, cu[segment + 1] - places

    q_segment, q_left = of(segments.cu_q.long(), len_q)
    k_segment, k_left = of(segments.cu_k.long(), len_k)

    def sees(_batch: object, _head: object, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        causal = (q_segment[q] == k_segment[k]) & (k_left[k] >= q_left[q])
        return causal if window is None else causal & (k_left[k] < q_left[q] + window)

    mask = create_block_mask(sees, None, None, len_q, len_k, device=device)
    _last_mask = (segments.cu_q, len_k, window, mask)
    return mask


KERNELS = {"varlen": varlen, "fa3": varlen, "fa4": varlen, "flex": flex, "sdpa": sdpa}


@dataclass(frozen=True)
class Choice:
    """Which kernel is taken, and why.

    Attributes:
        kernel: A key of `KERNELS`.
        reason: For the line that is printed once.
    """

    kernel: str
    reason: str


def choose(asked: str, device: torch.device, dtype: torch.dtype) -> Choice:
    """The kernel for a device and the dtype of the computation.

    Raises:
        ValueError: What was asked for cannot be had here.
    """
    if asked not in CHOICES:
        names = ", ".join(f"`{name}`" for name in CHOICES)
        raise ValueError(f"`--attn` must be one of {names}, found: `{asked}`")
    if asked != "auto":
        if problem := _problem(asked, device, dtype):
            raise ValueError(
                f"cannot use `--attn {asked}`: {problem}\nhint: `--attn auto` takes the fastest that works here"
            )
        return Choice(asked, "asked for")
    for name in ("varlen", "flex"):
        problem = _problem(name, device, dtype)
        if problem is None:
            return Choice(name, f"the first that works on {device.type} with {_short(dtype)}")
    return Choice("sdpa", f"{device.type} with {_short(dtype)} has no fused kernel for packed rows")


def _problem(name: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """What keeps a kernel from working here."""
    if name == "sdpa":
        return None
    if device.type != "cuda":
        return f"it needs a CUDA device, found: `{device.type}`"
    if name == "flex":
        return None
    if dtype not in (torch.float16, torch.bfloat16):
        return f"it needs float16 or bfloat16, found: `{_short(dtype)}`"
    try:
        import_module("torch.nn.attention.varlen")
    except ImportError:
        return f"torch {torch.__version__} has no `torch.nn.attention.varlen`"
    packages = {"fa3": "flash_attn_interface", "fa4": "flash_attn.cute.interface"}
    if name in packages:
        try:
            import_module(packages[name])
        except ImportError:
            return f"the package with `{packages[name]}` is not installed"
    return None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def register(choice: Choice) -> str:
    """Registers the kernel with transformers and gives the name for `attn_implementation`."""
    if choice.kernel in ("fa3", "fa4"):
        from torch.nn.attention import activate_flash_attention_impl

        activate_flash_attention_impl(choice.kernel.upper())
    name = f"zephyr_{choice.kernel}"
    AttentionInterface.register(name, functools.partial(packed_attention, KERNELS[choice.kernel]))
    return name


def packed_attention(
    kernel: Callable[..., torch.Tensor],
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - transformers passes it; the segments say it all
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    cu_seq_lens_k: torch.Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    kv_index: torch.Tensor | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in every layer: (1, heads, T, dim) in, (1, T, heads, dim) out.

    Raises:
        ValueError: The batch is not packed, or the model drops attention weights, which no kernel here does.
    """
    if cu_seq_lens_q is None or cu_seq_lens_k is None or len(query) != 1:
        raise ValueError(
            "attention over packed rows got a batch without segments"
            '\nhint: load the model with `attn_implementation="sdpa"` for padded batches and for generation'
        )
    if dropout and module.training:
        raise ValueError(
            f"attention over packed rows drops no attention weights, found a dropout of: {dropout}"
            "\nhint: set `attention_dropout: 0.0` in the model's config"
        )
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if kv_index is None:
        # Moving a batch to the device makes two tensors of one; cuDNN wants the same object where nothing is shared.
        cu_seq_lens_k = cu_seq_lens_q
    else:
        k, v = k.index_select(0, kv_index), v.index_select(0, kv_index)
    longest = [
        int(cu.diff().max()) if given is None else int(given)
        for cu, given in ((cu_seq_lens_q, max_length_q), (cu_seq_lens_k, max_length_k))
    ]
    segments = Segments(cu_seq_lens_q, cu_seq_lens_k, *longest)
    return kernel(segments, q, k, v, scaling, sliding_window)[None], None
