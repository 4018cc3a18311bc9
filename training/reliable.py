"""What keeps a run from losing work: a checkpoint when it is told to end, and an end where the loss is no number.

`Reliable` is mixed into a trainer of trl; it looks and changes no mathematics.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments


class NotANumberError(RuntimeError):
    """The loss became NaN or infinite."""


class SaveOnTerm(TrainerCallback):
    """On SIGTERM, which clusters send before they take a machine away: finish the step, save a checkpoint, end.

    The handler is set when training begins; the one before comes back when it ends.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def on_train_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **_: object,
    ) -> None:
        """Listens."""
        self._before = signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,
        **_: object,
    ) -> None:
        """Ends behind the step that is under way."""
        if self.asked and not control.should_training_stop:
            print(
                f"SIGTERM: saving a checkpoint after step {state.global_step} and ending",
                flush=True,
            )
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        **_: object,
    ) -> None:
        """Stops listening."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None


class Reliable:
    """Ends a run whose loss is NaN or infinite and names the rows of the batch."""

    row_columns: tuple[str, ...] = ()
    """Columns of the data set whose token ids stand in a batch, to find its rows again."""

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        *args: Any,  # noqa: ANN401 - the trainer's own
    ) -> torch.Tensor:
        """As the trainer's own.

        Raises:
            NotANumberError: The loss is NaN or infinite.
        """
        ids = inputs.get("packed_ids", inputs["input_ids"])
        loss = super().training_step(model, inputs, *args)  # type: ignore[misc]  # a mixin
        if not torch.isfinite(loss):
            rows = self.rows_of(ids)
            raise NotANumberError(
                f"the loss of step {self.state.global_step + 1} is no number, it is: {loss.item()}"  # type: ignore[attr-defined]
                f"\nhint: look at the rows of the batch ({', '.join(rows)}), lower the learning rate, or resume from the last"
                " checkpoint"
            )
        return loss

    def rows_of(self, ids: torch.Tensor) -> list[str]:
        """The rows of the data set whose tokens stand in a packed row, by `id` or number. Reads the whole data set."""
        text = "," + ",".join(map(str, ids.reshape(-1).tolist())) + ","
        found = []
        for number, row in enumerate(self.train_dataset):  # type: ignore[attr-defined]
            parts = (
                "," + ",".join(str(int(id)) for id in row[name]) + "," for name in self.row_columns
            )
            if all(part in text for part in parts):
                found.append(f"`{row['id']}`" if "id" in row else f"row {number}")
        return found or ["not found in the data set"]
