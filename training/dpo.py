"""dDPO: direct preference optimization on packed pairs, from a dSFT model, with trl's DPOTrainer.

    zephyr-data prepare pairs.parquet --tokenizer TOKENIZER --out dpo-data --max-length 1024
    python training/dpo.py --model_name_or_path sft --data dpo-data --output_dir dpo --learning_rate 5e-7 --num_train_epochs 3
    accelerate launch --config_file training/recipes/accelerate/fsdp2.yaml training/dpo.py --config RECIPE.yaml

No padding, and a prompt is computed once for both answers (`--share_prefix`). The reference model's log-probabilities are
computed once and kept in DIR/reference, for all epochs and later runs. Every `--loss_type` of trl works. Logged besides trl's
metrics: `tokens_computed` and `tokens_useful` of a device's step. All other arguments are trl's own (`--help`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from arguments import PairArguments, fail, parse, resume_point
from loading import choose_attention, load_model, load_tokenizer
from packed import load
from reliable import NotANumberError, SaveOnTerm
from trainer import PackedDPOTrainer
from trl import DPOConfig, get_peft_config

from zephyr_data.errors import ZephyrDataError


@dataclass
class PackedDPOConfig(DPOConfig):
    """trl's arguments, with the defaults that packed pairs need."""

    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Tokens of prompt and answer. The pairs are cut already: left out, or what they were packed for."
        },
    )
    precompute_ref_log_probs: bool = field(
        default=True,
        metadata={
            "help": "Compute the reference model's log-probabilities once and keep them in DIR/reference."
        },
    )


def main() -> None:
    """Reads downwards: arguments, data, model, trainer, training, saving."""
    ours, training, model_arguments = parse(PairArguments, PackedDPOConfig, "training/dpo.py")
    trust = training.trust_remote_code
    if training.sync_ref_model:
        training.precompute_ref_log_probs = False  # a reference that moves cannot be computed once
    tokenizer = load_tokenizer(ours, model_arguments, trust=trust)
    data = load(ours.data, kind="preference", tokenizer=tokenizer, max_length=training.max_length)
    training.max_length = None  # nothing is left to cut

    kernel = choose_attention(ours, training, model_arguments.dtype)
    model = load_model(model_arguments, training, kernel, trust=trust)
    needs_reference = model_arguments.use_peft is False and not training.precompute_ref_log_probs
    reference = (
        load_model(model_arguments, training, kernel, trust=trust) if needs_reference else None
    )

    term = SaveOnTerm()
    trainer = PackedDPOTrainer(
        model=model,
        ref_model=reference,
        args=training,
        train_dataset=data.train,
        eval_dataset=data.eval if training.eval_strategy != "no" else None,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_arguments),
        callbacks=[term],
        share_prefix=ours.share_prefix,
        master_weights=ours.master_weights,
        reference=(str(Path(data.folder).parent / "reference"), data.key),
    )
    trainer.train(resume_from_checkpoint=resume_point(training))

    if not term.asked:
        trainer.save_model(training.output_dir)
        if training.push_to_hub:
            trainer.push_to_hub()
    # Processes that end with their group open may abort at exit.
    trainer.accelerator.end_training()


if __name__ == "__main__":
    try:
        main()
    except (ZephyrDataError, NotANumberError, ValueError, OSError) as error:
        fail(error)
