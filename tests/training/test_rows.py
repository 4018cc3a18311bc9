"""Rows straight from the file are what `datasets` and trl's collator make of them, to the bit."""

import importlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rows(training):  # noqa: ARG001 - skips where there is no torch
    """The module; its folder is where scripts find each other."""
    sys.path.insert(0, str(ROOT / "training"))
    try:
        yield importlib.import_module("rows")
    finally:
        sys.path.remove(str(ROOT / "training"))


@pytest.fixture
def written(tmp_path):
    """Packed rows in a file of several chunks."""
    import pyarrow as pa
    from datasets import Dataset

    random = np.random.default_rng(5)
    kind = pa.list_(pa.int32())
    made = []
    for _ in range(23):
        lengths = random.integers(1, 9, random.integers(1, 6))
        ids = random.integers(3, 211, lengths.sum())
        labels = np.where(random.random(len(ids)) < 0.5, ids, -100)
        made.append({"input_ids": ids, "labels": labels, "seq_lengths": lengths})
    table = pa.table({name: pa.array([row[name] for row in made], kind) for name in made[0]})
    with pa.ipc.new_stream(str(tmp_path / "rows.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return Dataset.from_file(str(tmp_path / "rows.arrow"))


@pytest.mark.parametrize("size", [1, 4])
def test_batches_equal_those_of_datasets_and_trl(rows, written, size):
    import torch
    from torch.utils.data import DataLoader
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    stock = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    expected = list(DataLoader(written, size, collate_fn=stock))
    found = list(DataLoader(rows.MappedRows(written), size, collate_fn=rows.collate))
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            if isinstance(value, torch.Tensor):
                assert ours[name].dtype == value.dtype, name
                assert torch.equal(ours[name], value), name
            else:
                assert ours[name] == value, name


def test_rows_are_views_of_the_file(rows, written):
    mapped = rows.MappedRows(written)
    assert len(mapped) == len(written)
    for row, expected in zip(mapped, written, strict=True):
        assert {name: value.tolist() for name, value in row.items()} == expected
        assert not any(value.flags.owndata for value in row.values())
    for row in (-1, len(written)):
        with pytest.raises(IndexError):
            mapped[row]


def test_a_worker_process_maps_the_file_itself(rows, written):
    data = pickle.dumps(rows.MappedRows(written.select(range(23))))
    again = pickle.loads(data)
    assert np.array_equal(again[22]["input_ids"], written[22]["input_ids"])


def test_what_a_selection_holds(rows, written):
    mapped = rows.MappedRows(written.select([20, 3, 3]))
    assert [row["input_ids"].tolist() for row in mapped] == written[[20, 3, 3]]["input_ids"]


def test_the_script_feeds_its_trainer_so(rows, written, tiny, tmp_path, live_tokenizer):
    sft = importlib.import_module("sft")
    options = {
        "output_dir": str(tmp_path),
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
        "max_steps": 2,
        "logging_steps": 1,
        "gradient_checkpointing": False,
    }

    def losses(trainer):
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    vocab = len(live_tokenizer)
    make = {"train_dataset": written, "eval_dataset": written, "processing_class": live_tokenizer}
    args = sft.PackedSFTConfig(**options)
    ours = sft.PackedSFTTrainer(model=tiny(vocab=vocab), args=args, **make)
    for dataset in (ours.train_dataset, ours.eval_dataset):
        assert isinstance(dataset, rows.MappedRows)
    assert next(iter(ours.get_train_dataloader()))["input_ids"].shape[0] == 1
    stock = sft.SFTTrainer(
        model=tiny(vocab=vocab), args=sft.PackedSFTConfig(**options, seed=args.seed), **make
    )
    assert losses(ours) == losses(stock)
    assert ours.evaluate()["eval_loss"] == stock.evaluate()["eval_loss"]


def test_losses_of_packed_rows_are_those_of_documents_one_by_one(
    rows, written, tiny, tmp_path, live_tokenizer
):
    import copy

    import torch

    sft = importlib.import_module("sft")
    model = tiny(vocab=len(live_tokenizer))
    alone = copy.deepcopy(model)
    args = sft.PackedSFTConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        max_steps=4,
        logging_steps=1,
        gradient_checkpointing=False,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
    )
    trainer = sft.PackedSFTTrainer(
        model=model, args=args, train_dataset=written, processing_class=live_tokenizer
    )
    batches = []

    def remember(some):
        batches.append(some)
        return rows.collate(some)

    trainer.data_collator = remember
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    optimizer = torch.optim.AdamW(alone.parameters(), lr=1e-2, weight_decay=0.0)
    for found, batch in zip(logged, batches, strict=False):
        total, count = torch.zeros(()), 0
        for row in batch:
            ends = np.cumsum(row["seq_lengths"])
            for start, end in zip(ends - row["seq_lengths"], ends, strict=True):
                if end - start < 2:
                    continue
                ids = torch.tensor(row["input_ids"][start:end], dtype=torch.long)
                labels = torch.tensor(row["labels"][start + 1 : end], dtype=torch.long)
                logits = alone(
                    input_ids=ids[None],
                    cu_seq_lens_q=torch.tensor([0, len(ids)], dtype=torch.int32),
                    cu_seq_lens_k=torch.tensor([0, len(ids)], dtype=torch.int32),
                    max_length_q=len(ids),
                    max_length_k=len(ids),
                ).logits[0, :-1]
                total = total + torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
                count += int((labels != -100).sum())
        loss = total / count
        assert found == pytest.approx(loss.item(), abs=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert logged[-1] != pytest.approx(logged[0], abs=1e-2)
    for ours, theirs in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)
