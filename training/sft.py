"""dSFT: supervised fine-tuning on packed chats, with trl's SFTTrainer.

    zephyr-data prepare chats.jsonl.zst --tokenizer TOKENIZER --out sft-data
    python training/sft.py --model_name_or_path MODEL --data sft-data --output_dir sft --learning_rate 2e-5
    accelerate launch --config_file training/recipes/accelerate/fsdp2.yaml training/sft.py --config RECIPE.yaml

The rows are packed already: documents keep apart through their segments, nothing is padded, cut or tokenized. All other
arguments are trl's own (`--help`); `--config FILE.yaml` sets their defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from arguments import DataArguments, fail, parse, resume_point
from loading import choose_attention, load_model, load_tokenizer
from optimizer import MasterAdamW, adamw_arguments, needs_masters
from packed import load
from reliable import NotANumberError, Reliable, SaveOnTerm
from rows import MappedRows, collate
from trl import SFTConfig, SFTTrainer, get_peft_config

from zephyr_data.errors import ZephyrDataError


@dataclass
class PackedSFTConfig(SFTConfig):
    """trl's arguments, with the defaults that packed rows need."""

    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Tokens of a row. The rows are packed already: left out, or what they were packed for."
        },
    )
    padding_free: bool = field(
        default=True, metadata={"help": "Must be true: packed rows have no padding."}
    )
    packing: bool = field(
        default=False,
        metadata={"help": "Must be false: packing again would ignore the documents' borders."},
    )
    per_device_train_batch_size: int = field(
        default=1, metadata={"help": "Packed rows of a device's step."}
    )
    per_device_eval_batch_size: int = field(
        default=1, metadata={"help": "Packed rows of an evaluation step."}
    )


class PackedSFTTrainer(Reliable, SFTTrainer):
    """The stock trainer, fed from the mapped file; it names the rows if a loss is no number."""

    row_columns = ("input_ids",)

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - trl's own
        super().__init__(**kwargs)
        # trl wants `datasets` rows and its own collator while it is built.
        self.train_dataset = MappedRows(self.train_dataset)
        if self.eval_dataset is not None:
            self.eval_dataset = MappedRows(self.eval_dataset)
        if self.args.pad_to_multiple_of is None:
            self.data_collator = collate


def main() -> None:
    """Reads downwards: arguments, data, model, trainer, training, saving."""
    ours, training, model_arguments = parse(DataArguments, PackedSFTConfig, "training/sft.py")
    trust = training.trust_remote_code
    if training.packing or not training.padding_free:
        raise ValueError(
            "packed rows need `--packing false --padding_free true`\nhint: leave both out, these are the defaults"
        )
    tokenizer = load_tokenizer(ours, model_arguments, trust=trust)
    data = load(ours.data, kind="chat", tokenizer=tokenizer, max_length=training.max_length)
    training.max_length = (
        None  # nothing is left to cut, and trl refuses a length for rows without padding
    )

    kernel = choose_attention(ours, training, model_arguments.dtype)
    model = load_model(model_arguments, training, kernel, trust=trust)

    masters = ours.master_weights and needs_masters(model, training.optim)
    term = SaveOnTerm()
    trainer = PackedSFTTrainer(
        model=model,
        args=training,
        train_dataset=data.train,
        eval_dataset=data.eval if training.eval_strategy != "no" else None,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_arguments),
        optimizer_cls_and_kwargs=(MasterAdamW, adamw_arguments(training)) if masters else None,
        callbacks=[term],
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
