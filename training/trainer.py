"""trl's DPOTrainer on packed pairs: no padding, a prompt computed once for both answers, the reference kept on disk.

Losses, metrics, PEFT, checkpoints and logging are trl's. Overridden are methods that are private to it, so its version is
checked when this module is imported; tests/training/test_dpo.py checks that each is still called and that losses, rewards and
gradients equal the stock trainer's.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from accelerate.utils import broadcast_object_list
from collate import PairCollator, pack_backbone
from datasets import Dataset, concatenate_datasets
from optimizer import MasterAdamW, adamw_arguments, needs_masters
from peft import PeftModel
from reference import ReferenceStore
from reliable import Reliable
from torch.utils.data import DataLoader, Sampler
from trl import DPOTrainer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

TRL = "1.16"
if not version("trl").startswith(f"{TRL}."):
    raise ImportError(
        f"training/trainer.py overrides private methods of trl {TRL}, found: trl {version('trl')}"
        f"\nhint: `pip install 'trl=={TRL}.*'`, or use trl's own DPOTrainer with one method overridden, as the README shows"
    )


class BalancedSampler(Sampler[int]):
    """A random order in which neighbouring microbatches have nearly equal numbers of tokens.

    Rows are shuffled; as many as make `window` microbatches are dealt out by length at a time.
    Every microbatch has the same number of pairs, so that the mean over microbatches stays the mean over pairs. The order
    depends on seed and epoch alone, so a resumed run sees the rows that it would have seen.

    Args:
        lengths: (rows) tokens of each row.
        batch: Pairs of a microbatch.
        seed: Seed of the order.
        window: Microbatches that are balanced among themselves.
    """

    def __init__(self, lengths: np.ndarray, batch: int, seed: int, window: int = 16) -> None:
        self.lengths, self.batch, self.seed, self.window = lengths, batch, seed, window
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch's order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.lengths))
        whole = len(order) - len(order) % self.batch
        size = self.batch * self.window
        for start in range(0, whole, size):
            rows = order[start : min(start + size, whole)]
            rows = rows[np.argsort(-self.lengths[rows], kind="stable")]
            batches = self._deal(rows)
            batches = batches[random.permutation(len(batches))]
            yield from batches.reshape(-1).tolist()
        yield from order[whole:].tolist()

    def _deal(self, rows: np.ndarray) -> np.ndarray:
        """(microbatches, batch): in each round the longest of the rows left go to the microbatches with the fewest tokens."""
        hands = rows.reshape(self.batch, -1)
        tokens = np.zeros(hands.shape[1], dtype=np.int64)
        batches = np.empty_like(hands.T)
        for turn, hand in enumerate(hands):
            poorest = np.argsort(tokens, kind="stable")
            batches[poorest, turn] = hand
            tokens[poorest] += self.lengths[hand]
        return batches


class PackedDPOTrainer(Reliable, DPOTrainer):
    """`DPOTrainer` on `prompt_ids`, `chosen_ids`, `rejected_ids`.

    Args:
        share_prefix: Whether a prompt is computed once for both answers; the losses are the same.
        master_weights: Whether AdamW keeps float32 copies of weights of lower precision.
        reference: Folder and key of the rows for `precompute_ref_log_probs`; `None` computes them anew, for this trainer alone.
        **kwargs: As for `DPOTrainer`. Models must have been loaded with a kernel of `attention.py`.
    """

    row_columns = ("prompt_ids", "chosen_ids", "rejected_ids")

    def __init__(
        self,
        *,
        share_prefix: bool = True,
        master_weights: bool = True,
        reference: tuple[str, dict[str, str]] | None = None,
        **kwargs: Any,  # noqa: ANN401 - trl's own
    ) -> None:
        self.share_prefix, self.master_weights = share_prefix, master_weights
        # A folder of its own goes with the trainer.
        self._scratch = (
            None if reference else tempfile.TemporaryDirectory(prefix="zephyr-reference-")
        )
        self.reference = reference or (self._scratch.name, {})
        tokenizer = kwargs["processing_class"]
        pad = (
            tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        )
        kwargs.setdefault(
            "data_collator", PairCollator(pad_token_id=pad, share_prefix=share_prefix)
        )
        kwargs["args"].remove_unused_columns = False  # the collator takes what it needs
        super().__init__(**kwargs)

    def _prepare_dataset(self, dataset: Dataset, *_: object, **__: object) -> Dataset:
        """The rows are token ids already."""
        return dataset.with_format("numpy")

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """From the store, or computed into it; resumable part by part."""
        self._pack_backbones()
        model = self.ref_model or self.model
        folder, keys = self.reference
        split = {"train": "train", "eval": "test"}.get(name, name)
        parts = {
            "split": split,
            "data": keys.get(split, dataset._fingerprint),
            "model": self._precompute_model_hash,
            "dtype": str(model.dtype),
            "autocast": self.accelerator.mixed_precision,
            "attention": _causal_lm(model).config._attn_implementation,
            "ld_alpha": self.ld_alpha,
        }
        # The hash of a sharded model differs from rank to rank; rank 0 decides.
        said = [parts]
        broadcast_object_list(said, from_process=0)
        store = ReferenceStore(folder, said[0], len(dataset))
        todo = [[] if store.is_complete() else self._missing(store, dataset)]
        broadcast_object_list(todo, from_process=0)
        if todo[0]:
            self._compute_reference(store, dataset, todo[0], batch_size)
        table = store.table()
        return concatenate_datasets([dataset, Dataset(table).with_format("numpy")], axis=1)

    @staticmethod
    def _missing(store: ReferenceStore, dataset: Dataset) -> list[int]:
        """Rows that the store lacks, the longest first: a batch of them shows at once whether the memory is enough."""
        known, lengths = store.known(), lengths_of(dataset)
        order = np.argsort(-lengths, kind="stable")
        return [int(row) for row in order if int(row) not in known]

    def _compute_reference(
        self, store: ReferenceStore, dataset: Dataset, rows: list[int], batch_size: int
    ) -> None:
        """One pass over `rows`, kept every 64 batches."""
        loader = self.accelerator.prepare(
            DataLoader(
                dataset.select(rows), batch_size, collate_fn=self.data_collator, shuffle=False
            )
        )
        model = self.ref_model or self.model
        done, held = 0, ([], [])
        for number, batch in enumerate(loader, 1):
            batch.pop("tokens_useful", None)
            logps = self.accelerator.gather_for_metrics(self.compute_ref_log_probs(model, batch))
            for values, part in zip(held, logps, strict=True):
                values.extend(part.float().cpu().tolist())
            if self.accelerator.is_main_process and (number % 64 == 0 or number == len(loader)):
                store.add(rows[done : done + len(held[0])], *held)
                done += len(held[0])
                held = ([], [])
        if self.accelerator.is_main_process:
            store.finish()
        self.accelerator.wait_for_everyone()

    def train(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - trl's own
        """As trl's, with the backbones on packed rows."""
        self._pack_backbones()
        return super().train(*args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - likewise
        """As trl's, with the backbones on packed rows."""
        self._pack_backbones()
        return super().evaluate(*args, **kwargs)

    def _pack_backbones(self) -> None:
        for model in (self.model, self.ref_model):
            if model is not None:
                causal = _causal_lm(self.accelerator.unwrap_model(model))
                if "forward" not in vars(causal.base_model):
                    pack_backbone(causal)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int]:
        """Microbatches of equal pair count, balanced by tokens."""
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        seed = self.args.data_seed if self.args.data_seed is not None else self.args.seed
        return BalancedSampler(lengths_of(dataset), self._train_batch_size, seed)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Notes the tokens of the batch, which are no input of the model."""
        useful = inputs.pop("tokens_useful", None)
        inputs = super()._prepare_inputs(inputs)
        if useful is not None:
            mode = "train" if self.model.training else "eval"
            self._metrics[mode]["tokens_computed"].append(inputs["packed_ids"].shape[1])
            self._metrics[mode]["tokens_useful"].append(useful)
        return inputs

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:  # noqa: ANN401 - transformers' own
        """AdamW with float32 masters, where it was asked for and the weights need it."""
        if self.master_weights and needs_masters(self.model, self.args.optim):
            self.optimizer_cls_and_kwargs = (MasterAdamW, adamw_arguments(self.args))
        return super().create_optimizer(*args, **kwargs)


def lengths_of(dataset: Dataset) -> np.ndarray:
    """(rows) tokens of prompt and both answers."""
    table = dataset.with_format("arrow")[:]
    lengths = [pc.list_value_length(table[name]) for name in PackedDPOTrainer.row_columns]
    return sum(np.asarray(part, dtype=np.int64) for part in lengths)


def _causal_lm(model: torch.nn.Module) -> torch.nn.Module:
    """The model with the head, without PEFT around it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
