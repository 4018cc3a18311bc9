"""AdamW that keeps float32 copies of bfloat16 weights.

At dDPO's learning rate of 5e-7 a bfloat16 weight of 0.02 has its neighbours 1e-4 away: nearly every update rounds to nothing.
The update is therefore made on a float32 copy, which is then rounded into the weight that the model computes with.
Decoupled weight decay (arXiv 1711.05101); for float32 weights it is `torch.optim.AdamW` itself, step for step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.optim.adamw import adamw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from transformers import TrainingArguments


class MasterAdamW(torch.optim.Optimizer):
    """AdamW with float32 state and, for weights of lower precision, float32 masters: 12 bytes a weight.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay of the two averages.
        eps: Added to the denominator.
        weight_decay: Decoupled, times the learning rate.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update from the gradients that there are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            states = [self._state(parameter) for parameter in parameters]
            masters = [
                state.get("master", parameter)
                for state, parameter in zip(states, parameters, strict=True)
            ]
            beta1, beta2 = group["betas"]
            adamw(
                masters,
                [parameter.grad.float() for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                foreach=True,
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
            for parameter, master in zip(parameters, masters, strict=True):
                if master is not parameter:
                    parameter.copy_(master)
        return loss

    def _state(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter, dtype=torch.float32)
            state["exp_avg_sq"] = torch.zeros_like(parameter, dtype=torch.float32)
            if parameter.dtype != torch.float32:
                state["master"] = parameter.detach().float().clone()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but the state stays float32: torch casts it to the parameter's dtype, which would undo the masters."""
        super().load_state_dict(state_dict)
        saved = state_dict["state"]
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            for name, value in saved.get(number, {}).items():
                if isinstance(value, torch.Tensor):
                    device = value.device if name == "step" else parameter.device
                    self.state[parameter][name] = value.to(device, copy=True)


def needs_masters(model: torch.nn.Module, optim: str) -> bool:
    """Whether AdamW was asked for and some trained weight is of lower precision than float32."""
    low = any(
        p.requires_grad and p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()
    )
    return low and str(getattr(optim, "value", optim)) in ("adamw_torch", "adamw_torch_fused")


def adamw_arguments(args: TrainingArguments) -> dict[str, Any]:
    """AdamW's arguments as transformers names them."""
    betas = (args.adam_beta1, args.adam_beta2)
    return {"lr": args.learning_rate, "betas": betas, "eps": args.adam_epsilon}
