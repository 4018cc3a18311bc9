"""trl's trainers take the packed rows: two steps of a tiny model, and the batches that reach it."""

import pytest

from zephyr_data import open_packed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # torch, transformers and trl warn on their own
]


@pytest.fixture(scope="module")
def trl():
    pytest.importorskip("torch", reason="needs the extra `train`")
    return pytest.importorskip("trl", reason="needs the extra `train`")


@pytest.fixture
def model(trl, live_tokenizer):  # noqa: ARG001 - skips where there is no torch
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    def make():
        torch.manual_seed(0)
        config = MistralConfig(
            vocab_size=len(live_tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=4096,
            sliding_window=None,
            attn_implementation="sdpa",
        )
        return MistralForCausalLM(config)

    return make


@pytest.fixture
def arguments(tmp_path):
    return {
        "output_dir": str(tmp_path / "model"),
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "max_steps": 2,
        "logging_steps": 1,
        "disable_tqdm": True,
        "per_device_train_batch_size": 1,
        "learning_rate": 1e-2,
    }


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_sft_trainer_takes_packed_rows_as_they_are(
    trl, model, arguments, prepare, examples, tmp_path, live_tokenizer
):
    out = tmp_path / "out"
    prepare(examples / "chats.jsonl", out, max_length=512, test_fraction=0.05)
    packed = open_packed(out)
    config = trl.SFTConfig(**arguments, padding_free=True, packing=False, max_length=None)
    trainer = trl.SFTTrainer(
        model(),
        args=config,
        train_dataset=packed.train,
        eval_dataset=packed.test,
        processing_class=live_tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    ids = batch["input_ids"][0].tolist()
    rows = {tuple(row["input_ids"]): row for row in packed.table("train").to_pylist()}
    row = rows[tuple(ids)]
    positions = [position for length in row["seq_lengths"] for position in range(length)]
    assert batch["position_ids"][0].tolist() == positions
    starts = {sum(row["seq_lengths"][:number]) for number in range(len(row["seq_lengths"]))}
    expected = [-100 if place in starts else label for place, label in enumerate(row["labels"])]
    assert batch["labels"][0].tolist() == expected
    trainer.train()
    first, second = losses(trainer)
    assert 0 < second < first


def test_dpo_trainer_takes_packed_pairs(trl, model, arguments, pairs, live_tokenizer):
    class PackedPairs(trl.DPOTrainer):
        called = 0

        def _prepare_dataset(self, dataset, *_, **__):
            type(self).called += 1
            return dataset

    packed = open_packed(pairs.out)
    trainer = PackedPairs(
        model(),
        ref_model=model(),
        args=trl.DPOConfig(**{**arguments, "per_device_train_batch_size": 2}, max_length=None),
        train_dataset=packed.train,
        processing_class=live_tokenizer,
    )
    assert PackedPairs.called == 1  # trl still asks the method that is overridden
    batch = next(iter(trainer.get_train_dataloader()))
    trained = {
        tuple(row["prompt_ids"] + row[name])
        for row in packed.train
        for name in ("chosen_ids", "rejected_ids")
    }
    for ids, mask in zip(
        batch["input_ids"].tolist(), batch["attention_mask"].tolist(), strict=True
    ):
        assert tuple(id for id, there in zip(ids, mask, strict=True) if there) in trained
    trainer.train()
    first, second = losses(trainer)
    assert first == pytest.approx(0.6931, abs=1e-3)  # ln 2: model and reference are still the same
    assert second != first
