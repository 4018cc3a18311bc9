"""The packed trainer's losses, rewards and gradients are the stock DPOTrainer's; every method it overrides is called."""

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

METRICS = (
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "grad_norm",
)
SIZES = [
    (17, 9, 30),
    (3, 41, 8),
    (40, 5, 5),
    (1, 12, 20),
    (4, 1, 1),
    (9, 9, 9),
    (30, 2, 25),
    (6, 20, 11),
]


@pytest.fixture
def dataset(training, random_pairs):  # noqa: ARG001 - skips where there is no torch
    import datasets

    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = [
        dict(zip(names, (part.tolist() for part in pair), strict=True))
        for pair in random_pairs(SIZES)
    ]
    return datasets.Dataset.from_list([{**row, "id": f"r{n}"} for n, row in enumerate(rows)])


@pytest.fixture(scope="session")
def words():
    """A tokenizer with a pad token; the rows are ids already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({f"t{i}": i for i in range(211)}, unk_token="t0"))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="t2", pad_token="t1", unk_token="t0"
    )


@pytest.fixture
def train(training, tiny, dataset, words, tmp_path):
    """A function: four steps of the stock or of our trainer; its log, the final weights and the trainer."""
    from trl import DPOConfig, DPOTrainer

    class Stock(DPOTrainer):
        def _prepare_dataset(self, rows, *_, **__):
            return rows

        _get_train_sampler = training.trainer.PackedDPOTrainer._get_train_sampler  # the same order

    def run(which, *, share=True, reference=None, optimizer_steps=4, **more):
        args = DPOConfig(
            output_dir=str(tmp_path / which),
            per_device_train_batch_size=4,
            max_steps=optimizer_steps,
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            logging_steps=1,
            report_to=[],
            bf16=False,
            use_cpu=True,
            max_length=None,
            save_strategy="no",
            disable_tqdm=True,
            seed=0,
            **{"gradient_checkpointing": False, "max_grad_norm": 0.0} | more,
        )
        packed = which == "packed"
        model = tiny(packed=packed, kernel="sdpa")
        online = None if args.precompute_ref_log_probs else tiny(packed=packed, kernel="sdpa")
        common = {
            "model": model,
            "ref_model": online,
            "args": args,
            "train_dataset": dataset,
            "processing_class": words,
        }
        if packed:
            trainer = training.trainer.PackedDPOTrainer(
                **common, share_prefix=share, reference=reference
            )
        else:
            trainer = Stock(**common)
        trainer.train()
        log = [entry for entry in trainer.state.log_history if "loss" in entry]
        return log, trainer.model, trainer

    return run


def assert_equal_runs(stock, packed, tolerance=5e-4):
    (one, model, _), (other, ours, _) = stock, packed
    assert len(one) == len(other) > 1
    for step, (a, b) in enumerate(zip(one, other, strict=True)):
        for name in METRICS:
            assert a[name] == pytest.approx(b[name], rel=tolerance, abs=tolerance), (step, name)
    for (name, a), (_, b) in zip(model.named_parameters(), ours.named_parameters(), strict=True):
        assert (a - b).abs().max() < 1e-3, name


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precompute", [False, True])
def test_four_steps_equal_the_stock_trainers(train, checkpointing, precompute, tmp_path):
    more = {"gradient_checkpointing": checkpointing, "precompute_ref_log_probs": precompute}
    stock = train("stock", **more)
    packed = train("packed", reference=(str(tmp_path / "reference"), {"train": "k"}), **more)
    assert_equal_runs(stock, packed)
    for entry in packed[0]:
        assert entry["tokens_computed"] == entry["tokens_useful"]


def test_without_sharing_the_losses_are_the_same_and_the_tokens_more(train):
    assert_equal_runs(train("packed"), apart := train("packed", share=False))
    assert all(entry["tokens_computed"] > entry["tokens_useful"] for entry in apart[0])


LOSSES = [
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
]
LOSSES += ["apo_down", "discopop", "sft", "sigmoid_norm"]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_of_trl_works(train, loss):
    more = {"loss_type": [loss], "optimizer_steps": 2}
    if loss in ("exo_pair", "robust"):
        more["label_smoothing"] = 1e-3
    (one, *_), (other, *_) = train("stock", **more), train("packed", **more)
    for a, b in zip(one, other, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3, abs=1e-4)


def test_every_overridden_method_is_called(train, training, monkeypatch, tmp_path):
    trainer = training.trainer.PackedDPOTrainer
    called = set()
    names = [
        "_prepare_dataset",
        "_precompute_ref_logps",
        "_get_train_sampler",
        "_prepare_inputs",
        "create_optimizer",
        "training_step",
    ]
    for name in names:
        original = getattr(trainer, name)

        def watched(self, *args, _name=name, _original=original, **kwargs):
            called.add(_name)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(trainer, name, watched)
    train(
        "packed",
        precompute_ref_log_probs=True,
        reference=(str(tmp_path / "r"), {"train": "k"}),
        optimizer_steps=2,
    )
    assert called == set(names)


def test_the_reference_is_computed_once_and_a_broken_pass_goes_on(
    train, training, monkeypatch, tmp_path
):
    where = (str(tmp_path / "reference"), {"train": "k"})
    more = {"precompute_ref_log_probs": True, "optimizer_steps": 2}
    computed = []
    original = training.trainer.PackedDPOTrainer.compute_ref_log_probs

    def count(self, model, inputs):
        computed.append(inputs["input_ids"].shape[0] // 2)
        return original(self, model, inputs)

    monkeypatch.setattr(training.trainer.PackedDPOTrainer, "compute_ref_log_probs", count)
    first = train("packed", reference=where, **more)
    assert sum(computed) == len(SIZES)
    again = train("packed", reference=where, **more)
    assert sum(computed) == len(SIZES)
    assert [entry["loss"] for entry in first[0]] == [entry["loss"] for entry in again[0]]
    # What a kill in the middle leaves: some rows, and nothing that says all are there.
    (folder,) = (tmp_path / "reference").iterdir()
    (folder / "complete.json").unlink()
    training.reference.ReferenceStore(tmp_path / "part", {}, 8)
    table = training.reference.ReferenceStore.table
    values = table(
        type(
            "Whole", (), {"_tables": lambda _: store_tables(folder), "rows": 8, "folder": folder}
        )()
    )
    for path in folder.glob("part-*.arrow"):
        path.unlink()
    kept = training.reference.ReferenceStore(folder.parent, {}, 8)
    kept.folder = folder
    kept.add([0, 3], *(np.take(values[name].to_pylist(), [0, 3]) for name in values.column_names))
    resumed = train("packed", reference=where, **more)
    assert sum(computed) == 2 * len(SIZES) - 2
    assert [entry["loss"] for entry in first[0]] == pytest.approx(
        [entry["loss"] for entry in resumed[0]], abs=1e-6
    )


def store_tables(folder):
    import pyarrow as pa

    return [
        pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        for path in sorted(folder.glob("part-*.arrow"))
    ]


def test_a_loss_that_is_no_number_names_the_rows(train, training, monkeypatch):
    import torch

    seen = []
    original = training.trainer.PackedDPOTrainer._compute_loss

    def spoil(self, model, inputs, return_outputs):
        seen.append(inputs["packed_ids"])
        loss = original(self, model, inputs, return_outputs)
        return loss * torch.tensor(float("nan")) if len(seen) == 2 else loss

    monkeypatch.setattr(training.trainer.PackedDPOTrainer, "_compute_loss", spoil)
    with pytest.raises(training.reliable.NotANumberError) as caught:
        train("packed")
    first, hint = str(caught.value).splitlines()
    assert first == "the loss of step 2 is no number, it is: nan"
    named = hint.partition("(")[2].partition(")")[0].split(", ")
    assert len(named) == 4
    assert set(named) <= {f"`r{n}`" for n in range(8)}
    assert "lower the learning rate" in hint


def test_microbatches_are_balanced_and_the_order_depends_on_seed_and_epoch(training):
    lengths = np.random.default_rng(0).lognormal(5, 0.8, 4003).astype(np.int64)
    sampler = training.trainer.BalancedSampler(lengths, batch=4, seed=7)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(4003))
    assert len(sampler) == 4003
    assert list(training.trainer.BalancedSampler(lengths, batch=4, seed=8)) != orders[0]

    def spread(order):
        return np.std([lengths[order[at : at + 4]].sum() for at in range(0, 4000, 4)])

    assert spread(orders[0]) < 0.6 * spread(np.random.default_rng(1).permutation(4003))


def test_another_version_of_trl_is_refused(training, monkeypatch):
    import importlib
    import importlib.metadata
    import sys

    monkeypatch.setattr(importlib.metadata, "version", lambda _: "1.17.0")
    monkeypatch.setattr(sys, "path", [training.trainer.__file__.rpartition("/")[0], *sys.path])
    monkeypatch.delitem(sys.modules, "trainer")
    with pytest.raises(
        ImportError, match="overrides private methods of trl 1.16, found: trl 1.17.0\nhint: "
    ):
        importlib.import_module("trainer")
