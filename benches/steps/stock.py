"""The columns of trl's own trainers; the only place that imports trl."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets import Dataset
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from steps.figures import Counted, figures, tick
from steps.model import make_model
from steps.rows import documents, grouped, mean_length, pairs

if TYPE_CHECKING:
    import argparse


def word_tokenizer(vocabulary: int):
    """trl wants a tokenizer for its padding token; the rows are ids already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(
        models.WordLevel({f"t{place}": place for place in range(vocabulary)}, unk_token="t0")
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="t2", pad_token="t1", unk_token="t0"
    )


def stock(options: argparse.Namespace, column: str) -> dict:
    """A column of trl's own trainers."""

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.ticks = [tick(options)]

        def on_step_end(self, *_, **__) -> None:
            self.ticks.append(tick(options))

    class Pretokenized(DPOTrainer):
        def _prepare_dataset(self, dataset, *_, **__):
            return dataset

    checkpointing = column == "stock-default"
    once = column in {"stock-best", "stock-grouped"}  # the reference's log-probabilities, in DPO
    steps = options.warmup + options.steps
    common = {
        "output_dir": options.scratch,
        "max_steps": steps,
        "learning_rate": 1e-6,
        "logging_steps": 10**6,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": options.device == "cpu",
        "bf16": options.device != "cpu",
        "gradient_checkpointing": checkpointing,
        "seed": options.seed,
    }
    model = make_model(options, options.stock_attention)
    tokenizer = word_tokenizer(options.shape[5])
    if options.what == "sft":
        per_step = max(1, round(options.batch_tokens / mean_length(options)))
        rows = documents(options, steps * per_step)
        extra = {"per_device_train_batch_size": per_step, "max_length": options.max_length}
        if column == "stock-best":
            many = max(1, options.batch_tokens // options.max_length)
            extra |= {"packing": True, "per_device_train_batch_size": many}
        trainer = SFTTrainer(
            model,
            args=SFTConfig(**common, **extra),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
    else:
        rows = pairs(options, steps * options.pairs)
        if column == "stock-grouped":
            rows = grouped(rows, options.pairs)
        trainer = Pretokenized(
            model,
            ref_model=None if once else make_model(options, options.stock_attention),
            args=DPOConfig(
                **common,
                per_device_train_batch_size=options.pairs,
                max_length=None,
                precompute_ref_log_probs=once,
                train_sampling_strategy="sequential",
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
    counted = trainer.data_collator = Counted(trainer.data_collator, options)
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    online = options.what == "dpo" and not once
    passes = 3 + checkpointing + online  # forward, backward (twice as much), and what is done again
    return figures(options, clock.ticks, counted, passes)
