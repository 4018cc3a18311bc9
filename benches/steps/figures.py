"""Notes what a step was given and how long it took, and makes figures of it."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

from steps.model import flops

if TYPE_CHECKING:
    import argparse

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16, FLOP/s


class Counted:
    """A collator that notes what it was given and what it made, batch by batch."""

    def __init__(self, collate, options: argparse.Namespace) -> None:
        self.collate, self.options = collate, options
        self.useful: list[int] = []
        self.rows: list[int] = []
        self.model_flops: list[float] = []
        self.executed_flops: list[float] = []

    def __call__(self, examples):
        batch = self.collate(examples)
        sides = []
        for row in examples:
            if "prompt_ids" in row:
                prompt = len(row["prompt_ids"])
                sides += [prompt + len(row["chosen_ids"]), prompt + len(row["rejected_ids"])]
            else:
                sides += row.get("seq_lengths") or [len(row["input_ids"])]
        self.executed_flops.append(flops(self.options, executed_segments(batch, sides)))
        self.rows.append(len(examples))
        self.useful.append(sum(sides))
        self.model_flops.append(flops(self.options, [(side, side) for side in sides]))
        return batch


def executed_segments(batch, sides: list[int]) -> list[tuple[int, int]]:
    """Queries and keys of what the layers see: segments, documents of a padding-free row, or padded rows."""
    if "cu_seq_lens_q" in batch:
        bounds = (batch[f"cu_seq_lens_{side}"].diff().tolist() for side in "qk")
        return list(zip(*bounds, strict=True))
    if "position_ids" in batch:
        return [(side, side) for side in sides]
    many, length = batch["input_ids"].shape
    return [(length, length)] * many


def tick(options: argparse.Namespace) -> tuple[float, float]:
    """Wall and CPU seconds, when all that was asked of the device is done."""
    if options.device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def figures(options: argparse.Namespace, ticks: list, counted: Counted, passes: int) -> dict:
    """What the steps after the warm-up took; `ticks` has one entry more than there are steps."""
    steps = slice(options.warmup, options.warmup + options.steps)
    wall, cpu = (ticks[-1][kind] - ticks[options.warmup][kind] for kind in (0, 1))
    useful, rows = sum(counted.useful[steps]), sum(counted.rows[steps])
    found = {
        "step_ms": round(1000 * wall / options.steps, 1),
        "cpu_step_ms": round(1000 * cpu / options.steps, 1),
        "useful_tokens_per_s": round(useful / wall),
        "useful_tokens_per_cpu_s": round(useful / cpu),
        "useful_tokens": useful,
    }
    if options.what == "dpo":
        found |= {"pairs_per_s": round(rows / wall, 2), "pairs_per_cpu_s": round(rows / cpu, 2)}
    if options.device.startswith("cuda"):
        found |= cuda_figures(
            3 * sum(counted.model_flops[steps]) / wall,
            passes * sum(counted.executed_flops[steps]) / wall,
        )
    else:
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6
    return found


def cuda_figures(model: float, executed: float) -> dict:
    """Memory, TFLOP/s and shares of the card's peak."""
    import torch

    name = torch.cuda.get_device_name()
    peak = next((value for card, value in PEAK.items() if card in name), None)
    found = {
        "peak_mb": torch.cuda.max_memory_allocated() // 10**6,
        "model_tflops": round(model / 1e12, 1),
        "executed_tflops": round(executed / 1e12, 1),
    }
    if peak:
        found |= {"mfu_model": round(model / peak, 4), "mfu_executed": round(executed / peak, 4)}
    return found
